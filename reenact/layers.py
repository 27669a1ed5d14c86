"""Which layers come from the driver: the paper's 0-1 programme (section 3.4), for one target and one driver.

The paper: s0 = a s1 + (1 - a) s2 with a 0-1 diagonal a that makes D1(g(s0), I1) + D2(g(s0), I2) least; it calls that an
integer programme, does not solve it, and takes layers 4 and 5. Here D1 and D2 are measured with each layer swapped, and
with each two that shape the face, which makes them quadratics of a. The sum's least is found as a mixed-integer linear
programme (by scipy's HiGHS), products replaced by binaries of their own (Glover & Woolsey, "Converting the 0-1
Polynomial Programming Problem to a 0-1 Linear Program", 1974).

D1 saturates: who is half another has little more to lose, so that the sum alone takes next to nothing or nearly all,
whatever D2 counts. So there is a bound: no farther from the person than the fixed layers are.

What pairs say holds for few changes. So answers of at most 1, 2, ... changes are drawn, and what was drawn has the last
word; round the best the model is measured anew (single layers only), until none is better. The fixed layers are in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
Vector = NDArray[np.float64]  # [K] of 0 and 1: which of K slots are in a set
Terms = NDArray[np.float64]  # [2]: D1, D2
Measure = Callable[[Slots], tuple[float, float]]
"""Slots that come from the driver -> (D1, D2), each in its own unit; see `Swaps`."""

WORTH = 2.0
"""What D2 counts in the objective D1 + `WORTH` D2: about so much that the fixed layers are worth what they cost."""
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
class Model:
    """D1 and D2 as quadratics of a set, a vector x [K] of 0 and 1: constant + linear x + x product x."""

    constant: Terms  # [2]
    linear: NDArray[np.float64]  # [2,K]
    product: NDArray[np.float64]  # [2,K,K], above the diagonal; else 0

    def __call__(self, x: Vector) -> Terms:
        """(D1, D2)."""
        return np.asarray(self.constant + self.linear @ x + np.einsum("i,dij,j->d", x, self.product, x))

    def corrected(self, x: Vector, value: Terms, changed: NDArray[np.float64]) -> Model:
        """The model with the same products that is right at a set, and where one of its numbers is another.

        Args:
            x: the set [K].
            value: what was measured there [2].
            changed: what was measured with each number changed [2,K].
        """
        linear = (1 - 2 * x) * (changed - value[:, None]) - (self.product + self.product.swapaxes(1, 2)) @ x
        there = Model(np.zeros(2), linear, self.product)
        return replace(there, constant=value - there(x))


@dataclass(frozen=True, eq=False)
class LayerChoice:
    """What was measured, tried and chosen."""

    slots: Slots  # the K that were free
    pairs: tuple[tuple[int, int], ...]  # of them, that were measured together; others are taken to add up
    model: Model  # as measured with nothing of the driver's, one slot, and two
    fixed: Candidate
    tried: tuple[Candidate, ...]  # the programmes' answers

    @property
    def chosen(self) -> Candidate:
        """The best as drawn that is no farther from the person than the fixed one; that, where none is better."""
        within = (candidate for candidate in self.tried if candidate.person <= self.fixed.person)
        return min((self.fixed, *within), key=lambda candidate: candidate.objective)

    @property
    def gains(self) -> NDArray[np.float64]:
        """[K,K]: what a slot alone adds to the objective, and above the diagonal what `pairs` add beyond their sum."""
        return np.asarray(np.diag(_COUNTS @ self.model.linear) + np.tensordot(_COUNTS, self.model.product, 1))

    @property
    def is_better(self) -> bool:
        """Whether what is chosen is better than the fixed slots, as drawn."""
        return self.chosen.objective < self.fixed.objective

    def __str__(self) -> str:
        fixed = f"{_list(self.fixed.slots)}, {self.fixed.objective:.3f}"
        if not self.is_better:
            return f"none are better than the paper's ({fixed})"
        return f"{_list(self.chosen.slots)}, objective {self.chosen.objective:.3f} (the paper's {fixed})"


def _list(slots: Slots) -> str:
    return ",".join(map(str, slots))


def to_json(choice: LayerChoice) -> str:
    """All of a choice, for programs."""

    def told(candidate: Candidate) -> dict[str, object]:
        return {**asdict(candidate), "objective": candidate.objective}

    def terms(values: Terms) -> dict[str, float]:
        return {"person": float(values[0]), "expression": float(values[1])}

    slots, model = choice.slots, choice.model
    content = {
        "objective": f"person + {WORTH:g} expression, in units of what there is to lose and to gain",
        "nothing": terms(model.constant),
        "single": [{"slot": slot, **terms(model.linear[:, i])} for i, slot in enumerate(slots)],
        "pairs": [
            {"slots": (first, second), **terms(model.product[:, slots.index(first), slots.index(second)])}
            for first, second in choice.pairs
        ],
        "tried": [told(candidate) for candidate in choice.tried],
        "fixed": told(choice.fixed),
        "chosen": told(choice.chosen),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def choose_layers(
    slots: Slots,
    fixed: Slots,
    measure: Measure,
    paired: Slots | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> LayerChoice:
    """Choose some of `slots` to come from the driver.

    Args:
        slots: those that may.
        fixed: what the choice must be better than, and no farther from the person.
        measure: see `Measure`.
        paired: those of them that are measured in pairs too; of the others one is taken to add to another. None: all.
        on_step: told of (measurements made, about how many in all).
    """
    pairs = tuple(combinations(slots if paired is None else paired, 2))
    # Once round the best, mostly: as many again as there are slots, and a few answers.
    total, known = 1 + 2 * len(slots) + len(pairs) + REACH, dict[Slots, tuple[float, float]]()

    def measured(chosen: Slots) -> Terms:
        if chosen not in known:
            known[chosen] = measure(chosen)
            if on_step:
                on_step(len(known), max(total, len(known)))
        return np.array(known[chosen])

    def drawn(chosen: Slots, model: Model) -> Candidate:
        person, expression = measured(chosen)
        return Candidate(chosen, float(_COUNTS @ model(_vector(chosen, slots))), float(person), float(expression))

    first = model = _measured_model(slots, pairs, measured)
    choice = LayerChoice(slots, pairs, first, drawn(fixed, first), ())
    centre: Slots = ()
    while True:
        for most in (*range(1, REACH + 1), len(slots)):
            best = optimum(model, choice.fixed.person, _vector(centre, slots), most)
            found = tuple(slot for slot, taken in zip(slots, best, strict=True) if taken)
            if found and found not in {candidate.slots for candidate in choice.tried}:
                choice = replace(choice, tried=(*choice.tried, drawn(found, model)))
        if choice.chosen.slots == centre:
            return choice
        centre = choice.chosen.slots
        changed = np.stack([measured(_changed(centre, slot)) for slot in slots], 1)
        model = model.corrected(_vector(centre, slots), measured(centre), changed)


REACH = 4
"""Changes that the model is trusted with."""


def _changed(chosen: Slots, slot: int) -> Slots:
    """The set with that slot, or without it where it has it."""
    return tuple(sorted({*chosen} ^ {slot}))


def _vector(chosen: Slots, slots: Slots) -> Vector:
    return np.isin(slots, chosen).astype(float)


def _measured_model(slots: Slots, pairs: Sequence[tuple[int, int]], measured: Callable[[Slots], Terms]) -> Model:
    nothing = measured(())
    linear = np.stack([measured((slot,)) - nothing for slot in slots], 1)
    product = np.zeros((2, len(slots), len(slots)))
    for pair in pairs:
        i, j = map(slots.index, pair)
        product[:, i, j] = measured(pair) - nothing - linear[:, i] - linear[:, j]
    return Model(nothing, linear, product)


def shaping(generator: Generator) -> Slots:
    """The live slots that shape a face: up to the last that a fusion of expressions may move."""
    return tuple(slot for slot in generator.live_layers if slot <= generator.expression_layers[-1])


def optimum(model: Model, bound: float, centre: Vector, most: int) -> Vector:
    """The set that makes the objective least by the model; all 0: there is none within the bound.

    Args:
        model: of K layers.
        bound: D1 at most.
        centre: a set [K] ...
        most: ... from which it differs in so many at most. The empty set is none: it transfers nothing.

    Raises:
        ReenactError: the solver gives up.
    """
    count = len(centre)
    first, second = np.triu_indices(count, 1)
    size, each = len(first), np.arange(len(first))
    # Unknowns: x, then y = x_i x_j of each pair: y <= x_i, y <= x_j, y >= x_i + x_j - 1.
    rows = np.zeros((3 * size, count + size))
    rows[each, count + each], rows[each, first] = 1, -1
    rows[size + each, count + each], rows[size + each, second] = 1, -1
    rows[2 * size + each, count + each], rows[2 * size + each, first], rows[2 * size + each, second] = -1, 1, 1
    person, expression = np.concatenate([model.linear, model.product[:, first, second]], 1)
    no_pairs = np.zeros(size)
    found = milp(
        person + WORTH * expression,
        constraints=[
            LinearConstraint(rows, -np.inf, np.repeat([0.0, 0.0, 1.0], size)),
            LinearConstraint(person, -np.inf, bound - model.constant[0]),
            LinearConstraint(np.concatenate([1 - 2 * centre, no_pairs]), -np.inf, most - centre.sum()),
            LinearConstraint(np.concatenate([np.ones(count), no_pairs]), 1, np.inf),
        ],
        bounds=Bounds(0, 1),
        integrality=np.ones(count + size),
        options={"mip_rel_gap": 0.0},
    )
    if found.status == _INFEASIBLE:
        return np.zeros(count)
    if found.x is None:
        raise ReenactError(f"choosing layers: the solver gives up ({found.message}); name --layers")
    return np.asarray(np.rint(found.x[:count]))


_INFEASIBLE = 2  # of scipy's statuses


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
        picture: the person's [1,3,S,S] in [-1,1].
        options: the recipe whose distance it is.
        weight: [1,1,`COMPARED`,`COMPARED`], where the picture counts; None: everywhere.
    """
    distance_of = distance_to(network, F.adaptive_avg_pool2d(picture, COMPARED), options, weight)
    return lambda drawn: distance_of(F.adaptive_avg_pool2d(drawn, COMPARED))


class Swaps:
    """Draws a target with slots of a driver's, and measures it: the `Measure` of a pair.

    D1 is a distance to the target as it is drawn (what was not found of the photo no layer of another's can bring), D2
    one to the expressions that the driver asks for of that face; both are means over a few moments. Their units are
    what there is to lose and to gain: D1 counts in that of the driver's own face, D2 in that of the target at rest. So
    to become the driver costs about 1, and to stay without expression 1.
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
