"""Expressions -> latents of one made-up face, learnt once for a generator.

Of a generated face a frame shows only what lies between the lips and how the skin folds (compose.py); whose face that
is does not matter. So the mouths of all targets are those of the generator's mean face, whose latent for any
expression a small network gives at once: a latent mapper, as in StyleCLIP (Patashnik et al., 2021), trained on equation
2 of the paper by tools/train_mapper.py. What it is asked for are the numbers of expression.py that do not depend on the
shape of a face.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .expression import DARK, NAMES, limited
from .weights import read_tensors

_SHARED = (
    *("jawOpen", "mouthFunnel", "mouthPucker", "mouthSmile", "mouthUpperUp", "mouthLowerDown", "mouthStretch"),
    *("mouthPress", "mouthRoll", "brow", "eyeSquint", "eyeBlink", "lips open", DARK),
)
ASKED = tuple(i for i, name in enumerate(NAMES) if name.startswith(_SHARED) and name not in ("brow left", "brow right"))
"""The numbers of the measure that say the same of every face, and that show between the lips or as folds."""


class LatentMapper(nn.Module):
    """What an expression adds to the mean face's latent."""

    centre: Tensor  # [K], of the expressions that it was trained on
    spread: Tensor

    def __init__(self, slots: int, hidden: int = 192) -> None:
        """`slots`: how many of W+ it moves."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(len(ASKED)))
        self.register_buffer("spread", torch.ones(len(ASKED)))
        self.first = nn.Linear(len(ASKED), hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, slots * 512)

    def forward(self, expressions: Tensor) -> Tensor:
        """Expressions [...,M] -> whitened changes of the latent [...,S,512]."""
        asked = (limited(expressions)[..., list(ASKED)] - self.centre) / self.spread
        # What nobody was trained on is taken for the nearest that was.
        hidden = F.gelu(self.second(F.gelu(self.first(asked.clamp(-_FARTHEST, _FARTHEST)))))
        change: Tensor = self.last(hidden).unflatten(-1, (-1, 512))
        return change

    @classmethod
    def load(cls, path: Path) -> LatentMapper:
        """Read what tools/train_mapper.py wrote."""
        stored = {name: torch.from_numpy(value).float() for name, value in read_tensors(path).items()}
        mapper = cls(len(stored["last.bias"]) // 512, len(stored["first.bias"]))
        mapper.load_state_dict(stored)
        return mapper.eval().requires_grad_(False)


_FARTHEST = 3.0
"""In standard deviations of what it was trained on."""
