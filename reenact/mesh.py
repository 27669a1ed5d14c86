"""A face's picture bent by its mesh: triangles over the Face Landmarker's points, each moved as its corners are.

Moving a photo by a driver's landmarks is Averbuch-Elor et al., "Bringing Portraits to Life" (2017). Triangles, because
they bend nothing beyond their neighbours, and because those between lids or lips that meet simply vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from .motion import INNER_LIPS, LIDS, LOWER_LIP, SKIN, UPPER_LIP
from .types import Floats

Points = NDArray[np.float64]

_RING = 40
_REACH = 1.3
"""How far from the face's middle, in its own extents, nothing moves any more."""
_PARTED = 0.02
"""How far apart lips and lids are taken to be for choosing the triangles, in units of the crop."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles over a face at rest, and a ring round it that does not move."""

    triangles: NDArray[np.int32]  # [N,3], of the skin's points and then the ring's
    ring: Points  # [R,2] in units of the crop

    def field(self, goal: Points, source: Points, cells: int) -> Floats:
        """Where what is seen at each cell comes from, less the cell's own place: [cells,cells,2], of the crop.

        Args:
            goal: where the face's points [478,2] are, in units of the crop.
            source: where they come from.
            cells: along the crop's side.
        """
        corners = np.vstack([goal[: SKIN], self.ring])[self.triangles]  # [N,3,2]
        back = np.vstack([(source - goal)[: SKIN], np.zeros_like(self.ring)])[self.triangles]
        area = _area(corners)
        # Triangles that the motion turns over are left out; where others overlap, the larger lies above.
        shown = np.flatnonzero(area > _THIN)
        shown = shown[np.argsort(area[shown])]
        labels = np.full((cells, cells), len(shown), np.int32)
        pixels = np.rint((corners[shown] * cells - 0.5) * 16).astype(np.int32)
        for label, triangle in enumerate(pixels):
            cv2.fillConvexPoly(labels, triangle, label, shift=4)
        ones = np.ones((len(shown), 3, 1))
        motion = np.linalg.solve(np.concatenate([corners[shown], ones], 2), back[shown])  # [n,3,2]
        motion = np.concatenate([motion, np.zeros((1, 3, 2))]).astype(np.float32)[labels]  # [F,F,3,2]
        axis = ((np.arange(cells) + 0.5) / cells).astype(np.float32)
        x, y = axis[None, :, None], axis[:, None, None]
        return np.asarray(x * motion[:, :, 0] + y * motion[:, :, 1] + motion[:, :, 2], np.float32)


_THIN = 1e-7  # twice the area of a triangle that need not be drawn


def over(rest: Points) -> Mesh:
    """The mesh of a face at rest, points [478,2] in units of its crop."""
    parted = rest[:SKIN].copy()
    for upper, lower in ((UPPER_LIP, LOWER_LIP), *LIDS):
        gap = (_PARTED - (parted[lower, 1] - parted[upper, 1])).clip(0) / 2
        parted[upper, 1] -= gap
        parted[lower, 1] += gap
    middle = (rest[:SKIN].min(0) + rest[:SKIN].max(0)) / 2
    half = np.ptp(rest[:SKIN], axis=0) / 2
    angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
    # The jaw drops: below there is more room.
    reach = half * _REACH
    ring = middle + np.stack([np.cos(angle) * reach[0], np.sin(angle) * reach[1] * np.where(np.sin(angle) > 0, 1.15, 1)], 1)
    corners = np.vstack([parted, ring])
    triangles = np.array(Delaunay(corners).simplices, np.int32)
    turned = _area(corners[triangles]) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    return Mesh(triangles, ring)


def _area(corners: Points) -> NDArray[np.float64]:
    """Twice the signed areas [N] of triangles [N,3,2]."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def polygon(points: Points, cells: int) -> Floats:
    """float32 [cells,cells]: 1 inside a polygon [N,2] in units of the crop."""
    mask = np.zeros((cells, cells), np.uint8)
    cv2.fillPoly(mask, [np.rint((points * cells - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255
