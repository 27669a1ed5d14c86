"""Landmark jitter: how much the face trembles, in the output and, for comparison, in the driver.

Formula: each frame's 68 points p(t) are brought by the similarity (turn, scale, shift; least squares) that fits them
to the clip's first face, whose eyes' centres are one apart; J(t) = sqrt(mean over points of ‖p(t-1) - 2 p(t) +
p(t+1)‖²), and the clip's score is the root of the mean J². So J is in eye distances, and neither a head that moves or
turns in the picture's plane nor a steady change counts. The ratio is output over driver on the frames that both have;
1 trembles as much as the driver, which moves too: less is smoother, much less is stiff. Network: Google's Face
Landmarker, at the clip's own resolution. A frame counts if it and both its neighbours show a face in one scene.
Source: this project's; the alignment: Umeyama (1991), see `geometry.fit_similarity`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..geometry import apply, fit_similarity
from ..smooth import segments
from ..types import Floats, Landmarks, Score
from . import Context, Sample
from ._series import unmeasured, with_missing

_WHY = "three frames in a row with a face are needed"


def create(context: Context) -> Jitter:
    """The metric; it needs nothing but the landmarks."""
    return Jitter(context.output.track.cuts, context.driver.track.cuts)


class Jitter:
    """See `metrics.Metric`. Scores `jitter`, `jitter-driver` and `jitter-ratio`."""

    def __init__(self, output_cuts: Sequence[int], driver_cuts: Sequence[int]) -> None:
        """Nothing is compared across the cuts."""
        self._cuts = output_cuts, driver_cuts
        self._points: tuple[list[Floats], list[Floats]] = [], []

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        for rows, view in zip(self._points, (sample.output, sample.driver), strict=True):
            rows.append(_points(view.face))

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        output, driver = (tremble(p, cuts) for p, cuts in zip(self._points, self._cuts, strict=True))
        both = np.isfinite(output) & np.isfinite(driver)
        return [
            _rms_score("jitter", output),
            _rms_score("jitter-driver", driver),
            _ratio(_rms(output[both]), _rms(driver[both])),
        ]


def _points(face: Landmarks | None) -> Floats:
    return face.points if face else np.full((68, 2), np.nan, np.float32)


def tremble(points: Sequence[Floats], cuts: Sequence[int] = ()) -> Floats:
    """J(t) of landmarks [T,68,2], NaN rows where there is no face: float32 [T], NaN where it can't be had."""
    aligned = _aligned(np.array(points, np.float64).reshape(-1, 68, 2))
    found = np.full(len(aligned), np.nan, np.float32)
    for part in segments(len(aligned), cuts):
        second = np.diff(aligned[part], 2, axis=0)  # [T-2,68,2]
        found[part][1:-1] = np.sqrt(np.square(second).sum(2).mean(1))
    return found


def _aligned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The faces [T,68,2] brought onto the first of them, in eye distances."""
    known = np.flatnonzero(np.isfinite(points).all((1, 2)))
    aligned = np.full_like(points, np.nan)
    if len(known):
        first = points[known[0]]
        first = first / np.linalg.norm(first[36:42].mean(0) - first[42:48].mean(0))
        for t in known:
            aligned[t] = apply(fit_similarity(points[t], first), points[t])
    return aligned


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean())) if len(values) else np.nan


def _rms_score(name: str, values: Floats) -> Score:
    known = np.isfinite(values)
    if not known.any():
        return unmeasured(name, "eye distances", "lower", _WHY)
    return Score(name, "eye distances", "lower", _rms(values[known]), values, with_missing("rms", known, _WHY))


def _ratio(output: float, driver: float) -> Score:
    if np.isnan(driver):
        return unmeasured("jitter-ratio", "", "one", _WHY)
    if driver == 0:
        return unmeasured("jitter-ratio", "", "one", "the driver does not move")
    return Score("jitter-ratio", "", "one", output / driver, None, "output over driver")
