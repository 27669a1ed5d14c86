"""Learn which latent draws a given face: reenact/encoder.py.

    python tools/train_encoder.py --samples encoder --pool 14000 --minutes 30 --out weights/mobile_encoder.safetensors

First the generator draws its own people, once, into the folder --samples: of one style, of two crossed, with the mean
face's expressions (what the target's light and colours are found on), and pushed off W as inversions are. Then the
encoder learns their latents from pictures that are made worse at every step, as photos are. Both parts go on where
an earlier run stopped. Nobody's photo is used.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from reenact import landmarks, mapper
from reenact.align import cut_out, ffhq_crop
from reenact.devices import quick_dtype
from reenact.encoder import Encoder
from reenact.expression import NAMES, Probe
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.generators import Generator, mobile
from reenact.images import read_image, to_tensor
from reenact.invert import TARGET, Whitening
from reenact.metrics import View
from reenact.metrics.identity import DlibIdentity
from reenact.perceptual import Vgg16, load_vgg, lpips_distance, lpips_features
from reenact.types import Floats, Landmarks, Rgb
from reenact.weights import WeightStore, default_root

SEEN = 128  # pixels
AT_ONCE = 10  # samples drawn together
KINDS = 5
CARD = 40  # of those that are held out, for the model card
HELD = 500  # samples, the first, that are not learnt from


class Samples:
    """The generator's own people, on disk: pictures and their whitened latents."""

    def __init__(self, folder: Path, pool: int, slots: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pictures = _array(folder / "pictures.npy", (pool, SEEN, SEEN, 3), np.uint8)
        self.latents = _array(folder / "latents.npy", (pool, slots, 512), np.float16)
        self._done = folder / "done"

    @property
    def done(self) -> int:
        """How many there are."""
        return int(self._done.read_text()) if self._done.exists() else 0

    def draw(self, generator: Generator, whitening: Whitening, seed: int) -> None:
        """Fill the arrays from where an earlier run stopped."""
        styles = Styles(generator, whitening)
        live = list(generator.live_layers)
        for first in range(self.done, len(self.pictures), AT_ONCE):
            random = torch.Generator().manual_seed(seed * 1_000_003 + first)
            w = torch.stack([styles.draw(i % KINDS, random) for i in range(AT_ONCE)])
            pictures = generator.synthesize(w, SEEN).clamp(-1, 1).permute(0, 2, 3, 1)
            self.pictures[first : first + AT_ONCE] = (pictures * 127.5 + 127.5).round().byte().numpy()
            self.latents[first : first + AT_ONCE] = whitening.white(w[:, live]).half().numpy()
            self._done.write_text(str(first + AT_ONCE))


def _array(path: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array in a file, made where it is missing."""
    if path.exists():
        return np.lib.format.open_memmap(path, "r+")
    return np.lib.format.open_memmap(path, "w+", dtype, shape)


class Styles:
    """Draws W+ as an encoder will be asked for it."""

    def __init__(self, generator: Generator, whitening: Whitening) -> None:
        self.generator, self.whitening = generator, whitening
        self.slots = list(generator.expression_layers)
        path = mapper.path_of(generator.name)
        assert path  # the default generator has one
        self.mapper = mapper.LatentMapper.load(path)

    @torch.no_grad()
    def expression(self, random: torch.Generator) -> Tensor:
        """An expression of the mean face: whitened [S,512], the expression slots."""
        seen = torch.zeros(len(NAMES))
        asked = torch.randn(len(mapper.ASKED), generator=random)
        seen[list(mapper.ASKED)] = self.mapper.centre + self.mapper.spread * asked
        return self.whitening.white(self.generator.mean_latent[self.slots]) + self.mapper(seen)

    def draw(self, kind: int, random: torch.Generator) -> Tensor:
        """One W+ [L,512]."""
        mean, layers = self.generator.mean_latent, self.generator.num_layers

        def chance(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=random))

        def person() -> Tensor:
            return torch.lerp(mean[0], self.generator.map(torch.randn(1, 512, generator=random))[0], chance(0.3, 1.1))

        w = person().repeat(layers, 1)
        if kind == 1:  # the expression slots of another
            w[self.slots] = person()
        elif kind == 2:  # two styles, crossed
            w[int(torch.randint(1, layers - 1, (), generator=random)) :] = person()
        elif kind == 3:  # an expression of the mean face, in somebody's light and colours
            w[self.slots] = self.whitening.colour(self.expression(random))
        elif kind == 4:  # spread like W, but not of it
            off = torch.randn(layers, 512, generator=random) * chance(0, 0.7)
            w = self.whitening.colour(self.whitening.white(w) + off)
        return w


# ---- Pictures as photos have them ----------------------------------------------------------------------------------


def lit(picture: Rgb, random: np.random.Generator) -> Rgb:
    """Another lamp, another camera: gamma and gains of the channels. The latent has to follow these."""
    light = (picture / np.float32(255)) ** np.float32(np.exp(random.normal(0, 0.15)))
    gains = np.exp(random.normal(0, 0.1) + random.normal(0, 0.06, 3)).astype(np.float32)
    return np.asarray(np.clip(light * gains * 255 + 0.5, 0, 255), np.uint8)


def worsened(picture: Rgb, random: np.random.Generator) -> Rgb:
    """Cut out askew, a thing before it, blurred, grained, compressed: what the latent must not follow."""
    size = picture.shape[0]
    turn = cv2.getRotationMatrix2D(((size - 1) / 2,) * 2, random.normal(0, 2.5), np.exp(random.normal(0, 0.03)))
    turn[:, 2] += random.normal(0, 0.015 * size, 2)
    picture = cv2.warpAffine(picture, turn, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    light = picture.astype(np.float32)
    if random.random() < 0.25:
        light = _covered(light, random)
    if random.random() < 0.5:
        light = cv2.GaussianBlur(light, (0, 0), random.uniform(0.3, 1.6))
    if random.random() < 0.5:
        light += random.normal(0, random.uniform(0, 12), light.shape).astype(np.float32)
    picture = np.asarray(np.clip(light + 0.5, 0, 255), np.uint8)
    if random.random() < 0.5:
        settings = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 95))]
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, settings)[1], cv2.IMREAD_COLOR)
    return np.asarray(picture, np.uint8)


def _covered(light: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """An ellipse of one colour before the picture."""
    size = light.shape[0]
    place, axes = (tuple(int(v) for v in random.uniform(*span, 2)) for span in ((0, size), (0.05 * size, 0.25 * size)))
    mask = np.zeros((size, size), np.float32)
    cv2.ellipse(mask, place, axes, random.uniform(0, 180), 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.5, 2))[..., None]
    return np.asarray(light * (1 - mask) + mask * random.uniform(0, 255, 3), np.float32)


def tensors(pictures: Sequence[Rgb]) -> Tensor:
    """uint8 [S,S,3] each -> [N,3,S,S] in [-1,1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


# ---- Training ------------------------------------------------------------------------------------------------------


class Trainer:
    """Least squares on latents, then descent on pictures: how far those drawn are from those shown."""

    def __init__(self, generator: Generator, network: Vgg16, samples: Samples) -> None:
        self.generator, self.network, self.samples = generator, network, samples
        self.whitening = Whitening(generator)
        self.styles = Styles(generator, self.whitening)
        self.expression = [generator.live_layers.index(slot) for slot in generator.expression_layers]
        self.mean = self.whitening.white(generator.mean_latent[list(generator.live_layers)])
        self.face = torch.from_numpy(
            cv2.GaussianBlur(
                cv2.ellipse(np.zeros((SEEN, SEEN), np.float32), (64, 70), (34, 46), 0, 0, 360, 1.0, -1), (0, 0), 4
            )
        )[None, None]  # where a target counts once its expression is drawn

    def shown(self, index: int, random: np.random.Generator) -> tuple[Rgb, Rgb]:
        """A sample in some light, as a photo shows it and as it is."""
        picture = lit(self.samples.pictures[index], random)
        return worsened(picture, random), picture

    def fit(self, encoder: Encoder, ridge: float) -> None:
        """The best linear readout of the coarse grid."""
        pictures = self.samples.pictures[HELD : self.samples.done]
        random = np.random.default_rng(0)
        with torch.no_grad():
            # In the light of the sample itself, whose latent is known.
            worse = [tensors([worsened(p, random) for p in some]) for some in np.array_split(pictures, 50)]
            colours = torch.cat([encoder.colours(some) for some in worse])
            encoder.centre.copy_(colours.mean(0))
            encoder.spread.copy_(colours.std(0))
            seen = torch.cat([encoder.seen(some)[0] for some in worse])
            seen = torch.cat([seen, torch.ones(len(seen), 1)], 1)
            known = torch.from_numpy(self.samples.latents[HELD : self.samples.done].astype(np.float32)).flatten(1)
            gram = seen.T @ seen + ridge * len(seen) * torch.eye(seen.shape[1])
            answer = torch.linalg.solve(gram, seen.T @ known)  # [192+1,S*512]
            encoder.last.weight.zero_()
            encoder.last.weight[:, : len(answer) - 1] = answer[:-1].T
            encoder.last.bias.copy_(answer[-1])

    def loss(self, latents: Tensor, pictures: Tensor) -> Tensor:
        """How far drawn pictures are from those wanted, as `invert` sees it, one a sample.

        Of every second sample the whole picture; of the others the face, with an expression of the mean face's in the
        expression slots, where the target's light and colours are looked for.
        """
        white = latents.clone()
        for i in range(1, len(white), 2):
            white[i, self.expression] = self.styles.expression(torch.default_generator)
        slots = torch.tensor(self.generator.live_layers)
        w = self.generator.mean_latent.repeat(len(white), 1, 1).index_copy(1, slots, self.whitening.colour(white))
        drawn = self.generator.synthesize(w, SEEN)
        weight = torch.ones(len(white), 1, SEEN, SEEN)
        weight[1::2] = self.face
        with torch.no_grad():
            wanted = lpips_features(self.network, pictures, TARGET.convs)
        far = lpips_distance(lpips_features(self.network, drawn, TARGET.convs), wanted, weight)
        error = (drawn - pictures).square().mean(1, keepdim=True)
        pixels = (error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
        return far + TARGET.pixel_weight * pixels + TARGET.prior * latents.square().mean((1, 2))

    @torch.no_grad()
    def held_out(self, encoder: Encoder, count: int = 40) -> tuple[float, float]:
        """The loss on people who were not seen: of whole pictures, of faces."""
        state = torch.get_rng_state()
        torch.manual_seed(1)
        random = np.random.default_rng(1)
        losses = []
        for first in range(0, count, 10):
            shown = [self.shown(i, random) for i in range(first, first + 10)]
            worse, clean = (tensors(each) for each in zip(*shown, strict=True))
            losses.append(self.loss(encoder(worse), clean))
        torch.set_rng_state(state)
        found = torch.cat(losses)
        return found[::2].mean().item(), found[1::2].mean().item()


class Likeness:
    """How like a picture what a latent draws is, at 256 pixels: for the model card."""

    NAMES = ("ST-LPIPS (VGG, 256)", "L2", "identity (dlib)", "blendshapes, mean |Δ|")

    def __init__(self, trainer: Trainer, store: WeightStore) -> None:
        self._generator = trainer.generator
        self._judge = load_vgg(store, torch.device("cpu"))
        self._nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
        self._embed = DlibIdentity(importlib.import_module("dlib"), store)

    @torch.inference_mode()
    def __call__(self, w: Tensor, picture: Tensor) -> tuple[float, ...]:
        """`NAMES`, of the W+ [L,512] and a picture [1,3,256,256]."""
        drawn = self._generator.synthesize(w[None], 256).clamp(-1, 1)
        far = lpips_distance(lpips_features(self._judge, drawn), lpips_features(self._judge, picture))
        (one, seen), (other, shown) = self._look(drawn), self._look(picture)
        return (
            far.item(),
            (drawn - picture).square().mean().item(),
            float(np.linalg.norm(one - other)),
            (seen - shown).abs().mean().item(),
        )

    def _look(self, picture: Tensor) -> tuple[Floats, Tensor]:
        """Who that is, and the expression."""
        points, blendshapes, _ = Probe(self._nets, picture).look(picture)
        rgb = ((picture[0].permute(1, 2, 0) * 0.5 + 0.5) * 255).round().byte().numpy()
        identity = self._embed(View(rgb, Landmarks(points[0].numpy() * 256 - 0.5, 1.0)))
        assert identity is not None  # there are landmarks
        return identity, blendshapes[0]


def print_card(trainer: Trainer, encoder: Encoder, store: WeightStore, photos: Sequence[Path], count: int) -> None:
    """Means over held-out samples, and over photos: of the mean face, and of what the encoder tells."""
    like, generator, samples = Likeness(trainer, store), trainer.generator, trainer.samples
    _, detector = landmarks.choose_detector("landmarker", store, torch.device("cpu"))
    own, others = [], []
    with torch.inference_mode():
        live = torch.tensor(generator.live_layers)
        for i in range(count):
            white = torch.from_numpy(samples.latents[i].astype(np.float32))
            w = generator.mean_latent.index_copy(0, live, trainer.whitening.colour(white))
            own.append(generator.synthesize(w[None], 256).clamp(-1, 1))
        for path in photos:
            rgb = read_image(path)
            crop = ffhq_crop(landmarks.find_face(rgb, detector, str(path)).points)
            others.append(to_tensor(cut_out(rgb, crop, 256).rgb))
    for whose, pictures in (("samples", own), ("photos", others)):
        for name in ("the mean face", "the encoder") if pictures else ():
            mean = name == "the mean face"
            found = [
                like(generator.mean_latent if mean else encoder.latent(generator, trainer.whitening, p), p)
                for p in pictures
            ]
            means = ", ".join(f"{n} {v:.3f}" for n, v in zip(like.NAMES, np.mean(found, 0), strict=True))
            print(f"{len(pictures)} {whose}, {name}: {means}", flush=True)


def save(encoder: Encoder, path: Path, steps: int) -> None:
    """Write the encoder in half precision."""
    stored = {name: value.half().contiguous() for name, value in encoder.state_dict().items()}
    save_file(stored, path, {"steps": str(steps)})


def train(trainer: Trainer, encoder: Encoder, args: argparse.Namespace) -> None:
    """Descend for so many minutes, from a checkpoint where there is one; write a mean of the last steps."""
    checkpoint = args.out.with_suffix(".checkpoint.pt")
    optimiser = torch.optim.Adam(encoder.parameters(), lr=args.rate, betas=(0.9, 0.98))
    average, step, spent = copy.deepcopy(encoder), 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        encoder.load_state_dict(saved["encoder"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
    random, lately = np.random.default_rng([args.seed, step]), list[float]()
    torch.manual_seed(args.seed + step)
    while spent < args.minutes * 60:
        began = time.monotonic()
        for group in optimiser.param_groups:
            left = 0.5 + 0.5 * math.cos(math.pi * spent / args.minutes / 60)
            group["lr"] = args.rate * min(1, (step + 1) / 20) * max(left, 0.02)
        chosen = random.integers(HELD, trainer.samples.done, args.batch)
        worse, clean = (tensors(each) for each in zip(*(trainer.shown(i, random) for i in chosen), strict=True))
        loss = trainer.loss(encoder(worse), clean).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        step += 1
        with torch.no_grad():
            for mean, now in zip(average.parameters(), encoder.parameters(), strict=True):
                mean.lerp_(now, max(0.02, 1 / step))
        lately.append(loss.item())
        spent += time.monotonic() - began
        if step % 50 == 0 or spent >= args.minutes * 60:
            whole, face = trainer.held_out(average)
            report = {"loss": sum(lately) / len(lately), "held out, whole": whole, "held out, faces": face}
            report = {"step": step, "minutes": round(spent / 60, 1), **{k: round(v, 4) for k, v in report.items()}}
            print(json.dumps(report), flush=True)
            lately.clear()
            states = {"encoder": encoder, "average": average, "optimiser": optimiser}
            torch.save({**{k: v.state_dict() for k, v in states.items()}, "step": step, "spent": spent}, checkpoint)
            save(average, args.out, step)


def main() -> None:
    """Draw what is missing of the samples, then train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("weights/mobile_encoder.safetensors"))
    parser.add_argument("--samples", type=Path, default=Path("encoder"))
    parser.add_argument("--pool", type=int, default=6_000)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--ridge", type=float, default=0.03, help="of the first fit")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="to measure the encoder on too, at the end")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    store, cpu = WeightStore(default_root()), torch.device("cpu")
    generator = mobile.create(store, cpu, quick_dtype(cpu))
    samples = Samples(args.samples, args.pool, len(generator.live_layers))
    with torch.inference_mode():
        samples.draw(generator, Whitening(generator), args.seed)
    trainer = Trainer(generator, load_vgg(store, cpu, quick_dtype(cpu)), samples)
    torch.manual_seed(args.seed)
    encoder = Encoder(len(generator.live_layers))
    with torch.no_grad():
        torch.nn.init.zeros_(encoder.last.weight)
        torch.nn.init.zeros_(encoder.last.bias)
    print("held out, the mean face: whole {:.4f}, faces {:.4f}".format(*trainer.held_out(encoder)), flush=True)
    trainer.fit(encoder, args.ridge)
    print("held out, least squares: whole {:.4f}, faces {:.4f}".format(*trainer.held_out(encoder)), flush=True)
    train(trainer, encoder, args)
    print_card(trainer, Encoder.load(args.out), store, args.photos, CARD)


if __name__ == "__main__":
    main()
