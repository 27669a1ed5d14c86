"""Learn which latent of the default generator's mean face shows an expression: reenact/mapper.py.

    python tools/train_mapper.py --out weights/mobile_mapper.safetensors --minutes 40

Expressions are those of people whom the generator makes up, with the expression slots of others, and their jaws, lips
and brows moved further by the mesh's basis (weights/motion.safetensors), for the generator itself hardly opens a mouth.
The loss is equation 2 of the paper on the numbers that every face shares. The slots that hold colour and hair are
another person's at every step, as they will be another's when a target is drawn. Nobody's photo is used. A run goes on
from what is in OUT; give it another --seed then.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reenact import motion
from reenact.align import STEADY
from reenact.devices import quick_dtype
from reenact.expression import NAMES, WEIGHTS, Probe, limited, measure
from reenact.face_landmarker import BLENDSHAPES, FaceLandmarkerNets, canonical_axes, to_68
from reenact.generators import Generator, mobile
from reenact.invert import Whitening
from reenact.mapper import ASKED, LatentMapper
from reenact.solve import still_parts
from reenact.weights import WeightStore, default_root

# Blendshape -> (the share of expressions that have it, the most that is added of the basis's move).
ADDED = {
    "jawOpen": (0.6, 1.0), "mouthFunnel": (0.3, 0.6), "mouthUpperUp": (0.2, 0.6),
    "mouthLowerDown": (0.2, 0.3), "mouthStretch": (0.15, 0.5), "mouthPress": (0.15, 0.7), "mouthRollLower": (0.1, 0.4),
    "browInnerUp": (0.3, 1.0), "browDown": (0.3, 0.8), "eyeSquint": (0.3, 0.8), "eyeBlink": (0.3, 1.0),
}  # fmt: skip
PUCKERED = (0.25, 0.45)  # the same, of how much narrower lips become
_LIPS = [*motion.OUTER_LIPS, *motion.INNER_LIPS]
ONE_SIDED = 0.3  # the share of those with two sides that have one only
SEEN = 256  # pixels of the people whose expressions are taken
HOLD, STEADY_WEIGHT, RIDGE = 3.0, 300.0, 0.01  # as in solve.py
# What each number counts, of its weight: what is drawn is the inside of the mouth and the folds.
SHARES = {"eye": 0.15, "lid": 0.15, "brow": 0.4, "lips open": 4.0, "jawOpen": 1.5}


@torch.inference_mode()
def people(
    generator: Generator, nets: FaceLandmarkerNets, count: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Meshes [N,478,3] of made-up people, in units of the picture, and what a centimetre is there [N,2,3]."""
    meshes, axes, mean = [], [], generator.mean_latent[:1]
    for _ in range(count):
        person, other = (generator.map(torch.randn(1, 512, generator=random)) for _ in range(2))
        psi = 0.4 + 0.4 * float(torch.rand(1, generator=random))
        latent = torch.lerp(mean, person, psi).repeat(generator.num_layers, 1)
        latent[list(generator.paper_layers)] = torch.lerp(mean, other, 1.1)
        picture = generator.synthesize(latent[None], SEEN)
        meshes.append(Probe(nets, picture).mesh(picture))
        axes.append(canonical_axes(meshes[-1]))
    return torch.cat(meshes), torch.cat(axes)


def moved(meshes: Tensor, axes: Tensor, moves: Tensor, random: torch.Generator) -> Tensor:
    """Meshes [N,478,3] with expressions added."""

    def some(share: float, most: float) -> Tensor:
        amount, has = (torch.rand(len(meshes), generator=random) for _ in range(2))
        return most * amount**1.5 * (has < share)  # small ones more often

    amounts = torch.zeros(len(meshes), len(BLENDSHAPES))
    for name, (share, most) in ADDED.items():
        if name in BLENDSHAPES:
            amounts[:, BLENDSHAPES.index(name)] = some(share, most)
            continue
        both, side = some(share, most), torch.rand(len(meshes), 2, generator=random) < 1 - ONE_SIDED / 2
        for i, end in enumerate(("Left", "Right")):
            amounts[:, BLENDSHAPES.index(name + end)] = both * side[:, i]
    shift = torch.einsum("nk,kpc,nac->npa", amounts, moves, axes)
    meshes = torch.cat([meshes[..., :2] + shift, meshes[..., 2:]], -1)
    # The generator's people do not pucker: lips are drawn together.
    middle = meshes[:, _LIPS, :2].mean(1, keepdim=True)
    meshes[:, _LIPS, 0] -= some(*PUCKERED)[:, None] * (meshes[:, _LIPS, :2] - middle)[..., 0]
    crossing = (meshes[:, motion.UPPER_LIP, 1] - meshes[:, motion.LOWER_LIP, 1]).clamp(min=0)  # lips only meet
    meshes[:, motion.LOWER_LIP, 1] += crossing / 2
    meshes[:, motion.UPPER_LIP, 1] -= crossing / 2
    return meshes


@torch.inference_mode()
def wishes(nets: FaceLandmarkerNets, meshes: Tensor, random: torch.Generator) -> Tensor:
    """Expressions [N,M] of meshes; how light it is between lips is drawn by lot: the wider open, the darker."""
    points, blendshapes = to_68(meshes), nets.blendshapes(meshes * SEEN)
    rolled = torch.rand(len(meshes), generator=random)
    open_by = measure(points, blendshapes, torch.zeros(len(meshes)))[:, NAMES.index("lips open")]
    lightest, darkest = 1.05 - open_by.clamp(0, 0.5), 0.55 - 0.5 * open_by.clamp(0, 0.5)
    return measure(points, blendshapes, darkest + rolled * (lightest - darkest))


class Trainer:
    """Equation 2 over expressions of the mean face."""

    def __init__(self, seed: int, pool: int) -> None:
        store, cpu = WeightStore(default_root()), torch.device("cpu")
        self.generator = mobile.create(store, cpu, quick_dtype(cpu))
        self.nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
        self.whitening, self.slots = Whitening(self.generator), self.generator.expression_layers
        self.free = [s for s in self.generator.live_layers if s not in self.slots]
        self.goals = self.expressions(pool, seed)
        weights = WEIGHTS * torch.tensor([next((v for k, v in SHARES.items() if n.startswith(k)), 1.0) for n in NAMES])
        self.weights = torch.zeros_like(weights)
        self.weights[list(ASKED)] = weights[list(ASKED)]
        with torch.no_grad():
            picture = self.generator.synthesize(self.generator.mean_latent[None], SEEN)
        self.probe = Probe(self.nets, picture)

    def expressions(self, count: int, seed: int) -> Tensor:
        """Of so many people, six each [6N,M]."""
        random = torch.Generator().manual_seed(seed)
        meshes, axes = (each.repeat(6, 1, 1) for each in people(self.generator, self.nets, count, random))
        moves = torch.from_numpy(motion.Basis.load().moves)
        return limited(wishes(self.nets, moved(meshes, axes, moves, random), random))

    @torch.inference_mode()
    def follows(self, mapper: LatentMapper, goals: Tensor) -> dict[str, tuple[float, float]]:
        """How the drawn faces' numbers go with what was asked of them [N,M]: Pearson's r and the slope of each."""
        mean = self.generator.mean_latent[0]
        pictures = (self.generator.synthesize(self.latents(mapper(goal[None]), mean[None]), SEEN) for goal in goals)
        seen = limited(torch.cat([self.probe(picture) for picture in pictures]))
        found = {}
        for i in ASKED:
            asked, shown = goals[:, i] - goals[:, i].mean(), seen[:, i] - seen[:, i].mean()
            slope = (asked @ shown) / asked.square().sum()
            found[NAMES[i]] = (float(slope * asked.norm() / shown.norm().clamp(min=1e-6)), float(slope))
        return found

    def latents(self, changes: Tensor, people: Tensor) -> Tensor:
        """[N,L,512] of changes [N,S,512] and the people [N,512] whose colours they have."""
        mean = self.generator.mean_latent
        w = mean.expand(len(people), -1, -1).clone()
        w[:, self.free] = people[:, None]
        w[:, list(self.slots)] = self.whitening.colour(self.whitening.white(mean[list(self.slots)]) + changes)
        return w

    def loss(self, changes: Tensor, goals: Tensor, people: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Equation 2, and its distance between expressions alone."""
        with torch.no_grad():
            rest = self.generator.synthesize(self.latents(torch.zeros_like(changes), people), size)
            points, _, _ = self.probe.look(rest)
            still = torch.cat([still_parts(each, size) for each in points])
        pictures = self.generator.synthesize(self.latents(changes, people), size)
        seen, blendshapes, inside = self.probe.look(pictures)
        gap = (limited(measure(seen, blendshapes, inside)) - goals) * self.weights
        outside = ((pictures - rest).square() * still).mean()
        shift = (seen - points)[:, list(STEADY)].square().mean()
        far = gap.square().mean()
        return far + HOLD * outside + STEADY_WEIGHT * shift + RIDGE * changes.square().mean(), far


def begun(trainer: Trainer, path: Path) -> LatentMapper:
    """A mapper to train: that of an earlier run, or one that changes next to nothing."""
    mapper = LatentMapper(len(trainer.slots))
    if path.exists():
        mapper.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        return mapper
    asked = trainer.goals[:, list(ASKED)]
    mapper.centre.copy_(asked.mean(0))
    mapper.spread.copy_(asked.std(0).clamp(min=0.05))  # what hardly varies must not be blown up
    torch.nn.init.normal_(mapper.last.weight, std=0.01)
    torch.nn.init.zeros_(mapper.last.bias)
    return mapper


def save(mapper: LatentMapper, path: Path, steps: int, seed: int) -> None:
    """Write the mapper in half precision."""
    stored = {name: value.half().contiguous() for name, value in mapper.state_dict().items()}
    save_file(stored, path, {"steps": str(steps), "seed": str(seed)})


def main() -> None:
    """Train for so long, saving now and then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("weights/mobile_mapper.safetensors"))
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--pool", type=int, default=1200, help="people whose expressions are taken")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    trainer = Trainer(args.seed, args.pool)
    mapper, generator = begun(trainer, args.out), trainer.generator
    optimiser = torch.optim.Adam(mapper.parameters(), betas=(0.9, 0.98))
    began, step, lately = time.monotonic(), 0, list[tuple[float, float]]()
    while (spent := (time.monotonic() - began) / 60 / args.minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 30) * (1 - spent) ** 0.7
        goals = trainer.goals[torch.randint(len(trainer.goals), (args.batch,))]
        people = torch.lerp(generator.mean_latent[0], generator.map(torch.randn(args.batch, 512)), 0.7).detach()
        size = 256 if spent > 0.5 and step % 2 else 128
        loss, gap = trainer.loss(mapper(goals), goals, people, size)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(mapper.parameters(), 1.0)
        optimiser.step()
        lately.append((loss.item(), gap.item()))
        step += 1
        if len(lately) == 100:
            means = dict(zip(("loss", "gap"), (round(sum(v) / 100, 4) for v in zip(*lately, strict=True)), strict=True))
            print(json.dumps({"step": step, "minutes": round(spent * args.minutes, 1), **means}), flush=True)
            save(mapper, args.out, step, args.seed)
            lately.clear()
    save(mapper, args.out, step, args.seed)
    # Expressions of people who were not seen, by what was kept.
    unseen = trainer.expressions(40, args.seed + 1000)
    for name, (r, slope) in trainer.follows(LatentMapper.load(args.out), unseen).items():
        print(f"{name}: r {r:.2f}, slope {slope:.2f}")


if __name__ == "__main__":
    main()
