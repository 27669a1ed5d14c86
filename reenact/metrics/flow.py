"""Optical flow: tOF, whether the output moves as the truth does, and the warping error, whether it flickers.

Formulas: tOF(t) = the mean over pixels of ‖flow(truth t-1, t) - flow(output t-1, t)‖, in px of a frame whose longer
side is 256. Warping error(t) = the mean over pixels and RGB channels 0..1 of (output t - output t-1 brought to t by
the flow of the output itself)², so it needs no truth, where nothing was occluded: not where the flow leads out of the
frame, nor where there and back differ, ‖f + b‖² > 0.01 (‖f‖² + ‖b‖²) + 0.5. It has no unit; a still picture scores 0.
Flow: Farnebäck's on grey, as OpenCV has it (pyramid 0.5 with 3 levels, window 15, 3 iterations, 5 pixels, sigma 1.2).
Resolution: the longer side brought to 256 px. No network. The first frame of a scene has neither.
Sources: tOF: Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based Video Generation" (2020);
warping error: Lai et al., "Learning Blind Video Temporal Consistency" (2018); the test of occlusion: Ruder et al.,
"Artistic Style Transfer for Videos" (2016); Farnebäck, "Two-Frame Motion Estimation Based on Polynomial Expansion"
(2003).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Floats, Rgb, Score
from . import Context, Sample
from ._series import NO_TRUTH, by_frame, unmeasured

SIDE = 256
_FIRST = "the first of a scene follows none"


def create(context: Context) -> Flow:
    """The metric; without a truth tOF is not measured."""
    truth_cuts = context.truth.track.cuts if context.truth else ()
    return Flow(context.truth is not None, {*context.output.track.cuts, *truth_cuts})


class Flow:
    """See `metrics.Metric`. Scores `tof` and `warping-error`. Keeps one small frame of output and truth."""

    def __init__(self, has_truth: bool, cuts: set[int]) -> None:
        """`cuts` are the frames that have none before them to be compared with."""
        self._has_truth, self._cuts = has_truth, cuts
        self._before: tuple[Rgb, Rgb | None] | None = None
        self._tof: list[float] = []
        self._error: list[float] = []

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        now = _small(sample.output.rgb), _small(sample.truth.rgb) if sample.truth else None
        before = None if sample.index in self._cuts else self._before
        tof, error = _measured(before, now) if before else (np.nan, np.nan)
        self._tof.append(tof)
        self._error.append(error)
        self._before = now

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        note = f"Farnebäck, longer side of {SIDE} px"
        tof = by_frame("tof", "px", "lower", self._tof, note, _FIRST)
        return [
            tof if self._has_truth else unmeasured("tof", "px", "lower", NO_TRUTH),
            by_frame("warping-error", "", "lower", self._error, note, f"{_FIRST}, or all is occluded"),
        ]


def _measured(before: tuple[Rgb, Rgb | None], now: tuple[Rgb, Rgb | None]) -> tuple[float, float]:
    """tOF (NaN without truth) and warping error of two frames, each (output, truth)."""
    forward = flow(before[0], now[0])
    tof = np.nan
    if before[1] is not None and now[1] is not None:
        tof = float(np.linalg.norm(flow(before[1], now[1]) - forward, axis=2).mean())
    return tof, warping_error(before[0], now[0], forward)


def flow(a: Rgb, b: Rgb) -> Floats:
    """Where each pixel of `a` has gone in `b`: float32 [H,W,2], x,y in pixels."""
    before, after = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (a, b))
    found = np.zeros((*a.shape[:2], 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(before, after, found, 0.5, 3, 15, 3, 5, 1.2, 0), np.float32)


def warping_error(before: Rgb, now: Rgb, forward: Floats) -> float:
    """Mean squared error of `before` brought to `now`, RGB 0..1; NaN if all of it is occluded.

    Args:
        forward: `flow(before, now)`.
    """
    back = flow(now, before)
    y, x = np.indices(back.shape[:2], np.float32)
    from_x, from_y = x + back[:, :, 0], y + back[:, :, 1]
    warped, there = (cv2.remap(values, from_x, from_y, cv2.INTER_LINEAR) for values in (before, forward))
    in_frame = (from_x >= 0) & (from_y >= 0) & (from_x <= x.max()) & (from_y <= y.max())
    seen = in_frame & ~_occluded(np.asarray(there, np.float32), back)
    change = (now.astype(np.float32) - np.asarray(warped, np.float32))[seen] / 255
    return float(np.square(change).mean(dtype=np.float64)) if change.size else np.nan


def _occluded(there: Floats, back: Floats) -> NDArray[np.bool_]:
    """Where the way there and the way back [H,W,2] don't cancel out: [H,W]."""
    lengths = np.square(there).sum(2) + np.square(back).sum(2)
    hidden: NDArray[np.bool_] = np.square(there + back).sum(2) > 0.01 * lengths + 0.5
    return hidden


def _small(rgb: Rgb) -> Rgb:
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
