"""Glasses in a photo: their rims are before the face, and stay where they are while lids and brows move behind them.

Found without a network. A bridge crosses the nose as a dark line from eye to eye, which hardly a bare nose has. Where
there is one, each rim is looked for as the closed line round the eye along which the picture is the most line-like, by
dynamic programming over angles (Amini, Weymouth and Jain, "Using dynamic programming for solving variational problems
in vision", 1990). Rims too faint to be told from skin are left to move with it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from . import motion
from .align import cut_out
from .front import Mask
from .geometry import apply, scale_of
from .images import noise_of
from .mesh import part_near
from .types import Affine, Floats, Rgb

Points = NDArray[np.float64]

SMALLEST = 100
"""Of crops, in pixels: in a smaller one the edge of a rim is as wide as an eye."""
_SIDE = 512
"""Of the crop in which they are looked for."""
BRIDGE = 0.14
"""How much darker than the skin a bridge is at least, all the way; of bare noses the darkest had 0.11 (a wrinkle), and
glasses with faint rims have less, too (docs/method.md)."""
_NOISE = 3.0
"""How many standard deviations of noise may look like a line, all the way."""
_GAP = 0.25
"""How far apart the inner corners of the eyes are at least, in distances between the eyes, as all lengths below: of a
face turned farther the nose is a shadow."""
_ABOVE, _BELOW, _INSET = 0.3, 0.35, 0.06
"""Where a bridge may be: from so far above those corners to below; and how far from them."""
_RIM, _SURE = 0.12, 0.4
"""How much darker than around it, or lighter, a rim is at least; and from which on a line is as good as any."""
_SOFT = 0.02
"""Sigma of lines, so that they are followed along their middle."""
_DULL = 0.7
"""What a light line, as the edge of a lens, counts against a dark one."""
_THIN, _THICK = 0.045, 0.1
"""Half of how thick the lines of thin and of thick rims may be."""
_CLEAR = 0.55
"""The share of its darkness at which a bridge is a thin one."""
_NEAR, _FAR = 0.16, 0.75
"""How far from the middle of the eye a rim runs, at least and at most."""
_LASHES, _NEAR_LASHES = 0.04, 0.15
"""How far round the lids a line is of lashes, and may be."""
_ROOM = 0.03
"""How far its edge is soft."""
_REACH = 1.1
"""How far from the line that was found a rim reaches, of half its thickness at most."""
_ANGLES, _STEPS = 160, 110
_BEND, _PRICE = 4, 0.05
"""How many steps a rim may run in or out from one angle to the next, and what each costs."""


def rims(rgb: Rgb, crop: Affine, points: Points) -> Mask | None:
    """Where a picture [H,W,3] has the rims of glasses: [H,W]; None: its face has none that can be seen.

    Args:
        rgb: the picture.
        crop: of the face, unit square to pixels.
        points: the face's mesh [478,2] in units of the crop.
    """
    if scale_of(crop) < SMALLEST:
        return None
    cut = cut_out(rgb, crop, _SIDE)
    found = _found(cut.rgb, points * _SIDE - 0.5)
    mask = None if found is None else _placed(found, cut.to_frame, rgb.shape[:2])
    return mask if mask is not None and mask.any() else None


def _placed(found: Mask, to_frame: Affine, shape: tuple[int, ...]) -> Mask:
    """A mask of the crop in a picture [H,W]: only its part is worked on, for photos may be large."""
    rows, columns = part_near(apply(to_frame, _SIDE * np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])), 0, shape)
    mask = np.zeros(shape, bool)
    if mask[rows, columns].size:
        there = to_frame - np.array([[0, 0, columns.start], [0, 0, rows.start]])
        size = columns.stop - columns.start, rows.stop - rows.start
        mask[rows, columns] = cv2.warpAffine(found.astype(np.uint8) * 255, there, size) > 127
    return mask


def _found(rgb: Rgb, at: Points) -> Mask | None:
    """The rims in a crop [h,w,3] whose points [478,2] are in pixels; None: there are none."""
    left, right = (at[list(corners)].mean(0) for corners in motion.CORNERS)
    unit = float(np.linalg.norm(right - left))
    if not 0.05 < unit / _SIDE < 1:  # no face that anything could be found in
        return None
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) / np.float32(255), np.float32)
    thick, (dark, light) = _THICK, _lines(grey, unit, _THICK)
    bridge, strength = _bridge(dark, at, unit)
    if strength < BRIDGE + _NOISE * _noise(grey):
        return None
    # The narrower what is looked for, the less of it is brows and shadows.
    thin = _lines(grey, unit, _THIN)
    narrow, clear = _bridge(thin[0], at, unit)
    if clear > _CLEAR * strength:
        thick, (dark, light), bridge = _THIN, thin, narrow
    lines = np.maximum(dark, _DULL * light)
    brows = _filled(lines.shape, *(_hull(at[list(brow)]) for brow in _BROWS)) > 0
    skin = np.where(brows | (_filled(lines.shape, _hull(at[: motion.SKIN])) == 0), np.float32(0), lines)
    eyes = _filled(lines.shape, *(at[motion.eye_ring(eye)] for eye in (0, 1)))
    lashes = np.asarray(cv2.dilate(eyes, _disc(_LASHES * unit)), np.uint8)
    # Of two lines the one that can't be of lashes is the rim.
    near = cv2.dilate(eyes, _disc(_NEAR_LASHES * unit)) > 0
    skin = np.where(near, skin / 2, skin)
    reach = _REACH * thick * unit
    found, core = _along(bridge, lines, reach), np.zeros(lines.shape, bool)
    for corners in motion.CORNERS:
        rim = _round(at[list(corners)].mean(0), skin, lashes, unit)
        if np.median(_at(skin, rim)) > _RIM / 2:
            # In a brow what is farther from the line are its hairs.
            found |= _along(rim, lines, reach) & ~brows | _along(rim, lines, _THIN * unit)
            core |= _along(rim, lines, _THIN / 2 * unit)
    # Room for a rim's soft edge, but not beside lashes, which must be free to move.
    roomy = cv2.dilate((found & ~near).astype(np.uint8), _disc(_ROOM * unit)) > 0
    return np.asarray((roomy & ~near | core) & (lashes == 0))


_BROWS = motion.PARTS["brows"][:10], motion.PARTS["brows"][10:]


def _lines(grey: Floats, unit: float, thick: float) -> tuple[Floats, Floats]:
    """How much darker, and lighter, than what is on both sides of it each pixel [h,w] is, as a share of the light."""
    around = cv2.GaussianBlur(grey, (0, 0), 0.3 * unit) + _DARK
    disc = _disc(thick * unit)
    dark, light = (cv2.morphologyEx(grey, how, disc) / around for how in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT))
    return np.asarray(dark, np.float32), np.asarray(light, np.float32)


def _noise(grey: Floats) -> float:
    """How strong the noise of a crop's middle is, in the same share."""
    inner = grey[_SIDE // 4 : -_SIDE // 4, _SIDE // 4 : -_SIDE // 4]
    return noise_of(inner) / (float(inner.mean()) + _DARK)


_DARK = 0.05
"""What is added to the light, that of which shares are taken."""


def _bridge(dark: Floats, at: Points, unit: float) -> tuple[Points, float]:
    """The line across the nose whose faintest place is the darkest: its pixels [N,2], and how dark that place is."""
    left, right = at[motion.CORNERS[0][1]], at[motion.CORNERS[1][0]]
    if (right - left)[0] < _GAP * unit:
        return np.zeros((0, 2)), 0.0
    x0, x1 = (int(x) for x in np.rint([left[0] + _INSET * unit, right[0] - _INSET * unit]).clip(0, dark.shape[1]))
    middle = (left + right)[1] / 2
    y0, y1 = (int(y) for y in np.rint([middle - _ABOVE * unit, middle + _BELOW * unit]).clip(0, dark.shape[0]))
    columns = dark[y0:y1, x0:x1].T
    if min(columns.shape) < 2:
        return np.zeros((0, 2)), 0.0
    best, steps = columns[0], []
    for column in columns[1:]:
        choices = np.stack([_shifted(best, by) for by in range(-2, 3)])
        steps.append(choices.argmax(0) - 2)
        best = np.minimum(choices.max(0), column)
    rows = _walked_back(int(best.argmax()), steps)
    return np.stack([np.arange(x0, x1), y0 + rows], 1).astype(np.float64), float(best.max())


def _round(middle: Points, lines: Floats, lashes: NDArray[np.uint8], unit: float) -> Points:
    """The closed line round an eye along which `lines` [h,w] is the strongest: [_ANGLES+1,2], its first point twice."""
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    reach = np.linspace(_NEAR, _FAR, _STEPS) * unit
    places = middle + reach[None, :, None] * np.stack([np.cos(angles), np.sin(angles)], 1)[:, None]
    soft = np.minimum(cv2.GaussianBlur(lines, (0, 0), _SOFT * unit), _SURE) / _SURE
    worth = np.asarray(soft - 2 * lashes, np.float32)
    x, y = (places[:, :, i].astype(np.float32) for i in (0, 1))
    worth = np.asarray(cv2.remap(worth, x, y, cv2.INTER_LINEAR, borderValue=-2), np.float32)
    # Once round from anywhere tells where to begin; once more from there comes back to it.
    start = int(_turned(np.zeros(_STEPS), worth)[0].argmax())
    only = np.full(_STEPS, -np.inf)
    only[start] = 0
    rows = _walked_back(start, _turned(only, worth)[1])
    return np.asarray(places[np.arange(_ANGLES + 1) % _ANGLES, rows], np.float64)


def _turned(best: NDArray[np.float64], worth: Floats) -> tuple[NDArray[np.float64], list[NDArray[np.intp]]]:
    """The best sums of `worth` [angles,steps] along lines once round, by where they end; and each one's steps."""
    bends, steps = np.arange(-_BEND, _BEND + 1), []
    for row in np.roll(worth, -1, 0):
        choices = np.stack([_shifted(best, int(by)) for by in bends]) - _PRICE * np.abs(bends)[:, None]
        steps.append(choices.argmax(0) - _BEND)
        best = choices.max(0) + row
    return best, steps


def _shifted(row: NDArray[np.floating], by: int) -> NDArray[np.floating]:
    """[N] whose i-th is the one before at i + by; where there is none, one that is never chosen."""
    out = np.full_like(row, -np.inf)
    if by >= 0:
        out[: len(row) - by] = row[by:]
    else:
        out[-by:] = row[:by]
    return out


def _walked_back(end: int, steps: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Where the line that ends at `end` was at each step: [len(steps) + 1]."""
    at = [end]
    for step in reversed(steps):
        at.append(at[-1] + int(step[at[-1]]))
    return np.array(at[::-1])


def _along(path: Points, lines: Floats, reach: float) -> Mask:
    """[h,w]: what within reach of a path [N,2] is half as dark, or light, as the darkest of the path nearby."""
    peak = np.zeros(lines.shape, np.float32)
    places, values = np.rint(path).astype(np.int32).tolist(), _at(lines, path).tolist()
    for here, there, value in zip(places, places[1:], values, strict=False):
        cv2.line(peak, here, there, value, 1)
    peak = np.asarray(cv2.dilate(peak, _disc(reach)), np.float32)
    return np.asarray((peak > 0) & (lines > np.maximum(_RIM, peak / 2)))


def _at(image: Floats, path: Points) -> Floats:
    """An image [h,w] at the pixels of a path [N,2]."""
    x, y = np.rint(path).astype(int).clip(0, np.array(image.shape[::-1]) - 1).T
    return np.asarray(image[y, x], np.float32)


def _disc(radius: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(radius) + 1,) * 2), np.uint8)


def _hull(points: Points) -> Points:
    """The convex outline of points [N,2]."""
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], np.float64)


def _filled(shape: tuple[int, ...], *rings: Points) -> NDArray[np.uint8]:
    """[h,w]: 1 inside of any of the rings [N,2]."""
    out = np.zeros(shape[:2], np.uint8)
    for ring in rings:
        cv2.fillPoly(out, [np.rint(ring).astype(np.int32)], 1)
    return out
