"""What is before a target's face, and stays there: a hand, a microphone, a strand of hair, given as a mask.

The face moves behind it. So the photo is first made as if nothing were there, or a copy of it would be dragged along;
what that has invented is seen only where the face uncovers a little of what was hidden.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .errors import UsageError
from .images import read_mask
from .types import Floats, Rgb

WHOLE = 0.9  # share of a face's points which, when hidden, leave nothing to animate
_EDGE = 3  # pixels round what is in front that show some of it
_SIDE = 256  # of the grid on which what is hidden is invented: it is smooth


def read_front(path: Path, target: Path, rgb: Rgb, points: Floats) -> Floats:
    """How much of each pixel of a target is in front of its face: float32 [H,W], 0 to 1.

    Args:
        path: as of `images.read_mask`.
        target: the picture whose mask it is, for messages.
        rgb: uint8 [H,W,3], that picture.
        points: [68,2] its face, in pixels.

    Raises:
        ImageError: it can't be read.
        UsageError: it has another size than the target, marks nothing, or all of the face.
    """
    front = read_mask(path)
    (height, width), size = front.shape, rgb.shape[:2]
    if front.shape != size:
        needed = f"take a picture of {target}'s size, {size[1]}x{size[0]}"
        raise UsageError(f"--front {path}: is {width}x{height}; {needed}")
    wanted = "make it opaque, or white, where something is before the face, and nowhere else"
    if not front.any():
        raise UsageError(f"--front {path}: marks nothing; {wanted}")
    x, y = np.rint(points).astype(int).T
    hidden = front[y.clip(0, height - 1), x.clip(0, width - 1)].mean()
    if hidden > WHOLE:
        raise UsageError(f"--front {path}: hides {100 * hidden:.0f} % of the face; {wanted}")
    return front


def behind(picture: Floats, front: Floats) -> Floats:
    """A picture [h,w,3], 0 to 1, as if what is in front [h,w] were not there.

    Filled from its rim inwards (Telea, "An image inpainting technique based on the fast marching method", 2004).
    """
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _EDGE + 1, 2 * _EDGE + 1))
    hidden = cv2.dilate((front > 0).astype(np.uint8), disc)
    if not hidden.any() or hidden.all():
        return picture
    shape = hidden.shape[::-1]
    scale = min(1.0, _SIDE / max(shape))
    small = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    # Only what isn't hidden counts in the small picture, too.
    seen = (1 - hidden).astype(np.float32)
    weight = cv2.resize(seen, small, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(picture * seen[:, :, None], small, interpolation=cv2.INTER_AREA)
    coarse = coarse / np.maximum(weight, 1e-6)[:, :, None]
    known = np.rint(coarse.clip(0, 1) * 255).astype(np.uint8)
    filled = cv2.inpaint(known, (weight < 0.5).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    invented = cv2.resize(filled, shape, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    return np.where(hidden[:, :, None] > 0, invented, picture)
