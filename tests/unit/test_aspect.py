"""Lips and lids by a second detector, one that is told what to see."""

from types import SimpleNamespace

import numpy as np
import pytest
from faces import face

from reenact.metrics import Sample, View
from reenact.metrics.aspect import SIDE, AspectMetric, aspects
from reenact.types import Landmarks

PHASE = np.linspace(0, 4 * np.pi, 40)
LIPS, LIDS = 0.5 + 0.3 * np.sin(PHASE), 0.3 + 0.1 * np.cos(PHASE)


def points(lips, lids):
    """A face [68,2] of 200 pixels with those aspect ratios."""
    made = face()
    width = np.linalg.norm(made[48] - made[54])
    for up, down in ((61, 67), (62, 66), (63, 65)):
        made[down] = made[up] + [0, lips * width]
    for eye in (36, 42):
        width = np.linalg.norm(made[eye] - made[eye + 3])
        for up, down in ((1, 5), (2, 4)):
            made[eye + down] = made[eye + up] + [0, lids * width]
    return made.astype(np.float32)


def view(lips, lids):
    """Its picture says in its first pixels what the second detector is to see."""
    rgb = np.zeros((300, 300, 3), np.uint8)
    rgb[:] = (round(200 * lips), round(200 * lids), 0)
    return View(rgb, Landmarks(points(lips, lids), 1.0))


def predict(cut, box):
    """dlib's predictor, if it knew the codes."""
    assert cut.shape[0] > SIDE
    lips, lids, _ = cut[0, 0] / 200
    return SimpleNamespace(parts=lambda: [SimpleNamespace(x=x, y=y) for x, y in points(lips, lids)])


def scores(outputs, drivers):
    metric = AspectMetric(SimpleNamespace(rectangle=lambda *box: box), predict)
    for i, (output, driver) in enumerate(zip(outputs, drivers, strict=True)):
        metric.update(Sample(i, i / 25, output, driver, None, None, None))
    return {score.name: score for score in metric.score()}


DRIVER = [view(*each) for each in zip(LIPS, LIDS, strict=True)]


def test_ratios_are_those_that_the_points_have():
    assert aspects(points(0.4, 0.25)) == pytest.approx([0.4, 0.25], abs=1e-4)
    assert aspects(3 * points(0.4, 0.25) + 7) == pytest.approx([0.4, 0.25], abs=1e-4)


def test_the_driver_itself_reaches_the_ceiling():
    seen = scores(DRIVER, DRIVER)
    assert seen["lips-r"].value == seen["lips-r-ceiling"].value == pytest.approx(1, abs=0.01)
    assert seen["lids-r"].value == seen["lids-r-ceiling"].value == pytest.approx(1, abs=0.01)


def test_a_still_picture_follows_nothing():
    seen = scores([view(0.5, 0.3)] * 40, DRIVER)
    assert seen["lips-r"].value == seen["lids-r"].value == 0


def test_lips_that_run_against_the_driver_score_below_nought_and_lids_by_themselves():
    seen = scores([view(1 - lips, lids) for lips, lids in zip(LIPS, LIDS, strict=True)], DRIVER)
    assert seen["lips-r"].value == pytest.approx(-1, abs=0.01)
    assert seen["lids-r"].value == pytest.approx(1, abs=0.01)
    assert "-1.00 of the ceiling" in seen["lips-r"].note


def test_a_driver_who_does_not_blink_gives_no_verdict_on_lids():
    drivers = [view(lips, 0.3) for lips in LIPS]
    seen = scores(drivers, drivers)
    assert seen["lids-r"].value is None
    assert "hardly move" in seen["lids-r"].note
    assert seen["lips-r"].value is not None


def test_frames_without_a_face_are_left_out():
    outputs = [View(v.rgb, None) if i % 2 else v for i, v in enumerate(DRIVER)]
    assert scores(outputs, DRIVER)["lips-r"].value == pytest.approx(1, abs=0.01)
    assert scores([View(v.rgb, None) for v in DRIVER], DRIVER)["lips-r"].value is None


def test_lids_that_the_second_detector_does_not_see_move_have_a_ceiling_of_nought():
    rgb = np.full((300, 300, 3), 60, np.uint8)
    drivers = [View(rgb, Landmarks(points(lips, lids), 1.0)) for lips, lids in zip(LIPS, LIDS, strict=True)]
    seen = scores(DRIVER, drivers)
    assert seen["lids-r-ceiling"].value == 0
    assert seen["lids-r"].value > 0.9
    assert "ceiling" not in seen["lids-r"].note
