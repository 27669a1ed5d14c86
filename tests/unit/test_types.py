"""Wrong shapes are refused at birth, and what is printed stays a line."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reenact.types import Crop, FaceTrack, Frame, Inversion, Landmarks, Latent, VideoInfo

RGB = np.zeros((40, 60, 3), np.uint8)
POINTS = np.zeros((68, 2), np.float32)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def track(**changes):
    fields = {"points": zeros(5, 68, 2), "score": zeros(5), "found": zeros(5, dtype=bool), "cuts": ()}
    return FaceTrack(**fields | changes)


def test_what_fits_is_taken():
    assert Frame(RGB, 0, 0, 0.0, zeros(40, 60, dtype=np.uint8)).rgb is RGB
    assert Landmarks(POINTS, 0.9, zeros(51), zeros(3), zeros(478, 3)).score == 0.9
    assert len(track(blendshapes=zeros(5, 51), pose=zeros(5, 3), mesh=zeros(5, 478, 3))) == 5
    assert Inversion(Latent(zeros(23, 512), "mobile"), (3.0, 2.0)).steps == 2


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Frame(RGB.astype(np.float32), 0, 0, 0.0), "rgb"),
        (lambda: Frame(RGB[:, :, 0], 0, 0, 0.0), "rgb"),
        (lambda: Frame(zeros(40, 60, 4, dtype=np.uint8), 0, 0, 0.0), "rgb"),
        (lambda: Frame(RGB, 0, 0, 0.0, zeros(60, 40, dtype=np.uint8)), "matte"),
        (lambda: Frame(RGB, 0, 0, 0.0, zeros(40, 60)), "matte"),
        (lambda: Landmarks(zeros(2, 68), 1.0), "points"),
        (lambda: Landmarks(POINTS.astype(np.float64), 1.0), "points"),
        (lambda: Landmarks(POINTS, 1.0, zeros(52)), "blendshapes"),
        (lambda: Landmarks(POINTS, 1.0, None, zeros(2)), "pose"),
        (lambda: Landmarks(POINTS, 1.0, mesh=zeros(468, 3)), "mesh"),
        (lambda: track(points=zeros(5, 68, 3)), "points"),
        (lambda: track(score=zeros(4)), "score"),
        (lambda: track(found=zeros(5)), "found"),
        (lambda: track(blendshapes=zeros(4, 51)), "blendshapes"),
        (lambda: track(pose=zeros(4, 3)), "pose"),
        (lambda: track(mesh=zeros(5, 478, 2)), "mesh"),
        (lambda: track(mesh=zeros(4, 478, 3)), "mesh"),
        (lambda: Crop(RGB, zeros(2, 3, dtype=np.float64)), "rgb"),
        (lambda: Crop(RGB[:40, :40], zeros(2, 3)), "to_frame"),
        (lambda: Crop(RGB[:40, :40], zeros(3, 3, dtype=np.float64)), "to_frame"),
        (lambda: Latent(zeros(23, 256), "mobile"), "w"),
        (lambda: Latent(zeros(512), "mobile"), "w"),
    ],
)
def test_what_does_not_fit_is_named(make, named):
    with pytest.raises(ValueError, match=f"^{named}: .*; expected"):
        make()


def test_the_complaint_says_what_came_and_what_was_wanted():
    with pytest.raises(ValueError, match=r"points: float64 \(67, 2\); expected float32 68x2"):
        Landmarks(np.zeros((67, 2)), 1.0)


def test_pixels_are_not_printed():
    frame = Frame(RGB, 3, 1024, 0.12, None)
    assert repr(frame) == "Frame(rgb=uint8[40, 60, 3], index=3, pts=1024, seconds=0.12, matte=None)"


@pytest.mark.parametrize(
    "value",
    [
        VideoInfo(Path("a.mp4"), 640, 480, Fraction(1, 90000), None, 2.5, None, 90, True),
        Landmarks(POINTS, 0.5, zeros(51), zeros(3)),
        track(cuts=(2,)),
        Crop(RGB[:40, :40], zeros(2, 3, dtype=np.float64)),
        Inversion(Latent(zeros(23, 512), "mobile"), (0.5,)),
    ],
)
def test_everything_prints_as_one_line_with_its_name(value):
    line = repr(value)
    assert line.startswith(f"{type(value).__name__}(")
    assert "\n" not in line
    assert "array" not in line


def test_nothing_can_be_reassigned():
    with pytest.raises(AttributeError):
        Landmarks(POINTS, 1.0).score = 0.0
