"""Learn which latent draws a given face: reenact/encoder.py.

    python tools/train_encoder.py --samples encoder --pool 14000 --minutes 30 --out weights/mobile_encoder.safetensors

First the generator draws its own people, once, into the folder --samples: of one style, of two crossed, with the mean
face's expressions (what the target's light and colours are found on), and pushed off W as inversions are. Then the
encoder learns their latents from pictures that are made worse at every step, as photos are. Both parts go on where
an earlier run stopped. Nobody's photo is used.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reenact import mapper
from reenact.devices import quick_dtype
from reenact.expression import NAMES
from reenact.generators import Generator, mobile
from reenact.invert import Whitening
from reenact.weights import WeightStore, default_root

SEEN = 128  # pixels
AT_ONCE = 10  # samples drawn together
KINDS = 5


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
            seen = torch.zeros(len(NAMES))
            seen[list(mapper.ASKED)] = self.mapper.centre + self.mapper.spread * torch.randn(
                len(mapper.ASKED), generator=random
            )
            w[self.slots] = self.whitening.colour(self.whitening.white(mean[self.slots]) + self.mapper(seen))
        elif kind == 4:  # spread like W, but not of it
            off = torch.randn(layers, 512, generator=random) * chance(0, 0.7)
            w = self.whitening.colour(self.whitening.white(w) + off)
        return w


def main() -> None:
    """Draw what is missing of the samples, then train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("weights/mobile_encoder.safetensors"))
    parser.add_argument("--samples", type=Path, default=Path("encoder"))
    parser.add_argument("--pool", type=int, default=14_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cpu = torch.device("cpu")
    generator = mobile.create(WeightStore(default_root()), cpu, quick_dtype(cpu))
    whitening = Whitening(generator)
    samples = Samples(args.samples, args.pool, len(generator.live_layers))
    began = time.monotonic()
    with torch.inference_mode():
        samples.draw(generator, whitening, args.seed)
    print(f"samples: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
