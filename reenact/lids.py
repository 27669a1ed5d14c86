"""Eyes that shut: a photo of open eyes has no lids to show, so they are painted.

An upper lid unrolls from under its crease; skin stretched down from above would be a streaked shadow. What comes down
is skin between that above the crease and that below the eye, with the grain of the latter, and at its edge the lashes,
as dark and as thick as in the photo: seen from the front they hang over the slit as a soft band, lower and thicker at
the outer corner. While the eye is hardly moved, none of this is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from . import motion
from .geometry import ramp, soft_step
from .types import Floats

Points = NDArray[np.float64]

_ABOVE, _BELOW = (0.45, 0.6, 0.75, 0.9), (0.35, 0.5, 0.65)
"""Where skin is looked for, in openings of the eye from its lids."""
_RIM = 0.18
"""How far above the mesh's lid lashes begin, in widths of the eye, however narrow it is."""
_CREASE = 0.25
"""How much farther up the skin of a shut lid reaches."""
_BROWS = (46, 53, 52, 65, 55), (285, 295, 282, 283, 276)
"""The lower edges of the brows, from left to right: no skin of a lid on them."""
_BESIDE = 0.15
"""How far beyond the corners its height comes to nothing: lashes and make-up don't end at the corners."""
_LINE = 0.035
"""How thick the line of the lashes of a half shut eye is, in widths of the eye."""
_LASHES = 0.06, 0.1
"""How thick at least and at most the lashes of a shut one."""
_STRAIGHTER = 0.65
"""How much of its lopsidedness the line loses as the eye shuts: a mesh's lids meet in a wave, lids in a bow."""
_NEARLY_SHUT = (0.06, 0.14)
"""Openings of eyes in the photo, in widths of the eye, that are painted not at all, and as others are."""
_COLUMNS = 64


@dataclass(frozen=True, eq=False)
class _Frame:
    """An eye's own coordinates: x from corner to corner, 0 to 1, y down, in the same unit."""

    origin: Points  # [2]
    along: Points  # [2]: the other corner, from the origin

    @classmethod
    def of(cls, points: Points, eye: int) -> _Frame:
        left, right = motion.CORNERS[eye]
        return cls(points[left], points[right] - points[left])

    def inside(self, places: Points) -> Points:
        """Places [...,2] of the picture -> this eye's."""
        x, y = self.along / (self.along @ self.along)
        return np.asarray((places - self.origin) @ np.array([[x, -y], [y, x]]))

    def outside(self, places: Points) -> Points:
        """The way back."""
        x, y = self.along
        return np.asarray(places @ np.array([[x, y], [-y, x]]) + self.origin)


class Lids:
    """Paints the lids of one target."""

    def __init__(self, photo: Floats, rest: Points) -> None:
        """Look at the eyes.

        Args:
            photo: [h,w,3], RGB in [0,1].
            rest: where the mesh's points [478,2] are in it, in pixels.
        """
        self._photo, self._rest = photo, rest
        self._frames = [_Frame.of(rest, eye) for eye in (0, 1)]
        self._curves = [_curves(rest, eye) for eye in (0, 1)]
        self._skin = [self._skin_round(eye) for eye in (0, 1)]
        self._lashes = [self._darkest(eye) for eye in (0, 1)]
        # The thinner: beside one of them there may be a shadow, or the rim of glasses.
        self._thick = float(np.clip(min(self._thickness(eye) for eye in (0, 1)), *_LASHES))
        sigma = 0.06 * float(np.linalg.norm(self._frames[0].along))
        self._grain = photo - cv2.GaussianBlur(photo, (0, 0), max(sigma, 0.5))

    def paint(self, picture: Floats, goal: Points) -> Floats:
        """A picture like the photo [h,w,3], whose points have moved to `goal` [478,2] in pixels, with lids painted."""
        for eye in (0, 1):
            picture = self._painted(picture, goal, eye)
        return picture

    def _painted(self, picture: Floats, goal: Points, eye: int) -> Floats:
        upper, lower = _curves(goal, eye)
        upper_rest, lower_rest = self._curves[eye]
        opening = max(float((lower_rest - upper_rest).max()), 1e-3)
        shut = 1 - float((lower - upper).max()) / opening
        # An eye that the photo has shut, or nearly, has lids of its own.
        alpha = ramp(shut, 0.12, 0.45) * ramp(opening, *_NEARLY_SHUT)
        if alpha == 0:
            return picture
        frame = _Frame.of(goal, eye)
        part = _part(frame, picture.shape)
        y, x = np.mgrid[part]
        here = frame.inside(np.stack([x, y], 2).astype(np.float64))
        u, v = here[:, :, 0], here[:, :, 1]
        pixel = 1 / float(np.linalg.norm(frame.along))  # in widths of the eye
        line = _evened(upper, shut)
        top, edge, slit, bottom = (
            np.interp(u, _AXIS, c) for c in (upper_rest, np.maximum(upper, line), line, lower_rest)
        )
        taper = np.sqrt((1 - ((2 * u - 1) / (1 + 2 * _BESIDE)) ** 2).clip(0, 1))
        rim = (_RIM + _CREASE * shut) * taper  # a shut lid is smooth: its crease has gone
        # The lid: from the crease, where it is lost in the skin above, to its edge.
        lid = soft_step(v, top - 1.3 * rim, top + 0.2 * rim + pixel) * soft_step(edge + pixel / 2 - v, 0, pixel)
        lid = alpha * lid * soft_step(u, -0.08, 0.06) * soft_step(1 - u, -0.08, 0.06)
        along, high = frame.inside(goal[list(_BROWS[eye])]).T
        brow = np.interp(u, np.maximum.accumulate(along), high)  # its tail may seem to run back in a turned face
        lid *= soft_step(v, brow, brow + 0.12)
        down = ((v - top + rim) / np.maximum(bottom - top + rim, pixel)).clip(0, 1)
        out = picture.copy()
        out[part] += lid[:, :, None].astype(np.float32) * (self._lid(eye, u, v, down, lower_rest) - out[part])
        lashes = alpha * self._hanging(u if eye else 1 - u, v - slit, taper, shut, pixel)
        out[part] += lashes[:, :, None].astype(np.float32) * (self._lashes[eye] - out[part])
        return out

    def _hanging(self, outwards: Points, below: Points, taper: Points, shut: float, pixel: float) -> Points:
        """How much of each place [h,w] is lashes.

        Args:
            outwards: how far it is from the inner corner to the outer.
            below: how far it is below the slit, in widths of the eye.
            taper: how thick lashes are there, of their middle.
            shut: how far the eye is.
            pixel: how wide one is.
        """
        hang = shut**2  # lashes of an eye that looks stand out towards the camera
        thick = _LINE + hang * (self._thick * (0.6 + 0.6 * outwards.clip(0, 1.1)) - _LINE)
        thick = np.maximum(thick * np.minimum(1, taper + 0.3), 0.9 * pixel)
        off = below - (0.1 + 0.4 * hang * outwards) * thick
        band = np.exp(-((off / np.where(off < 0, 0.8, 0.8 + 0.6 * hang) / thick) ** 2))
        return np.asarray(0.9 * band * soft_step(outwards, -0.06, 0.1) * soft_step(1 - outwards, -0.1, 0.05))

    def _lid(self, eye: int, u: Points, v: Points, down: Points, lower_rest: Points) -> Floats:
        """The skin of a lid at an eye's places u,v [h,w], so far `down` it: [h,w,3]."""
        above, below = (np.stack([np.interp(u, _AXIS, c) for c in side.T], 2) for side in self._skin[eye])
        share = (0.1 + 0.8 * down**0.7)[:, :, None]
        smooth = above + share * (below - above)
        # Round, as the ball beneath: lightest in the middle.
        smooth *= 1 + 0.08 * np.sin(np.pi * down)[:, :, None] * np.sin(np.pi * u.clip(0, 1))[:, :, None]
        # The grain of the skin below the eye, as in a mirror on the lower lid.
        low = np.interp(u, _AXIS, lower_rest)
        mirrored = self._frames[eye].outside(np.stack([u, 2 * low + 0.08 - v], 2))
        return np.asarray(smooth + _at(self._grain, mirrored), np.float32)

    def _skin_round(self, eye: int) -> tuple[Points, Points]:
        """The colours of the skin above and below an eye, along its width: [_COLUMNS,3] each."""

        def colours(lid: int, reaches: Sequence[float]) -> Points:
            seen = np.median(self._beside(eye, lid, reaches), axis=0)
            return np.asarray(gaussian_filter1d(seen, 6, axis=0, mode="nearest"), np.float64)

        return colours(0, [-reach for reach in _ABOVE]), colours(1, _BELOW)

    def _darkest(self, eye: int) -> Floats:
        """The colour of the lashes [3]: as dark as the darkest along the upper lid, half in the hue of the skin.

        The darkest may be of the iris.
        """
        seen = self._beside(eye, 0, (-0.3, -0.2, -0.1, 0.0, 0.1)).astype(np.float64)[:, 8:-8].reshape(-1, 3)
        dark = seen[seen.mean(1).argsort()][: len(seen) // 6].mean(0)
        skin = self._skin[eye][1].mean(0)
        return np.asarray((dark + skin * dark.mean() / max(float(skin.mean()), 1e-3)) / 2, np.float32)

    def _thickness(self, eye: int) -> float:
        """How thick its lashes are, in widths of the eye: what is dark from the upper lid on, without a gap."""
        upper, lower = self._curves[eye]
        reach = 0.6
        light = self._beside(eye, 0, np.linspace(0, -reach, 25).tolist()).astype(np.float64)[:, 12:-12].mean(2)
        skin = self._skin[eye][0][12:-12].mean(1)
        dark = ((skin - light) / np.maximum(skin - self._lashes[eye].mean(), 0.05)).clip(0, 1)
        share = np.median(np.minimum.accumulate(dark).mean(0))
        return float(share * reach * (lower - upper).max())

    def _beside(self, eye: int, lid: int, reaches: Sequence[float]) -> Floats:
        """The photo's colours [N,_COLUMNS,3] along a lid, 0 the upper one, so many openings of the eye below it."""
        upper, lower = self._curves[eye]
        opening = float((lower - upper).max())
        rows = [np.stack([_AXIS, self._curves[eye][lid] + reach * opening], 1) for reach in reaches]
        return _at(self._photo, self._frames[eye].outside(np.stack(rows)))


_AXIS = np.linspace(0, 1, _COLUMNS)


def _curves(points: Points, eye: int) -> tuple[Points, Points]:
    """An eye's lids, upper and lower, as heights along its width, in its own coordinates: smooth, 0 at the corners."""
    frame, curves = _Frame.of(points, eye), []
    for lid in motion.LIDS[eye]:
        x, y = frame.inside(points[lid]).T
        best = np.linalg.lstsq(_bows(x), y, rcond=None)[0]
        curves.append(_bows(_AXIS) @ best)
    upper, lower = curves
    return upper, np.maximum(lower, upper)


def _evened(curve: Points, shut: float) -> Points:
    """A lid [_COLUMNS], its bow more even the more the eye is shut."""
    best = np.linalg.lstsq(_bows(_AXIS), curve, rcond=None)[0]
    return np.asarray(_bows(_AXIS) @ (best * [1, 1 - _STRAIGHTER * shut]))


def _bows(x: Points) -> Points:
    """Curves over x [N] that are 0 at 0 and 1: [N,2]."""
    return np.stack([x * (1 - x), x * (1 - x) * (x - 0.5)], 1)


def _part(frame: _Frame, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of a picture round an eye."""
    corners = frame.outside(np.array([[-0.1, -1.1], [1.1, -1.1], [-0.1, 0.6], [1.1, 0.6]]))
    low = np.floor(corners.min(0)).astype(int).clip(0, [shape[1] - 1, shape[0] - 1])
    high = np.ceil(corners.max(0)).astype(int).clip(low + 1, [shape[1], shape[0]])
    return slice(low[1], high[1]), slice(low[0], high[0])


def _at(picture: Floats, places: NDArray[np.floating]) -> Floats:
    """A picture [h,w,3] at places [H,W,2]."""
    x, y = (np.ascontiguousarray(places[..., i], np.float32) for i in (0, 1))
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
