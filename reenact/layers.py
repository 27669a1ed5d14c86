"""Which layers come from the driver: the paper's 0-1 programme (section 3.4), for one target and one driver.

The paper: s0 = a s1 + (1 - a) s2 with a 0-1 diagonal a that makes D1(g(s0), I1) + D2(g(s0), I2) least; it calls that an
integer programme, does not solve it, and takes layers 4 and 5. Here the objective is measured with each layer and each
pair of layers swapped, which is a quadratic model of it over all sets. The model's optimum is found as a mixed-integer
linear programme (scipy's HiGHS), its products replaced by binaries of their own (Glover & Woolsey, "Converting the 0-1
Polynomial Programming Problem to a 0-1 Linear Program", 1974).

What a pair does says less and less of a set the more layers it has. So the programme is solved for each number of
layers, all answers are drawn and measured, and the best by that is taken. The fixed layers are among them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from .errors import ReenactError
from .expression import Probe, distance
from .fuse import from_driver, splice
from .generators import Generator
from .invert import InvertOptions, distance_to
from .perceptual import Vgg16
from .types import Floats

Slots = tuple[int, ...]
Measure = Callable[[Slots], tuple[float, float]]
"""Slots that come from the driver -> (D1, D2), each in its own unit; see `Swaps`."""


WORTH = 1.5
"""What D2 counts in the objective D1 + `WORTH` D2."""
_COUNTS = np.array([1.0, WORTH])


# ---- The programme -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A set of slots that was drawn."""

    slots: Slots
    predicted: float  # the objective by the model
    person: float  # D1 as drawn
    expression: float  # D2

    @property
    def objective(self) -> float:
        """D1 + `WORTH` D2."""
        return self.person + WORTH * self.expression


@dataclass(frozen=True, eq=False)
class Choice:
    """What was measured, tried and chosen."""

    slots: Slots  # the K that were free
    nothing: tuple[float, float]  # (D1, D2) with nothing of the driver's
    single: NDArray[np.float64]  # [2,K] what a slot alone adds to D1 and to D2
    pair: NDArray[np.float64]  # [2,K,K] what two add beyond their sum, above the diagonal; else 0
    fixed: Candidate
    tried: tuple[Candidate, ...]  # the model's optima of at most 1, 2, ... slots, as far as they differ

    @property
    def chosen(self) -> Candidate:
        """The best of all as drawn; the fixed one where none is better."""
        return min((self.fixed, *self.tried), key=lambda candidate: candidate.objective)

    @property
    def gains(self) -> NDArray[np.float64]:
        """[K,K]: what a slot alone adds to the objective, and above the diagonal what two add beyond their sum."""
        return np.asarray(np.diag(_COUNTS @ self.single) + np.tensordot(_COUNTS, self.pair, 1))

    @property
    def is_better(self) -> bool:
        """Whether what is chosen is better than the fixed slots, as drawn."""
        return self.chosen.objective < self.fixed.objective

    def __str__(self) -> str:
        fixed = f"{_list(self.fixed.slots)}, {self.fixed.objective:.3f}"
        if not self.is_better:
            best = min((c for c in self.tried if c.slots != self.fixed.slots), key=lambda c: c.objective, default=None)
            other = f"; the best other is {_list(best.slots)}, {best.objective:.3f}" if best else ""
            return f"none are better than the paper's ({fixed}){other}"
        return f"{_list(self.chosen.slots)}, objective {self.chosen.objective:.3f} (the paper's {fixed})"


def _list(slots: Slots) -> str:
    return ",".join(map(str, slots))


def to_json(choice: Choice) -> str:
    """All of a choice, for programs."""

    def told(candidate: Candidate) -> dict[str, object]:
        return {**asdict(candidate), "objective": candidate.objective}

    def terms(values: NDArray[np.float64] | tuple[float, float]) -> dict[str, float]:
        return {"person": float(values[0]), "expression": float(values[1])}

    slots = choice.slots
    content = {
        "objective": f"person + {WORTH:g} expression, in units of what there is to lose and to gain",
        "nothing": terms(choice.nothing),
        "single": [{"slot": slot, **terms(choice.single[:, i])} for i, slot in enumerate(slots)],
        "pairs": [
            {"slots": (slots[i], slots[j]), **terms(choice.pair[:, i, j])}
            for i, j in combinations(range(len(slots)), 2)
        ],
        "tried": [told(candidate) for candidate in choice.tried],
        "fixed": told(choice.fixed),
        "chosen": told(choice.chosen),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def choose_layers(
    slots: Slots, fixed: Slots, measure: Measure, on_step: Callable[[int, int], None] | None = None
) -> Choice:
    """Choose some of `slots` to come from the driver.

    Args:
        slots: those that may; K of them take 1 + K + K (K - 1) / 2 measurements, and a few more.
        fixed: what the choice must be better than.
        measure: see `Measure`.
        on_step: told of (measurements made, about how many in all).
    """
    index = {slot: i for i, slot in enumerate(slots)}
    pairs = list(combinations(slots, 2))
    total, known = 1 + len(slots) + len(pairs), dict[Slots, tuple[float, float]]()

    def measured(chosen: Slots) -> NDArray[np.float64]:
        if chosen not in known:
            known[chosen] = measure(chosen)
            if on_step:
                on_step(len(known), max(total, len(known)))
        return np.array(known[chosen])

    nothing = measured(())
    single = np.stack([measured((slot,)) - nothing for slot in slots], 1)
    pair = np.zeros((2, len(slots), len(slots)))
    for a, b in pairs:
        i, j = index[a], index[b]
        pair[:, i, j] = measured((a, b)) - nothing - single[:, i] - single[:, j]

    def candidate(chosen: Slots) -> Candidate:
        x = np.isin(slots, chosen).astype(float)
        person, expression = measured(chosen)
        predicted = _COUNTS @ (nothing + single @ x + np.einsum("i,dij,j->d", x, pair, x))
        return Candidate(chosen, float(predicted), float(person), float(expression))

    optima = [tuple(slots[i] for i in best) for best in _optima(_COUNTS @ single, np.tensordot(_COUNTS, pair, 1))]
    return Choice(
        slots, (float(nothing[0]), float(nothing[1])), single, pair, candidate(fixed), tuple(map(candidate, optima))
    )


def _optima(linear: NDArray[np.float64], product: NDArray[np.float64]) -> list[Slots]:
    """The optima among sets of at most 1, 2, ... members, until more of them make none better."""
    found: list[Slots] = []
    for most in range(1, len(linear) + 1):
        best = optimum(linear, product, most)
        if len(best) < most:
            break
        found.append(best)
    return found


def optimum(linear: NDArray[np.float64], product: NDArray[np.float64], most: int) -> Slots:
    """The set of 1 to `most` of the numbers 0..K-1, as a vector x of 0 and 1, that makes linear x + x product x least.

    Not the empty set: with nothing of the driver's nothing is transferred.

    Args:
        linear: [K].
        product: [K,K], above the diagonal.

    Raises:
        ReenactError: the solver gives up.
    """
    count = len(linear)
    first, second = np.triu_indices(count, 1)
    size, each = len(first), np.arange(len(first))
    # Unknowns: x, then y = x_i x_j of each pair: y <= x_i, y <= x_j, y >= x_i + x_j - 1.
    rows = np.zeros((3 * size + 1, count + size))
    rows[each, count + each], rows[each, first] = 1, -1
    rows[size + each, count + each], rows[size + each, second] = 1, -1
    rows[2 * size + each, count + each], rows[2 * size + each, first], rows[2 * size + each, second] = -1, 1, 1
    rows[-1, :count] = 1
    least = np.concatenate([np.full(3 * size, -np.inf), [1]])
    greatest = np.concatenate([np.zeros(2 * size), np.ones(size), [most]])
    found = milp(
        np.concatenate([linear, product[first, second]]),
        constraints=LinearConstraint(rows, least, greatest),
        bounds=Bounds(0, 1),
        integrality=np.ones(count + size),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ReenactError(f"choosing layers: the solver gives up ({found.message}); name --layers")
    return tuple(int(i) for i in np.flatnonzero(np.rint(found.x[:count])))


# ---- What is measured ----------------------------------------------------------------------------------------------

MOMENTS = 3
"""Of the driver, by which layers are chosen."""

DRAWN, COMPARED = 256, 128
"""Pixels of the pictures by which they are chosen, and of those in which persons are compared."""


def telling(goals: Tensor, rest: Tensor) -> list[int]:
    """Which of the expressions [T,M] tell most: at most `MOMENTS`, each as far as can be from the rest and the others.

    Farthest points first (Gonzalez, 1985), by the distance that is D2.
    """
    chosen, gaps = list[int](), distance(goals, rest)
    while len(chosen) < min(MOMENTS, len(goals)):
        chosen.append(int(gaps.argmax()))
        gaps = torch.minimum(gaps, distance(goals, goals[chosen[-1]]))
    return list(dict.fromkeys(chosen))  # where nothing moves the same comes again


def unlike(
    network: Vgg16, picture: Tensor, options: InvertOptions, weight: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """A D1: the distance by which faces are found, of a drawn picture [1,3,S,S] to a person's.

    Args:
        network: its features.
        picture: the person's [1,3,`COMPARED`,`COMPARED`] in [-1,1].
        options: the recipe whose distance it is.
        weight: [1,1,`COMPARED`,`COMPARED`], where the picture counts; None: everywhere.
    """
    distance_of = distance_to(network, picture, options, weight)
    return lambda drawn: distance_of(F.adaptive_avg_pool2d(drawn, COMPARED))


class Swaps:
    """Draws a target with slots of a driver's, and measures it: the `Measure` of a pair.

    D1 is a distance to the target's picture and D2 one to the expressions that the driver asks for, both means over a
    few moments. Their units are what there is to lose and to gain: D1 counts in that of the driver's own face, D2 in
    that of the target as it is. So to become the driver costs about 1, and to stay without expression 1.
    """

    def __init__(
        self,
        generator: Generator,
        size: int,
        target: Floats,
        drivers: Floats,
        anchor: Floats | None,
        person: Callable[[Tensor], Tensor],
        probe: Probe,
        goals: Tensor,
        strength: float = 1.0,
    ) -> None:
        """Measure the units.

        Args:
            generator: what draws.
            size: of the pictures, one of its own.
            target: its latent [L,512].
            drivers: the driver's latents in the moments that count [F,L,512].
            anchor, strength: as for `fuse.splice`.
            person: D1 of a picture [1,3,S,S] to the target.
            probe: measures the target's expression in such pictures.
            goals: what they should show in those moments [F,M].
        """
        self._generator, self._size, self._target, self._drivers = generator, size, target, drivers
        self._anchor, self._strength, self._person, self._probe, self._goals = anchor, strength, person, probe, goals
        self._units = (1.0, 1.0)
        own = [float(person(picture)) for picture in self._drawn(drivers)]
        self._units = (max(float(np.mean(own)), _LEAST), max(self(())[1], _LEAST))

    @torch.inference_mode()
    def __call__(self, slots: Slots) -> tuple[float, float]:
        """(D1, D2) of the target with those slots of the driver's."""
        pictures = self._drawn(self.spliced(slots))
        person = [float(self._person(picture)) for picture in pictures]
        seen = [self._probe(picture)[0] for picture in pictures]
        expression = [float(distance(found, goal)) for found, goal in zip(seen, self._goals, strict=True)]
        return float(np.mean(person)) / self._units[0], float(np.mean(expression)) / self._units[1]

    def spliced(self, slots: Slots) -> list[Floats]:
        """The target's latents with those slots, one for each moment."""
        chosen = from_driver(slots, len(self._target))
        return [splice(self._target, w, chosen, self._anchor, self._strength) for w in self._drivers]

    @torch.inference_mode()
    def _drawn(self, latents: Sequence[Floats] | Floats) -> list[Tensor]:
        device = self._goals.device
        return [self._generator.synthesize(torch.from_numpy(w)[None].to(device), self._size) for w in latents]


_LEAST = 1e-6  # of a unit: a driver that is the target, or shows what it shows, leaves nothing to choose
