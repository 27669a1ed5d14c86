"""The paper's integer programme: its optimum is that of trying every set, and what was drawn has the last word."""

import json
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reenact import trace
from reenact.errors import UsageError
from reenact.expression import NAMES, distance
from reenact.fuse import FUSIONS, FuseOptions, chooses_layers
from reenact.layers import MOMENTS, WORTH, Model, Swaps, choose_layers, optimum, telling, to_json
from reenact.splicing import SplicedRun
from reenact.trace import Trace

SLOTS = (0, 1, 2, 4, 5, 7, 8)
FIXED = (2, 4)


def subsets(members, most=None):
    """All but the empty one."""
    return [s for n in range(1, (most or len(members)) + 1) for s in combinations(members, n)]


def quadratic(seed, count, scale):
    random = np.random.default_rng(seed)
    return random.normal(size=count), np.triu(random.normal(size=(count, count)), 1) * scale


# --- The programme ------------------------------------------------------------------------------


def model(seed, count, scale):
    terms = [quadratic(10 * seed + d, count, scale) for d in (0, 1)]
    return Model(np.array([0.2, 1.0]), *map(np.stack, zip(*terms, strict=True)))


def every_set(count):
    """All but the empty one."""
    return [np.array(x, float) for x in product((0, 1), repeat=count) if any(x)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("bound", [-0.5, 0.5, 99.0])
def test_the_optimum_is_that_of_trying_every_set(seed, scale, bound):
    made, centre = model(seed, 8, scale), np.random.default_rng(seed).integers(0, 2, 8).astype(float)
    for most in (1, 3, 8):
        near = [x for x in every_set(8) if np.abs(x - centre).sum() <= most and made(x)[0] <= bound]
        found = optimum(made, bound, centre, most)
        if near:
            assert made(found) @ [1, WORTH] == pytest.approx(min(made(x) @ [1, WORTH] for x in near))
            assert made(found)[0] <= bound + 1e-6
            assert np.abs(found - centre).sum() <= most
        else:
            assert not found.any()


def test_something_is_taken_where_nothing_would_be_better():
    costs = Model(np.zeros(2), np.array([[0.3, 0.1, 0.2], [0, 0, 0]]), np.zeros((2, 3, 3)))
    assert optimum(costs, 1.0, np.zeros(3), 3).tolist() == [0, 1, 0]


def test_a_model_that_is_right_is_not_corrected():
    made = model(1, 6, 0.5)
    for x in every_set(6)[::7]:
        flipped = np.stack([made(np.abs(x - one)) for one in np.eye(6)], 1)
        again = made.corrected(x, made(x), flipped)
        assert again.constant == pytest.approx(made.constant)
        assert again.linear == pytest.approx(made.linear)


def test_a_corrected_model_is_right_round_its_set():
    made, x = model(2, 6, 0.5), np.array([1.0, 0, 1, 1, 0, 0])
    value, flipped = np.array([0.4, 0.3]), np.random.default_rng(5).normal(size=(2, 6))
    corrected = made.corrected(x, value, flipped)
    assert corrected(x) == pytest.approx(value)
    for i, one in enumerate(np.eye(6)):
        assert corrected(np.abs(x - one)) == pytest.approx(flipped[:, i])


class Made:
    """A measure that is quadratic in the slots."""

    def __init__(self, seed=0):
        self.model, self.asked = model(seed, len(SLOTS), 0.4), []

    def __call__(self, slots):
        self.asked.append(slots)
        return tuple(self.model(np.isin(SLOTS, slots).astype(float)))


def objective(measure, slots):
    person, expression = measure(slots)
    return person + WORTH * expression


@pytest.mark.parametrize("seed", range(5))
def test_what_is_quadratic_is_chosen_best_and_predicted_exactly(seed):
    choice, measure = choose_layers(SLOTS, FIXED, Made(seed)), Made(seed)
    within = [s for s in subsets(SLOTS) if measure(s)[0] <= measure(FIXED)[0]]
    assert choice.chosen.objective == pytest.approx(min(objective(measure, s) for s in within))
    for candidate in (choice.fixed, *choice.tried):
        assert candidate.predicted == pytest.approx(candidate.objective)
        assert candidate.objective == pytest.approx(objective(measure, candidate.slots))
    assert choice.chosen.person <= choice.fixed.person
    assert f"{','.join(map(str, choice.chosen.slots))}, objective" in str(choice)


def test_each_set_is_measured_once_and_told():
    measure, steps = Made(), []
    choose_layers(SLOTS, FIXED, measure, on_step=lambda done, total: steps.append((done, total)))
    assert len(measure.asked) == len(set(measure.asked)) == len(steps)
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert all(done <= total for done, total in steps)


def test_slots_that_are_not_paired_are_taken_to_add_up():
    def additive(slots):
        return 0.1 * len(slots), 1 - 0.3 * len({*slots} & {2, 8})

    measured = []
    choice = choose_layers(SLOTS, FIXED, lambda slots: measured.append(slots) or additive(slots), paired=FIXED)
    assert choice.chosen.slots == (2, 8)
    beyond = choice.model.product.any(0)
    assert not beyond[:, SLOTS.index(8)].any()
    assert len(measured) < 1 + len(SLOTS) * (len(SLOTS) + 1) / 2


FOUR = (1, 2, 4, 5)


def misleading(slots):
    """A slot or two bring a little; three and more spoil the face, but for the fixed ones, which are well matched."""
    if slots == FOUR:
        return 0.6, 0.3
    return (0.1, 1 - 0.1 * len(slots)) if len(slots) < 3 else (0.5, 1.2)


def test_what_is_worse_as_drawn_than_the_fixed_layers_is_not_taken():
    choice = choose_layers(SLOTS, FOUR, misleading)
    assert any(c.predicted < choice.fixed.predicted and c.objective > choice.fixed.objective for c in choice.tried)
    assert choice.chosen is choice.fixed
    assert not choice.is_better
    assert "none are better than the paper's (1,2,4,5, 1.200)" in str(choice)


def test_a_set_that_gives_up_more_of_the_person_than_the_fixed_layers_is_not_taken():
    def greedy(slots):
        return 0.2 + 0.1 * len(slots), 1 - 0.2 * len(slots)

    assert len(choose_layers(SLOTS, FIXED, greedy).chosen.slots) == 2


def test_round_the_best_the_model_is_measured_anew():
    def alone_only(slots):
        """Pairs say that only one of them counts; with 0 and 1 together, 7 and 8 bring what none foretold."""
        return 0.1, 1 - 0.1 * len({*slots} & {0, 1}) - (0.3 * len({*slots} & {7, 8}) if {0, 1} <= {*slots} else 0)

    assert set(choose_layers(SLOTS, FIXED, alone_only).chosen.slots) >= {0, 1, 7, 8}


# --- What is measured ---------------------------------------------------------------------------

COUNT = len(NAMES)


class Sums:
    """A generator whose picture is its slots, four numbers each: [1,1,L,4]."""

    def synthesize(self, w, size):
        assert size == 4
        return w[:, None]


def latent(seed):
    return np.random.default_rng(seed).normal(size=(5, 4)).astype(np.float32)


TARGET, DRIVER, ANCHOR = latent(0), latent(1), latent(2)
WANTED = torch.linspace(-0.5, 0.5, COUNT)


def swaps(drivers, anchor=None, wanted=WANTED, strength=1.0):
    """The person is in all slots, the expression in slot 2: its first number is how much of `WANTED` is shown."""
    whole = torch.from_numpy(TARGET)
    start, end = float(TARGET[2, 0]), float(DRIVER[2, 0])

    def probe(pictures):
        return (pictures[:, 0, 2, :1] - start) / (end - start) * WANTED

    def person(picture):
        return (picture[0, 0] - whole).square().sum()

    goals = wanted.expand(len(drivers), -1)
    return Swaps(Sums(), 4, TARGET, np.stack(drivers), anchor, person, probe, goals, strength)


def test_the_units_are_what_there_is_to_lose_and_to_gain():
    measure = swaps([DRIVER])
    assert measure(()) == pytest.approx((0, 1))
    assert measure((0, 1, 2, 3, 4)) == pytest.approx((1, 0), abs=1e-5)
    gone = np.square(DRIVER - TARGET).sum(1)
    assert measure((2,)) == pytest.approx((gone[2] / gone.sum(), 0), abs=1e-5)
    assert measure((0, 1)) == pytest.approx((gone[:2].sum() / gone.sum(), 1))


def test_the_slot_that_brings_the_expression_is_chosen():
    assert choose_layers((0, 1, 2, 3, 4), (1, 3), swaps([DRIVER])).chosen.slots == (2,)


def test_moments_count_alike():
    one, other, both = swaps([DRIVER])((2,)), swaps([TARGET])((2,)), swaps([DRIVER, TARGET])((2,))
    assert both[1] == pytest.approx((one[1] + other[1]) / 2)


def test_a_driver_at_its_anchor_changes_nothing():
    measure = swaps([DRIVER], anchor=DRIVER)
    assert measure((0, 2, 4)) == pytest.approx((0, 1))


def test_strength_is_that_of_the_splice():
    assert swaps([DRIVER], strength=0.5)((2,))[1] == pytest.approx(
        float(distance(0.5 * WANTED, WANTED) / distance(0 * WANTED, WANTED)), abs=1e-5
    )


def test_a_driver_that_is_the_target_leaves_nothing_to_choose():
    measure = swaps([TARGET], wanted=torch.zeros(COUNT))
    assert measure((1, 2)) == (0, 0)


def test_the_moments_that_tell_are_far_from_rest_and_from_each_other():
    rest = torch.zeros(COUNT)
    goals = torch.stack([rest, 0.1 * WANTED, WANTED, 0.9 * WANTED, -0.8 * WANTED, 0.2 * WANTED])
    assert telling(goals, rest)[:2] == [2, 4]
    assert len(telling(goals, rest)) == MOMENTS
    assert telling(goals[:1], rest) == [0]
    assert len(telling(rest.expand(5, -1), rest)) == 1


@pytest.mark.parametrize(
    ("found", "anchors", "absolute", "comparable"),
    [
        ([0, 1, 1, 1, 0, 1], [1, 1, 1, 4, 4, 4], False, [1, 2]),  # two scenes: those of the first
        ([0, 1, 1, 1, 0, 1], [4] * 6, False, [1, 2, 3, 5]),  # an anchor that was asked for, the same for all
        ([0, 1, 1, 1, 0, 1], [1, 1, 1, 4, 4, 4], True, [1, 2, 3, 5]),
        ([0, 0, 0, 1, 0, 1], [0, 0, 0, 3, 3, 3], False, [3, 5]),  # the first scene shows no face
    ],
)
def test_moments_are_of_the_scene_that_latents_change_from(found, anchors, absolute, comparable):
    track = SimpleNamespace(found=np.array(found, bool))
    run = SimpleNamespace(track=track, acting=SimpleNamespace(anchors=np.array(anchors), absolute=absolute))
    assert SplicedRun._comparable(run).tolist() == comparable


# --- What is said -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in FUSIONS if m != "splice"])
def test_layers_are_chosen_for_a_splice_only(method):
    with pytest.raises(UsageError, match=f"--layers auto: --fuse {method} takes no layers .*; add --fuse splice"):
        chooses_layers(FuseOptions(method=method, layers="auto"))
    assert chooses_layers(FuseOptions(method="splice", layers="auto"))
    assert not chooses_layers(FuseOptions(method=method, layers="2,4"))


def test_a_trace_has_the_choice_as_numbers_and_as_a_picture(tmp_path):
    choice = choose_layers(SLOTS, FIXED, Made())
    Trace(tmp_path).layers(choice)
    told = json.loads((tmp_path / "layers.json").read_text())
    assert (tmp_path / "layers.png").is_file()
    assert told == json.loads(to_json(choice))
    assert [one["slot"] for one in told["single"]] == list(SLOTS)
    assert len(told["pairs"]) == len(SLOTS) * (len(SLOTS) - 1) / 2
    assert told["fixed"]["slots"] == list(FIXED)
    chosen = told["chosen"]
    assert chosen["slots"] == list(choice.chosen.slots)
    assert chosen["objective"] == pytest.approx(chosen["person"] + WORTH * chosen["expression"])
    # All of the objective can be put together again from what is told.
    alone = {one["slot"]: one["person"] + WORTH * one["expression"] for one in told["single"]}
    beyond = {tuple(two["slots"]): two["person"] + WORTH * two["expression"] for two in told["pairs"]}
    start = told["nothing"]["person"] + WORTH * told["nothing"]["expression"]
    total = start + sum(alone[s] for s in chosen["slots"]) + sum(beyond[p] for p in combinations(chosen["slots"], 2))
    assert total == pytest.approx(chosen["predicted"])


PAIRED = (0, 1, 2, 4)  # the first of `SLOTS`


def test_pairs_that_were_not_measured_are_not_told():
    choice = choose_layers(SLOTS, FIXED, Made(), paired=PAIRED)
    told = json.loads(to_json(choice))["pairs"]
    assert [tuple(two["slots"]) for two in told] == list(combinations(PAIRED, 2))
    measure = Made()
    person = {slots: measure(slots)[0] for slots in subsets(SLOTS, 2)}
    for two in told:
        first, second = two["slots"]
        beyond = person[first, second] - person[first,] - person[second,] + measure.model.constant[0]
        assert two["person"] == pytest.approx(beyond)


def test_pairs_that_were_not_measured_are_left_blank(monkeypatch):
    whole, some = (choose_layers(SLOTS, FIXED, Made(), paired=paired) for paired in (SLOTS, PAIRED))
    monkeypatch.setattr(trace, "_draw_singles", lambda *words: None)
    monkeypatch.setattr(trace, "_draw_tried", lambda *words: None)
    for choice, pairs in ((whole, SLOTS), (some, PAIRED)):
        pixels = np.asarray(trace.plot_choice(choice))
        assert cells_drawn(pixels) == {(s, s) for s in SLOTS} | set(combinations(pairs, 2))


def cells_drawn(pixels):
    """The cells of the picture of a choice, as two slots, that are not its paper."""
    top, side = trace._MARGIN + 7 * trace._LINE, trace._CELL
    found = set()
    for (i, row), (j, column) in product(enumerate(SLOTS), repeat=2):
        y, x = top + side * i, trace._LEFT + side * j
        if (pixels[y : y + side - 2, x : x + side - 2] != 255).any():
            found.add((row, column))
    return found


def test_an_old_choice_goes_with_an_old_trace(tmp_path):
    (tmp_path / "layers.json").write_text("{}")
    Trace(tmp_path, overwrite=True)
    assert not (tmp_path / "layers.json").exists()
