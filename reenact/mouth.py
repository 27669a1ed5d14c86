"""Mouths that open: what a photo's shut one and a drawn one have and they have not.

Lips that are shut end in a crease. Where they are made a round mouth of, it would stay beyond its corners like a
whisker; so there the photo is given smooth skin, and lips their own colour up to their end. Drawn mouths that gape have
streaks and blocks of lower teeth where it should be dark; so they are darkened below the upper teeth. And they are not
always as tall as asked; what is stretched is the dark, not the teeth.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .mesh import Part, blurred, part_near
from .motion import INNER_LIPS, LOWER_LIP, OUTER_LIPS, UPPER_LIP, mouth_width
from .types import Floats

Points = NDArray[np.float64]

_CREASE = 0.15, 0.07
"""Half the length and height of where creases may be, in widths of the mouth."""
_BEYOND = 0.04
"""How far beyond the corner the middle of that is, in widths of the mouth."""
_SEAM = 0.05
"""How thick the line between shut lips may be, in widths of the mouth: it is not their colour."""
_DEEP = 0.4, 0.6
"""How far down between the lips it is a little dark, and as dark as it gets."""
_TOOTH, _SOFT = 0.012, 0.01
"""Lower teeth are narrower than twice the first; sigma of the dark; in sides of the drawn picture."""
_TEETH = 0.45
"""How far down between the lips of a drawn mouth the upper teeth may hang."""
_STRETCH = 1.15
"""How much taller they may become."""


def crease_free(photo: Floats, points: Points) -> tuple[Part, Floats] | None:
    """What a photo with nothing but skin and lips at the corners of its mouth has more: where, and how much.

    Args:
        photo: float32 [h,w,3].
        points: of its face, [478,2] in pixels.

    Returns:
        Rows and columns of the photo, and what is to be added there; None where there is no such place.
    """
    lips, width = points[list(OUTER_LIPS)], mouth_width(points)
    half = np.array(_CREASE) * width
    part = part_near(lips, half[0] + 3 * half[1], photo.shape)
    if not photo[part].size or half[1] < 0.5:  # beyond the picture's edge; too small to have creases
        return None
    here = points - [part[1].start, part[0].start]
    creases = _creases(here, half, photo[part].shape)
    drawn = _filled(here[list(OUTER_LIPS)], creases.shape)
    seam = _filled(here[list(INNER_LIPS)], creases.shape, round(_SEAM * width))
    near = cv2.dilate(drawn, np.ones((2 * round(0.3 * half[1]) + 1,) * 2))
    clear = creases == 0
    skin = _mean_of(photo[part], clear & (near == 0), half[1])
    red = _mean_of(photo[part], clear & (drawn > 0.9) & (seam < 0.1), half[1])
    smooth = skin + blurred(drawn, 0.15 * half[1])[:, :, None] * (red - skin)
    return part, np.asarray(creases[:, :, None] * (smooth - photo[part]), np.float32)


def _creases(points: Points, half: NDArray[np.float64], shape: tuple[int, ...]) -> Floats:
    """[h,w]: 1 where creases may be, soft towards the edge of an ellipse round each corner of a mouth."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    places = np.stack([x, y], 2).astype(np.float64)
    left, right = points[OUTER_LIPS[0]], points[OUTER_LIPS[10]]
    along = (right - left) / max(float(np.linalg.norm(right - left)), 1e-6)
    axes = np.array([along, [-along[1], along[0]]]).T
    out = np.zeros(shape[:2])
    for corner, outwards in ((left, -along), (right, along)):
        away = (places - corner - _BEYOND / _CREASE[0] * half[0] * outwards) @ axes / half
        out = np.maximum(out, (2 - 2 * np.hypot(away[:, :, 0], away[:, :, 1])).clip(0, 1))
    return out.astype(np.float32)


def _mean_of(photo: Floats, seen: NDArray[np.bool_], sigma: float) -> Floats:
    """The mean colour [h,w,3] of the pixels nearby that are `seen` [h,w]; the photo's where there are none."""
    weight = seen.astype(np.float32)[:, :, None]
    near = blurred(weight[:, :, 0], sigma)[:, :, None]
    mean = blurred(photo * weight, sigma) / np.maximum(near, 1e-6)
    return np.asarray(np.where(near > 1e-4, mean, photo), np.float32)


def hollow(picture: Floats, points: Points, share: float) -> Floats:
    """A drawn face whose mouth is dark and smooth below its upper teeth.

    Args:
        picture: float32 [S,S,3].
        points: [478,2] in units of the picture.
        share: how much so, 0 to 1; see `motion.gapes`.
    """
    size = len(picture)
    at = points * size - 0.5
    ring = at[list(INNER_LIPS)]
    tooth = max(1, round(_TOOTH * size))
    part = part_near(ring, tooth + 1, picture.shape)
    if share == 0 or not picture[part].size:
        return picture
    here = at - [part[1].start, part[0].start]
    shape = picture[part].shape
    inside = _filled(here[list(INNER_LIPS)], shape)
    round_tooth = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * tooth + 1,) * 2)
    between = np.where(inside[:, :, None] > 0.5, picture[part], 1)
    dark = _mean_of(np.asarray(cv2.erode(between, round_tooth)), inside > 0.5, _SOFT * size)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    upper, lower = _between(here, x)
    deep = ((y - upper) / np.maximum(lower - upper, 1e-4) - _DEEP[0]) / (_DEEP[1] - _DEEP[0])
    weight = share * deep.clip(0, 1) * cv2.dilate(inside, round_tooth)  # a little of the lips: their edge is soft
    out = picture.copy()
    out[part] += weight.astype(np.float32)[:, :, None] * (dark - out[part])
    return out


def hung(places: Floats, drawn: Points, taller: float) -> Floats:
    """The y of places [h,w,2] in a drawn mouth, for a mouth so many times taller: its upper teeth keep their size.

    What lies below them, mostly the dark, is stretched the more. `drawn`: the drawn face's points [478,2], in units of
    the places.
    """
    x, y = places[:, :, 0], places[:, :, 1]
    if taller <= _STRETCH:
        return y
    upper, lower = _between(drawn, x)
    depth = (y - upper) / np.maximum(lower - upper, 1e-4)
    end = _TEETH * _STRETCH / taller  # of the teeth, in the taller mouth
    below = _TEETH + (depth - end) * (1 - _TEETH) / (1 - end)
    depth = np.where(depth < end, depth * taller / _STRETCH, below)
    return np.asarray(upper + depth * np.maximum(lower - upper, 1e-4), np.float32)


def _between(points: Points, x: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the upper lip ends and the lower begins at each x: y, of a face [478,2]."""
    # From left to right, whatever a pout has done to their order.
    upper, lower = ((np.maximum.accumulate(points[lip, 0]), points[lip, 1]) for lip in (UPPER_LIP, LOWER_LIP))
    return np.interp(x, *upper), np.interp(x, *lower)


def _filled(ring: Points, shape: tuple[int, ...], thick: int = 0) -> Floats:
    """[h,w]: 1 inside a ring [N,2] of pixels, and on a line along it so many pixels thick."""
    out, corners = np.zeros(shape[:2], np.uint8), [np.rint(ring * 16).astype(np.int32)]
    cv2.fillPoly(out, corners, 255, cv2.LINE_AA, shift=4)
    if thick:
        cv2.polylines(out, corners, True, 255, thick, cv2.LINE_AA, shift=4)
    return np.asarray(out / np.float32(255), np.float32)
