"""Gaze of the output against the driver's, from the eyeLook blendshapes.

Formula: each eye has two numbers, aside = eyeLookOut - eyeLookIn (negated for the right eye, so that both grow
towards the person's left) and up = eyeLookUp - eyeLookDown. They are unitless, -1 to 1, not degrees, and relative
to the head. `gaze` is the mean |Δ| of the four; `gaze-r` the mean Pearson r of those that move in the driver, whose
standard deviation is above `_series.MOVES`; a constant output has r = 0. Network: the blendshapes of Google's Face
Landmarker, whose eyeLook are made from its iris landmarks, at the clip's own resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..face_landmarker import BLENDSHAPES
from ..types import Floats, Score
from . import Context, Sample
from ._series import NO_FACE, NOTHING_MOVES, Blendshapes, by_frame, follows, moving, of_clip, unmeasured

NUMBERS = {  # name -> (blendshape that counts up, blendshape that counts down)
    "left eye aside": ("eyeLookOutLeft", "eyeLookInLeft"),
    "left eye up": ("eyeLookUpLeft", "eyeLookDownLeft"),
    "right eye aside": ("eyeLookInRight", "eyeLookOutRight"),
    "right eye up": ("eyeLookUpRight", "eyeLookDownRight"),
}


def create(context: Context) -> GazeMetric:
    """The metric; it needs nothing but the blendshapes."""
    return GazeMetric()


class GazeMetric:
    """See `metrics.Metric`. Scores `gaze` and `gaze-r`."""

    def __init__(self) -> None:
        self._seen = Blendshapes()

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        self._seen.add(sample)

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        output, driver = map(gaze, self._seen.tables())
        difference = np.abs(output - driver).mean(1)
        return [by_frame("gaze", "", "lower", difference, "unitless, not degrees", NO_FACE), _r(output, driver)]


def _r(output: Floats, driver: Floats) -> Score:
    chosen = moving(driver)
    if not chosen:
        return unmeasured("gaze-r", "", "higher", NOTHING_MOVES)
    value = np.mean([follows(output[:, i], driver[:, i])[0] for i in chosen])
    return of_clip("gaze-r", "", "higher", float(value), "of " + ", ".join(list(NUMBERS)[i] for i in chosen), NO_FACE)


def gaze(blendshapes: Floats) -> Floats:
    """The four `NUMBERS` [T,4] of blendshapes [T,51]."""
    column = BLENDSHAPES.index
    return np.stack([blendshapes[:, column(up)] - blendshapes[:, column(down)] for up, down in NUMBERS.values()], 1)
