"""Composite: the generated face over the untouched target.

The paper warps by landmarks, masks by a blurred convex hull and pastes. Pasting shows whatever the generator draws
differently from the photo: skin, light, a mole. Here the photo's own difference from its reconstruction (the
residual) is carried along: all of it where the face stays as it was, only its coarse part (colour and light) where
the face has moved, so that no line of a shut mouth is left across an open one. Where nothing moves the result is
the photo, so there is no seam to hide.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .align import STEADY
from .front import DRAWN, Mask, parted
from .geometry import apply, compose, fit_similarity, scale_of
from .types import Affine, Floats, Frame, Rgb

Plane = NDArray[np.float32]
STAY: Affine = np.eye(2, 3)


@dataclass(frozen=True)
class BlendOptions:
    """Lengths are shares of the crop's side."""

    feather: float = 0.03  # sigma of the mask's edge
    grow: float = 0.035  # how far the mask reaches beyond the landmarks
    coarse: float = 0.03  # sigma that parts the residual's colour and light from its detail
    moved: float = 0.03  # change of colour (of 1) at which the detail is down to 1/e
    carry: bool = True  # the residual; False: colour-matched paste, as in the paper


@dataclass(frozen=True, eq=False)
class Face:
    """A generated face and where its landmarks are."""

    picture: Floats  # [S,S,3], RGB in [0,1]
    points: Floats  # [68,2] in units of the picture


def settling(face: Face, base: Face) -> Affine:
    """The landmark transform: what brings a face's steady points onto those of `base`, in units of the picture."""
    steady = list(STEADY)
    return fit_similarity(face.points[steady], base.points[steady])


class Blender:
    """Puts generated faces into one target picture."""

    def __init__(
        self,
        target: Rgb,
        crop: Affine,
        base: Face,
        options: BlendOptions | None = None,
        front: Mask | None = None,
    ) -> None:
        """Prepare the target.

        Args:
            target: uint8 [H,W,3].
            crop: the target's crop, unit square to pixels.
            base: the reconstruction of the target, what the generated faces are compared with.
            options: shapes of the mask and of the residual.
            front: [H,W], where something is before the face and stays; None: nowhere.
        """
        self.options = options or BlendOptions()
        self.target, self.crop, self.base = target, crop, base
        self.side = scale_of(crop)  # of the crop, in pixels
        self.box = box_of(crop, target.shape[:2], self.side * 0.05)
        rows, columns = self.box
        self._to_box = crop - np.array([[0, 0, columns.start], [0, 0, rows.start]])
        self._photo = np.asarray(target[self.box].astype(np.float32) / 255, np.float32)
        self._base = self._placed(base.picture)
        self._face = self._photo
        self._cover: Floats | None = None
        if front is not None:
            self._face, self._cover = parted(self._photo, self.side, (front[self.box], DRAWN))
        residual = self._face - self._base
        self._coarse = _blurred(residual, self.side * self.options.coarse)
        self._fine = residual - self._coarse

    def blend(self, face: Face, index: int, pts: int, seconds: float, move: Affine = STAY) -> Frame:
        """The target with this face in it, moved by `move` (as from `settling`); its matte says where it differs."""
        matte = self.mask(face, move)
        picture = self._placed(face.picture, move)
        if self.options.carry:
            change = _blurred(np.abs(picture - self._base).mean(2, keepdims=True), self.side * 0.008)
            stays = np.exp(-((change / self.options.moved) ** 2))[:, :, None]
            new = picture + self._coarse + stays * self._fine
        else:
            new = picture + self._offset(picture, matte)
        alpha = (matte.astype(np.float32) / 255)[:, :, None]
        mixed = self._photo + alpha * (new - self._photo)
        rgb, full = self.target.copy(), np.zeros(self.target.shape[:2], np.uint8)
        inside = matte > 0
        rgb[self.box][inside] = np.rint(mixed.clip(0, 1) * 255).astype(np.uint8)[inside]
        full[self.box] = matte
        return Frame(rgb, index, pts, seconds, full)

    def warped(self, face: Face, move: Affine = STAY) -> Rgb:
        """The generated face where it belongs, on black: uint8 [H,W,3], for a look at the stages."""
        rgb = np.zeros_like(self.target)
        rgb[self.box] = np.rint(self._placed(face.picture, move).clip(0, 1) * 255).astype(np.uint8)
        return rgb

    def mask(self, face: Face, move: Affine = STAY) -> NDArray[np.uint8]:
        """uint8 mask over the box: both faces' hulls, grown and feathered, without what is in front of them.

        Both, so that an opening jaw is neither cut nor doubled.
        """
        mask = np.zeros(self._photo.shape[:2], np.uint8)
        for points in (self.base.points, apply(move, face.points)):
            hull = cv2.convexHull(with_forehead(apply(self._to_box, points)).astype(np.float32))
            cv2.fillConvexPoly(mask, np.rint(hull * 16).astype(np.int32), 255, shift=4)
        reach = max(1, round(self.side * self.options.grow))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        sigma = max(0.5, self.side * self.options.feather)
        soft = cv2.GaussianBlur(cv2.dilate(mask, disc), (0, 0), sigma)
        return np.asarray(soft if self._cover is None else np.rint(soft * (1 - self._cover)), np.uint8)

    def _placed(self, picture: Floats, move: Affine = STAY) -> Plane:
        """A generated picture moved and brought into the box."""
        size = len(picture)
        to_unit = np.array([[1 / size, 0, 0.5 / size], [0, 1 / size, 0.5 / size]])
        to_box = compose(self._to_box, compose(move, to_unit))
        # A face smaller than what was generated must not alias.
        if scale_of(to_box) < 0.7:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.5 / scale_of(to_box)), np.float32)
        height, width = (s.stop - s.start for s in self.box)
        placed = cv2.warpAffine(
            picture, to_box, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )  # fmt: skip
        return np.asarray(placed, np.float32)

    def _offset(self, picture: Plane, matte: NDArray[np.uint8]) -> Plane:
        """The smooth colour offset that makes the paste meet the photo along the mask's edge."""
        edge = ((matte > 0) & (matte < 250)).astype(np.float32)[:, :, None]
        sigma = self.side * 0.1
        weight = _blurred(edge, sigma)[:, :, None] + 1e-4
        return np.asarray(_blurred((self._face - picture) * edge, sigma) / weight, np.float32)


def _blurred(image: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.5, sigma), borderType=cv2.BORDER_REPLICATE), np.float32)


def with_forehead(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[68,2] -> [78,2]: the 68 points and the brows lifted, so that brows and their creases are inside the hull."""
    up = points[27] - points[33]
    return np.vstack([points, points[17:27] + 0.45 * up])


def box_of(crop: Affine, shape: tuple[int, int], margin: float) -> tuple[slice, slice]:
    """The rows and columns of a picture that a crop covers."""
    corners = apply(crop, np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))
    low = np.clip(np.floor(corners.min(0) - margin), 0, None).astype(int)
    high = np.ceil(corners.max(0) + margin).astype(int)
    return slice(int(low[1]), min(int(high[1]) + 1, shape[0])), slice(int(low[0]), min(int(high[0]) + 1, shape[1]))
