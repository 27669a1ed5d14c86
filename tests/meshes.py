"""A face of 478 points and triangles over it, without the networks: recorded, and triangulated on the spot."""

from pathlib import Path

import numpy as np
from scipy.spatial import Delaunay

from reenact.align import ffhq_crop
from reenact.face_landmarker import to_68
from reenact.geometry import apply, inverse
from reenact.motion import INNER_LIPS, LOWER_LIP, SKIN, UPPER_LIP

with np.load(Path(__file__).parent / "data" / "face_mediapipe.npz") as _recorded:
    _PIXELS = _recorded["points"][:, :2].astype(np.float64)

REST = apply(inverse(ffhq_crop(to_68(_PIXELS.astype(np.float32)))), _PIXELS)
"""[478,2] in units of its crop; the lips touch, nearly, and the eyes are open."""
TRIANGLES = Delaunay(REST[:SKIN]).simplices[:, ::-1].astype(np.int32)
"""Counter-clockwise with y up, as the real ones are."""


def place(side: int, left: float = 0.0, top: float = 0.0) -> np.ndarray:
    """[2,3]: the crop that is `side` pixels large and begins there."""
    return np.array([[side, 0, left - 0.5], [0, side, top - 0.5]], np.float64)


def near(points: np.ndarray, index: int, reach: float) -> np.ndarray:
    """The numbers of the skin's points within `reach` of one of them."""
    return np.flatnonzero(np.linalg.norm(points[:SKIN] - points[index], axis=1) < reach)


def opened(points: np.ndarray, by: float) -> np.ndarray:
    """The face with its jaw dropped: all that is below the line of the lips, less and less beside the mouth."""
    line = (points[UPPER_LIP] + points[LOWER_LIP]) / 2
    x, y = points[:SKIN].T
    below = y > np.interp(x, *line.T)
    below[LOWER_LIP], below[list(INNER_LIPS)[::10]], below[UPPER_LIP] = True, False, False
    share = below * np.clip(1.2 - (np.abs(x - line[:, 0].mean()) / 0.12) ** 2, 0, 1)
    moved = points.copy()
    moved[:SKIN, 1] += by * share
    return moved


def shut(points: np.ndarray, lids: tuple[list[int], list[int]]) -> np.ndarray:
    """The face with one eye's upper lid on the lower."""
    upper, lower = lids
    moved = points.copy()
    moved[upper] = points[lower]
    return moved
