"""Average keypoint distance: how far the output's landmarks are from the truth's.

Formula: the mean over the 68 points of ‖p_output - p_truth‖. Unit: px of a frame whose longer side is 256, whatever
its size. Network: Google's Face Landmarker, at the clip's own resolution. A clip's score is the mean over its frames.
Source: Siarohin et al., "First Order Motion Model for Image Animation" (2019), who take another landmarker.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import Score
from . import Context, Sample
from ._series import NO_FACE, NO_TRUTH, by_frame

SIDE = 256


def create(context: Context) -> Akd | str:
    """The metric; it needs a truth."""
    return Akd() if context.truth else NO_TRUTH


class Akd:
    """See `metrics.Metric`. Score `akd`."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        assert sample.truth
        output, truth = sample.output.face, sample.truth.face
        if output and truth:
            distance = np.linalg.norm(output.points - truth.points, axis=1).mean()
            self._values.append(float(distance) * SIDE / max(sample.output.rgb.shape[:2]))
        else:
            self._values.append(np.nan)

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        return [by_frame("akd", "px", "lower", self._values, f"longer side of {SIDE} px", NO_FACE)]
