"""A tuned generator draws its person.

What tuning leaves in the maps of noise belongs to places of the photo's face at rest (`tune.py`). Where an expression
changes the picture it would lie on something else, a brow on a lid, and hold a mouth shut: there it fades, as the
photo's detail does in `blend.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .generators import Generator
from .invert import nearest_size
from .tune import Weights, unchanged, with_weights


class Portrait:
    """Draws latents near one person's; not to be called by several threads, for the maps are laid for each picture."""

    @torch.no_grad()
    def __init__(self, generator: Generator, weights: Weights, w: Tensor) -> None:
        """`generator` as it was, itself left alone; `weights` that it was tuned to, for `w` [L,512]."""
        known = generator.weights()
        maps = [name for name in generator.noise_maps() if name in weights]
        shared = {name: weight for name, weight in weights.items() if name not in maps}
        self._untuned, self._tuned = generator, with_weights(generator, shared)
        self._own = {name: known[name].detach().float() for name in maps}
        self._found = {name: weights[name] - own for name, own in self._own.items()}
        # The untuned, whose small pictures are right, tells where an expression changes the face.
        self._size = nearest_size(generator, LOOKED)
        self._rest = generator.synthesize(w[None], self._size)

    @torch.no_grad()
    def synthesize(self, w: Tensor, size: int) -> Tensor:
        """[1,L,512] -> [1,3,size,size], as `Generator`."""
        if self._found:
            self._lay(unchanged(self._untuned.synthesize(w, self._size), self._rest))
        return self._tuned.synthesize(w, size)

    def _lay(self, stays: Tensor) -> None:
        """Lay the maps: of what was found a share of 0 to 1 that depends on the place [1,1,S,S]."""
        weights = self._tuned.weights()
        for name, own in self._own.items():
            here = F.interpolate(stays, own.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
            weights[name].copy_(own + here.reshape(own.shape) * self._found[name])


LOOKED = 128  # pixels
