"""Solving for an expression that the generator is known to be able to show: it has just shown it."""

from dataclasses import replace

import pytest
import torch

from reenact.expression import DARK, NAMES, WEIGHTS, Probe, limited
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.generators import mobile
from reenact.solve import Descent, SolveOptions, Solver

pytestmark = pytest.mark.pretrained

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def generator(store):
    return mobile.create(store, CPU)


@pytest.fixture(scope="module")
def people(generator):
    """Two faces of W, [2,L,512]."""
    with torch.no_grad():
        w = generator.map(torch.randn(2, 512, generator=torch.Generator().manual_seed(1)))[:, None]
    return torch.lerp(generator.mean_latent[None], w, 0.7)


@pytest.fixture(scope="module")
def solver(store, generator, people):
    nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
    with torch.no_grad():
        probe = Probe(nets, generator.synthesize(people[:1], 128))
    # All is drawn here, and the goal is another person's: less may hold the first.
    options = SolveOptions(ridge=0.012, hold=4.0, bent=False)
    return Solver(generator, probe, people[0], generator.expression_layers, options)


def test_what_the_photo_itself_does_counts_less_where_it_is_drawn(solver, generator, people):
    drawn = Solver(generator, solver.probe, people[0], generator.expression_layers, SolveOptions(sweeps=()))
    share = dict(zip(NAMES, (drawn._weights / solver._weights).tolist(), strict=True))
    assert min(share["jawOpen"], share["lips open"]) > 1 > share["mouthSmileLeft"]
    assert share["mouthPucker"] == 1
    assert all(share[name] < 0.5 for name in ("browInnerUp", "brow left", "eyeBlinkRight", "lid left"))


@pytest.fixture(scope="module")
def goal(solver, generator, people):
    """The expression [M] of the first face most of the way to the second, in the slots that may move.

    Seen through the 128-pixel exit, against the rest seen through the same.
    """
    slots = list(generator.expression_layers)
    w = people[0].clone()
    w[slots] = torch.lerp(people[0, slots], people[1, slots], 0.9)
    with torch.no_grad():
        there, rest = (solver.probe(generator.synthesize(x[None], 128))[0] for x in (w, people[0]))
    return limited(solver.rest) + limited(there) - limited(rest)


@pytest.fixture(scope="module")
def goals(solver, goal):
    """Rest, half-way, there, and rest again [4,M]."""
    rest = limited(solver.rest)
    return torch.stack([rest, (rest + goal) / 2, goal, rest])


@pytest.fixture(scope="module")
def response(solver, goals):
    return solver.respond(goals)


def apart(solver, change, goal):
    """How far the whole network's face with a change is from a goal."""
    with torch.no_grad():
        seen = limited(solver.probe(solver.generator.synthesize(solver.latent(change)[None], 1024))[0])
    return float(((seen - goal) * WEIGHTS).square().mean())


def test_the_expression_is_found(solver, goal, response):
    still = torch.zeros_like(response(goal))
    assert apart(solver, response(goal), goal) < 0.6 * apart(solver, still, goal)


def test_only_the_slots_that_may_move_do(solver, generator, people, response, goal):
    changed = (solver.latent(response(goal)) - people[0]).abs().amax(1) > 1e-4
    assert changed.nonzero().flatten().tolist() == list(generator.expression_layers)


def brief(solver, monkeypatch, *sweeps):
    monkeypatch.setattr(solver, "options", replace(solver.options, sweeps=sweeps))


def test_the_keys_are_told_step_by_step_and_the_rest_is_none_of_them(solver, goals, monkeypatch):
    told = []
    brief(solver, monkeypatch, (1, 0.06, 128), (1, 0.03, 128))
    response = solver.respond(goals, lambda done, total: told.append((done, total)))
    assert len(response) == 2
    assert told == [(2, 6), (3, 6), (5, 6), (6, 6)]


def test_the_same_clip_again_gives_the_same_answer(solver, goals, monkeypatch):
    brief(solver, monkeypatch, (2, 0.06, 128))
    first, second = (solver.respond(goals)(goals[1]) for _ in range(2))
    assert torch.equal(first, second)


def test_steps_lead_to_a_better_face_and_wild_ones_to_no_worse(solver, goal):
    still = torch.zeros_like(solver._start)
    descent = Descent()
    descent.begin(still, 0.02)
    found = solver.improved(descent, goal, 12, 128)
    descent.begin(found, 100.0)
    again = solver.improved(descent, goal, 2, 128)
    with torch.no_grad():
        losses = [solver.loss(place, goal, 128) for place in (still, found, again)]
    assert losses[1] < losses[0]
    assert losses[2] <= losses[1]


def test_a_gradient_that_is_no_number_spoils_nothing_after_it(solver, goal, monkeypatch):
    descent, loss = Descent(), solver.loss
    monkeypatch.setattr(solver, "loss", lambda *args: loss(*args) * float("inf"))
    descent.begin(torch.zeros_like(solver._start), 0.02)
    assert torch.equal(solver.improved(descent, goal, 3, 128), torch.zeros_like(solver._start))
    monkeypatch.undo()
    descent.begin(torch.zeros_like(solver._start), 0.02)
    found = solver.improved(descent, goal, 12, 128)
    assert found.isfinite().all()
    assert found.abs().max() > 0


def test_a_mouth_that_is_to_be_dark_is_not_opened_on_bared_teeth(solver):
    goal, opened = limited(solver.rest).clone(), {"jawOpen": 0.7, "lips open": 0.5, "jaw": 0.35}
    for name, change in opened.items():
        goal[NAMES.index(name)] += change
    dark = goal.clone()
    dark[NAMES.index(DARK)] += 0.3

    def light(wanted):
        descent = Descent()
        descent.begin(torch.zeros_like(solver._start), 0.02)
        change = solver.improved(descent, wanted, 16, 128)
        with torch.no_grad():
            return solver.probe.look(solver.generator.synthesize(solver.latent(change)[None], 512))[2].item()

    assert light(dark) < light(goal) - 0.2
