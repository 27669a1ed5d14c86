"""Mouths that gape: on pictures whose every pixel is known."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from meshes import REST, TRIANGLES, opened, place

from reenact import mouth
from reenact.compose import ComposeOptions, Composer, Drawn
from reenact.motion import INNER_LIPS, OUTER_LIPS

SIDE = 400
SKIN, LIP, LINE = (0.8, 0.6, 0.5), (0.7, 0.2, 0.2), (0.1, 0.05, 0.05)
INNER, OUTER = list(INNER_LIPS), list(OUTER_LIPS)
WIDTH = float(np.linalg.norm(REST[INNER_LIPS[10]] - REST[INNER_LIPS[0]]))
GAPING = opened(REST, 0.1)


def drawn_line(picture, ends, colour, thick):
    places = [tuple(int(v) for v in np.rint(end * SIDE * 16)) for end in ends]
    cv2.line(picture, *places, colour, thick, cv2.LINE_AA, shift=4)


def filled(picture, ring, colour):
    cv2.fillPoly(picture, [np.rint((ring * len(picture) - 0.5) * 16).astype(np.int32)], colour, cv2.LINE_AA, shift=4)
    return picture


def creased():
    """Skin, red lips, and the dark line between them, which goes on a tenth of the mouth's width beyond its corners."""
    picture = filled(np.full((SIDE, SIDE, 3), SKIN, np.float32), REST[OUTER], LIP)
    left, right = REST[INNER_LIPS[0]], REST[INNER_LIPS[10]]
    beyond = 0.12 * (right - left)
    middle = [left - beyond, *(REST[INNER[20 - i]] / 2 + REST[INNER[i]] / 2 for i in range(1, 10)), right + beyond]
    for ends in pairwise(middle):
        drawn_line(picture, ends, LINE, 3)
    return picture


def smoothed(photo, points=REST * SIDE - 0.5):
    found = mouth.crease_free(photo, points)
    out = photo.copy()
    if found:
        part, change = found
        out[part] += change
    return out


def at(picture, point):
    x, y = (int(v) for v in np.rint(point * SIDE - 0.5))
    return picture[y, x]


def beyond(corner, share):
    """A point so many widths of the mouth beyond its left (0) or right (1) corner."""
    left, right = REST[INNER_LIPS[0]], REST[INNER_LIPS[10]]
    return right + share * (right - left) if corner else left - share * (right - left)


@pytest.mark.parametrize("corner", [0, 1])
def test_creases_beyond_the_corners_become_skin(corner):
    photo = creased()
    smooth = smoothed(photo)
    outer = (beyond(corner, 0) - REST[OUTER_LIPS[10 * corner]]) @ [1, 0]
    place = beyond(corner, abs(outer) / WIDTH + 0.04)
    assert at(photo, place).max() < 0.3
    np.testing.assert_allclose(at(smooth, place), SKIN, atol=0.05)


def test_what_is_not_at_a_corner_stays_bit_by_bit():
    photo = creased()
    smooth = smoothed(photo)
    changed = (smooth != photo).any(2)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    near = np.zeros_like(changed)
    for index in (OUTER_LIPS[0], OUTER_LIPS[10]):
        near |= np.hypot(x - REST[index, 0], y - REST[index, 1]) < 0.25 * WIDTH
    assert changed.any()
    assert not changed[~near].any()


def test_lips_are_red_up_to_their_ends():
    photo = creased()
    smooth = smoothed(photo)
    lips = filled(np.zeros((SIDE, SIDE), np.uint8), REST[OUTER], 255) == 255
    lost = lips & (np.abs(photo - np.float32(LIP)).max(2) < 0.02) & (np.abs(smooth - np.float32(LIP)).max(2) > 0.15)
    assert lost.sum() < 0.02 * lips.sum()


def test_the_given_photo_is_not_written_to():
    photo = creased()
    before = photo.copy()
    smoothed(photo)
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("shift", [(-180, 0), (0, 98), (200, 0)])
def test_a_mouth_that_the_edge_cuts_is_smooth_as_far_as_it_is_seen(shift):
    x, y = shift
    photo, whole = np.roll(creased(), (y, x), (0, 1)), np.roll(smoothed(creased()), (y, x), (0, 1))
    seen = np.zeros((SIDE, SIDE), bool)
    seen[max(y, 0) :, max(x, 0) : SIDE + min(x, 0)] = True
    photo[~seen], whole[~seen] = SKIN, SKIN
    smooth = smoothed(photo, REST * SIDE - 0.5 + shift)
    assert (smooth != photo).any()
    assert np.abs(smooth - whole)[seen].mean() < 0.1 * np.abs(photo - whole)[seen].mean()


@pytest.mark.parametrize("shift", [(-400, 0), (0, 300), (500, 500)])
def test_a_mouth_beyond_the_edge_has_none(shift):
    assert mouth.crease_free(creased(), REST * SIDE - 0.5 + shift) is None


def test_a_tiny_mouth_is_left_alone():
    assert mouth.crease_free(creased(), REST * 20) is None


# ---- The inside


def toothed(size=512):
    """A drawn face that gapes: dark, with teeth above, and with a block of teeth at the bottom."""
    picture = filled(np.full((size, size, 3), SKIN, np.float32), GAPING[INNER], (0.1, 0.05, 0.05))
    top, bottom = GAPING[13], GAPING[14]
    for depth, size_of in ((0.1, 0.02), (0.85, 0.01)):
        x, y = (top + depth * (bottom - top)) * size
        reach = size_of * size / 2
        cv2.rectangle(picture, (int(x - reach), int(y - reach)), (int(x + reach), int(y + reach)), (1.0, 1.0, 1.0), -1)
    return picture


def depth(picture, share):
    """The colour so far down between the lips."""
    x, y = (GAPING[13] + share * (GAPING[14] - GAPING[13])) * len(picture)
    return picture[int(y), int(x)]


def test_lower_teeth_of_a_gaping_mouth_are_in_the_dark_and_upper_ones_stay():
    picture = toothed()
    hollow = mouth.hollow(picture, GAPING, 1.0)
    assert depth(picture, 0.85).min() == 1
    assert depth(hollow, 0.85).max() < 0.2
    np.testing.assert_array_equal(depth(hollow, 0.1), 1)
    half = depth(mouth.hollow(picture, GAPING, 0.5), 0.85)
    np.testing.assert_allclose(half, (depth(picture, 0.85) + depth(hollow, 0.85)) / 2, atol=1e-5)


def test_lips_and_skin_are_not_darkened():
    picture = toothed()
    hollow = mouth.hollow(picture, GAPING, 1.0)
    outside = cv2.dilate(filled(np.zeros(picture.shape[:2], np.uint8), GAPING[INNER], 255), np.ones((21, 21))) == 0
    np.testing.assert_array_equal(hollow[outside], picture[outside])


def test_a_mouth_that_does_not_gape_is_as_drawn():
    picture = toothed()
    assert mouth.hollow(picture, GAPING, 0.0) is picture


def test_a_photos_creases_are_gone_where_it_gapes_and_there_where_it_does_not():
    photo = np.rint(creased() * 255).astype(np.uint8)
    face = Drawn(toothed(), GAPING)
    composer = Composer(photo, place(SIDE), REST, Drawn(creased(), REST), TRIANGLES, ComposeOptions(folds=0))
    for goal, there in ((opened(REST, 0.01), True), (GAPING, False)):
        rgb = composer.compose(goal, face, 0, 0, 0.0).rgb / 255
        for corner in (0, 1):
            end = goal[OUTER_LIPS[10 * corner]]
            around = rgb[int(end[1] * SIDE) - 8 : int(end[1] * SIDE) + 9]
            x = int((end[0] + (2 * corner - 1) * 0.04 * WIDTH) * SIDE)
            assert (around[:, x].max(1).min() < 0.45) == there


def test_lower_teeth_are_hidden_by_how_the_face_rests_whatever_the_picture_shows():
    """Of a clip's frame that gapes itself: its own mouth has no say in what is shown in it."""
    photo = np.rint(creased() * 255).astype(np.uint8)
    x, y = (GAPING[13] + 0.85 * (GAPING[14] - GAPING[13])) * SIDE
    seen = []
    for own, at_rest in ((REST, None), (GAPING, REST), (GAPING, None)):
        more = {"at_rest": at_rest, "inside": 1.0}
        composer = Composer(photo, place(SIDE), own, Drawn(creased(), own), TRIANGLES, ComposeOptions(folds=0), **more)
        seen.append(composer.compose(GAPING, Drawn(toothed(), GAPING), 0, 0, 0.0).rgb[int(y), int(x)].max())
    assert max(seen[:2]) < 80
    assert seen[2] > 150
