"""A face's picture bent by its mesh: triangles over the Face Landmarker's points, each moved as its corners are.

Moving a photo by a driver's landmarks is Averbuch-Elor et al., "Bringing Portraits to Life" (2017). Triangles, because
they bend nothing beyond their neighbours, and because those between lids or lips that meet simply vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .motion import HOLES, SKIN
from .types import Floats

Points = NDArray[np.float64]
_Real = TypeVar("_Real", bound=np.floating[Any])

MARGIN = 0.25
"""How far beyond the crop motion may reach, of its side: chins drop out of it."""
Part = tuple[slice, slice]
"""Rows and columns."""
WHOLE: Part = slice(None), slice(None)
REACH, REACH_OF_HEADS = 1.5, 1.8
"""How far from the face's middle nothing moves any more, in the face's own extent; and where heads turn."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A mesh in one place, and which of its triangles is seen at each cell."""

    mesh: Mesh
    goal: Points  # [478,2]
    triangles: NDArray[np.int32]  # [n,3], those that are seen
    inverse: NDArray[np.float64]  # [n,3,3], of their corners as rows x, y, 1
    labels: NDArray[np.intp]  # [cells,cells], rows of `triangles`; n where none is

    def field(self, source: Points, part: Part = WHOLE) -> Floats:
        """Where what is seen at each cell comes from, less the cell's own place: [cells,cells,2] in units of the crop.

        Args:
            source: where the face's points [478,2] come from.
            part: the rows and columns of cells that are wanted; [h,w,2] is returned.
        """
        back = self.mesh._with_ring(source - self.goal)
        back[SKIN:] = 0
        motion = np.concatenate([self.inverse @ back[self.triangles], np.zeros((1, 3, 2))])  # [n+1,3,2]
        by_x, by_y, still = np.ascontiguousarray(motion.transpose(1, 2, 0), np.float32)  # [2,n+1] each
        axis, labels = middles(len(self.labels)), self.labels[part]
        x, y = axis[part[1]], axis[part[0], None]
        out = np.empty((*labels.shape, 2), np.float32)
        for i in (0, 1):
            out[:, :, i] = x * by_x[i].take(labels) + y * by_y[i].take(labels) + still[i].take(labels)
        return out


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles over a face at rest, and round it to a ring that does not move."""

    triangles: NDArray[np.int32]  # [N,3], of the skin's points and then the ring's; those beyond the face come first
    ring: Points  # [R,2] in units of the crop
    beyond: int  # how many of the triangles are outside the face

    def at(self, goal: Points, cells: int) -> Placed:
        """The mesh with the face's points at `goal` [478,2], in units of the crop.

        `cells`: along a side of what is looked at, the crop and `MARGIN` round it.
        """
        corners = self._with_ring(goal)[self.triangles]  # [N,3,2]
        area = doubled_area(corners)
        # What the face or its motion turns away is not seen; where others overlap, the larger lies above.
        shown = np.flatnonzero(area > _THIN)
        shown = shown[np.lexsort((area[shown], shown >= self.beyond))]
        labels = np.full((cells, cells), len(shown), np.int32)
        pixels = np.rint(in_cells(corners[shown], cells) * 16).astype(np.int32)
        for label, triangle in enumerate(pixels):
            cv2.fillConvexPoly(labels, triangle, label, shift=4)
        ones = np.ones((len(shown), 3, 1))
        inverse = np.linalg.inv(np.concatenate([corners[shown], ones], 2))  # [n,3,3]
        return Placed(self, goal, self.triangles[shown], inverse, labels.astype(np.intp))

    def field(self, goal: Points, source: Points, cells: int) -> Floats:
        """`Placed.field`, of one use only."""
        return self.at(goal, cells).field(source)

    def _with_ring(self, points: Points) -> Points:
        return np.vstack([points[:SKIN], self.ring])

    def unfolded(self, goal: Points, rest: Points) -> Points:
        """The goal [478,2], but that skin which it would fold over moves as one piece.

        Faces differ: a lip that one driver turns out would cover the whole chin of another.
        """
        skin = self.triangles[self.beyond :]
        skin = skin[~np.isin(skin, HOLES).all(1)]  # lids and lips may meet
        skin = skin[doubled_area(rest[skin]) > _THIN]
        moved = goal - rest
        for _ in range(_ROUNDS):
            folded = skin[doubled_area((rest + moved)[skin]) < _THIN]
            if not len(folded):
                break
            sums, counts = np.zeros_like(moved), np.zeros(len(moved))
            for corner in folded.T:
                np.add.at(sums, corner, moved[folded].mean(1))
                np.add.at(counts, corner, 1)
            counts[HOLES] = 0  # lids shut as they are asked to
            here = counts > 0
            moved[here] = sums[here] / counts[here, None]
        return rest + moved


_ROUNDS = 10  # each takes the pieces that move as one a little further
_THIN = 1e-7  # twice the area, of the crop's, of a triangle that need not be drawn


def over(rest: Points, triangles: NDArray[np.int32], reach: float = REACH) -> Mesh:
    """The mesh of a face at rest.

    Args:
        rest: its points [478,2] in units of its crop, y down.
        triangles: [N,3], as of `face_landmarker.read_triangles`.
        reach: see `REACH`.
    """
    rim = _rim(triangles)
    middle = (rest[rim].min(0) + rest[rim].max(0)) / 2
    ring = (middle + reach * (rest[rim] - middle)).clip(-MARGIN, 1 + MARGIN)
    # Between the rim and the ring, which has as many points.
    inner, outer = np.array(rim), SKIN + np.arange(len(rim))
    next_inner, next_outer = np.roll(inner, -1), np.roll(outer, -1)
    band = np.vstack([np.stack([inner, next_inner, outer], 1), np.stack([next_inner, next_outer, outer], 1)])
    return Mesh(np.vstack([band, triangles[:, ::-1]]).astype(np.int32), ring, len(band))


def _rim(triangles: NDArray[np.int32]) -> list[int]:
    """The points along the outer edge of a surface without holes, in order, clockwise where triangles are not."""
    edges = {(int(t[i]), int(t[(i + 1) % 3])) for t in triangles for i in range(3)}
    follows = {a: b for a, b in edges if (b, a) not in edges}
    rim = [min(follows)]
    while (point := follows[rim[-1]]) != rim[0]:
        rim.append(point)
    return rim


def doubled_area(corners: Points) -> NDArray[np.float64]:
    """Twice the signed areas [N] of triangles [N,3,2]; above 0 where they run clockwise on a screen."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def in_cells(places: NDArray[_Real], cells: int) -> NDArray[_Real]:
    """Places [...,2] in units of the crop as places among the cells, whose middles are whole numbers."""
    return cast("NDArray[_Real]", (places + MARGIN) * (cells / (1 + 2 * MARGIN)) - 0.5)


def middles(cells: int) -> Floats:
    """The middles of the cells along a side [cells], in units of the crop."""
    return ((np.arange(cells) + 0.5) / cells * (1 + 2 * MARGIN) - MARGIN).astype(np.float32)


def grid(cells: int) -> Floats:
    """The middles of the cells [cells,cells,2] in units of the crop."""
    axis = middles(cells)
    return np.stack(np.meshgrid(axis, axis), 2)


def part_near(ring: Points, reach: float, shape: tuple[int, ...]) -> Part:
    """The rows and columns of a picture of this shape that are so near to a ring [N,2] of its pixels."""
    low, high = np.floor(ring.min(0) - reach).astype(int), np.ceil(ring.max(0) + reach).astype(int) + 1
    (left, top), (right, bottom) = (x.clip(0, [shape[1], shape[0]]) for x in (low, high))
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def blurred(image: Floats, sigma: float) -> Floats:
    """An image [h,w] or [h,w,C] blurred by a Gaussian of `sigma` pixels, its edge repeated."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.3, sigma), borderType=cv2.BORDER_REPLICATE), np.float32)


def polygon(points: Points, cells: int) -> Floats:
    """float32 [cells,cells]: 1 inside a polygon [N,2] in units of the crop."""
    # OpenCV draws a polygon's edge as well as what is inside: as fine as can be, for lids that touch enclose nothing.
    side = cells * _FINER
    mask = np.zeros((side, side), np.uint8)
    corners = in_cells(points, side)
    low = np.floor(corners.min(0) / _FINER).astype(int).clip(0, cells - 1)
    high = np.ceil(corners.max(0) / _FINER + 1).astype(int).clip(low + 1, cells)
    cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 255, shift=4)
    part = mask[low[1] * _FINER : high[1] * _FINER, low[0] * _FINER : high[0] * _FINER]
    out = np.zeros((cells, cells), np.float32)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    out[low[1] : high[1], low[0] : high[0]] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return np.asarray(out / 255, np.float32)


_FINER = 4
