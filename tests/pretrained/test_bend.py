"""Bending a real composite: its lines come to where they were asked to, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reenact import bend, outline
from reenact.align import ffhq_crop
from reenact.bend import Bender, BendOptions
from reenact.detectors.landmarker import LandmarkerDetector
from reenact.face_landmarker import FaceLandmarkerNets, to_68
from reenact.images import read_image
from reenact.landmarks import find_face
from reenact.types import Frame

ALL = {"mouth": 1.0, "eyes": 1.0, "brows": 1.0}
TARGET = Path(__file__).parents[2] / "samples" / "target.jpg"

pytestmark = pytest.mark.pretrained


@pytest.fixture(scope="module")
def nets(store):
    return FaceLandmarkerNets.load(store.path("face_landmarker.task"))


@pytest.fixture(scope="module")
def target():
    return read_image(TARGET)


@pytest.fixture(scope="module")
def face(nets, target):
    return find_face(target, LandmarkerDetector(nets, torch.device("cpu")), "target")


@pytest.fixture(scope="module")
def crop(face):
    return ffhq_crop(face.points)


@pytest.fixture(scope="module")
def driver(face):
    """[2,K,3]: the target's own outline, then with one brow and one corner of the mouth raised by half a centimetre."""
    moved = np.stack([face.outline, face.outline])
    moved[1, RAISED] += [0, 0.5, 0]
    return moved


RAISED = [outline.POINTS.index(i) for i in (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 61, 78, 146, 185, 95, 191)]


def frame(target):
    return Frame(target, 0, 0, 0.0, np.zeros(target.shape[:2], np.uint8))


def bent(bender, target, index):
    seen = bender.measured(target)
    return bender.bent(frame(target), seen, bender.missing(seen, index))


def test_a_driver_at_rest_leaves_the_photo_as_it_is(nets, target, crop, driver):
    result = bent(Bender(nets, target, crop, driver, 0, ALL), target, 0)
    assert np.abs(result.rgb.astype(int) - target).max() <= 1


def test_lines_come_to_where_the_driver_has_them(nets, target, crop, driver):
    bender = Bender(nets, target, crop, driver, 0, ALL)
    seen = bender.measured(target)
    asked = bender.missing(seen, 1)
    result = bender.bent(frame(target), seen, asked)
    done = bender.measured(result.rgb) - seen
    up_asked, up_done = asked[RAISED, 1].mean(), done[RAISED, 1].mean()
    assert up_asked < -0.01  # half a centimetre of a head, in crops; y is down
    assert 0.6 * up_asked > up_done > 1.3 * up_asked
    others = np.setdiff1d(np.arange(len(outline.POINTS)), RAISED)
    assert np.abs(done[others]).mean() < 0.3 * abs(up_done)


def test_outside_the_matte_nothing_changes(nets, target, crop, driver):
    result = bent(Bender(nets, target, crop, driver, 0, ALL), target, 1)
    outside = result.matte == 0
    assert outside.mean() > 0.3
    np.testing.assert_array_equal(result.rgb[outside], target[outside])
    assert (result.rgb != target).any()


def test_half_the_share_moves_half_as_far(nets, target, crop, driver):
    full, half = (Bender(nets, target, crop, driver, 0, ALL, BendOptions(share=s)) for s in (1.0, 0.5))
    seen = full.measured(target)
    np.testing.assert_allclose(half.missing(seen, 1), full.missing(seen, 1) / 2)


def test_a_face_at_the_pictures_edge_is_bent_within_it(nets, target, crop, driver):
    cut = np.ascontiguousarray(target[:, : round(crop[0, 2] + 0.75 * crop[0, 0])])
    result = bent(Bender(nets, cut, crop, driver, 0, ALL), cut, 1)
    assert result.rgb.shape == cut.shape


# ---- The field


def test_a_field_brings_what_all_points_ask_for_and_ends_before_the_edge():
    face = to_68(np.random.default_rng(0).uniform(0.3, 0.7, (1, 478, 2)))[0]
    shift = np.array([0.01, -0.02])
    field, inside = bend._field(face, np.broadcast_to(shift, face.shape).copy(), 1e-4)
    middle = bend._FIELD // 2
    np.testing.assert_allclose(field[middle, middle], -shift, atol=2e-3)
    for edge in (field[0], field[-1], field[:, 0], field[:, -1], inside[0], inside[-1]):
        assert not edge.any()


def test_no_motion_gives_no_field():
    face = np.random.default_rng(0).uniform(0.3, 0.7, (68, 2))
    field, _ = bend._field(face, np.zeros_like(face), 1e-4)
    assert np.abs(field).max() < 1e-9
