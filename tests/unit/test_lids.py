"""Lids painted over eyes that shut: on a plain face with white eyes under a black line of lashes."""

import cv2
import numpy as np
import pytest
from meshes import REST, shut

from reenact.lids import Lids
from reenact.motion import CORNERS, LIDS, PARTS, eye_ring

SIDE = 600
SKIN = (0.8, 0.6, 0.5)
POINTS = REST * SIDE
BROWS = PARTS["brows"]


def face(skin=SKIN, eyes=(1.0, 1.0, 1.0), lashes=(0.05, 0.05, 0.05)):
    """float32 [SIDE,SIDE,3]."""
    picture = np.full((SIDE, SIDE, 3), skin, np.float32)
    for eye in (0, 1):
        cv2.fillPoly(picture, [np.rint(POINTS[eye_ring(eye)]).astype(np.int32)], eyes)
        left, right = CORNERS[eye]
        line = np.rint(POINTS[[left, *LIDS[eye][0], right]]).astype(np.int32)
        cv2.polylines(picture, [line], False, lashes, 2)
    return picture


def opened_by(share, eye):
    """The face with one eye so far open, of what it is."""
    upper, lower = LIDS[eye]
    goal = POINTS.copy()
    goal[upper] = goal[lower] + share * (POINTS[upper] - POINTS[lower])
    return goal


def middle(eye, share):
    """A point so far down between the lids at rest, x, y."""
    upper, lower = (POINTS[lid[3]] for lid in LIDS[eye])
    return np.rint(upper + share * (lower - upper)).astype(int)


def at(picture, place):
    return picture[place[1], place[0]]


@pytest.mark.parametrize("eye", [0, 1])
def test_a_shut_eye_is_skin_with_a_dark_line_of_lashes_at_the_lower_lid(eye):
    seen = Lids(face(), POINTS).paint(face(), shut(POINTS, LIDS[eye]))
    assert at(seen, middle(eye, 0.4)) == pytest.approx(SKIN, abs=0.08)
    along = seen[middle(eye, 0.6)[1] : middle(eye, 1.5)[1], middle(eye, 1)[0]].mean(1)
    assert along.min() < 0.3
    assert abs(int(along.argmin()) + middle(eye, 0.6)[1] - middle(eye, 1)[1]) < 0.012 * SIDE


@pytest.mark.parametrize("eye", [0, 1])
def test_the_other_eye_stays_as_it_is(eye):
    seen = Lids(face(), POINTS).paint(face(), shut(POINTS, LIDS[eye]))
    changed = np.argwhere((seen != face()).any(2))[:, 1]
    low, high = sorted(POINTS[list(CORNERS[eye]), 0])
    assert low - 0.15 * (high - low) <= changed.min() <= changed.max() <= high + 0.15 * (high - low)


def test_eyes_that_are_as_in_the_photo_or_wider_are_left_alone():
    lids = Lids(face(), POINTS)
    for share in (0.95, 1.0, 1.4):
        assert (lids.paint(face(), opened_by(share, 0)) == face()).all()


def test_a_lid_comes_down_as_far_as_the_eye_is_shut():
    lids, half = Lids(face(), POINTS), opened_by(0.5, 0)
    seen = lids.paint(face(), half)
    assert at(seen, middle(0, 0.25)) == pytest.approx(SKIN, abs=0.1)  # the lid
    assert at(seen, middle(0, 0.8)) == pytest.approx(1, abs=0.01)  # the eye


def test_it_comes_down_without_a_jump():
    lids, before = Lids(face(), POINTS), face()
    for share in np.linspace(1, 0, 41):
        now = lids.paint(face(), opened_by(share, 0))
        # A line two pixels thick moves by as much in a step; over the eye at large nothing jumps.
        assert np.abs(now - before).mean() < 0.002
        before = now


def test_skin_under_a_dark_crease_gives_no_dark_lid():
    """What is stretched down from above would be."""
    photo = face()
    left, right = CORNERS[0]
    crease = np.rint(POINTS[[left, *LIDS[0][0], right]] - [0, 0.012 * SIDE]).astype(np.int32)
    cv2.polylines(photo, [crease], False, (0.2, 0.1, 0.1), 3)
    seen = Lids(photo, POINTS).paint(photo, shut(POINTS, LIDS[0]))
    assert at(seen, middle(0, 0.5)).mean() > 0.85 * np.mean(SKIN)


def lined(high, thick):
    """The face with a black line so many openings of the eye above each upper lid, so many thick."""
    picture = face()
    for eye, (upper, lower) in enumerate(LIDS):
        opening = np.abs(POINTS[lower, 1] - POINTS[upper, 1]).max()
        line = np.rint(POINTS[eye_ring(eye)[:9]] - [0, high * opening]).astype(np.int32)
        cv2.polylines(picture, [line], False, (0.05, 0.05, 0.05), max(1, round(thick * opening)))
    return picture


def lash(photo):
    """How much is dark below the middle of a shut eye's lid, in pixels."""
    seen = Lids(photo, POINTS).paint(photo, shut(POINTS, LIDS[0]))
    column = seen[middle(0, 0.5)[1] : middle(0, 2)[1], middle(0, 1)[0]].mean(1)
    return (1 - column / np.mean(SKIN)).clip(0).sum()


def test_lashes_are_as_thick_as_the_photos():
    assert lash(lined(0.15, 0.5)) > 1.3 * lash(face())


def test_the_rim_of_glasses_above_an_eye_is_no_lash():
    assert lash(lined(0.5, 0.1)) == pytest.approx(lash(face()), rel=0.05)


def test_brows_that_rise_leave_no_edge_above_a_shut_lid():
    """The lid is lost in what is above it, a dark forehead here, however much of that the brows set free."""
    photo, goal = face(), shut(POINTS, LIDS[0])
    wide = np.linalg.norm(np.subtract(*POINTS[list(CORNERS[0])]))
    hairline = round(POINTS[LIDS[0][0], 1].min() - 0.25 * wide)
    photo[:hairline] *= 0.3
    goal[list(BROWS), 1] -= wide
    lightened = (Lids(photo, POINTS).paint(photo, goal) - photo)[:hairline].mean(2)
    assert lightened.max() > 0.05
    assert np.diff(lightened, axis=0).max() < 0.025


def test_lashes_are_thicker_at_the_outer_corner():
    left, right = (POINTS[i] for i in CORNERS[0])  # of the eye on the left, whose outer corner is on the left
    seen = Lids(face(), POINTS).paint(face(), shut(POINTS, LIDS[0]))
    thick = []
    for share in (0.2, 0.8):
        x = round(left[0] + share * (right - left)[0])
        column = seen[round(left[1]) - 5 : round(left[1]) + round(0.05 * SIDE), x].mean(1)
        thick.append((1 - column / np.mean(SKIN)).clip(0).sum())
    assert thick[0] > 1.2 * thick[1]


def test_a_turned_face_is_painted_alike():
    """Rolled by a right angle, picture and points."""
    goal = shut(POINTS, LIDS[0])
    straight = Lids(face(), POINTS).paint(face(), goal)

    def rolled(points):
        return np.stack([SIDE - 1 - points[:, 1], points[:, 0]], 1)

    turned = np.ascontiguousarray(np.rot90(face(), -1))
    seen = Lids(turned, rolled(POINTS)).paint(turned, rolled(goal))
    assert np.abs(np.rot90(seen, 1) - straight).max() < 0.02


def test_an_eye_of_a_few_pixels_still_shuts():
    small = cv2.resize(face(), (60, 60), interpolation=cv2.INTER_AREA)
    points = (POINTS + 0.5) / 10 - 0.5
    seen = Lids(small, points).paint(small, shut(points, LIDS[0]))
    place = np.rint((middle(0, 0.3) + 0.5) / 10 - 0.5).astype(int)
    assert at(seen, place).mean() < at(small, place).mean()
    assert np.isfinite(seen).all()


@pytest.mark.parametrize("opening", [0.0, 0.03])
def test_an_eye_that_the_photo_has_shut_keeps_its_own_lids(opening):
    """The points of such an eye waver; a second line of lashes must not come and go with them."""
    points = POINTS.copy()
    for upper, lower in LIDS:
        points[upper] = points[lower] - [0, opening * 0.1 * SIDE]
    photo = np.full((SIDE, SIDE, 3), SKIN, np.float32)
    lids = Lids(photo, points)
    wavering = points.copy()
    wavering[LIDS[0][0], 1] += 0.5
    for goal in (points, wavering, shut(points, LIDS[0])):
        assert (lids.paint(photo, goal) == photo).all()
