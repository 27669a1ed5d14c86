"""Expression-aware fusion: the paper's equation 2, s0 = argmin D1(g(s), I1) + D2(g(s), I2), in closed steps.

D2 is a distance between expressions (expression.py). D1 is the change of the picture outside mouth, eyes and
brows. Both are calibrated to the target once: the gradient of each number of the expression with respect to the
expression slots, in coordinates whitened by W's own distribution, gives a few dozen directions in which the face
moves as it is asked to while it stays a likely face; walking along each of them gives how expression and picture
answer. A frame is then a small damped least-squares problem (Gauss-Newton), corrected by what the regenerated face
measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .align import STEADY
from .expression import NAMES, WEIGHTS, Probe, measure
from .generators import Generator
from .invert import Whitening

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class SolveOptions:
    """How to solve for the expression."""

    size: int = 256  # of the pictures that are measured
    per_slot: int = 10  # directions kept in each slot
    step: float = 1.0  # how far to walk along a direction when calibrating, in W's own spread
    ridge: float = 0.02  # on the squared length of the answer
    hold: float = 1.0  # on the picture's change outside the moving parts
    rounds: int = 2  # corrections a frame


STEADY_WEIGHT = 20.0  # on the place of points that should not move, in units of the picture
MOVING: tuple[tuple[tuple[int, ...], float], ...] = (
    (tuple(range(48, 68)) + (8,), 0.06),
    (tuple(range(36, 42)) + tuple(range(17, 22)), 0.03),
    (tuple(range(42, 48)) + tuple(range(22, 27)), 0.03),
)
"""Landmarks of the parts that expressions move, and how far around them the picture may change."""


class Solver:
    """Finds, for one target, the latents that show given expressions."""

    def __init__(
        self, generator: Generator, probe: Probe, w: Tensor, slots: tuple[int, ...],
        options: SolveOptions | None = None, on_progress: OnProgress | None = None,
    ) -> None:  # fmt: skip
        """Calibrate.

        Args:
            generator: what draws.
            probe: measures its pictures.
            w: the target's latent [L,512].
            slots: the ones that may move.
            options: how.
            on_progress: told of (done, total) small steps.
        """
        self.options = options or SolveOptions()
        self.generator, self.probe, self.w, self.slots = generator, probe, w, slots
        self._whitening = Whitening(generator)
        self._start = self._whitening.white(w)[list(slots)]  # [S,512]
        self._weights = torch.cat([WEIGHTS, torch.full((2 * len(STEADY),), STEADY_WEIGHT)]).to(w.device)
        self._on_progress = on_progress or (lambda done, total: None)
        self._directions = self._find_directions()
        self._walk()

    @property
    def rest(self) -> Tensor:
        """The expression [M] of the reconstruction."""
        return self._rest[: len(NAMES)]

    def _latents(self, amounts: Tensor) -> Tensor:
        """Amounts of the directions [N,K] -> W+ [N,L,512]."""
        u = self._start + torch.einsum("nk,ksd->nsd", amounts, self._directions)
        w = self.w.expand(len(u), -1, -1).clone()
        w[:, list(self.slots)] = self._whitening.colour(u)
        return w

    def _answers(self, pictures: Tensor) -> Tensor:
        """What the pictures show, [N,M+18]: the expression, and where the points lie that should not move."""
        points, blendshapes = self.probe.points(pictures)
        return torch.cat([measure(points, blendshapes), points[:, list(STEADY)].flatten(1)], 1)

    def _find_directions(self) -> Tensor:
        u = self._start.clone().requires_grad_()
        w = self.w.clone()
        w = w.index_copy(0, torch.tensor(self.slots, device=w.device), self._whitening.colour(u))
        answers = self._answers(self.generator.synthesize(w[None], self.options.size))[0] * self._weights
        rows = []
        for i, answer in enumerate(answers):
            rows.append(torch.autograd.grad(answer, u, retain_graph=i + 1 < len(answers))[0])
            self._on_progress(i + 1, 2 * len(answers))
        gradients = torch.stack(rows, 1)  # [S,R,512]
        keep = self.options.per_slot
        best = torch.linalg.svd(gradients, full_matrices=False).Vh[:, :keep]  # [S,keep,512]
        directions = torch.zeros(len(self.slots), keep, *u.shape, device=u.device)
        for s in range(len(self.slots)):
            directions[s, :, s] = best[s]
        return directions.flatten(0, 1)  # [K,S,512]

    @torch.no_grad()
    def _walk(self) -> None:
        count, step = len(self._directions), self.options.step
        base = self.generator.synthesize(self.w[None], self.options.size)
        self._rest = self._answers(base)[0]
        still = self._still_parts(base)
        response, change = [], []
        for i in range(count):
            amounts = torch.zeros(2, count, device=self.w.device)
            amounts[0, i], amounts[1, i] = step, -step
            pictures = self.generator.synthesize(self._latents(amounts), self.options.size)
            ahead, behind = self._answers(pictures)
            response.append((ahead - behind) / (2 * step))
            small = F.adaptive_avg_pool2d((pictures[0] - pictures[1]) / (2 * step) * still, 64)
            change.append(small.flatten())
            self._on_progress(count + i, 2 * count)
        self._response = torch.stack(response, 1)  # [M+18,K]
        changes = torch.stack(change)  # [K,3*64*64]
        self._held = changes @ changes.T / (still.mean() * changes.shape[1])

    def _still_parts(self, base: Tensor) -> Tensor:
        """[1,1,S,S]: 0 over mouth, eyes and brows, 1 elsewhere, soft between."""
        points, _ = self.probe.points(base)
        size = base.shape[-1]
        axis = (torch.arange(size, device=base.device) + 0.5) / size
        moving = torch.zeros(size, size, device=base.device)
        for part, reach in MOVING:
            centre = points[0, list(part)].mean(0)
            extent = (points[0, list(part)] - centre).abs().amax(0) + reach
            distance = ((axis[None] - centre[0]) / extent[0]) ** 2 + ((axis[:, None] - centre[1]) / extent[1]) ** 2
            moving = torch.maximum(moving, torch.sigmoid((1 - distance) * 6))
        return (1 - moving)[None, None]

    @torch.no_grad()
    def solve(self, goal: Tensor, amounts: Tensor) -> tuple[Tensor, Tensor]:
        """The amounts [K] that show an expression, from a first guess, and the expression reached.

        Args:
            goal: [M].
            amounts: [K], the frame before's.
        """
        goal = torch.cat([goal, self._rest[len(NAMES):]])
        weighted = self._response * self._weights[:, None]
        penalty = self.options.ridge * torch.eye(len(amounts), device=amounts.device) + self.options.hold * self._held
        system = torch.linalg.cholesky(weighted.T @ weighted + penalty)
        for _ in range(self.options.rounds):
            reached = self._answers(self.generator.synthesize(self._latents(amounts[None]), self.options.size))[0]
            missing = weighted.T @ ((goal - reached) * self._weights) - penalty @ amounts
            amounts = amounts + torch.cholesky_solve(missing[:, None], system)[:, 0]
        return amounts, reached[: len(NAMES)]

    def latent(self, amounts: Tensor) -> Tensor:
        """[K] -> W+ [L,512]."""
        return self._latents(amounts[None])[0]

    @property
    def count(self) -> int:
        """K, how many directions there are."""
        return len(self._directions)
