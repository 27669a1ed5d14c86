"""Samples made by hand, so that what a metric must say of them is known."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from faces import face

from reenact.face_landmarker import BLENDSHAPES
from reenact.metrics import Clip, Context, Metric, Sample, View
from reenact.types import FaceTrack, Landmarks, Score
from reenact.weights import WeightStore, default_root

GREY = np.full((64, 64, 3), 128, np.uint8)
FACELESS = View(GREY, None)


def view(rgb: np.ndarray = GREY, pose: Sequence[float] = (0, 0, 0), **blendshapes: float) -> View:
    """A face that fills the picture, with that pose and those blendshapes; the others are 0."""
    values = np.zeros(51, np.float32)
    for name, value in blendshapes.items():
        values[BLENDSHAPES.index(name)] = value
    points = (face() * rgb.shape[0]).astype(np.float32)
    return View(rgb, Landmarks(points, 1.0, values, np.array(pose, np.float32)))


def samples(
    output: Sequence[View], driver: Sequence[View], target: View | None = None, truth: Sequence[View] | None = None
) -> list[Sample]:
    """One a frame at 25 frames a second, without a matte."""
    truths = truth or [None] * len(output)
    pairs = zip(output, driver, truths, strict=True)
    return [Sample(i, i / 25, o, d, target, t, None) for i, (o, d, t) in enumerate(pairs)]


def measured(metric: Metric, moments: Iterable[Sample]) -> dict[str, Score]:
    """What the metric says of them, by the scores' names."""
    for moment in moments:
        metric.update(moment)
    return {score.name: score for score in metric.score()}


def clip(path: Path | str = "clip.mp4", frames: int = 10, still: bool = False) -> Clip:
    """A clip in which no face was found."""
    nothing = np.full((frames, 68, 2), np.nan, np.float32)
    track = FaceTrack(nothing, nothing[:, 0, 0].copy(), np.zeros(frames, bool), ())
    return Clip(Path(path), frames, 64, 64, track, still)


def context(output: Clip, driver: Clip, target: Clip | None = None, matte: Path | None = None) -> Context:
    """Without a truth."""
    frames = min(output.frames, driver.frames)
    return Context(output, driver, target, None, matte, frames, WeightStore(default_root()), torch.device("cpu"))
