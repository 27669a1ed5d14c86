"""Where a driver's motion brings the points of a target's face."""

from pathlib import Path

import numpy as np
import pytest
import torch
from meshes import REST, opened

from reenact import motion
from reenact.face_landmarker import BLENDSHAPES, head_pose
from reenact.motion import (
    INNER_LIPS,
    IRISES,
    LIDS,
    LOWER_LIP,
    MORE,
    PARTS,
    SKIN,
    STRAIGHTENED,
    UPPER_LIP,
    WIDER,
    Basis,
    gapes,
    goals,
    less_smiling,
    shares,
    turned,
)

ALL = {"mouth": 1.0, "eyes": 1.0, "brows": 1.0}
TO_REST = np.array([[100.0, 0, 0], [0, -100, 0]])  # 100 pixels a centimetre; y turns over
FOREHEAD, NOSE = 10, 5
LIPS_AND_JAW = [61, 291, 17, 0, 152, 205, 425]
ALL_BUT_LIDS = np.setdiff1d(np.arange(478), [i for eye in LIDS for lid in eye for i in lid])


@pytest.fixture
def rest():
    """[478,2] in pixels; lids and lips a little open."""
    points = 1000 * REST
    for upper, lower in LIDS:
        points[upper] = points[lower] - [0, 30]
    points[UPPER_LIP] = points[LOWER_LIP] - [0, 8]
    return points


@pytest.fixture
def driver():
    """[3,478,3]: three times the same face, its lids half a centimetre open and its lips a little."""
    points = np.c_[REST * [10, -10], np.zeros(478)]
    for upper, lower in LIDS:
        points[upper] = points[lower] + [0, 0.5, 0]
    points[UPPER_LIP] = points[LOWER_LIP] + [0, 0.05, 0]
    return np.repeat(points[None], 3, 0).astype(np.float32)


def opening(points, lids):
    """[7]: how far a lid is above the other."""
    upper, lower = lids
    return points[lower, 1] - points[upper, 1]


def test_a_still_driver_leaves_the_target_as_it_is(driver, rest):
    np.testing.assert_allclose(goals(driver, driver[0], rest, TO_REST, ALL), np.repeat(rest[None], 3, 0), atol=1e-3)


def test_a_driver_of_another_shape_leaves_the_target_as_it_is_too(driver, rest):
    other = driver * np.float32([1.3, 0.8, 1]) + np.float32([0.5, 0, 0])
    np.testing.assert_allclose(goals(other, other[0], rest, TO_REST, ALL)[1], rest, atol=1e-3)


def test_points_move_as_the_drivers_in_the_targets_units_and_depth_is_lost(driver, rest):
    driver[1] += [0.2, -0.1, 3]
    moved = goals(driver, driver[0], rest, TO_REST, ALL)[1] - rest
    for index in LIPS_AND_JAW:
        np.testing.assert_allclose(moved[index], [20, 10], atol=0.1)


def test_a_turned_target_moves_along_its_own_axes(driver, rest):
    driver[1] += [0.2, 0, 0]
    aside = np.array([[50.0, 0, 20], [30, -100, 0]])
    turned = driver[0] @ aside.T
    moved = goals(driver, driver[0], turned, aside, ALL)[1] - turned
    np.testing.assert_allclose(moved[291], [10, 6], rtol=0.03)  # as wide as the driver's but for its tilt


@pytest.mark.parametrize(("wide", "goes"), [(0.8, 0.8), (1.2, 1.2), (0.1, 1 / WIDER), (3.0, WIDER)])
def test_a_mouth_goes_as_far_aside_as_it_is_wide_and_as_far_down_as_the_drivers(driver, rest, wide, goes):
    driver[..., 0] /= wide
    driver[1] += [0.2, -0.3, 0]
    moved = goals(driver, driver[0], rest, TO_REST, ALL)[1] - rest
    for index in (61, 291, 17):
        np.testing.assert_allclose(moved[index], [20 * goes, 30], rtol=0.02)


def test_forehead_and_nose_stay_whatever_the_driver_does(driver, rest):
    driver[1] += [0.5, 0.5, 0]
    moved = goals(driver, driver[0], rest, TO_REST, ALL)[1] - rest
    np.testing.assert_allclose(moved[[FOREHEAD, NOSE]], 0, atol=0.1)


def test_each_frame_stands_for_itself(driver, rest):
    driver[1] += [0.2, 0, 0]
    alone = goals(driver[1:2], driver[0], rest, TO_REST, ALL)
    np.testing.assert_array_equal(goals(driver, driver[0], rest, TO_REST, ALL)[1], alone[0])


def test_an_anchor_may_be_one_mesh_or_one_a_frame(driver, rest):
    driver[0] += [0.2, 0, 0]
    driver[2] += [0.1, 0.3, 0]
    for upper, _ in LIDS:
        driver[1, upper] -= [0, 0.2, 0]
    one = goals(driver, driver[2], rest, TO_REST, ALL)
    np.testing.assert_allclose(goals(driver, np.repeat(driver[2:], 3, 0), rest, TO_REST, ALL), one, atol=1e-9)
    np.testing.assert_allclose(goals(driver, driver, rest, TO_REST, ALL), np.repeat(rest[None], 3, 0), atol=1e-3)


# ---- Regions


def test_regions_have_their_own_strength(driver, rest):
    driver[1] += [0.2, 0, 0]
    moved = goals(driver, driver[0], rest, TO_REST, {"mouth": 0.5, "eyes": 0.0, "brows": 2.0})[1] - rest
    for part, by in (("mouth", 10), ("eyes", 0), ("brows", 40 + 40 / (1 + 0.2 / MORE))):
        np.testing.assert_allclose(moved[list(PARTS[part]), 0], by, atol=0.5)
    np.testing.assert_allclose(moved[SKIN:], 0, atol=1e-9)


@pytest.mark.parametrize("by", [0.005, 0.2, 2.0])
def test_brows_go_farther_than_they_are_seen_to_but_not_off_the_face(driver, rest, by):
    """A little motion is doubled; of a large one no more than `MORE` is added."""
    driver[1, list(PARTS["brows"]), 1] += by
    raised = (rest - goals(driver, driver[0], rest, TO_REST, ALL)[1])[list(PARTS["brows"]), 1] / 100
    assert (raised > by).all()
    assert (raised < by + min(by, MORE)).all()
    if by < 0.01:
        np.testing.assert_allclose(raised, 2 * by, rtol=0.03)


def test_what_lies_between_regions_takes_some_of_each(rest):
    values = shares(rest, {"mouth": 0.5, "eyes": 1.0, "brows": 2.0})
    assert values.shape == (478,)
    assert values.min() >= 0
    assert values.max() <= 2
    between = np.setdiff1d(np.arange(SKIN), [i for part in PARTS.values() for i in part])
    assert ((values[between] > 0.01) & (values[between] < 1.99)).any()


def test_a_strength_of_nothing_leaves_the_target_as_it_is(driver, rest):
    driver[1] = np.random.default_rng(0).uniform(-8, 8, (478, 3))
    moved = goals(driver, driver[0], rest, TO_REST, dict.fromkeys(ALL, 0.0))[1]
    np.testing.assert_allclose(moved, rest, atol=1e-9)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_irises_glance_with_the_eyes_strength(driver, rest, strength):
    driver[1, SKIN:] += [0.1, 0.05, 0]
    moved = goals(driver, driver[0], rest, TO_REST, ALL | {"eyes": strength})[1] - rest
    np.testing.assert_allclose(moved[list(IRISES)], np.full((2, 2), [10, -5]) * strength, atol=1e-3)
    np.testing.assert_allclose(moved[:SKIN], 0, atol=1e-3)


# ---- Lids


def lids_opened(driver, share, eye=0):
    """The driver with an eye in its second frame open that share of what it usually is."""
    upper, lower = LIDS[eye]
    driver[1, upper] = driver[1, lower] + np.float32([0, 0.5 * share, 0])
    return driver


@pytest.mark.parametrize("eye", [0, 1])
def test_lids_shut_when_the_drivers_do_and_the_other_eye_stays(driver, rest, eye):
    moved = goals(lids_opened(driver, 0.0, eye), driver[0], rest, TO_REST, ALL)[1]
    np.testing.assert_allclose(opening(moved, LIDS[eye]), 0, atol=1e-3)
    np.testing.assert_allclose(moved[LIDS[1 - eye][0]], rest[LIDS[1 - eye][0]], atol=1e-3)
    np.testing.assert_allclose(moved[ALL_BUT_LIDS], rest[ALL_BUT_LIDS], atol=1e-3)


def test_lids_that_nearly_touch_are_shut_and_none_cross(driver, rest):
    for share in (motion.SHUT / 2, -0.3):
        moved = goals(lids_opened(driver, share), driver[0], rest, TO_REST, ALL)[1]
        np.testing.assert_allclose(opening(moved, LIDS[0]), 0, atol=1e-3)


def test_wide_eyes_are_as_wide_as_they_may_be(driver, rest):
    moved = goals(lids_opened(driver, 9.0), driver[0], rest, TO_REST, ALL)[1]
    np.testing.assert_allclose(opening(moved, LIDS[0]), 30 * motion.WIDEST, atol=1e-3)


def test_half_the_strength_opens_and_shuts_half_as_far(driver, rest):
    for share in (0.0, 0.6, 1.2):
        lids_opened(driver, share)
        full, half = (
            opening(goals(driver, driver[0], rest, TO_REST, ALL | {"eyes": s})[1], LIDS[0]) - 30 for s in (1.0, 0.5)
        )
        np.testing.assert_allclose(half, full / 2, atol=1e-3)


def test_lids_open_the_more_the_more_the_drivers_do(driver, rest):
    seen = [opening(goals(lids_opened(driver, s), driver[0], rest, TO_REST, ALL)[1], LIDS[0]) for s in (0.3, 0.6, 1.2)]
    assert (np.diff(seen, axis=0) > 1).all()
    assert (seen[1] < 30).all()


def test_an_anchor_that_blinks_gives_numbers_and_eyes_no_wider_than_they_may_be(driver, rest):
    moved = goals(lids_opened(driver, 0.0), driver[1], rest, TO_REST, ALL)
    assert np.isfinite(moved).all()
    assert (opening(moved[0], LIDS[0]) <= 30 * motion.WIDEST + 1e-6).all()


def test_a_shut_eye_of_the_photo_stays_shut(driver, rest):
    upper, lower = LIDS[0]
    rest[upper] = rest[lower]
    moved = goals(lids_opened(driver, 1.4), driver[0], rest, TO_REST, ALL)[1]
    np.testing.assert_allclose(opening(moved, LIDS[0]), 0, atol=1e-3)


# ---- Lips


def test_lips_that_are_asked_to_cross_meet_halfway(driver, rest):
    driver[1, LOWER_LIP] += [0, 0.2, 0]  # by 20 pixels, over a gap of 8
    moved = goals(driver, driver[0], rest, TO_REST, ALL)[1]
    np.testing.assert_allclose(moved[UPPER_LIP, 1], moved[LOWER_LIP, 1], atol=1e-6)
    np.testing.assert_allclose(moved[UPPER_LIP, 1] - rest[UPPER_LIP, 1], -6, atol=0.1)
    others = np.setdiff1d(np.arange(478), INNER_LIPS)
    np.testing.assert_allclose(moved[others], rest[others], atol=1e-3)


@pytest.mark.parametrize("by", [-0.05, 0.05, 0.3])
def test_lips_that_stay_apart_go_where_they_are_asked(driver, rest, by):
    driver[1, LOWER_LIP] -= [0, by, 0]
    moved = goals(driver, driver[0], rest, TO_REST, ALL)[1] - rest
    np.testing.assert_allclose(moved[LOWER_LIP, 1], 100 * by, atol=0.1)
    np.testing.assert_allclose(moved[UPPER_LIP], 0, atol=1e-3)


def test_lips_that_are_measured_as_crossing_in_the_photo_stay_as_they_are(driver, rest):
    """A shut mouth's often are, a little."""
    rest[UPPER_LIP] += [0, 9]
    np.testing.assert_allclose(goals(driver, driver[0], rest, TO_REST, ALL)[0], rest, atol=1e-6)


# ---- Without an expression


def test_an_expression_taken_away_leaves_a_faces_own_shape(driver):
    moves = np.random.default_rng(0).normal(0, 1, (51, 478, 3)).astype(np.float32)
    basis = Basis(moves, np.zeros(51, np.float32))
    own, wanted = np.random.default_rng(1).random((2, 51)).astype(np.float32)
    shown = np.float32([np.zeros(51), own, wanted])
    meshes = driver + np.tensordot(shown, moves, 1)
    rested = basis.without(meshes, shown, wanted)
    assert rested.dtype == np.float32
    np.testing.assert_allclose(rested, np.repeat(meshes[2:], 3, 0), atol=1e-3)


def test_the_shipped_basis_knows_what_blendshapes_do():
    basis = Basis.load()
    assert basis.moves.shape == (51, 478, 3)
    assert basis.neutral.shape == (51,)
    jaw, blink = (basis.moves[BLENDSHAPES.index(name)] for name in ("jawOpen", "eyeBlinkLeft"))
    assert jaw[152, 1] < -0.5  # the chin, down by centimetres
    upper, lower = LIDS[1]  # the left eye is at the image's right
    assert (blink[upper, 1] - blink[lower, 1]).mean() < -0.2


def test_a_smile_is_what_its_blendshapes_have_moved():
    basis = Basis.load()
    smiling, open_mouth = basis.neutral.copy(), basis.neutral.copy()
    smiling[BLENDSHAPES.index("mouthSmileLeft")] += 0.5
    open_mouth[BLENDSHAPES.index("jawOpen")] += 0.5
    np.testing.assert_allclose(basis.smile(smiling), 0.5 * basis.moves[BLENDSHAPES.index("mouthSmileLeft")], atol=1e-6)
    assert not basis.smile(open_mouth).any()
    assert not basis.smile(np.zeros(51, np.float32)).any()  # less than a face at rest has is no smile


def test_a_smile_given_up_takes_its_own_motion_back_from_the_mouth_alone(rest):
    smile = np.tile(np.float32([0.2, 0.1, 0]), (478, 1))
    np.testing.assert_array_equal(less_smiling(rest, smile, 0.0, TO_REST), rest)
    for share in (0.5, 1.0):
        moved = less_smiling(rest, smile, share, TO_REST) - rest
        np.testing.assert_allclose(moved[list(PARTS["mouth"])] - share * np.array([-20, 10]), 0, atol=0.3)
        for part in ("eyes", "brows"):
            np.testing.assert_allclose(moved[list(PARTS[part])], 0, atol=0.3)


# ---- The numbers of points


def test_points_are_those_of_the_mesh():
    for points in (*PARTS.values(), motion.HOLES, motion.eye_ring(0), motion.eye_ring(1)):
        assert min(points) >= 0
        assert max(points) < SKIN
    assert PARTS.keys() == ALL.keys()


@pytest.mark.parametrize("ring", [INNER_LIPS, motion.OUTER_LIPS, motion.eye_ring(0), motion.eye_ring(1)])
def test_a_ring_goes_forth_and_back_once(ring):
    x = REST[list(ring), 0]
    assert len(set(ring)) == len(ring)
    assert np.abs(np.diff(x, append=x[0])).sum() == pytest.approx(2 * (x.max() - x.min()))


def test_lids_and_lips_run_from_left_to_right_and_the_upper_is_above():
    for upper, lower in (*LIDS, (UPPER_LIP, LOWER_LIP)):
        assert (np.diff(REST[upper, 0]) > 0).all()
        assert (np.diff(REST[lower, 0]) > 0).all()
        assert (REST[upper, 1] < REST[lower, 1]).all()
    for (left, right), (upper, _) in zip(motion.CORNERS, LIDS, strict=True):
        assert REST[left, 0] < REST[upper[0], 0]
        assert REST[upper[-1], 0] < REST[right, 0]


# ---- Heads that turn

with np.load(Path(__file__).parents[1] / "data" / "face_mediapipe.npz") as _recorded:
    MESH = _recorded["points"].astype(np.float64)  # in pixels; depths in the same unit
POSES = {"yaw": [12.0, 0, 0], "pitch": [0, 12.0, 0], "roll": [0, 0, 12.0], "all": [-8.0, 5.0, 6.0]}


def pose_of(points):
    """Of [478,3] points of a picture."""
    return head_pose(torch.from_numpy(points)[None])[0].numpy()


@pytest.mark.parametrize("turn", POSES.values(), ids=POSES)
def test_a_head_turns_as_the_other_did(turn):
    """Seen with the depths that a turned face has, it has the pose that was asked for."""
    since = pose_of(MESH)  # as if the other had begun in the same pose
    moved = turned(MESH[:, :2], MESH, since + turn, since)
    # The picture shows two rows of the rotation; the third, which gives the depths, follows from them.
    offsets = MESH - MESH[[127, 356]].mean(0)
    rows = np.linalg.lstsq(np.column_stack([offsets, np.ones(478)]), moved, rcond=None)[0][:3].T
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-9)
    deep = offsets @ np.cross(*rows)
    assert pose_of(np.column_stack([moved, deep])) == pytest.approx(since + turn, abs=0.3)


def test_a_nose_goes_where_the_head_turns():
    nose = 4
    start = MESH[nose, :2]
    for pose, (x, y) in (([15.0, 0, 0], (1, 0)), ([0, 15.0, 0], (0, -1)), ([-15.0, 0, 0], (-1, 0))):
        moved = turned(MESH[:, :2], MESH, np.array(pose), np.zeros(3))[nose] - start
        assert moved @ (x, y) > 0.8 * np.linalg.norm(moved)


def test_a_head_that_did_not_turn_leaves_all_where_it_is():
    np.testing.assert_allclose(turned(MESH[:, :2], MESH, np.full(3, 7.0), np.full(3, 7.0)), MESH[:, :2], atol=1e-9)


def test_heads_turn_no_farther_than_a_photo_can():
    far, farthest = (turned(MESH[:, :2], MESH, np.array([v, 0, 0]), np.zeros(3)) for v in (60.0, motion.FARTHEST_TURN))
    np.testing.assert_allclose(far, farthest, atol=1e-9)


# ---- A mouth that gapes


def test_a_mouth_at_rest_does_not_gape_and_a_dropped_jaw_does():
    gaping = opened(REST, 0.1)
    assert gapes(REST, REST) == 0
    assert gapes(gaping, gaping) == 0  # it is so in the photo: no crease to hide
    assert gapes(opened(REST, 0.015), REST) == 0  # speech
    assert gapes(gaping, REST) == 1
    halfway = [gapes(opened(REST, by), REST) for by in np.linspace(0, 0.1, 30)]
    assert np.diff(halfway).min() >= 0
    assert np.diff(halfway).max() < 0.3


def hanging(points):
    """How far below the mouth's corners the middle of the upper lip is."""
    return points[13, 1] - points[[61, 291], 1].mean()


def bent(points, by):
    """The face with lips that meet in a curve, their middle so much lower."""
    left, right = points[61], points[291]
    aside = (points[:, 0] - (left[0] + right[0]) / 2) / ((right[0] - left[0]) / 2)
    moved = points.copy()
    moved[:, 1] += by * (1 - aside**2).clip(0) * np.exp(-(((points[:, 1] - points[13, 1]) / 60) ** 2))
    return moved


@pytest.mark.parametrize("by", [-25, 25])
def test_the_lips_of_a_mouth_that_gapes_are_bent_half_as_the_drivers(driver, rest, by):
    curved = bent(rest, by)
    jaw = opened(REST, 0.35) - REST  # 3.5 cm
    driver[1, :, :2] += jaw * [10, -10]
    driver[2, :, :2] += 0.1 * jaw * [10, -10]
    straight_goals, curved_goals = (goals(driver, driver[0], each, TO_REST, ALL) for each in (rest, curved))
    assert hanging(curved) - hanging(rest) == pytest.approx(by, abs=3)
    left = hanging(curved_goals[1]) - hanging(straight_goals[1])
    assert left == pytest.approx((1 - STRAIGHTENED) * by, abs=4)
    np.testing.assert_allclose(curved_goals[0], curved, atol=1e-3)
    assert hanging(curved_goals[2]) - hanging(straight_goals[2]) == pytest.approx(by, abs=3)  # speech keeps it


@pytest.mark.parametrize("pitch", [-20, 0, 20])
def test_a_head_that_nods_bends_no_lips(driver, pitch):
    """The same face as driver and target: its lips are bent as the driver's, however the photo shows it."""
    driver[..., 2] = 1.5 * np.exp(-np.square((driver[..., 0] - driver[0, 13, 0]) / 3))  # the middle lies before
    jaw = opened(REST, 0.35) - REST
    driver[1, :, :2] += jaw * [10, -10]
    s, c = np.sin(np.radians(pitch)), np.cos(np.radians(pitch))
    to_rest = np.array([[100.0, 0, 0], [0, -100 * c, 100 * s]])
    rest = driver[0] @ to_rest.T
    moved = goals(driver, driver[0], rest, to_rest, ALL)[1]
    np.testing.assert_allclose(moved[[13, 0]], (driver[1] @ to_rest.T)[[13, 0]], atol=2)
