"""What is before a target's face, and stays there: a hand, a microphone, a strand of hair, given as a mask.

The face moves behind it. So the photo is first made as if nothing were there, or a copy of it would be dragged along;
what that has invented is seen only where the face uncovers a little of what was hidden.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .images import read_mask
from .types import Floats, Rgb

Mask = NDArray[np.bool_]  # [H,W], where something is in front

MARKED = 0.25
"""How much of a pixel a mask marks at least: less is a soft edge, or what compression has left on black."""
WHOLE = 0.9
"""The share of a face's points which, when hidden, leave nothing to animate."""
DRAWN, FOUND = 0.008, 0.002
"""How far round what is in front some of it is seen, as a share of the crop's side: of a mask that was drawn by hand,
and of one that has room round it already."""
_SIDE = 256  # of the grid on which what is hidden is invented: it is smooth

_WANTED = "make it opaque, or white, where something is before the face, and nowhere else"


def read_front(path: Path, target: Path, rgb: Rgb) -> Mask:
    """Where something is in front of the face of a target: [H,W].

    Args:
        path: as of `images.read_mask`.
        target: the picture whose mask it is, for messages.
        rgb: uint8 [H,W,3], that picture.

    Raises:
        ImageError: it can't be read.
        UsageError: it has another size than the target, or marks nothing.
    """
    front = read_mask(path) >= MARKED
    (height, width), size = front.shape, rgb.shape[:2]
    if front.shape != size:
        needed = f"take a picture of {target}'s size, {size[1]}x{size[0]}"
        raise UsageError(f"--front {path}: is {width}x{height}; {needed}")
    if not front.any():
        raise UsageError(f"--front {path}: marks nothing; {_WANTED}")
    return front


def check_face(path: Path, front: Mask, points: Floats) -> bool:
    """Whether it marks something near a face, whose points [68,2] are in pixels.

    Raises:
        UsageError: it hides all of the face.
    """
    height, width = front.shape
    x, y = np.rint(points).astype(int).T
    hidden = front[y.clip(0, height - 1), x.clip(0, width - 1)].mean()
    if hidden > WHOLE:
        raise UsageError(f"--front {path}: hides {100 * hidden:.0f} % of the face; {_WANTED}")
    low, high = points.min(0), points.max(0)
    reach = (high - low).max() / 2
    left, top = np.floor(low - reach).astype(int).clip(0)
    right, bottom = np.ceil(high + reach).astype(int).clip(0)
    return bool(front[top:bottom, left:right].any())


def hidden_by(front: Mask, side: float, edge: float = DRAWN) -> Mask:
    """What of a picture [h,w] can't be told to be of the face, whose crop has a `side` of so many pixels."""
    reach = max(1, round(edge * side))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(front.astype(np.uint8), disc) > 0


def behind(picture: Floats, hidden: Mask) -> Floats:
    """A picture [h,w,3], 0 to 1, as if nothing were before the face; all that is not hidden [h,w] stays.

    Filled from its rim inwards (Telea, "An image inpainting technique based on the fast marching method", 2004).
    """
    if not hidden.any() or hidden.all():
        return picture
    shape = hidden.shape[::-1]
    scale = min(1.0, _SIDE / max(shape))
    small = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    # Only what isn't hidden counts in the small picture, too.
    seen = (~hidden).astype(np.float32)
    weight = cv2.resize(seen, small, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(picture * seen[:, :, None], small, interpolation=cv2.INTER_AREA)
    coarse = coarse / np.maximum(weight, 1e-6)[:, :, None]
    known = np.rint(coarse.clip(0, 1) * 255).astype(np.uint8)
    filled = cv2.inpaint(known, (weight < 0.5).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    invented = cv2.resize(filled, shape, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    return np.where(hidden[:, :, None], invented, picture)


def cover(hidden: Mask, side: float, edge: float = DRAWN) -> Floats:
    """How much of each pixel [h,w] of a result is the photo's: all where something is hidden, then less and less."""
    sigma = max(0.5, edge * side / 2)
    soft = cv2.GaussianBlur(hidden_by(hidden, side, edge).astype(np.float32), (0, 0), sigma)
    return np.where(hidden, np.float32(1), soft)


def parted(picture: Floats, side: float, *fronts: tuple[Mask, float]) -> tuple[Floats, Floats]:
    """A picture [h,w,3] as if nothing were in front of the face, and how much of each pixel [h,w] stays as it was.

    Args:
        picture: the photo.
        side: of the face's crop, in pixels.
        fronts: what is in front [h,w], and how sharply that is known: `DRAWN` or `FOUND`.
    """
    hidden = [(hidden_by(front, side, edge), edge) for front, edge in fronts]
    everything = np.logical_or.reduce([part for part, _ in hidden])
    covered = np.maximum.reduce([cover(part, side, edge) for part, edge in hidden])
    return behind(picture, everything), np.asarray(covered, np.float32)
