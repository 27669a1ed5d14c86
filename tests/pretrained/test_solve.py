"""Solving for an expression that the generator is known to be able to show: it has just shown it."""

from dataclasses import replace

import pytest
import torch

from reenact.expression import WEIGHTS, Probe, limited, measure
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.generators import mobile
from reenact.solve import Descent, Solver

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
    return Solver(generator, probe, people[0], generator.expression_layers)


@pytest.fixture(scope="module")
def goal(solver, generator, people):
    """The expression [M] of the first face most of the way to the second, in the slots that may move."""
    slots = list(generator.expression_layers)
    w = people[0].clone()
    w[slots] = torch.lerp(people[0, slots], people[1, slots], 0.9)
    with torch.no_grad():
        return limited(measure(*solver.probe.points(generator.synthesize(w[None], 128)))[0])


@pytest.fixture(scope="module")
def goals(solver, goal):
    """Rest, half-way, there, and rest again [4,M]."""
    rest = limited(solver.rest)
    return torch.stack([rest, (rest + goal) / 2, goal, rest])


@pytest.fixture(scope="module")
def response(solver, goals):
    return solver.respond(goals)


def apart(solver, change, goal):
    with torch.no_grad():
        seen = limited(measure(*solver.probe.points(solver.generator.synthesize(solver.latent(change)[None], 128)))[0])
    return float(((seen - goal) * WEIGHTS).square().mean())


def test_the_expression_is_found(solver, goal, response):
    still = torch.zeros_like(response(goal))
    assert apart(solver, response(goal), goal) < 0.4 * apart(solver, still, goal)


def test_only_the_slots_that_may_move_do(solver, generator, people, response, goal):
    changed = (solver.latent(response(goal)) - people[0]).abs().amax(1) > 1e-4
    assert changed.nonzero().flatten().tolist() == list(generator.expression_layers)


def test_a_face_that_comes_to_rest_is_the_face_it_was(solver, goals, response):
    assert response(goals[-1]).abs().max() < 1e-5
    assert torch.allclose(solver.latent(response(goals[-1])), solver.w, atol=1e-4)


def test_the_keys_are_told_step_by_step_and_the_rest_is_none_of_them(solver, goals):
    told = []
    solver.options = replace(solver.options, sweeps=((1, 0.06, 128), (1, 0.03, 128)))
    brief = solver.respond(goals, lambda done, total: told.append((done, total)))
    assert len(brief) == 2
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_same_clip_again_gives_the_same_answer(solver, goals):
    solver.options = replace(solver.options, sweeps=((2, 0.06, 128),))
    first, second = (solver.respond(goals)(goals[1]) for _ in range(2))
    assert torch.equal(first, second)


def test_a_step_never_leaves_a_worse_face(solver, goal):
    still = torch.zeros(len(solver.slots), 512)
    found = solver.improved(still, goal, 128, 2, wild := Descent())
    wild.rate = 100.0
    again = solver.improved(found, goal, 128, 2, wild)
    with torch.no_grad():
        assert solver.loss(again, goal, 128) <= solver.loss(found, goal, 128) <= solver.loss(still, goal, 128)
