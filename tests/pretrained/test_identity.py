"""The numbers are dlib's, and tell people apart."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from reenact import landmarks, plugins
from reenact.images import read_image
from reenact.metrics import View
from reenact.metrics.identity import DlibIdentity
from reenact.video import read_frames

pytestmark = pytest.mark.pretrained

dlib = pytest.importorskip("dlib", reason="is in the extra 'dlib'")
SAMPLES = Path(__file__).parents[2] / "samples"
MOMENTS = (0, 11)  # neutral, a smile


@pytest.fixture(scope="module")
def embed(store):
    return DlibIdentity(dlib, store)


@pytest.fixture(scope="module")
def views(store):
    """Two people who don't exist, in two pictures each: the target and its mirror image, the driver twice."""
    detector = plugins.module("detectors", "landmarker").create(store, torch.device("cpu"))
    film = [f.rgb for f in read_frames(SAMPLES / "driver.mp4", max_frames=max(MOMENTS) + 1)]
    target = read_image(SAMPLES / "target.jpg")
    pictures = [target, np.ascontiguousarray(target[:, ::-1]), *(film[i] for i in MOMENTS)]
    return [View(rgb, landmarks.find_face(rgb, detector, "sample")) for rgb in pictures]


def distance(a, b):
    return float(np.linalg.norm(a - b))


def test_one_person_is_nearer_than_dlibs_threshold_and_two_are_farther(embed, views):
    numbers = [embed(view) for view in views]
    people = numbers[:2], numbers[2:]
    assert all(distance(*person) < 0.6 for person in people)
    assert min(distance(a, b) for a, b in product(*people)) > 0.6


def original(store, rgb):
    """As dlib's author does it: its own detector's box, the 5-point predictor, the network; and the box."""
    (box,) = dlib.get_frontal_face_detector()(rgb, 1)
    shape = dlib.shape_predictor(str(store.path("dlib-5.dat")))(rgb, box)
    network = dlib.face_recognition_model_v1(str(store.path("dlib-resnet128.dat")))
    return np.array(network.compute_face_descriptor(rgb, shape)), box


def test_in_dlibs_own_box_the_numbers_are_dlibs_own(embed, views, store, monkeypatch):
    numbers, box = original(store, views[0].rgb)
    monkeypatch.setattr(embed, "_box", lambda points: box)
    assert embed(views[0]) == pytest.approx(numbers, abs=1e-6)


def test_in_the_box_of_the_landmarks_they_are_nearly(embed, views, store):
    for view in views:
        assert distance(embed(view), original(store, view.rgb)[0]) < 0.1


def test_the_size_of_the_picture_hardly_counts(embed, views):
    whole = views[0]
    rgb = whole.rgb.reshape(256, 2, 256, 2, 3).mean((1, 3)).astype(np.uint8)
    half = View(rgb, replace(whole.face, points=((whole.face.points - 0.5) / 2).astype(np.float32)))
    assert distance(embed(half), embed(whole)) < 0.15


def test_no_face_has_no_numbers(embed, views):
    assert embed(View(views[0].rgb, None)) is None
