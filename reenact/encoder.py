"""A picture -> a latent to begin from, learnt once for a generator.

An encoder as in "Encoding in Style" (Richardson et al., 2021), but a small one, for what a search begins with and not
for what it ends with: it looks at a picture's colours on a coarse grid, which is most of what tells one start from
another. Trained by tools/train_encoder.py on the generator's own people.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import WeightsError
from .generators import Generator
from .invert import Whitening
from .weights import read_tensors, shipped

FINE, COARSE = 16, 8  # places of the grids, each way


class Encoder(nn.Module):
    """Pictures -> what their latents differ by from the mean face's, in white coordinates."""

    centre: Tensor  # [3*FINE*FINE], of the colours that it was trained on
    spread: Tensor

    def __init__(self, slots: int, hidden: int = 192) -> None:
        """`slots`: how many of W+ it tells."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(3 * FINE**2))
        self.register_buffer("spread", torch.ones(3 * FINE**2))
        self.first = nn.Linear(3 * FINE**2, hidden)
        self.last = nn.Linear(3 * COARSE**2 + hidden, slots * 512)

    def colours(self, pictures: Tensor) -> Tensor:
        """[N,3,S,S] in [-1,1], aligned like FFHQ -> their colours [N,3*FINE*FINE]."""
        return F.adaptive_avg_pool2d(pictures, FINE).flatten(1)

    def seen(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The colours as it was trained on them: on the coarse grid [N,3*COARSE*COARSE], on the fine one."""
        fine = (self.colours(pictures) - self.centre) / self.spread
        return F.adaptive_avg_pool2d(fine.unflatten(1, (3, FINE, FINE)), COARSE).flatten(1), fine

    def forward(self, pictures: Tensor) -> Tensor:
        """[N,3,S,S] in [-1,1], S a multiple of `FINE` -> whitened [N,slots,512]."""
        coarse, fine = self.seen(pictures)
        latents: Tensor = self.last(torch.cat([coarse, F.gelu(self.first(fine))], 1))
        return latents.unflatten(1, (-1, 512))

    def latent(self, generator: Generator, whitening: Whitening, picture: Tensor) -> Tensor:
        """The W+ [L,512] of one picture [1,3,S,S]; slots that change nothing are the mean's."""
        slots = torch.tensor(generator.live_layers, device=picture.device)
        return generator.mean_latent.index_copy(0, slots, whitening.colour(self(picture)[0]))

    @classmethod
    def load(cls, path: Path) -> Encoder:
        """Read what tools/train_encoder.py wrote."""
        stored = {name: torch.from_numpy(value).float() for name, value in read_tensors(path).items()}
        encoder = cls(len(stored["last.bias"]) // 512, len(stored["first.bias"]))
        encoder.load_state_dict(stored)
        return encoder.eval().requires_grad_(False)


def path_of(generator: str) -> Path | None:
    """The file of a generator's encoder; None: it has none, and searches begin at the mean face."""
    try:
        return shipped(f"{generator}_encoder.safetensors")
    except WeightsError:
        return None
