"""Output against truth, pixel by pixel: L1, L2 and PSNR, in the whole frame and inside the face.

Formulas, with Δ the differences of RGB values 0..255 over the pixels and the three channels: L1 = mean |Δ|;
L2 = sqrt(mean Δ²), the norm and not the squared error, so that both have the unit of a pixel's value (0-255);
PSNR = 20 log10(255 / L2) in dB, at most 100, which identical frames get. A clip's score is the mean over its frames.
Resolution: the output's own. Face: the convex hull of the truth's 68 landmarks. No network but the landmarks'.
Source: textbook definitions; PSNR equals scikit-image's `peak_signal_noise_ratio`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..types import Score
from . import Context, Sample
from ._face import NO_TRUE_FACE, inside_face
from ._series import NO_TRUTH, by_frame

MOST = 100.0
"""dB of PSNR; what is above differs by less than a rounding error."""


def create(context: Context) -> Pixels | str:
    """The metric; it needs a truth."""
    return Pixels() if context.truth else NO_TRUTH


class Pixels:
    """See `metrics.Metric`. Scores `l1`, `l2`, `psnr`, and `l1-face`, `l2-face`, `psnr-face`."""

    def __init__(self) -> None:
        self._whole: list[tuple[float, float]] = []  # L1 and L2 of each frame
        self._face: list[tuple[float, float]] = []

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        assert sample.truth
        change = sample.output.rgb.astype(np.float32) - sample.truth.rgb
        self._whole.append(_norms(change))
        self._face.append(_norms(change[inside_face(sample.truth.rgb, sample.truth.face)]))

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        return [*_scores("", self._whole, "no frame"), *_scores("-face", self._face, NO_TRUE_FACE)]


def _norms(change: NDArray[np.float32]) -> tuple[float, float]:
    """L1 and L2 of differences of any shape; NaN where there are none."""
    if not change.size:
        return np.nan, np.nan
    return float(np.abs(change).mean(dtype=np.float64)), float(np.sqrt(np.square(change).mean(dtype=np.float64)))


def _scores(end: str, norms: Sequence[tuple[float, float]], why: str) -> list[Score]:
    l1, l2 = np.array(norms, np.float64).reshape(-1, 2).T
    psnr = 20 * np.log10(255 / np.maximum(l2, 255 / 10 ** (MOST / 20)))
    return [
        by_frame(f"l1{end}", "0-255", "lower", l1, "mean |Δ|", why),
        by_frame(f"l2{end}", "0-255", "lower", l2, "root of the mean Δ²", why),
        by_frame(f"psnr{end}", "dB", "higher", psnr, f"at most {MOST:g}", why),
    ]
