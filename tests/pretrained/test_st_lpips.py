"""The perceptual metrics on a real face: what is the same, what is worse, what changes in time."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reenact.images import read_image
from reenact.metrics import Sample, View, st_lpips
from reenact.perceptual import AlexNet, Vgg16, load_alex, load_vgg
from reenact.types import Score

pytestmark = pytest.mark.pretrained

CPU = torch.device("cpu")
FACE = read_image(Path(__file__).parents[1] / "data" / "face.png")  # 256x256
OTHER = np.ascontiguousarray(FACE[:, ::-1])
BLURRED = np.asarray(cv2.GaussianBlur(FACE, (0, 0), 3), np.uint8)


@pytest.fixture(scope="module")
def networks(store) -> tuple[Vgg16, AlexNet]:
    return load_vgg(store, CPU), load_alex(store, CPU)


def measured(networks, output, truth, cuts=()) -> dict[str, Score]:
    metric = st_lpips.StLpips(*networks, CPU, set(cuts))
    for i, (a, b) in enumerate(zip(output, truth, strict=True)):
        metric.update(Sample(i, i / 25, View(a, None), View(b, None), None, View(b, None), None))
    return {score.name: score for score in metric.score()}


def test_identical_clips_are_no_distance_apart(networks):
    scores = measured(networks, [FACE, OTHER], [FACE, OTHER])
    assert [s.value for s in scores.values()] == [0, 0, 0]


def test_a_worse_picture_is_further(networks):
    slightly = cv2.GaussianBlur(FACE, (0, 0), 1)
    scores = measured(networks, [slightly, BLURRED], [FACE] * 2)
    for name in ("st-lpips-vgg", "st-lpips-alex"):
        near, far = scores[name].per_frame
        assert 0 < 2 * near < far


def test_tlp_is_the_difference_of_what_changes(networks):
    """The output stands still while the truth changes as much as FACE and OTHER differ."""
    scores = measured(networks, [FACE, FACE, FACE], [FACE, OTHER, OTHER])
    first, second, third = scores["tlp"].per_frame
    assert np.isnan(first)
    assert second == pytest.approx(scores["st-lpips-vgg"].per_frame[1], rel=1e-5)
    assert third == pytest.approx(0, abs=1e-6)
    assert scores["tlp"].value == pytest.approx(second / 2, rel=1e-5)


def test_frames_in_the_wrong_order_are_told_by_tlp(networks):
    walk = [np.roll(FACE, 4 * i, 1) for i in (0, 1, 2)]
    assert measured(networks, [walk[i] for i in (0, 2, 1)], walk)["tlp"].value > 0.001
    assert measured(networks, walk, walk)["tlp"].value == 0


def test_nothing_is_compared_across_a_cut(networks):
    scores = measured(networks, [FACE, FACE], [FACE, OTHER], cuts=[1])
    assert scores["tlp"].value is None
    assert scores["st-lpips-vgg"].measured == 2


def test_frames_of_any_size_are_compared_at_256(networks):
    large, blurred = (cv2.resize(x, (512, 512), interpolation=cv2.INTER_NEAREST) for x in (FACE, BLURRED))
    there, here = measured(networks, [blurred], [large]), measured(networks, [BLURRED], [FACE])
    for name in ("st-lpips-vgg", "st-lpips-alex"):
        assert there[name].value == pytest.approx(here[name].value, rel=1e-4)
        assert "256x256" in here[name].note
