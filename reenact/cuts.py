"""Where a clip's scenes begin."""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np

from .types import Floats, Rgb


class CutFinder:
    """Says of each frame whether a new scene begins with it, from the frames so far (so it works live).

    Two frames differ by 1 - correlation of small grey thumbnails, at the best of all shifts up to a fifth of the
    width, plus the Hellinger distance of their histograms of chromaticity. So neither quick movement nor a change
    of light counts for much: in clips of faces frames in succession differ by 0.1 at most, in a fast head turn or
    a flash by 0.25, and across cuts by 0.3 (greyscale) or 0.7 (colour) and more.
    """

    LEAST = 0.3  # no cut below
    TIMES_USUAL = 4.0  # nor below so many times what has been usual lately, as in shaky or cluttered clips
    FEW, MEMORY = 5, 25  # frames that say what is usual: at least, at most

    def __init__(self) -> None:
        """A finder has seen nothing; use one per clip."""
        self._before: tuple[Floats, Floats] | None = None
        self._usual: deque[float] = deque(maxlen=self.MEMORY)

    def is_cut(self, rgb: Rgb) -> bool:
        """Whether a scene begins with this RGB uint8 [H,W,3] frame; the first frame is no cut."""
        before, self._before = self._before, (_thumbnail(rgb), _chromaticities(rgb))
        if before is None:
            return False
        change = _difference(before, self._before)
        usual = float(np.median(self._usual)) if len(self._usual) >= self.FEW else 0.0
        self._usual.append(change)
        return change > max(self.LEAST, self.TIMES_USUAL * usual)


_SIDE, _SHIFT = 32, 6  # of the thumbnail
_NOISE = 5.0  # grey levels: what nearly flat thumbnails show has no meaning


def _thumbnail(rgb: Rgb) -> Floats:
    """Blurred and grey, [32,32]."""
    small = cv2.cvtColor(cv2.resize(rgb, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0), np.float32)


def _chromaticities(rgb: Rgb) -> Floats:
    """Histogram [48,48], of sum 1, of the shares of red and green in the light; dark pixels count less."""
    small = cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32) + 10
    light = small.sum(1)
    shares = small[:, :2] / light[:, None]
    counts, _, _ = np.histogram2d(shares[:, 0], shares[:, 1], bins=48, range=[[0, 1], [0, 1]], weights=light)
    blurred = cv2.GaussianBlur(counts.astype(np.float32), (0, 0), 1.0)  # a slight change crosses bins
    return np.asarray(blurred / blurred.sum(), np.float32)


def _difference(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    """0: the same, about 1: nothing in common; see `CutFinder`."""
    # Both ways: a flat middle would fit anywhere.
    alike = min(_best_correlation(a[0], b[0]), _best_correlation(b[0], a[0]))
    return 1 - alike + math.sqrt(max(0.0, 1 - float(np.sqrt(a[1] * b[1]).sum())))


def _best_correlation(a: Floats, b: Floats) -> float:
    """Of the middle of thumbnail `a` with the places of `b` that are up to `_SHIFT` pixels off."""
    middle = a[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    places = np.lib.stride_tricks.sliding_window_view(b, middle.shape).reshape(-1, middle.size)
    patch, places = middle.ravel() - middle.mean(), places - places.mean(1, keepdims=True)
    noise = _NOISE**2 * patch.size
    energies = ((patch**2).sum() + noise) * ((places**2).sum(1) + noise)
    return float(((places @ patch + noise) / np.sqrt(energies)).max())
