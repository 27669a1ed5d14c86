"""Expression-aware fusion: the paper's equation 2, s0 = argmin D1(g(s), I1) + D2(g(s), I2), solved frame by frame.

D2 is a distance between expressions (expression.py). D1 is the change of the picture outside mouth, eyes and brows
and of where the steady points of the face lie. Only the expression slots move, in coordinates whitened by W's own
distribution, so that a step of one length is as likely a change of a face whatever its direction, and each frame
begins at the last one's answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .align import STEADY
from .expression import WEIGHTS, Probe, limited, measure
from .generators import Generator
from .invert import Whitening


@dataclass(frozen=True)
class SolveOptions:
    """How to solve for the expression."""

    size: int = 128  # of the pictures that are measured
    steps: int = 10  # a frame, at most
    first: int = 40  # steps where there is no frame before, at most
    rate: float = 0.06  # in W's own spread
    tolerance: float = 0.02  # ends when the expression's rms error is below
    ridge: float = 0.015  # on the mean square of the change
    hold: float = 5.0  # on the picture's change outside the moving parts
    steady: float = 300.0  # on the shift of the steady points, in units of the picture


SHARES = (1.0, 0.8, 0.5, 0.0)
"""How much of the last frame's answer a frame may begin with: changes that only ever add up wander off, until the
landmark network sees shut eyes where a person sees none, and find no way back."""

MOVING: tuple[tuple[tuple[int, ...], float], ...] = (
    ((*range(48, 68), 8), 0.06),
    ((*range(36, 42), *range(17, 22)), 0.03),
    ((*range(42, 48), *range(22, 27)), 0.03),
)
"""Landmarks of the parts that expressions move, and how far around them the picture may change."""


@dataclass(frozen=True, eq=False)
class State:
    """What one frame hands to the next: the change of the expression slots, and Adam's memory of the slope."""

    change: Tensor  # [S,512], whitened
    mean: Tensor  # [S,512], of the gradient
    square: Tensor  # [S,512], of its square
    steps: int


class Solver:
    """Finds, for one target, the latents that show given expressions."""

    def __init__(
        self, generator: Generator, probe: Probe, w: Tensor, slots: tuple[int, ...], options: SolveOptions | None = None
    ) -> None:
        """Measure the target as it is.

        Args:
            generator: what draws.
            probe: measures its pictures.
            w: the target's latent [L,512].
            slots: the ones that may move.
            options: how.
        """
        self.options = options or SolveOptions()
        self.generator, self.probe, self.w, self.slots = generator, probe, w, slots
        self._whitening = Whitening(generator)
        self._start = self._whitening.white(w)[list(slots)]  # [S,512]
        self._index = torch.tensor(slots, device=w.device)
        self._weights = WEIGHTS.to(w.device)
        with torch.no_grad():
            self._base = generator.synthesize(w[None], self.options.size)
            points, blendshapes = probe.points(self._base)
            self.rest = measure(points, blendshapes)[0]  # the expression [M] of the reconstruction
            self._steady = points[:, list(STEADY)]
            self._still = self._still_parts(points[0])

    def begin(self) -> State:
        """The state before the first frame: nothing changed."""
        zero = torch.zeros_like(self._start)
        return State(zero, zero, zero, 0)

    def latent(self, change: Tensor) -> Tensor:
        """A whitened change of the expression slots [S,512] -> W+ [L,512]."""
        return self.w.index_copy(0, self._index, self._whitening.colour(self._start + change))

    def solve(self, goal: Tensor, state: State) -> tuple[State, float]:
        """Bring the face to the expression `goal` [M] from the frame before's state.

        Returns:
            the new state, and the weighted rms error of the expression that is left.
        """
        options = self.options
        limit = options.steps if state.steps else options.first
        # The pull of the last frame's goal is over; how steep the way is stays worth knowing.
        state = State(self._nearest(goal, state.change), torch.zeros_like(state.mean), state.square, state.steps)
        best, best_loss, best_error = state, float("inf"), float("inf")
        for step in range(limit + 1):
            change = state.change.clone().requires_grad_()
            error, cost = self._losses(change, goal)
            loss = (error + cost).item()
            # The start itself is no answer unless it is near: a frame that stays behind holds the next one back.
            if loss < best_loss or step == 1:
                best, best_loss, best_error = state, loss, error.item() ** 0.5
            if step == limit or best_error < options.tolerance:
                break
            (gradient,) = torch.autograd.grad(error + cost, change)
            state = self._stepped(state, gradient, step + 1)
        return best, best_error

    @torch.no_grad()
    def _nearest(self, goal: Tensor, change: Tensor) -> Tensor:
        """The last frame's change, or the share of it that is nearest to this goal."""
        losses = {share: float(torch.stack(self._losses(change * share, goal)).sum()) for share in SHARES}
        best = min(SHARES, key=lambda share: losses[share])
        return change * best

    def _losses(self, change: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """D2 as the mean square of the weighted error, and D1."""
        picture = self.generator.synthesize(self.latent(change)[None], self.options.size)
        points, blendshapes = self.probe.points(picture)
        gap = (limited(measure(points, blendshapes)[0]) - goal) * self._weights
        outside = ((picture - self._base).square() * self._still).mean()
        shift = (points[:, list(STEADY)] - self._steady).square().mean()
        o = self.options
        return gap.square().mean(), o.hold * outside + o.steady * shift + o.ridge * change.square().mean()

    def _stepped(self, state: State, gradient: Tensor, step: int) -> State:
        """One step of Adam (Kingma & Ba, 2015) with a short memory, whose second moment is shared by a slot.

        Shared, because in whitened coordinates no number of a slot is special, and what a step then follows is
        the gradient itself, not its signs.
        """
        steps = state.steps + 1
        mean = 0.7 * state.mean + 0.3 * gradient
        square = 0.9 * state.square + 0.1 * gradient.square().mean(1, keepdim=True)
        size = self.options.rate / ((square / (1 - 0.9**steps)).sqrt() + 1e-8)
        return State(state.change - size * mean / (1 - 0.7**step), mean, square, steps)

    def _still_parts(self, points: Tensor) -> Tensor:
        """[1,1,S,S]: 0 over mouth, eyes and brows, 1 elsewhere, soft between."""
        size = self.options.size
        axis = (torch.arange(size, device=points.device) + 0.5) / size
        moving = torch.zeros(size, size, device=points.device)
        for part, reach in MOVING:
            centre = points[list(part)].mean(0)
            extent = (points[list(part)] - centre).abs().amax(0) + reach
            distance = ((axis[None] - centre[0]) / extent[0]) ** 2 + ((axis[:, None] - centre[1]) / extent[1]) ** 2
            moving = torch.maximum(moving, torch.sigmoid((1 - distance) * 6))
        return (1 - moving)[None, None]
