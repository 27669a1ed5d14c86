"""The lines of a face: brows, lids, lips, cheeks and jaw, and where a driver's motion brings them on a target.

They are points of the Face Landmarker's mesh, turned by the rigid fit of its canonical face to look into the camera, so
that what is left of a driver's motion is its expression, and scaled to that face's centimetres, so that it fits a face
of any size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .types import Floats

# Numbers of the mesh's points; left and right as in the image.
# fmt: off
_LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
_CHEEKS_AND_JAW = (
    50, 280, 205, 425, 36, 266, 187, 411, 207, 427, 64, 294, 98, 327,
    132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361,
)
_BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
_CORNERS_OF_EYES = (33, 133, 362, 263)
_LIDS_UPPER = (246, 161, 160, 159, 158, 157, 173, 398, 384, 385, 386, 387, 388, 466)
_LIDS_LOWER = (7, 163, 144, 145, 153, 154, 155, 382, 381, 380, 374, 373, 390, 249)
_REST = (10, 67, 297, 109, 338, 54, 284, 127, 356, 234, 454, 6, 197, 195, 5, 162, 389)  # forehead, temples, nose
# fmt: on

PARTS: dict[str, tuple[int, ...]] = {
    "mouth": (*_LIPS_OUTER, *_LIPS_INNER, *_CHEEKS_AND_JAW),
    "eyes": (*_CORNERS_OF_EYES, *_LIDS_UPPER, *_LIDS_LOWER),
    "brows": _BROWS,
}
"""Regions, as of `--regions`, and the points of the mesh that are theirs."""
POINTS: tuple[int, ...] = (*(i for part in PARTS.values() for i in part), *_REST)
"""Which of the mesh's 478 points an outline has, in its order; the last ones do not move with any expression."""
STILL = len(POINTS) - len(_REST)
"""Where in an outline those begin that do not move."""


def _places(points: tuple[int, ...]) -> list[int]:
    """Where in an outline those points of the mesh stand."""
    return [POINTS.index(i) for i in points]


_UPPER_LIDS, _LOWER_LIDS = (np.array(_places(p)).reshape(2, 7) for p in (_LIDS_UPPER, _LIDS_LOWER))  # by eye
# From the corner on the left to the one on the right, without both.
_LOWER_LIP, _UNDER_LIP = _places(_LIPS_INNER[1:10]), _places(_LIPS_OUTER[1:10])
_UPPER_LIP, _OVER_LIP = _places(_LIPS_INNER[:10:-1]), _places(_LIPS_OUTER[:10:-1])
WIDEST = 1.5
"""How much wider than in the anchor frame an eye may open: lids are short, and their errors are not."""
LIPS = (0.5, 1.25)
"""How high lips may become by bending, of the height that they are drawn with: at least, at most."""


def goals(
    driver: Floats, anchor: int, rest: NDArray[np.floating], to_rest: NDArray[np.float64], strength: Mapping[str, float]
) -> NDArray[np.float64]:
    """Where the target's outline should be: its own and the driver's change since its anchor frame.

    Lids open by the driver's share of what they did, so that they shut when the driver's do, however wide the eye.

    Args:
        driver: outlines [T,K,3], as of `FaceTrack.outline`.
        anchor: the frame that motion starts from.
        rest: the target's outline [K,2], in any units.
        to_rest: [2,3], what a change in centimetres of a face that looks into the camera is in those units.
        strength: 1 is all of the change, by region.

    Returns:
        [T,K,2] in the units of `rest`.
    """
    share = np.zeros((len(POINTS), 1))
    for part, points in PARTS.items():
        share[_places(points)] = strength[part]
    moved: NDArray[np.float64] = rest + share * ((driver - driver[anchor]) @ to_rest.T)
    for upper, lower in zip(_UPPER_LIDS, _LOWER_LIDS, strict=True):
        opening = (driver[:, upper, 1] - driver[:, lower, 1]).mean(1)  # [T]; y is up
        change = opening.clip(0) / max(float(opening[anchor]), 1e-3) - 1
        open_by = (1 + strength["eyes"] * change).clip(0, WIDEST)
        moved[:, upper] = moved[:, lower] + open_by[:, None, None] * (rest[upper] - rest[lower])
    return moved


def possible(goal: NDArray[np.floating], seen: NDArray[np.floating], stretch: float) -> NDArray[np.float64]:
    """The goal [K,2] nearest in kind that the mouth seen [K,2] can be bent to; y grows downwards.

    What lies between lips can be stretched, to at most `stretch` times its height, not made; lips that are asked to
    cross, as when the driver presses its own more than in the anchor frame, only meet. Lips themselves are soft, but
    show it when they are pulled: they stay within `LIPS` of the height that they are drawn with.
    """
    shut = 0.01 * float(np.hypot(*(seen[_EYES[0]] - seen[_EYES[1]])))  # lips that touch are not at the same place
    y = goal[:, 1].astype(np.float64)
    most = stretch * (seen[_LOWER_LIP, 1] - seen[_UPPER_LIP, 1]).clip(0) + shut
    excess = (y[_LOWER_LIP] - y[_UPPER_LIP] - most).clip(0)
    y[_LOWER_LIP] -= excess
    y[_UNDER_LIP] -= excess
    crossing = (y[_UPPER_LIP] - y[_LOWER_LIP]).clip(0)
    y[_LOWER_LIP] += crossing / 2
    y[_UPPER_LIP] -= crossing / 2
    for inner, outer in ((_LOWER_LIP, _UNDER_LIP), (_UPPER_LIP, _OVER_LIP)):
        ends = y[inner] + np.outer(LIPS, seen[outer, 1] - seen[inner, 1])  # [2,N]
        y[outer] = y[outer].clip(ends.min(0), ends.max(0))
    return np.stack([goal[:, 0], y], 1)


_EYES = _places((33, 263))
