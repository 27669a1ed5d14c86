"""Train the early exits of the `mobile` generator: small heads that give the picture at 128, 256 and 512.

    python tools/train_heads.py --minutes 60 --out weights/mobile_heads.safetensors

The truth is the whole network's picture, area-downsampled. Each step draws new styles (single, crossed,
one per slot; truncated and stretched; pushed off W by as much as inversions are), computes the features
up to 64x64 whole and runs the rest of the network on a random window of them, which costs a tenth of
the whole picture. Windows are kept for a while and learnt from `--replay` times each, for drawing one takes longer than
learning from it. Resumable: the checkpoint beside --out is continued where there is one, else the heads in --out.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reenact.generators import mobile
from reenact.perceptual import channels_last
from reenact.weights import WeightStore, default_root

WINDOW = 20  # of the 64x64 features
MARGIN = 3  # of the window: what its cut edges spoil
FIRST = mobile.layer_of(128)
HELD_OUT = 54_321  # the seed of the styles that are evaluated
KEPT = 32  # windows, of a batch each, that are learnt from in turn


class Styles:
    """Draws W+ as this generator meets it: from W, mixed, truncated, and off W as inversions go."""

    def __init__(self, mapping: mobile.Mapping, samples: int = 50_000) -> None:
        w = torch.cat([mapping(torch.randn(1000, 512)) for _ in range(samples // 1000)])
        self.mean = w.mean(0)
        self.offsets = w - self.mean
        self.covariance = self.offsets.T @ self.offsets / len(w)
        self.root = torch.linalg.cholesky(self.covariance + 1e-6 * torch.eye(512))
        self.spread = self.offsets.std()

    def _some(self, n: int) -> Tensor:
        return self.offsets[torch.randint(len(self.offsets), (n,))]

    def draw(self, kind: int) -> Tensor:
        """One W+ offset from the mean [23,512]."""
        psi = torch.empty(1).uniform_(0.3, 1.2)
        w = (self._some(1) * psi).repeat(mobile.SLOTS, 1)
        if kind == 1:  # two styles, crossed
            w[int(torch.randint(1, 21, ())) :] = self._some(1) * psi
        elif kind == 2:  # a style per slot
            w = self._some(mobile.SLOTS) * psi
        elif kind == 3:  # spread like W, but not of it
            w = w + torch.rand(1) * 1.2 * torch.randn(mobile.SLOTS, 512) @ self.root.T
        elif kind == 4:  # off W in every direction
            w = w + torch.rand(1) * self.spread * torch.randn(mobile.SLOTS, 512)
        return w

    def batch(self, n: int) -> Tensor:
        """[n,23,512], the kinds in equal parts."""
        return torch.stack([self.draw(i % 5) for i in range(n)])


class Tail(nn.Module):
    """The network's layers past 64x64, run on a window of the features with the noise of that window."""

    def __init__(self, synthesis: mobile.Synthesis) -> None:
        super().__init__()
        self.layers = copy.deepcopy(synthesis.layers[FIRST + 1 :])
        layers: list[Any] = list(self.layers)
        self.convs = [(layer.conv1, layer.conv2) for layer in layers]
        self.noises = [[conv.noise.data for conv in convs] for convs in self.convs]
        self.to_image = synthesis.to_image

    def forward(self, x: Tensor, w: Tensor, top: int, left: int) -> tuple[list[Tensor], Tensor]:
        """Features after each layer, the window itself first, and the picture."""
        features = [x]
        for i, layer in enumerate(self.layers):
            scale = 2 << i
            rows = slice(top * scale, (top + WINDOW) * scale)
            columns = slice(left * scale, (left + WINDOW) * scale)
            for conv, noise in zip(self.convs[i], self.noises[i], strict=True):
                conv.noise.data = noise[:, :, rows, columns]
            slot = 3 * (FIRST + 1 + i)
            features.append(layer(features[-1], w[:, slot + 1], w[:, slot + 2]))
        return features[:-1], self.to_image(features[-1], w[:, 3 * mobile.LAYERS])


def exits(heads: nn.ModuleDict) -> dict[str, mobile.ImageHead]:
    """The heads by the size of their pictures; torch's stubs know a dictionary's items as modules only."""
    return cast("dict[str, mobile.ImageHead]", dict(heads.items()))


def window_starts() -> tuple[int, int]:
    """A random window of the 64x64 features; the picture's own edges come up as often as anything."""
    top, left = (int(n) for n in torch.randint(-MARGIN, 64 - WINDOW + MARGIN + 1, (2,)).clamp(0, 64 - WINDOW))
    return top, left


def inner(picture: Tensor, top: int, left: int) -> Tensor:
    """What a window's cut edges have not spoilt."""
    scale = picture.shape[-1] // WINDOW
    rows = slice(0 if top == 0 else MARGIN * scale, None if top == 64 - WINDOW else -MARGIN * scale)
    columns = slice(0 if left == 0 else MARGIN * scale, None if left == 64 - WINDOW else -MARGIN * scale)
    return picture[:, :, rows, columns]


def psnr(picture: Tensor, truth: Tensor) -> Tensor:
    """dB for pictures in [-1,1], one a sample."""
    return 10 * torch.log10(4 / (picture - truth).square().flatten(1).mean(1))


@torch.no_grad()
def evaluate(
    synthesis: mobile.Synthesis, heads: nn.ModuleDict, styles: Styles, samples: int = 40
) -> dict[str, list[float]]:
    """PSNR over whole pictures of held-out styles: per size, the mean of each kind of style."""
    state = torch.get_rng_state()
    torch.manual_seed(12345)
    offsets = styles.batch(samples)
    torch.set_rng_state(state)
    found: dict[str, list[list[float]]] = {size: [[] for _ in range(5)] for size in heads}
    for i, w in enumerate(torch.split(offsets + styles.mean, 1)):
        features = list(synthesis.hidden(w))
        whole = synthesis.to_image(features[-1], w[:, 3 * mobile.LAYERS])
        for size, head in heads.items():
            picture = head(features[mobile.layer_of(int(size))], w)
            found[size][i % 5].append(float(psnr(picture, F.adaptive_avg_pool2d(whole, int(size)))))
    return {size: [sum(kind) / len(kind) for kind in kinds] for size, kinds in found.items()}


@torch.no_grad()
def draw_window(
    synthesis: mobile.Synthesis, tail: Tail, styles: Styles, batch: int
) -> tuple[Tensor, list[Tensor], Tensor, tuple[int, int]]:
    """A batch's w, each head's features and the true picture, on one random window, and where that is.

    Drawn in the networks' own precision, given back in full.
    """
    w = styles.batch(batch) + styles.mean
    place = window_starts()
    drawn = w.to(synthesis.input.dtype)
    x = next(islice(synthesis.hidden(drawn), FIRST, None))
    features, whole = tail(x[:, :, place[0] : place[0] + WINDOW, place[1] : place[1] + WINDOW], drawn, *place)
    return w, [each.float() for each in features], whole.float(), place


@torch.no_grad()
def fit_skips(synthesis: mobile.Synthesis, tail: Tail, heads: nn.ModuleDict, styles: Styles, batches: int = 12) -> None:
    """Begin with the best linear readout, unmodulated, of what the coarse network leaves over: least squares."""
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for _ in range(batches):
        w, features, whole, place = draw_window(synthesis, tail, styles, 10)
        for x, (size, head) in zip(features, exits(heads).items(), strict=True):
            wanted = mobile.haar_downsample(F.adaptive_avg_pool2d(whole, 2 * x.shape[-1])) - head.coarse(x, w)
            known = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)  # a channel of ones, for the bias
            a, b = (inner(t, *place).movedim(1, 3).flatten(0, 2).double() for t in (known, wanted))
            before = sums.get(size, (0, 0))
            sums[size] = (before[0] + a.T @ a, before[1] + a.T @ b)
    for size, (gram, product) in sums.items():
        gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        answer = torch.linalg.solve(gram, product).float()  # [C+1,12]
        skip = exits(heads)[size].skip
        assert skip.bias is not None  # `ImageHead` gives it one
        skip.weight.copy_(answer[:-1].T[:, :, None, None])
        skip.bias.copy_(answer[-1])


def parameter_groups(heads: nn.ModuleDict, rate: float) -> list[dict[str, object]]:
    """A learning rate for each parameter in proportion to its size: the network's own span four decades."""
    return [
        {"params": [p], "scale": max(float(p.detach().square().mean().sqrt()), 3e-4), "lr": rate}
        for p in heads.parameters()
    ]


@dataclass(frozen=True, eq=False)
class Window:
    """A batch's w and, by the size of exit, its features and true pictures on a window at `place`."""

    w: Tensor
    place: tuple[int, int]
    features: dict[str, Tensor]
    truths: dict[str, Tensor]


def windows(
    synthesis: mobile.Synthesis, tail: Tail, styles: Styles, sizes: list[str], batch: int, replay: int
) -> Iterator[Window]:
    """Windows to learn from: a new one, then `replay` - 1 of the last `KEPT` at random, and again."""
    kept: deque[Window] = deque(maxlen=KEPT if replay > 1 else 1)
    while True:
        w, features, whole, place = draw_window(synthesis, tail, styles, batch)
        kept.append(Window(
            w, place,
            {size: features[mobile.layer_of(int(size)) - FIRST] for size in sizes},
            {size: F.adaptive_avg_pool2d(whole, WINDOW * int(size) // 64) for size in sizes},
        ))  # fmt: skip
        yield kept[-1]
        yield from random.choices(kept, k=replay - 1)


def loss_of(heads: nn.ModuleDict, window: Window) -> Tensor:
    """Over sizes, the mean of the samples' rms errors."""
    loss = torch.zeros(())
    for size in window.features:
        error = inner(heads[size](window.features[size], window.w) - window.truths[size], *window.place)
        loss = loss + (error.square().flatten(1).mean(1) + 1e-6).sqrt().mean()
    return loss


def main() -> None:
    """Train for --minutes, evaluating and saving as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    known_sizes = [str(size) for size in mobile.EXITS]
    parser.add_argument("--sizes", nargs="+", default=known_sizes, choices=known_sizes, help="of the exits to train")
    parser.add_argument("--replay", type=int, default=1, help="steps by each window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("weights/mobile_heads.safetensors"))
    args = parser.parse_args()

    mapping, synthesis = mobile.load_networks(WeightStore(default_root()))
    with torch.no_grad():
        torch.manual_seed(HELD_OUT)
        held_out = Styles(mapping, 5000)  # the same for every run
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    cpu = torch.device("cpu")
    synthesis = channels_last(synthesis, cpu)
    with torch.no_grad():
        styles = Styles(mapping)
    # Half the bits: twice as fast where a processor has them, and 43 dB from the full precision, far above any head.
    drawn = copy.deepcopy(synthesis).bfloat16()
    tail = Tail(drawn)
    heads = nn.ModuleDict({str(size): mobile.ImageHead(synthesis, size) for size in mobile.EXITS})
    known = {"mean": styles.mean, "covariance": styles.covariance}
    if args.out.exists():  # go on from what was trained before
        trained = load_file(args.out)
        known = {name: trained[name] for name in known}  # other weights were learnt with these
        names = [name for name in trained if name.startswith("heads.")]
        heads.load_state_dict({name.removeprefix("heads."): trained[name].float() for name in names})
    else:
        fit_skips(drawn, tail, heads, styles)
    heads = channels_last(heads, cpu)
    average = copy.deepcopy(heads)
    sizes = [size for size in known_sizes if size in args.sizes]
    learning = nn.ModuleDict({size: heads[size] for size in sizes})
    optimiser = torch.optim.Adam(parameter_groups(learning, args.rate), betas=(0.9, 0.99))
    checkpoint = args.out.with_suffix(".checkpoint.pt")
    spent, step = 0.0, 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["sizes"] != sizes:
            parser.error(f"{checkpoint}: is of --sizes {' '.join(saved['sizes'])}; go on with those, or delete it")
        heads.load_state_dict(saved["heads"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        spent, step = saved["spent"], saved["step"]
        torch.manual_seed(args.seed + step)

    source = windows(drawn, tail, styles, sizes, args.batch, args.replay)
    budget, last_report = args.minutes * 60, -math.inf
    while spent < budget:
        began = time.monotonic()
        progress = spent / budget
        rate = args.rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = max(rate, args.rate * 0.01) * group["scale"]
        optimiser.zero_grad()
        loss = loss_of(learning, next(source))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        optimiser.step()
        keep = min(0.995, step / (step + 10))
        with torch.no_grad():
            for mean, now in zip(average.parameters(), heads.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        step += 1
        spent += time.monotonic() - began
        if spent - last_report > 240 or spent >= budget:
            last_report = spent
            found = evaluate(synthesis, average, held_out)
            line = {s: [round(v, 2) for v in kinds] for s, kinds in found.items()}
            report = {"step": step, "minutes": round(spent / 60, 1), "loss": round(loss.item(), 4), "psnr": line}
            print(json.dumps(report), flush=True)
            torch.save(
                {
                    "sizes": sizes,
                    "heads": heads.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "spent": spent,
                    "step": step,
                },
                checkpoint,
            )
            tensors = {f"heads.{k}": v.half().contiguous() for k, v in average.state_dict().items()}
            tensors |= known
            args.out.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, args.out, {"steps": str(step), "psnr": json.dumps(line)})


if __name__ == "__main__":
    main()
