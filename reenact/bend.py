"""What a generator does not draw of an expression is bent: the composite's outline is brought to where it should be.

The generator draws what no bending can, the inside of a mouth, a shut lid, a glance; but a wink, a crooked mouth or one
brow are hardly in it, and what it draws falls short of what was asked for. The lines of the composite are measured and
moved the rest of the way by a thin-plate spline (Bookstein, "Principal Warps", 1989). Moving a target by the driver's
landmarks alone is Averbuch-Elor et al., "Bringing Portraits to Life" (2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from . import outline
from .align import cut_out
from .blend import box_of
from .expression import Probe
from .face_landmarker import FaceLandmarkerNets, canonical_axes
from .geometry import apply, inverse, scale_of
from .images import to_tensor
from .types import Affine, Floats, Frame, Rgb

Outline = NDArray[np.float64]
"""[K,2] in units of the target's crop."""


@dataclass(frozen=True)
class BendOptions:
    """How the composite is bent."""

    share: float = 1.0  # of what is missing; 0: nothing is bent
    stretch: float = 1.5  # how much taller an open mouth may become
    stiffness: float = 1e-4  # of the spline, which need not go through every point


class Bender:
    """Bends composites of one target."""

    def __init__(
        self,
        nets: FaceLandmarkerNets,
        target: Rgb,
        crop: Affine,
        driver: Floats,
        anchor: int,
        strength: Mapping[str, float],
        options: BendOptions | None = None,
    ) -> None:
        """Measure the target and see where the driver's motion brings it.

        Args:
            nets: measure outlines; on any device.
            target: uint8 [H,W,3].
            crop: the target's, unit square to pixels.
            driver: outlines [T,K,3], as of `FaceTrack.outline`, without gaps.
            anchor: the frame that motion starts from.
            strength: 1 is all of the driver's change, by region.
            options: how.
        """
        self.options, self._crop = options or BendOptions(), crop
        self._device = next(nets.buffers()).device
        self._size = 512 if scale_of(crop) > 256 else 256  # of the pictures that are measured
        with torch.inference_mode():
            self._probe = Probe(nets, self._seen(target))
            mesh = self._probe.mesh(self._seen(target))
        rest = mesh[0, list(outline.POINTS), :2].double().cpu().numpy()
        to_rest = canonical_axes(mesh)[0].double().cpu().numpy()
        self._goals = outline.goals(driver, anchor, rest, to_rest, strength)
        self._rows, self._columns = box_of(crop, target.shape[:2], 0)
        y, x = np.mgrid[self._rows, self._columns]
        self._pixels = np.stack([x, y], 2).astype(np.float32)  # [h,w,2]
        units = apply(inverse(crop), self._pixels.reshape(-1, 2)).reshape(self._pixels.shape)
        self._in_field = (units * _FIELD - 0.5).astype(np.float32)

    def _seen(self, rgb: Rgb) -> torch.Tensor:
        return to_tensor(cut_out(rgb, self._crop, self._size).rgb, self._device)

    @torch.inference_mode()
    def measured(self, rgb: Rgb) -> Outline:
        """The outline of a composite, uint8 [H,W,3]."""
        mesh = self._probe.mesh(self._seen(rgb))
        return np.asarray(mesh[0, list(outline.POINTS), :2].double().cpu().numpy())

    def missing(self, seen: Outline, index: int) -> Outline:
        """How far each point is from where frame `index` should have it."""
        goal = outline.possible(self._goals[index], seen, self.options.stretch)
        missing = self.options.share * (goal - seen)
        missing[outline.STILL :] = 0
        return missing

    def bent(self, frame: Frame, seen: Outline, missing: Outline) -> Frame:
        """The frame with each point of its outline moved; its matte covers all that changed."""
        assert frame.matte is not None  # composites have one
        field, inside = _field(seen, missing, self.options.stiffness)
        field, inside = (_looked_up(each, self._in_field, cv2.INTER_LINEAR) for each in (field, inside))
        source = self._pixels + field @ self._crop[:, :2].T.astype(np.float32)
        box = (self._rows, self._columns)
        origin = np.array([self._columns.start, self._rows.start], np.float32)
        moved = _looked_up(frame.rgb[box], source - origin, cv2.INTER_CUBIC)
        matte = np.rint(inside * 255).astype(np.uint8)
        rgb, full = frame.rgb.copy(), frame.matte.copy()
        rgb[box] = np.where(matte[:, :, None] > 0, moved, rgb[box])
        full[box] = np.maximum(full[box], matte)
        return replace(frame, rgb=rgb, matte=full)


def _looked_up(image: NDArray[Any], places: Floats, how: int) -> NDArray[Any]:
    """An image [h,w] or [h,w,C] at places [H,W,2] (x,y), its edge repeated."""
    x, y = (np.ascontiguousarray(places[:, :, i]) for i in (0, 1))
    return np.asarray(cv2.remap(image, x, y, how, borderMode=cv2.BORDER_REPLICATE))


_FIELD = 160  # cells along the grid that the spline is worked out on, and that covers the crop
_EDGE = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_FRAME = 0.5 + np.stack([0.42 * np.cos(_EDGE), 0.46 * np.sin(_EDGE)], 1)
"""Points round the face that stay where they are."""


def _field(seen: Outline, missing: Outline, stiffness: float) -> tuple[Floats, Floats]:
    """Where each cell's picture comes from, [F,F,2] in units of the crop, and how much inside it is, [F,F] in 0..1."""
    goal = seen + missing
    inside = _inside(seen, goal)
    axis = (np.arange(_FIELD) + 0.5) / _FIELD
    cells = np.stack(np.meshgrid(axis, axis), 2)
    spline = RBFInterpolator(
        np.vstack([goal, _FRAME]), np.vstack([-missing, np.zeros_like(_FRAME)]), smoothing=stiffness
    )  # fmt: skip
    field = np.zeros((_FIELD, _FIELD, 2), np.float32)
    field[inside > 0] = spline(cells[inside > 0]) * inside[inside > 0, None]
    return field, inside


def _inside(*outlines: Outline) -> Floats:
    """[F,F]: 1 where any of the outlines is, less and less round them, 0 beyond and at the crop's edge."""
    inside = np.zeros((_FIELD, _FIELD), np.float32)
    hull = cv2.convexHull(np.vstack(outlines).astype(np.float32))
    cv2.fillConvexPoly(inside, np.rint(hull * _FIELD - 0.5).astype(np.int32), 1.0)
    inside = np.asarray(cv2.GaussianBlur(cv2.dilate(inside, np.ones((9, 9))), (0, 0), 4), np.float32)
    from_edge = np.minimum(np.arange(_FIELD), np.arange(_FIELD)[::-1]) / 10  # the crop may end within the picture
    taper = np.minimum(from_edge, 1).astype(np.float32)
    inside *= taper[:, None] * taper
    inside[inside < 1 / 255] = 0
    return inside
