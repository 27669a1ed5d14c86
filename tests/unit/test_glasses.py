"""Glasses found in a photo: drawn on a plain face, so that it is known where they are."""

import cv2
import numpy as np
import pytest
from meshes import REST

from reenact.geometry import apply
from reenact.glasses import rims
from reenact.motion import CORNERS, eye_ring

SIDE = 600
SKIN = (200, 150, 130)
CROP = np.array([[SIDE, 0, 0], [0, SIDE, 0]], float)
UNIT = float(np.linalg.norm(REST[list(CORNERS[1])].mean(0) - REST[list(CORNERS[0])].mean(0)))  # between the eyes


def face(crop=CROP, shape=(SIDE, SIDE)):
    """uint8 [h,w,3]: skin with white eyes and black irises."""
    picture = np.full((*shape, 3), SKIN, np.uint8)
    for eye in (0, 1):
        ring = apply(crop, REST[eye_ring(eye)])
        cv2.fillPoly(picture, [np.rint(ring).astype(np.int32)], (250, 250, 250))
        middle = np.rint(ring.mean(0)).astype(int).tolist()
        cv2.circle(picture, middle, round(0.1 * UNIT * np.linalg.norm(crop[:, 0])), (20, 20, 20), -1)
    return picture


def worn(picture, thick, crop=CROP, colour=(30, 30, 40), rims_too=True, ends=0.36):
    """Glasses on it, so thick in distances between the eyes; and where they are [h,w]."""
    where = np.zeros(picture.shape[:2], np.uint8)
    scale = float(np.linalg.norm(crop[:, 0]))
    line = max(1, round(thick * UNIT * scale))
    middles = [REST[list(c)].mean(0) for c in CORNERS]
    inner = [middles[0] + [ends * UNIT, -0.05 * UNIT], middles[1] + [-ends * UNIT, -0.05 * UNIT]]
    cv2.line(where, *(np.rint(apply(crop, p[None])[0]).astype(int).tolist() for p in inner), 1, line)
    if rims_too:
        t = np.linspace(0, 2 * np.pi, 90)
        for middle in middles:
            ring = middle + UNIT * np.stack([0.37 * np.cos(t), 0.27 * np.sin(t)], 1)
            cv2.polylines(where, [np.rint(apply(crop, ring)).astype(np.int32)], True, 1, line)
    out = picture.copy()
    out[where > 0] = colour
    return out, where > 0


@pytest.mark.parametrize("thick", [0.03, 0.06, 0.1])
def test_rims_are_found_and_nothing_else(thick):
    picture, where = worn(face(), thick)
    found = rims(picture, CROP, REST)
    assert found is not None
    assert found.shape == where.shape
    assert found[where].mean() > 0.75
    around = cv2.dilate(where.astype(np.uint8), np.ones((9, 9))) > 0
    assert (found & ~around).sum() < 0.1 * where.sum()


def test_a_bare_face_has_none():
    assert rims(face(), CROP, REST) is None


def test_a_bridge_that_is_as_light_as_skin_is_none():
    assert rims(worn(face(), 0.05, colour=(185, 140, 120))[0], CROP, REST) is None


def test_a_faint_wrinkle_across_the_nose_is_no_bridge():
    wrinkle = tuple(round(0.92 * channel) for channel in SKIN)
    assert rims(worn(face(), 0.05, colour=wrinkle, rims_too=False)[0], CROP, REST) is None


@pytest.mark.parametrize("light", [0.25, 0.5, 1])
def test_noise_is_no_bridge(light):
    noise = np.random.default_rng(1).normal(0, 8, (SIDE, SIDE, 1))
    bare, (glasses, _) = face(), worn(face(), 0.06)
    assert rims(np.uint8((light * bare + noise).clip(0, 255)), CROP, REST) is None
    assert rims(np.uint8((light * glasses + noise).clip(0, 255)), CROP, REST) is not None or light < 1


def test_of_a_bridge_alone_the_eyes_do_not_stay():
    """As of rimless glasses: no lashes, no irises, and no line round the eyes that is none."""
    picture, where = worn(face(), 0.06, rims_too=False, ends=0.26)
    found = rims(picture, CROP, REST)
    assert found[where].mean() > 0.5
    assert not found[~(cv2.dilate(where.astype(np.uint8), np.ones((21, 21))) > 0)].any()


def test_below_an_arched_bridge_the_nose_moves():
    picture = face()
    (left, right), up = (REST[list(c)].mean(0) for c in CORNERS), np.array([0, 0.15 * UNIT])
    inwards = np.array([0.26 * UNIT, 0])
    arch = np.array([left + inwards, (left + right) / 2 - up, right - inwards])
    cv2.polylines(picture, [np.rint(arch * SIDE).astype(np.int32)], False, (30, 30, 40), 6)
    middle = np.rint((left + right) / 2 * SIDE).astype(int)
    shadow = slice(middle[1] - 2, middle[1] + 3), slice(middle[0] - 4, middle[0] + 5)
    picture[shadow] = (60, 45, 40)
    found = rims(picture, CROP, REST)
    assert found[(arch[1] * SIDE).astype(int)[1] + 1, middle[0]]
    assert not found[shadow].any()


def test_lashes_of_either_eye_are_spared():
    found = rims(worn(face(), 0.1)[0], CROP, REST)
    for eye in (0, 1):
        ring = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(ring, [np.rint(REST[eye_ring(eye)] * SIDE).astype(np.int32)], 1)
        assert not (found & (cv2.dilate(ring, np.ones((5, 5))) > 0)).any()


def test_a_face_may_be_turned_small_and_at_the_edge():
    turn = np.deg2rad(20)
    axes = 150 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    crop = np.column_stack([axes, [40, 0]])
    picture, where = worn(face(crop, (200, 220)), 0.08, crop)
    found = rims(picture, crop, REST)
    assert found[where].mean() > 0.7


def test_beyond_the_edge_there_is_nothing_to_keep():
    beyond = np.array([[SIDE, 0, -0.7 * SIDE], [0, SIDE, 0]], float)
    assert rims(worn(face(beyond), 0.06, beyond)[0], beyond, REST) is None


def test_a_face_of_a_few_pixels_and_one_without_a_width_have_none():
    tiny = CROP / 10
    assert rims(worn(face(tiny, (60, 60)), 0.1, tiny)[0], tiny, REST) is None
    assert rims(worn(face(), 0.06)[0], CROP, np.full_like(REST, 0.5)) is None
