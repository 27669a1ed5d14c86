"""A face's response: the change of its latent for each expression, known at key expressions, between them by a Gaussian
process.

Solving every frame by itself from the last one's answer lets a clip remember what went before: the same expression
comes out differently each time, and answers that only add up leave what the generator can draw. A function of the
expression has no memory, moves as smoothly as the driver does, and costs one pass of the generator a frame however
long the clip is. That it is nearly linear is what makes it cheap (compare "Finding Directions in GAN's Latent Space
for Neural Face Reenactment", Bounareli et al., 2022, which learns one linear map for all faces).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .expression import WEIGHTS, limited


@dataclass(frozen=True)
class ResponseOptions:
    """What is assumed of a response. Lengths are in units of the clip's rms expression."""

    length: float = 0.5  # how far from a key its neighbourhood reaches, at most 0.75 of the clip's own variation
    line: float = 0.3  # how much of the response is linear, against the rest of it
    noise: float = 0.03  # how little a single key is trusted, as a variance against the rest's
    apart: float = 0.02  # expressions nearer than this (a weighted rms error, not in units of the clip) are one


NEGLIGIBLE = 1e-6
"""A weighted rms error that is none."""


class Response:
    """Expressions [M] -> changes of the latent [S,512]; nothing changes at rest."""

    def __init__(
        self,
        rest: Tensor,
        goals: Tensor,
        still: Tensor,
        options: ResponseOptions | None = None,
        weights: Tensor = WEIGHTS,
    ) -> None:
        """Nothing is known yet, and everything is answered by no change.

        Args:
            rest: the face's own expression [M].
            goals: the expressions [T,M] that will be asked for: what is far and what is near.
            still: the change [S,512] that is none.
            options: what is assumed.
            weights: how much a difference in each number of an expression counts [M].
        """
        self.options = options or ResponseOptions()
        self._rest, self._weights = limited(rest), weights.to(rest) / len(weights) ** 0.5
        places = self._placed(goals)
        self._scale = max(_rms(places), NEGLIGIBLE)
        # A driver that frowns throughout is far from the target's rest; its blinks are as small as ever.
        variation = _rms(places - places.mean(0))
        reach = min(self._scale, 1.5 * variation) if variation > NEGLIGIBLE else self._scale
        self._reach = self.options.length * reach
        self._still = still
        self._places: list[Tensor] = []
        self._changes: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._places)

    def spread(self, goals: Tensor, count: int) -> list[int]:
        """Which goals [T,M] to learn: at most `count`, each as far as can be from the rest and from those before.

        Farthest points first (Gonzalez, 1985), so that a blink in a long talk is not missed.
        """
        places, chosen = self._placed(goals), list[int]()
        gaps = places.norm(dim=1)
        # However little a clip moves, the one expression that moves most is learnt.
        while len(chosen) < count and float(gaps.max()) > (self.options.apart if chosen else NEGLIGIBLE):
            chosen.append(int(gaps.argmax()))
            gaps = torch.minimum(gaps, (places - places[chosen[-1]]).norm(dim=1))
        return chosen

    def learn(self, goal: Tensor, change: Tensor, key: int | None = None) -> None:
        """Remember the change [S,512] that shows `goal` [M]; `key`: which one it replaces, counted from 0."""
        if key is None:
            self._places.append(self._placed(goal))
            self._changes.append(change)
        else:
            self._places[key], self._changes[key] = self._placed(goal), change

    def __call__(self, goal: Tensor) -> Tensor:
        """The change [S,512] for an expression [M]."""
        if not self._places:
            return self._still
        known = torch.stack(self._places)
        spread = self._kernel(known, known) + self.options.noise * torch.eye(len(known)).to(known)
        near = self._kernel(self._placed(goal)[None], known)[0]
        shares: Tensor = torch.linalg.solve(spread, near).to(self._still)  # [K]
        return (shares[:, None, None] * torch.stack(self._changes)).sum(0)

    def _placed(self, expressions: Tensor) -> Tensor:
        """[...,M] -> where they lie, seen from the rest; a unit of length is a weighted rms error of 1."""
        placed: Tensor = (limited(expressions) - self._rest) * self._weights
        # A few numbers, whose kernel may be near to singular: not worth a GPU, and worth every bit.
        return placed.double().cpu()

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """How alike the changes at [N,M] and [K,M] are expected to be, given that nothing changes at rest."""
        rest = torch.zeros_like(a[:1])
        return self._free_kernel(a, b) - self._free_kernel(a, rest) @ self._free_kernel(rest, b)

    def _free_kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """1 where they are the same and at rest."""
        near = torch.exp(-0.5 * (torch.cdist(a, b) / self._reach).square())
        return near + self.options.line * (a @ b.T) / self._scale**2


def _rms(places: Tensor) -> float:
    """Of lengths [N,M]."""
    return float(places.square().sum(1).mean().sqrt())
