"""A picture -> a latent to begin from, learnt once for a generator.

A search need not begin at the mean face. Most of what tells one start from another are a picture's colours on a coarse
grid, and how they tell a latent is linear enough: tools/train_encoder.py fits it by least squares to the generator's
own people. Encoders that are to end a search, as in "Encoding in Style" (Richardson et al., 2021), are a thousand times
as large.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .generators import Generator
from .invert import Whitening
from .weights import read_tensors

GRID = 8  # places, each way


class Encoder(nn.Module):
    """Pictures -> their latents in white coordinates, but for what colours on a grid don't tell."""

    centre: Tensor  # [3*GRID*GRID], of the colours that it was fitted to
    spread: Tensor

    def __init__(self, slots: int) -> None:
        """`slots`: how many of W+ it tells."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(3 * GRID**2))
        self.register_buffer("spread", torch.ones(3 * GRID**2))
        self.readout = nn.Linear(3 * GRID**2, slots * 512)

    def seen(self, pictures: Tensor) -> Tensor:
        """[N,3,S,S] in [-1,1], aligned like FFHQ -> their colours, as far from the usual as is usual: about [-1,1]."""
        return (F.adaptive_avg_pool2d(pictures, GRID).flatten(1) - self.centre) / self.spread

    def forward(self, pictures: Tensor) -> Tensor:
        """[N,3,S,S] in [-1,1], S a multiple of `GRID` -> whitened [N,slots,512]."""
        latents: Tensor = self.readout(self.seen(pictures))
        return latents.reshape(len(pictures), -1, 512)

    def latent(self, generator: Generator, whitening: Whitening, picture: Tensor) -> Tensor:
        """The W+ [L,512] of one picture [1,3,S,S]; slots that change nothing are the mean's."""
        slots = torch.tensor(generator.live_layers, device=picture.device)
        return generator.mean_latent.index_copy(0, slots, whitening.colour(self(picture)[0]))

    @classmethod
    def load(cls, path: Path) -> Encoder:
        """Read what tools/train_encoder.py wrote."""
        stored = {name: torch.from_numpy(value).float() for name, value in read_tensors(path).items()}
        encoder = cls(len(stored["readout.bias"]) // 512)
        encoder.load_state_dict(stored)
        return encoder.eval().requires_grad_(False)
