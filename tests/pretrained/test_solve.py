"""Solving for an expression that the generator is known to be able to show: it has just shown it."""

import pytest
import torch

from reenact.expression import Probe, limited, measure
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.generators import mobile
from reenact.solve import Solver

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
def made(solver, goal):
    """The states of four frames that ask for the same expression."""
    states = [solver.begin()]
    for _ in range(4):
        states.append(solver.solve(goal, states[-1])[0])
    return states


def apart(solver, state, goal):
    with torch.no_grad():
        return float(solver._losses(state.change, goal)[0])


def size(state):
    return float(state.change.square().mean().sqrt())


def test_the_expression_is_found(solver, goal, made):
    assert apart(solver, made[-1], goal) < 0.5 * apart(solver, solver.begin(), goal)


def test_only_the_slots_that_may_move_do(solver, generator, people, made):
    changed = (solver.latent(made[-1].change) - people[0]).abs().amax(1) > 1e-4
    assert changed.nonzero().flatten().tolist() == list(generator.expression_layers)


def test_a_face_that_comes_to_rest_is_the_face_it_was(solver, made):
    state = made[-1]
    for _ in range(2):
        state, _ = solver.solve(limited(solver.rest), state)
    assert size(state) < 0.1 * size(made[-1])


def test_the_same_frame_again_gives_the_same_answer(solver, goal, made):
    again, _ = solver.solve(goal, made[1])
    assert torch.equal(again.change, made[2].change)
