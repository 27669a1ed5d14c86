"""Expression-aware fusion: the paper's equation 2, s0 = argmin D1(g(s), I1) + D2(g(s), I2), solved for key expressions.

D2 is a distance between expressions (expression.py). D1 is the change of the picture outside mouth, eyes and brows
and of where the steady points of the face lie. Only the expression slots move, in coordinates whitened by W's own
distribution, so that a step of one length is as likely a change of a face whatever its direction. What a clip's other
frames need lies between the keys (response.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .align import STEADY
from .expression import NAMES, WEIGHTS, Probe, limited, measure
from .generators import Generator
from .invert import Whitening, nearest_size
from .response import Response, ResponseOptions

OnStep = Callable[[int, int], None]
"""Called with (steps taken, steps in all)."""


@dataclass(frozen=True)
class SolveOptions:
    """How to solve for the expression."""

    keys: int = 12  # expressions of a clip that are solved for, at most
    # Over all keys: steps on average, their rate in W's own spread, and the size of the pictures that are measured.
    sweeps: tuple[tuple[int, float, int], ...] = ((14, 0.05, 128), (6, 0.03, 256))
    ridge: float = 0.02  # on the mean square of the change
    hold: float = 4.0  # on the picture's change outside the moving parts
    steady: float = 300.0  # on the shift of the steady points, in units of the picture
    bent: bool = True  # the photo's mesh follows the driver, so that some of an expression had better not be drawn
    response: ResponseOptions = field(default_factory=ResponseOptions)


MOVING: tuple[tuple[tuple[int, ...], float], ...] = (
    (tuple(range(48, 68)), 0.05),
    ((*range(36, 42), *range(17, 22)), 0.03),
    ((*range(42, 48), *range(22, 27)), 0.03),
)
"""Landmarks of the parts that expressions move, and how far around them the picture may change."""


# Lids and glances are the photo's own, moved, and so is the line of the lips; of brows and cheeks only the folds are
# drawn. What lies between the lips is drawn, and a smile that stays shut has nothing there.
_SHARES = {
    "brow": 0.3, "eye": 0.1, "lid": 0.1, "lips open": 2.5, "jawOpen": 1.5,
    "mouthSmile": 0.7, "mouth width": 0.7, "corner": 0.7, "upper": 0.7,
}  # fmt: skip
_DRAWN = torch.tensor(
    [next((share for start, share in _SHARES.items() if name.startswith(start)), 1.0) for name in NAMES]
)
"""What each number of the measure counts, of its weight, where the photo itself is moved."""


class Solver:
    """Finds, for one target, the latents that show given expressions."""

    def __init__(
        self,
        generator: Generator,
        probe: Probe,
        w: Tensor,
        slots: tuple[int, ...],
        options: SolveOptions | None = None,
        drawn: int | None = None,
        whitening: Whitening | None = None,
    ) -> None:
        """Measure the target as it is.

        Args:
            generator: what draws.
            probe: measures its pictures.
            w: the target's latent [L,512].
            slots: the ones that may move.
            options: how.
            drawn: the size that pictures will be drawn in, which needs no looking closer; None: the generator's own.
            whitening: the generator's, where a caller has it.
        """
        self.options = options or SolveOptions()
        self.generator, self.probe, self.w = generator, probe, w
        drawn = drawn or generator.sizes[-1]
        self._whitening = whitening or Whitening(generator)
        self._start = self._whitening.white(w)[list(slots)]  # [S,512]
        self._index = torch.tensor(slots, device=w.device)
        self._weights = (WEIGHTS * _DRAWN if self.options.bent else WEIGHTS).to(w.device)
        self.rest = self._seen(drawn).expression  # [M], of the reconstruction
        sizes = {size for _, _, size in self.options.sweeps}
        self._references = {size: self._seen(nearest_size(generator, min(size, drawn))) for size in sizes}

    @torch.no_grad()
    def _seen(self, size: int) -> _Reference:
        """The target's reconstruction through the generator's exit of that size."""
        picture = self.generator.synthesize(self.w[None], size)
        points, blendshapes, inside = self.probe.look(picture)
        expression = measure(points, blendshapes, inside)[0]
        return _Reference(picture, points[:, list(STEADY)], still_parts(points[0], size), expression)

    def latent(self, change: Tensor) -> Tensor:
        """A whitened change of the expression slots [S,512] -> W+ [L,512]."""
        return self.w.index_copy(0, self._index, self._whitening.colour(self._start + change))

    def respond(self, goals: Tensor, on_step: OnStep | None = None) -> Response:
        """Learn how the face shows the expressions [T,M] of a clip.

        Each key begins where those before it let expect; in later sweeps, where all of them do, so that one key's
        chance answer does not outweigh its neighbours.
        """
        response = Response(self.rest, goals, torch.zeros_like(self._start), self.options.response, self._weights)
        keys = response.spread(goals, self.options.keys)
        plan = [[_share(steps, order, len(keys)) for order in range(len(keys))] for steps, _, _ in self.options.sweeps]
        total, taken = sum(map(sum, plan)), 0
        descent = Descent()
        for (_, rate, size), shares in zip(self.options.sweeps, plan, strict=True):
            for order, (goal, steps) in enumerate(zip(goals[keys], shares, strict=True)):
                descent.begin(response(goal), rate)
                change = self.improved(descent, goal, steps, size)
                response.learn(goal, change, order if order < len(response) else None)
                taken += steps
                if on_step:
                    on_step(taken, total)
        return response

    def improved(self, descent: Descent, goal: Tensor, steps: int, size: int) -> Tensor:
        """The best change [S,512] for an expression [M] within so many steps of a descent, by pictures of `size`."""
        best, best_loss = descent.place, float("inf")
        for step in range(steps + 1):
            place = descent.place.clone().requires_grad_()
            loss = self.loss(place, goal, size)
            value = loss.item()
            if value < best_loss:
                best, best_loss = descent.place, value
            if step == steps:
                break
            (gradient,) = torch.autograd.grad(loss, place)
            if not torch.isfinite(gradient.square()).all():  # run away: it would spoil all that the descent remembers
                break
            descent.step(gradient)
        return best

    def loss(self, change: Tensor, goal: Tensor, size: int) -> Tensor:
        """Equation 2 for a change [S,512] and an expression [M], and a ridge that keeps to probable faces."""
        o, reference = self.options, self._references[size]
        picture = self.generator.synthesize(self.latent(change)[None], reference.picture.shape[-1])
        points, blendshapes, inside = self.probe.look(picture)
        # An early exit draws the face at rest a little otherwise than the whole network; that is no expression.
        change_seen = limited(measure(points, blendshapes, inside)[0]) - limited(reference.expression)
        gap = (change_seen - (goal - limited(self.rest))) * self._weights
        outside = ((picture - reference.picture).square() * reference.still).mean()
        shift = (points[:, list(STEADY)] - reference.steady).square().mean()
        return gap.square().mean() + o.hold * outside + o.steady * shift + o.ridge * change.square().mean()


def _share(steps: int, order: int, keys: int) -> int:
    """How many steps a key takes, of so many on average: the first, farthest from rest, have the longest way."""
    return 2 * steps if 3 * order < keys else max(1, steps // 2)


@dataclass(frozen=True, eq=False)
class _Reference:
    """The target at rest, in one size of picture."""

    picture: Tensor  # [1,3,S,S]
    steady: Tensor  # [1,N,2], the steady points, in units of the picture
    still: Tensor  # [1,1,S,S], 1 where nothing should move
    expression: Tensor  # [M]


def still_parts(points: Tensor, size: int) -> Tensor:
    """[1,1,S,S]: 0 over mouth, eyes and brows of a face with points [68,2] in units of the picture, 1 elsewhere."""
    axis = (torch.arange(size, device=points.device) + 0.5) / size
    moving = torch.zeros(size, size, device=points.device)
    for part, reach in MOVING:
        centre = points[list(part)].mean(0)
        extent = (points[list(part)] - centre).abs().amax(0) + reach
        distance = ((axis[None] - centre[0]) / extent[0]) ** 2 + ((axis[:, None] - centre[1]) / extent[1]) ** 2
        moving = torch.maximum(moving, torch.sigmoid((1 - distance) * 6))
    return (1 - moving)[None, None]


class Descent:
    """Adam (Kingma & Ba, 2015) with a short memory, whose second moment is shared by a slot.

    Shared, because in whitened coordinates no number of a slot is special, and what a step then follows is the
    gradient itself, not its signs. How steep the way is it remembers from one beginning to the next.
    """

    def __init__(self) -> None:
        self._square: Tensor | float = 0.0  # [S,1]
        self._steps = 0

    def begin(self, place: Tensor, rate: float) -> None:
        """Start anew from `place` [S,512], in steps as long as `rate`, rms."""
        self.place, self.rate, self._mean, self._since = place, rate, torch.zeros_like(place), 0

    def step(self, gradient: Tensor) -> None:
        """Move `place` against the gradient [S,512]."""
        self._steps, self._since = self._steps + 1, self._since + 1
        self._mean = 0.7 * self._mean + 0.3 * gradient
        self._square = 0.9 * self._square + 0.1 * gradient.square().mean(1, keepdim=True)
        size = self.rate / ((self._square / (1 - 0.9**self._steps)).sqrt() + 1e-8)
        self.place = self.place - size * self._mean / (1 - 0.7**self._since)
