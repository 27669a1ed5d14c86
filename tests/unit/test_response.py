"""A response answers for expressions between those that it has learnt."""

import pytest
import torch

from reenact.expression import NAMES, WEIGHTS
from reenact.response import Response, ResponseOptions

REST = torch.zeros(len(NAMES))
STILL = torch.zeros(2, 512)
LIPS, LIDS = NAMES.index("lips open"), NAMES.index("lid left")


def showing(lips=0.0, lids=0.0):
    """An expression [M]."""
    goal = REST.clone()
    goal[LIPS], goal[LIDS] = lips / WEIGHTS[LIPS], lids / WEIGHTS[LIDS]
    return goal


def change(lips=0.0, lids=0.0):
    """What shows it, [2,512]: a slot for the lips, one for the lids."""
    return torch.tensor([[lips], [lids]]).expand(2, 512).clone()


TALK = torch.stack([showing(lips=i / 10) for i in range(11)])


@pytest.fixture
def taught():
    response = Response(REST, TALK, STILL, ResponseOptions(noise=1e-4))
    for lips in (1.0, 0.5, 0.25):
        response.learn(showing(lips), change(lips))
    return response


def test_what_was_learnt_is_known(taught):
    assert torch.allclose(taught(showing(0.5)), change(0.5), atol=0.01)


def test_nothing_changes_at_rest(taught):
    assert taught(REST).abs().max() < 1e-6


def test_between_keys_the_change_lies_between(taught):
    assert torch.allclose(taught(showing(0.75)), change(0.75), atol=0.05)


def test_a_key_learnt_anew_replaces_the_old(taught):
    taught.learn(showing(1.0), change(2.0), key=0)
    assert len(taught) == 3
    assert torch.allclose(taught(showing(1.0)), change(2.0), atol=0.02)


def test_a_distrusted_key_does_not_outweigh_its_neighbours():
    near = [0.8, 0.85, 0.9, 0.95, 1.0]
    answers = {}
    for noise in (1e-5, 0.2):
        response = Response(REST, TALK, STILL, ResponseOptions(noise=noise))
        for lips in near:
            response.learn(showing(lips), change(3.0 if lips == 0.9 else 1.0))
        answers[noise] = float(response(showing(0.9))[0, 0])
    assert answers[1e-5] > 2
    assert answers[0.2] < 1.6


def test_the_one_blink_of_a_long_talk_is_among_the_first_keys():
    goals = torch.cat([TALK.repeat(20, 1), showing(0.5, lids=-1.0)[None], TALK])
    response = Response(REST, goals, STILL)
    assert len(goals) - len(TALK) - 1 in response.spread(goals, 3)


def test_keys_are_as_many_as_there_are_expressions():
    goals = TALK.repeat(20, 1)
    response = Response(REST, goals, STILL, ResponseOptions(apart=0.001))
    assert len(response.spread(goals, 50)) == 10  # the rest is known
    assert len(response.spread(goals, 4)) == 4
    assert response.spread(REST[None], 4) == []


def test_where_nothing_is_learnt_nothing_changes():
    assert torch.equal(Response(REST, TALK, STILL)(TALK[-1]), STILL)
    assert Response(REST, REST[None], STILL).spread(REST[None], 4) == []


def test_a_clip_that_hardly_moves_is_followed_all_the_same():
    goals = torch.stack([showing(lips=i / 1000) for i in range(5)])
    response = Response(REST, goals, STILL)
    assert response.spread(goals, 4) == [4]
    response.learn(goals[4], change(1.0))
    assert response(goals[4])[0, 0] > 0.9


def test_what_a_driver_does_on_top_of_a_constant_frown_is_not_flattened():
    frown = showing()
    frown[NAMES.index("brow left")] = -1.0
    goals = torch.stack([frown + showing(lids=-0.2 * (i % 2)) for i in range(10)])
    response = Response(REST, goals, STILL)
    for key in response.spread(goals, 4):
        response.learn(goals[key], change(1.0, lids=float(key % 2)))
    assert response(goals[1])[1, 0] - response(goals[0])[1, 0] > 0.8
