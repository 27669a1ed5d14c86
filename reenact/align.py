"""The FFHQ crop, and how it stays still in a video.

The crop is the one that FFHQ's pictures were cut by (Karras et al., "A Style-Based Generator
Architecture for GANs", 2019; its dataset tool): upright by the eyes and the mouth, twice the distance
between the eyes or 1.8 times that from eyes to mouth. Applied frame by frame it would breathe with an
opening mouth, so a clip's crop is made once, on its median face, and then follows points that do not
move with the expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import Points, apply, compose, fit_similarity, scale_of
from .smooth import segments, zero_phase
from .types import Affine, Crop, Rgb

STEADY = (36, 39, 42, 45, 27, 28, 29, 30, 33)
"""The 68-point indices that expressions hardly move: the corners of the eyes, the ridge and root of the nose."""


@dataclass(frozen=True)
class AlignOptions:
    """How the crop follows the face. Sigmas are those of Gaussians over frames."""

    centre_sigma: float = 1.0
    axes_sigma: float = 3.0


def ffhq_crop(points: Points) -> Affine:
    """The crop of one face as a matrix from the unit square ([0,1] x [0,1], y down) to pixels.

    Args:
        points: [68,2] in pixels.
    """
    left_eye, right_eye = points[36:42].mean(0), points[42:48].mean(0)
    eyes, mouth = (left_eye + right_eye) / 2, (points[48] + points[54]) / 2
    across, down = right_eye - left_eye, mouth - eyes
    x = across - down[::-1] * [-1, 1]
    x = x / np.hypot(*x) * max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8)
    y = x[::-1] * [-1, 1]
    corner = eyes + 0.1 * down - x - y
    return np.stack([2 * x, 2 * y, corner], 1).astype(np.float64)


def steady_crops(
    points: NDArray[np.floating], cuts: Sequence[int], options: AlignOptions | None = None
) -> NDArray[np.float64]:
    """A crop for every frame of a clip that no expression moves or scales.

    Args:
        points: [T,68,2] in pixels, without gaps.
        cuts: first frames after scene cuts; the crop starts anew there.

    Returns:
        [T,2,3], unit square to pixels as in `ffhq_crop`.
    """
    options = options or AlignOptions()
    crops = np.empty((len(points), 2, 3))
    for part in segments(len(points), cuts):
        face = _median_face(points[part])
        crop = ffhq_crop(face)
        motion = np.stack([fit_similarity(face[list(STEADY)], p[list(STEADY)]) for p in points[part]])
        crops[part] = [compose(m, crop) for m in motion]
    return _smoothed(crops, cuts, options)


def _median_face(points: NDArray[np.floating], rounds: int = 3) -> NDArray[np.float64]:
    """The clip's median shape [68,2], each frame brought to a common place by its steady points."""
    reference: NDArray[np.float64] = points[len(points) // 2].astype(np.float64)
    for _ in range(rounds):
        moved = [apply(fit_similarity(p[list(STEADY)], reference[list(STEADY)]), p) for p in points]
        reference = np.median(moved, axis=0)
    return reference


def _smoothed(crops: NDArray[np.float64], cuts: Sequence[int], options: AlignOptions) -> NDArray[np.float64]:
    """Centres and axes filtered apart: the head's place moves faster than its size and tilt."""
    centres = crops[:, :, :2].sum(2) / 2 + crops[:, :, 2]
    centres = zero_phase(centres, options.centre_sigma, cuts)
    axes = zero_phase(crops[:, :, :2], options.axes_sigma, cuts)
    return np.concatenate([axes, (centres - axes.sum(2) / 2)[:, :, None]], 2)


def cut_out(rgb: Rgb, crop: Affine, size: int) -> Crop:
    """The crop at `size` pixels, mirrored past the picture's edge.

    Args:
        rgb: uint8 [H,W,3].
        crop: unit square to pixels, as from `ffhq_crop`.
    """
    # Pixel centres of the crop sit at (i + 0.5) / size of the unit square.
    to_frame = compose(crop, np.array([[1 / size, 0, 0.5 / size], [0, 1 / size, 0.5 / size]]))
    box, origin = _surroundings(rgb, to_frame, size)
    to_box = to_frame - np.array([[0, 0, origin[0]], [0, 0, origin[1]]])
    # Bilinear sampling skips pixels where the crop is much smaller than the face: shrink by area first.
    shrink = int(scale_of(to_box))
    if shrink >= 2:
        width, height = max(box.shape[1] // shrink, 1), max(box.shape[0] // shrink, 1)
        even = box[: height * shrink, : width * shrink]
        box = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        to_box = _coarser(to_box, shrink)
    pixels = cv2.warpAffine(
        box, to_box, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    )
    return Crop(np.asarray(pixels, np.uint8), to_frame)


def _coarser(matrix: Affine, factor: int) -> Affine:
    """`matrix` into a picture's pixels, rewritten for that picture shrunk by `factor`."""
    shift = (1 / factor - 1) / 2
    return compose(np.array([[1 / factor, 0, shift], [0, 1 / factor, shift]]), matrix)


def _surroundings(rgb: Rgb, to_frame: Affine, size: int, margin: int = 8) -> tuple[Rgb, tuple[int, int]]:
    """The part of the picture that the crop looks at, and its top left corner: large pictures stay cheap."""
    corners = apply(to_frame, np.array([[0, 0], [size, 0], [0, size], [size, size]]))
    height, width = rgb.shape[:2]
    # A crop past the edge mirrors what lies inside it: keep as much inside as hangs outside.
    low = np.floor(corners.min(0)).astype(int) - margin
    high = np.ceil(corners.max(0)).astype(int) + margin
    outside = max(0, -int(low.min()), int(high[0]) - width, int(high[1]) - height)
    left, top = (int(v) for v in np.clip(low - outside, 0, [width - 1, height - 1]))
    right, bottom = (int(v) for v in np.clip(high + outside, [left + 1, top + 1], [width, height]))
    return rgb[top:bottom, left:right], (left, top)
