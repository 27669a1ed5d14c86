"""A face's lines: free of the head's motion, and moved as the driver's are."""

import numpy as np
import pytest
import torch

from reenact import outline
from reenact.face_landmarker import _RIGID, canonical_axes, facing
from reenact.outline import POINTS, STILL, goals, possible

ALL = {"mouth": 1.0, "eyes": 1.0, "brows": 1.0}
RNG = np.random.default_rng(0)
RIGHT, DOWN = np.array([[100.0, 0, 0], [0, -100, 0]])
TO_REST = np.stack([RIGHT, DOWN])  # 100 units a centimetre; y turns over


def turned(yaw: float, pitch: float) -> np.ndarray:
    a, b = np.radians([yaw, pitch])
    aside = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    up = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return aside @ up


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A mesh [478,3] in centimetres that has the canonical face's rigid points, their middle at the origin."""
    points = RNG.uniform(-8, 8, (478, 3))
    points[list(_RIGID)] = list(_RIGID.values())
    return points - points[list(_RIGID)].mean(0)


def pictured(face: np.ndarray, yaw: float = 0, pitch: float = 0, scale: float = 10) -> torch.Tensor:
    """[1,478,3] points of a picture of it; y down, z away."""
    return torch.from_numpy((scale * face @ turned(yaw, pitch).T + [30, -20, 5]) * [1, -1, -1])[None]


@pytest.mark.parametrize(("yaw", "pitch", "scale"), [(0, 0, 1), (30, 0, 40), (-20, 15, 7)])
def test_a_turned_face_faces_the_camera_as_it_did(face, yaw, pitch, scale):
    torch.testing.assert_close(facing(pictured(face, yaw, pitch, scale))[0].numpy(), face)


def test_axes_say_where_a_centimetre_goes_in_the_picture(face):
    before = pictured(face, 25, -10, 12)
    step = np.array([0.5, -1.0, 2.0])
    after = pictured(face + step, 25, -10, 12)
    torch.testing.assert_close(canonical_axes(before)[0].numpy() @ step, (after - before)[0, 0, :2].numpy())


# ---- Goals


@pytest.fixture
def rest() -> np.ndarray:
    """[K,2]: lids and lips a little open, the rest anywhere."""
    points = RNG.uniform(0, 1000, (len(POINTS), 2))
    for upper, lower in zip(outline._UPPER_LIDS, outline._LOWER_LIDS, strict=True):
        points[upper] = points[lower] - [0, 30]
    points[outline._UPPER_LIP] = points[outline._LOWER_LIP] - [0, 8]
    points[outline._UNDER_LIP] = points[outline._LOWER_LIP] + [0, 20]
    points[outline._OVER_LIP] = points[outline._UPPER_LIP] - [0, 20]
    return points


@pytest.fixture
def driver() -> np.ndarray:
    """[3,K,3]: three times the same face, its lids half a centimetre open."""
    points = RNG.uniform(-8, 8, (len(POINTS), 3))
    for upper, lower in zip(outline._UPPER_LIDS, outline._LOWER_LIDS, strict=True):
        points[upper] = points[lower] + [0, 0.5, 0]
    return np.repeat(points[None], 3, 0).astype(np.float32)


def test_a_still_driver_leaves_the_target_as_it_is(driver, rest):
    np.testing.assert_allclose(goals(driver, 0, rest, TO_REST, ALL), np.repeat(rest[None], 3, 0), atol=1e-3)


def test_lines_move_as_the_drivers_and_the_forehead_does_not(driver, rest):
    driver[1] += [0.2, -0.1, 3]
    moved = goals(driver, 0, rest, TO_REST, ALL)[1]
    np.testing.assert_allclose(moved[:STILL] - rest[:STILL], np.broadcast_to([20, 10], (STILL, 2)), atol=1e-3)
    np.testing.assert_array_equal(moved[STILL:], rest[STILL:])


def test_the_anchor_frame_may_be_any(driver, rest):
    driver[0] += [0.2, 0, 0]
    moved = goals(driver, 2, rest, TO_REST, ALL)
    np.testing.assert_allclose(moved[2], rest, atol=1e-3)
    np.testing.assert_allclose(moved[0, 0] - rest[0], [20, 0], atol=1e-3)


def test_regions_have_their_own_strength(driver, rest):
    driver[1] += [0.2, 0, 0]
    moved = goals(driver, 0, rest, TO_REST, {"mouth": 0.5, "eyes": 0.0, "brows": 2.0})[1] - rest
    for part, by in (("mouth", 10), ("eyes", 0), ("brows", 40)):
        places = [POINTS.index(i) for i in outline.PARTS[part]]
        np.testing.assert_allclose(moved[places], np.broadcast_to([by, 0], (len(places), 2)), atol=1e-3)


@pytest.mark.parametrize(("share", "strength", "expected"), [(0, 1, 0), (0.5, 1, 0.5), (0.5, 0.5, 0.75), (9, 1, 1.5)])
def test_lids_open_by_the_drivers_share_of_what_they_did(driver, rest, share, strength, expected):
    upper, lower = outline._UPPER_LIDS[0], outline._LOWER_LIDS[0]
    driver[1, upper] = driver[1, lower] + [0, 0.5 * share, 0]
    moved = goals(driver, 0, rest, TO_REST, ALL | {"eyes": strength})[1]
    np.testing.assert_allclose(moved[lower] - moved[upper], np.broadcast_to([0, 30 * expected], (7, 2)), atol=1e-3)
    other = outline._UPPER_LIDS[1]
    np.testing.assert_allclose(moved[other], rest[other], atol=1e-3)  # a wink


# ---- What stretching can do


def test_a_mouth_is_not_stretched_beyond_its_measure(rest):
    seen = rest.copy()
    eyes = np.hypot(*(seen[outline._EYES[0]] - seen[outline._EYES[1]]))
    goal = rest.copy()
    goal[outline._LOWER_LIP] += [0, 60]
    goal[outline._UNDER_LIP] += [0, 60]
    within = possible(goal, seen, 2.0)
    gap = within[outline._LOWER_LIP, 1] - within[outline._UPPER_LIP, 1]
    np.testing.assert_allclose(gap, 2 * 8 + 0.01 * eyes)
    # The lip keeps its height; nothing else moves.
    height = (within - goal)[outline._UNDER_LIP], (within - goal)[outline._LOWER_LIP]
    np.testing.assert_allclose(*height)
    others = np.setdiff1d(np.arange(len(POINTS)), [*outline._LOWER_LIP, *outline._UNDER_LIP])
    np.testing.assert_array_equal(within[others], goal[others])


def test_a_mouth_that_is_open_enough_may_open_and_close(rest):
    for by in (2.0, -5.0):
        goal = rest.copy()
        goal[outline._LOWER_LIP] += [0, by]
        np.testing.assert_array_equal(possible(goal, rest, 1.5), goal)


def test_lips_that_are_asked_to_cross_meet_and_keep_half_their_height(rest):
    goal = rest.copy()
    goal[outline._LOWER_LIP] -= [0, 10]
    goal[outline._UNDER_LIP] -= [0, 30]
    within = possible(goal, rest, 1.5)
    lips = (outline._OVER_LIP, outline._UPPER_LIP, outline._LOWER_LIP, outline._UNDER_LIP)
    over, upper, lower, under = (within[lip, 1] - rest[outline._UPPER_LIP, 1] for lip in lips)
    np.testing.assert_allclose(upper, -1)  # they cross by two
    np.testing.assert_allclose(lower, -1)
    np.testing.assert_allclose(under, 9)
    np.testing.assert_allclose(over, -20)


def test_lips_are_hardly_pulled_taller(rest):
    goal = rest.copy()
    goal[outline._OVER_LIP] -= [0, 30]
    goal[outline._UNDER_LIP] += [0, 30]
    within = possible(goal, rest, 1.5)
    for inner, outer in ((outline._UPPER_LIP, outline._OVER_LIP), (outline._LOWER_LIP, outline._UNDER_LIP)):
        height, drawn = (np.abs(lips[outer, 1] - lips[inner, 1]) for lips in (within, rest))
        np.testing.assert_allclose(height, outline.LIPS[1] * drawn)


def test_points_are_those_of_the_mesh_and_none_stands_twice():
    assert len(set(POINTS)) == len(POINTS)
    assert min(POINTS) >= 0
    assert max(POINTS) < 478
    assert {*outline.PARTS} == {*ALL}
