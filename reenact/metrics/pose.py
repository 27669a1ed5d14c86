"""Head pose in degrees: of the output against the driver's, and against the target's.

Formula: |yaw_output - yaw_other|, likewise pitch and roll, and the mean of the three (the field's APD, Average Pose
Distance, is ambiguous; this is the variant in degrees). Network: Google's Face Landmarker, at the clip's own
resolution; the angles are a rigid fit of its landmarks, see `face_landmarker.head_pose`.

A reenactment here takes the driver's expression and keeps the target's pose: the difference from the target is the
one that should be small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import Floats, Score
from . import Context, Sample, View
from ._series import NO_FACE, NO_TARGET, by_frame, unmeasured

ANGLES = ("yaw", "pitch", "roll")
_NOTES = {"driver": "the target's pose is kept, so this is large where the two differ", "target": ""}


def create(context: Context) -> PoseMetric:
    """The metric; it needs nothing but the landmarks."""
    return PoseMetric(has_target=context.target is not None)


class PoseMetric:
    """See `metrics.Metric`. Scores `pose-driver`, `pose-driver-yaw`, ... and `pose-target`, ...; degrees."""

    def __init__(self, has_target: bool) -> None:
        """Without a target the scores that need one are not measured."""
        self._has_target = has_target
        self._rows: dict[str, list[Floats]] = {"driver": [], "target": []}

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        self._rows["driver"].append(_difference(sample.output, sample.driver))
        self._rows["target"].append(_difference(sample.output, sample.target))

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        return [score for other in self._rows for score in self._against(other)]

    def _against(self, other: str) -> list[Score]:
        rows = np.array(self._rows[other], np.float32).reshape(-1, 3)
        columns = {"": rows.mean(1), **{f"-{angle}": rows[:, i] for i, angle in enumerate(ANGLES)}}
        names = [(f"pose-{other}{end}", values) for end, values in columns.items()]
        if other == "target" and not self._has_target:
            return [unmeasured(name, "degrees", "lower", NO_TARGET) for name, _ in names]
        return [by_frame(name, "degrees", "lower", values, _NOTES[other], NO_FACE) for name, values in names]


def _difference(a: View, b: View | None) -> Floats:
    """|Δ| of yaw, pitch and roll, float32 [3], the short way round; NaN where a pose is missing."""
    poses = [view.face.pose if view and view.face else None for view in (a, b)]
    if poses[0] is None or poses[1] is None:
        return np.full(3, np.nan, np.float32)
    difference: Floats = np.abs((poses[0] - poses[1] + 180) % 360 - 180)
    return difference
