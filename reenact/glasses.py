"""Glasses in a photo: their rims are before the face, and stay where they are while lids and brows move behind them.

Found without a network. A bridge crosses the nose as a dark line from eye to eye, which no bare nose has. Where there
is one, each rim is looked for as the closed line round the eye along which the picture is the most line-like, by
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
from .types import Affine, Floats, Rgb

Points = NDArray[np.float64]

_SIDE = 512
"""Of the crop in which they are looked for, in pixels."""
BRIDGE = 0.14
"""How much darker than the skin a bridge is at least, all the way; of bare noses the darkest had 0.11 (a wrinkle), and
glasses with faint rims have less, too (docs/method.md)."""
_RIM, _SURE = 0.12, 0.4
"""How much darker or lighter than around it a rim is at least; and from which on a line is as good as any."""
_SOFT = 0.02
"""Sigma of lines, so that they are followed along their middle."""
_DULL = 0.7
"""What a light line, as the edge of a lens, counts against a dark one."""
_THIN, _THICK = 0.045, 0.1
"""Half of how thick the lines of thin and of thick rims may be, in distances between the eyes, as all lengths below."""
_CLEAR = 0.55
"""The share of its darkness at which a bridge is a thin one."""
_NEAR, _FAR = 0.16, 0.75
"""How far from the middle of the eye a rim runs, at least and at most."""
_LASHES = 0.06
"""How far round the lids a line may be of lashes."""
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
    cut = cut_out(rgb, crop, _SIDE)
    at = points * _SIDE - 0.5
    found = _found(cut.rgb, at, _between_eyes(at))
    if found is None:
        return None
    height, width = rgb.shape[:2]
    return cv2.warpAffine(found.astype(np.float32), cut.to_frame, (width, height), flags=cv2.INTER_LINEAR) > 0.5


def _found(rgb: Rgb, at: Points, unit: float) -> NDArray[np.bool_] | None:
    """The same of a crop [h,w,3], whose points [478,2] are in pixels; `unit` is the distance between the eyes."""
    thick, (bridge, strength) = _THICK, _bridge(_lines(rgb, unit, _THICK)[0], at, unit)
    if strength < BRIDGE:
        return None
    # The narrower what is looked for, the less of it is brows and shadows.
    thin, clear = _bridge(_lines(rgb, unit, _THIN)[0], at, unit)
    if clear > _CLEAR * strength:
        thick, bridge = _THIN, thin
    dark, light = _lines(rgb, unit, thick)
    lines = np.maximum(dark, _DULL * light)
    brows = _filled(lines.shape, *(cv2.convexHull(at[list(b)].astype(np.float32))[:, 0] for b in _BROWS))
    face = _filled(lines.shape, cv2.convexHull(at[: motion.SKIN].astype(np.float32))[:, 0])
    skin = np.where((face > 0) & (brows == 0), lines, np.float32(0))
    found = _along(bridge, lines, _REACH * thick * unit)
    for eye in (0, 1):
        lashes = _lashes(lines.shape, at, eye, unit)
        rim = _round_eye(skin, lashes, at, eye, unit)
        found |= _along(rim, lines, _REACH * thick * unit) & (lashes == 0)
    return found


_BROWS = motion.PARTS["brows"][:10], motion.PARTS["brows"][10:]


def _between_eyes(at: Points) -> float:
    left, right = (at[list(corners)].mean(0) for corners in motion.CORNERS)
    return float(np.linalg.norm(right - left))


def _lines(rgb: Rgb, unit: float, thick: float) -> tuple[Floats, Floats]:
    """How much darker, and lighter, than what is on both sides of it each pixel [h,w] is, as a share of the light."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(thick * unit) + 1,) * 2)
    around = cv2.GaussianBlur(grey, (0, 0), 0.3 * unit) + 0.05
    dark, light = (cv2.morphologyEx(grey, how, disc) / around for how in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT))
    return np.asarray(dark, np.float32), np.asarray(light, np.float32)


def _bridge(dark: Floats, at: Points, unit: float) -> tuple[Points, float]:
    """The line across the nose whose faintest place is the darkest: its pixels [N,2], and how dark that place is."""
    left, right = at[motion.CORNERS[0][1]], at[motion.CORNERS[1][0]]
    inset = 0.12 * (right - left)[0]
    x0, x1 = round(left[0] + inset), round(right[0] - inset)
    y0 = max(round((left + right)[1] / 2 - 0.3 * unit), 0)
    columns = dark[y0 : round((left + right)[1] / 2 + 0.35 * unit), x0:x1].T
    if min(columns.shape) < 2:
        return np.zeros((0, 2)), 0.0
    best, steps = columns[0], []
    for column in columns[1:]:
        choices = np.stack([_shifted(best, by) for by in range(-2, 3)])
        steps.append(choices.argmax(0) - 2)
        best = np.minimum(choices.max(0), column)
    rows = _walked_back(int(best.argmax()), steps)
    return np.stack([np.arange(x0, x1), y0 + rows], 1).astype(np.float64), float(best.max())


def _along(path: Points, lines: Floats, reach: float) -> NDArray[np.bool_]:
    """[h,w]: what within reach of a path [N,2] is half as dark, or light, as the line there."""
    peak = np.zeros(lines.shape, np.float32)
    places = np.rint(path).astype(np.int32)
    for here, there in zip(places, np.roll(places, -1, 0), strict=True):
        x, y = here.clip(0, np.array(lines.shape[::-1]) - 1)
        cv2.line(peak, here.tolist(), there.tolist(), float(lines[y, x]), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(reach) + 1,) * 2)
    peak = np.asarray(cv2.dilate(peak, disc), np.float32)
    return (peak > 0) & (lines > np.maximum(_RIM, peak / 2))


def _lashes(shape: tuple[int, ...], at: Points, eye: int, unit: float) -> NDArray[np.uint8]:
    """[h,w]: 1 where lines may be of an eye and its lashes."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(_LASHES * unit) + 1,) * 2)
    return np.asarray(cv2.dilate(_filled(shape, at[motion.eye_ring(eye)]), disc), np.uint8)


def _round_eye(lines: Floats, lashes: NDArray[np.uint8], at: Points, eye: int, unit: float) -> Points:
    """The closed line round an eye along which `lines` [h,w] is the strongest: [_ANGLES,2]."""
    middle = at[list(motion.CORNERS[eye])].mean(0)
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    reach = np.linspace(_NEAR, _FAR, _STEPS) * unit
    places = middle + reach[None, :, None] * np.stack([np.cos(angles), np.sin(angles)], 1)[:, None]
    worth = np.asarray(
        np.minimum(cv2.GaussianBlur(lines, (0, 0), _SOFT * unit), _SURE) / _SURE - 2 * lashes, np.float32
    )
    x, y = (places[:, :, i].astype(np.float32) for i in (0, 1))
    worth = np.asarray(cv2.remap(worth, x, y, cv2.INTER_LINEAR, borderValue=-2), np.float32)
    # Once round from anywhere tells where to begin; once more from there comes back to it.
    start = int(_turned(np.zeros(_STEPS), worth)[0].argmax())
    only = np.full(_STEPS, -np.inf)
    only[start] = 0
    steps = _turned(only, worth)[1]
    rows = _walked_back(start, steps)[:-1]
    return np.asarray(places[np.arange(_ANGLES), rows], np.float64)


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


def _filled(shape: tuple[int, ...], *rings: NDArray[np.generic]) -> NDArray[np.uint8]:
    """[h,w]: 1 inside of any of the rings [N,2]."""
    out = np.zeros(shape[:2], np.uint8)
    for ring in rings:
        cv2.fillPoly(out, [np.rint(ring.astype(np.float32)).astype(np.int32)], 1)
    return out
