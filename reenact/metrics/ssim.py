"""Structural similarity of output and truth, in the whole frame and inside the face.

Formula: SSIM = (2 mx my + C1)(2 vxy + C2) / ((mx² + my² + C1)(vx + vy + C2)), with means m, variances v and the
covariance vxy of each RGB channel in Gaussian windows of 11x11 pixels with sigma 1.5, C1 = (0.01·255)², C2 =
(0.03·255)²; the channels' mean, then the mean over the windows that lie whole in the frame, or of those the ones whose
centre is inside the face: the convex hull of the truth's 68 landmarks. Unit: none, -1 to 1. Resolution: the output's
own. No network but the landmarks'.
Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004); equals
scikit-image's `structural_similarity` with gaussian_weights, sigma 1.5 and use_sample_covariance=False.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Rgb, Score
from . import Context, Sample
from ._face import NO_TRUE_FACE, inside_face
from ._series import NO_TRUTH, by_frame

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_WHOLE = np.s_[WINDOW // 2 : -(WINDOW // 2), WINDOW // 2 : -(WINDOW // 2)]  # centres of windows that lie in the frame


def create(context: Context) -> Ssim | str:
    """The metric; it needs a truth."""
    if not context.truth:
        return NO_TRUTH
    if min(context.output.width, context.output.height) < WINDOW:
        return f"{context.output.path}: SSIM needs frames of {WINDOW}x{WINDOW} pixels at least"
    return Ssim()


class Ssim:
    """See `metrics.Metric`. Scores `ssim` and `ssim-face`."""

    def __init__(self) -> None:
        self._whole: list[float] = []
        self._face: list[float] = []

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        assert sample.truth
        here = ssim_map(sample.output.rgb, sample.truth.rgb)[_WHOLE]
        face = here[inside_face(sample.truth.rgb, sample.truth.face)[_WHOLE]]
        self._whole.append(float(here.mean()))
        self._face.append(float(face.mean()) if face.size else np.nan)

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        return [
            by_frame("ssim", "", "higher", self._whole, "", "no frame"),
            by_frame("ssim-face", "", "higher", self._face, "", NO_TRUE_FACE),
        ]


def ssim_map(a: Rgb, b: Rgb) -> NDArray[np.float64]:
    """SSIM [H,W] of the windows around each pixel of two uint8 [H,W,3] pictures, -1 to 1.

    Within 5 pixels of the edge the pictures are taken to be mirrored there.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    spread = _windowed(x * x + y * y) - mean_x**2 - mean_y**2
    common = _windowed(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + C1) * (2 * common + C2)
    found: NDArray[np.float64] = (alike / ((mean_x**2 + mean_y**2 + C1) * (spread + C2))).mean(2)
    return found


def _windowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gaussian window's weighted mean around each pixel."""
    blurred = cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float64)
