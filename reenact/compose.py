"""The photo itself, moved: skin, eyes and mouth of a frame.

A generator draws a face that is like the photo's, but not it. So of the drawn face only what the photo cannot have is
taken: the inside of an opening mouth, and the shading of folds that an expression makes. All else is the photo, bent by
its mesh (mesh.py) to where the driver's motion has it (motion.py); where nothing moves it is the photo bit by bit, so
that there is no seam to hide. The folds are the ratio of two drawn faces, with the expression and without, as in Liu et
al., "Expressive Expression Mapping with Ratio Images" (2001).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from . import lids, mesh, motion, mouth
from .front import DRAWN, FOUND, Mask, parted
from .geometry import apply, inverse, ramp, scale_of
from .mesh import Part, Points, blurred, part_near
from .motion import INNER_LIPS, LOWER_LIP, OUTER_LIPS, UPPER_LIP
from .types import Affine, Floats, Frame, Rgb


@dataclass(frozen=True)
class ComposeOptions:
    """Lengths are shares of the crop's side."""

    folds: float = 0.7  # how much of the drawn folds is laid on the photo
    fine: float = 0.008  # sigma below which shading is the generator's noise ...
    coarse: float = 0.06  # ... and above which it is its light
    lips: float = 0.0035  # sigma of the edge between lips and what lies between them


@dataclass(frozen=True, eq=False)
class Drawn:
    """A generated face and where its points are."""

    picture: Floats  # [S,S,3], RGB in [0,1]
    points: Points  # [478,2] in units of the picture, which is aligned as the target's crop


Turn = Callable[[Points], Points]
"""Where a turning head takes the points [478,2] of a face."""


class Composer:
    """Makes frames of one target."""

    def __init__(
        self,
        target: Rgb,
        crop: Affine,
        rest: Points,
        base: Drawn,
        triangles: NDArray[np.int32],
        options: ComposeOptions | None = None,
        reach: float = mesh.REACH,
        inside: float = 0.0,
        front: Mask | None = None,
        rims: Mask | None = None,
        at_rest: Points | None = None,
    ) -> None:
        """Prepare the target.

        Args:
            target: uint8 [H,W,3].
            crop: the target's crop, unit square to pixels.
            rest: the target's own points [478,2] in units of the crop.
            base: the target's reconstruction, drawn at rest.
            triangles: of the points' mesh, as of `face_landmarker.read_triangles`.
            options: how.
            reach: as of `mesh.over`.
            inside: how much of the inside of its own mouth must give way to the drawn one, 0 to 1, however far it is
                open: its lips will speak other words.
            front: [H,W], where something is before the face and stays; None: nowhere.
            rims: the same of glasses that were found, as of `glasses.rims`.
            at_rest: where the points [478,2] are when the face is at rest; None: as in the picture.
        """
        self.options = options or ComposeOptions()
        self._inside = inside
        self.target, self.rest, self.base, self._crop = target, rest, base, crop
        self._at_rest = rest if at_rest is None else at_rest
        self._mesh = mesh.over(rest, triangles, reach)
        self._cells = int(np.clip(2 * scale_of(crop), 256, 640))
        corners = apply(crop, np.vstack([self._mesh.ring, rest]))
        height, width = target.shape[:2]
        low = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, [width - 1, height - 1])
        high = np.clip(np.ceil(corners.max(0)).astype(int) + 3, low + 1, [width, height])
        self._box = slice(low[1], high[1]), slice(low[0], high[0])
        self._origin = low.astype(np.float32)
        y, x = np.mgrid[self._box]
        self._pixels = np.stack([x, y], 2).astype(np.float32)
        units = apply(inverse(crop), self._pixels.reshape(-1, 2).astype(np.float64))
        self._units = units.reshape(self._pixels.shape).astype(np.float32)  # [h,w,2], of the crop
        self._in_cells = mesh.in_cells(self._units, self._cells)
        self._in_folds = mesh.in_cells(self._units, _FOLD_CELLS)
        self._photo = np.asarray(target[self._box].astype(np.float32) / 255, np.float32)
        self._cover: Floats | None = None
        fronts = [(mask[self._box], edge) for mask, edge in ((front, DRAWN), (rims, FOUND)) if mask is not None]
        if fronts:
            self._photo, self._cover = parted(self._photo, scale_of(crop), *fronts)
        # A lid that is shut is the photo's, and lies where the eye was.
        self._eyes_at_rest = [_hole(rest[motion.eye_ring(eye)], _ROUND_EYES) for eye in (0, 1)]
        self._openings = [_opening(rest, eye) for eye in (0, 1)]
        self._lids = lids.Lids(self._photo, apply(crop, rest) - self._origin)
        self._parted = motion.parted(rest)
        skin, drawn_skin = self._skin_round_mouth()
        self._gain = _gain(skin, drawn_skin)
        self._dark = skin * _DARK

    def compose(
        self, goal: Points, face: Drawn, index: int, pts: int, seconds: float, turn: Turn | None = None
    ) -> Frame:
        """The target with its points at `goal` [478,2], then turned; between its lips is what `face` has there."""
        goal = self._mesh.unfolded(goal, self.rest)
        if turn:
            goal = turn(goal)
        placed = self._mesh.at(goal, self._cells)
        field = placed.field(self._source(goal))
        moved = self._eyes(goal, self._parted_up(field))
        photo = self._gaping(motion.gapes(goal, self.rest))
        picture = _remap(photo, self._pixels - self._origin + moved @ self._crop[:, :2].T.astype(np.float32))
        if self.options.folds > 0:
            shade = _remap(self._folds(goal, face), self._in_folds, cv2.INTER_LINEAR)
            picture = picture * np.exp(shade)[:, :, None]
        picture = self._lids.paint(picture, apply(self._crop, goal) - self._origin)
        picture = self._shut_lips(goal, picture)
        picture = self._mouth(goal, face, placed, picture)
        rgb, matte = self.target.copy(), np.zeros(self.target.shape[:2], np.uint8)
        if self._cover is not None:
            picture += self._cover[:, :, None] * (self.target[self._box].astype(np.float32) / 255 - picture)
        rgb[self._box] = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
        red, green, blue = (rgb[self._box][:, :, i] != self.target[self._box][:, :, i] for i in range(3))
        matte[self._box] = 255 * (red | green | blue)
        return Frame(rgb, index, pts, seconds, matte)

    def warped(self, goal: Points, face: Drawn) -> Rgb:
        """The drawn face bent to the goal where it belongs, on black: uint8 [H,W,3], for a look at the stages."""
        rgb = np.zeros_like(self.target)
        field = self._looked_up(self._mesh.field(goal, face.points, self._cells))
        seen = _remap(face.picture, (self._units + field) * len(face.picture) - 0.5, cv2.INTER_LINEAR)
        rgb[self._box] = np.rint(seen.clip(0, 1) * 255).astype(np.uint8)
        return rgb

    def _looked_up(self, image: Floats, part: Part = mesh.WHOLE) -> Floats:
        """[cells,cells,...] -> at the pixels of the box, or of a part of it."""
        return _remap(image, self._in_cells[part], cv2.INTER_LINEAR)

    def _bent(self, placed: mesh.Placed, source: Points, part: Part) -> Floats:
        """`placed.field(source)` at the pixels of a part of the box."""
        places = self._in_cells[part]
        low = np.floor(places.min((0, 1))).astype(int).clip(0, self._cells - 1)
        high = np.ceil(places.max((0, 1))).astype(int).clip(0, self._cells - 1) + 1
        field = placed.field(source, (slice(low[1], high[1]), slice(low[0], high[0])))
        return _remap(field, places - low.astype(np.float32), cv2.INTER_LINEAR)

    def _part(self, ring: Points, reach: float = 0.0) -> Part:
        """The rows and columns of the box in which what is inside a ring [N,2] may be seen, and so far round it."""
        cell = (1 + 2 * mesh.MARGIN) / self._cells
        margin = scale_of(self._crop) * (reach + 2 * cell) + 1
        return part_near(apply(self._crop, ring) - self._origin, margin, self._photo.shape)

    def _source(self, goal: Points) -> Points:
        """Where the photo has what comes to the goal [478,2]: its own points, but that what shuts hides its rim.

        The mesh's lids run inside the eye, whose rim would be left as a slit between lids that are shut; and its lips
        run along teeth, whose edge would be left as white specks.
        """
        source = self.rest.copy()
        for eye, (upper, lower) in enumerate(motion.LIDS):
            shut = 1 - min(max(_opening(goal, eye) / max(self._openings[eye], 1e-4), 0), 1)
            height = self.rest[lower] - self.rest[upper]
            source[upper] -= _RIM * shut * height
            source[lower] += _RIM * shut * height
        shut = 1 - min(max(motion.parted(goal) / max(self._parted, 1e-4), 0), 1)
        shut *= ramp(self._parted, *_AJAR)  # lips that touch in the photo show no teeth
        height = self.rest[LOWER_LIP] - self.rest[UPPER_LIP]
        source[UPPER_LIP] -= _RIM * shut * height
        source[LOWER_LIP] += _RIM * shut * height
        return source

    def _parted_up(self, field: Floats) -> Floats:
        """A field at the pixels of the box; where lids meet it jumps, and nothing lies between."""
        smooth, nearest = self._looked_up(field), _remap(field, self._in_cells, cv2.INTER_NEAREST)
        around = np.ones((2, 2))
        x, y = cv2.split(cv2.dilate(field, around) - cv2.erode(field, around))
        jumps = self._looked_up((np.maximum(x, y) > _JUMP).astype(np.float32)) > 0
        smooth[jumps] = nearest[jumps]
        return smooth

    # ---- eyes

    def _eyes(self, goal: Points, field: Floats) -> Floats:
        """The field [h,w,2] with the eyeballs' own motion between the lids."""
        moved = field.copy()
        for eye in (0, 1):
            ring = goal[motion.eye_ring(eye)]
            opening = _opening(goal, eye)
            if opening * self._cells < 0.5:  # shut
                continue
            part = self._part(ring)
            if not self._units[part].size:  # beyond the picture's edge
                continue
            alpha = self._looked_up(mesh.polygon(ring, self._cells), part)[:, :, None]
            corners, iris = list(motion.CORNERS[eye]), motion.IRISES[eye]
            back = _eye_back(goal[corners], self.rest[corners])  # of the whole eye
            glance = back(goal[iris]) - self.rest[iris]
            radius = np.linalg.norm(self.rest[iris + 1 : iris + 5] - self.rest[iris], axis=1).mean()
            place = back(self._units[part]).astype(np.float32)  # where it would be without a glance
            left, right = self.rest[corners, 0]
            centre = self.rest[iris, 0]
            # All of the iris moves; what is white gives way, less and less towards the corners.
            glance[0] = np.clip(glance[0], 0.6 * min(left - centre + radius, 0), 0.6 * max(right - centre - radius, 0))
            seen = centre + glance[0]
            x = place[:, :, 0]
            share_left = ((x - left) / max(seen - radius - left, 1e-4)).clip(0, 1)
            share_right = ((right - x) / max(right - seen - radius, 1e-4)).clip(0, 1)
            share = np.minimum(share_left, share_right)
            source = np.stack([x - share * glance[0], place[:, :, 1] - share * glance[1]], 2)
            # Lids wider than at rest: what they show is stretched, for the photo has nothing behind them.
            wider = max(opening / max(self._openings[eye], 1e-4), 1.0)
            middle = self.rest[iris, 1]
            source[:, :, 1] = middle + (source[:, :, 1] - middle) / wider
            moved[part] += alpha * (source - self._units[part] - moved[part])
        return moved

    # ---- folds

    def _folds(self, goal: Points, face: Drawn) -> Floats:
        """The logarithm of the shade [F,F] that the expression lays on the skin."""
        placed, skin = self._mesh.at(goal, _FOLD_CELLS), self._skin(goal)
        with_it, without = (_light(_seen(each, placed)) for each in (face, self.base))
        change = (np.log(with_it + 0.08) - np.log(without + 0.08)) * skin
        fine, coarse = (sigma * _FOLD_CELLS_OF_CROP for sigma in (self.options.fine, self.options.coarse))
        weights = [blurred(skin, sigma) + 1e-3 for sigma in (fine, coarse)]
        band = blurred(change, fine) / weights[0] - blurred(change, coarse) / weights[1]
        return np.asarray(self.options.folds * np.tanh(band / _DEEPEST) * _DEEPEST * blurred(skin, fine), np.float32)

    def _skin(self, goal: Points) -> Floats:
        """[F,F]: 1 on the face, without eyes and lips, soft at the edge."""
        hull = cv2.convexHull(goal[: motion.SKIN].astype(np.float32))[:, 0].astype(np.float64)
        face = np.asarray(cv2.erode(mesh.polygon(hull, _FOLD_CELLS), np.ones((5, 5))), np.float32)
        skin = blurred(face, 0.018 * _FOLD_CELLS_OF_CROP)
        eyes = [_hole(goal[motion.eye_ring(eye)], _ROUND_EYES) for eye in (0, 1)]
        for hole in (*self._eyes_at_rest, *eyes, _hole(goal[list(OUTER_LIPS)], _ROUND_LIPS)):
            skin = skin * (1 - hole)
        return np.asarray(skin, np.float32)

    # ---- mouth

    def _gaping(self, share: float) -> Floats:
        """The photo [h,w,3] for a mouth that gapes by a share of 0 to 1: without the creases of a shut one."""
        if share == 0 or self._crease_free is None:
            return self._photo
        part, change = self._crease_free
        photo = self._photo.copy()
        photo[part] += share * change
        return photo

    @cached_property
    def _crease_free(self) -> tuple[Part, Floats] | None:
        return mouth.crease_free(self._photo, apply(self._crop, self.rest) - self._origin)

    def _shut_lips(self, goal: Points, picture: Floats) -> Floats:
        """The picture with a dark line where the photo's open mouth is shut: its teeth are squeezed to specks there."""
        parted = motion.parted(goal)
        share = ramp(1 - parted / max(self._parted, 1e-4), 0.3, 0.7) * ramp(self._parted, *_AJAR)
        share *= 1 - _opened(parted, 0)
        if share == 0:
            return picture
        ring = goal[list(INNER_LIPS)]
        corners = goal[[INNER_LIPS[0]]], goal[[INNER_LIPS[10]]]
        middle = np.vstack([corners[0], (goal[UPPER_LIP] + goal[LOWER_LIP]) / 2, corners[1]])
        line = mesh.polygon(ring, self._cells)
        thick = max(1, round(_LINE * self._cells))
        places = np.rint(mesh.in_cells(middle, self._cells) * 16).astype(np.int32)
        cv2.polylines(line, [places], False, 1.0, thick, cv2.LINE_AA, shift=4)
        alpha = _LINE_ALPHA * share * self._looked_up(blurred(line, self.options.lips * self._cells / 2))[:, :, None]
        return np.asarray(picture + alpha * (self._dark - picture), np.float32)

    def _mouth(self, goal: Points, face: Drawn, placed: mesh.Placed, picture: Floats) -> Floats:
        """The picture with what the drawn face has between its lips, as far as the photo has nothing there."""
        parted = motion.parted(goal)
        # A mouth that is open in the photo keeps its teeth until it opens further.
        share = max(_opened(parted, self._parted), self._inside * _opened(parted, 0))
        if share == 0:
            return picture
        ring = goal[list(INNER_LIPS)]
        part = self._part(ring, 4 * self.options.lips * (1 + 2 * mesh.MARGIN))
        if not self._units[part].size:  # beyond the picture's edge
            return picture
        alpha = mesh.polygon(ring, self._cells)
        alpha = share * self._looked_up(blurred(alpha, self.options.lips * self._cells), part)
        size = len(face.picture)
        drawn = mouth.hollow(face.picture, face.points, motion.gapes(goal, self._at_rest))
        scale = scale_of(self._crop) / size
        if scale < 0.7:  # a face smaller than what was drawn must not alias
            drawn = blurred(drawn, 0.5 / scale)
        places = self._units[part] + self._bent(placed, face.points, part)
        places[:, :, 1] = mouth.hung(places, face.points, parted / max(motion.parted(face.points), 1e-4))
        seen = _remap(drawn, places * size - 0.5) * self._gain
        # A drawn mouth that has stayed shut has nothing to show: a dark one then.
        seen = self._dark + ramp(motion.parted(face.points) / parted, 0.15, 0.4) * (seen - self._dark)
        out = picture.copy()
        out[part] += alpha[:, :, None] * (seen - out[part])
        return out

    def _skin_round_mouth(self) -> tuple[Floats, Floats]:
        """The colour of the skin round the mouth, [3], in the photo and in the drawn face at rest."""
        ring = self.rest[list(OUTER_LIPS)]
        wider = ring.mean(0) + 1.6 * (ring - ring.mean(0))
        here = mesh.polygon(wider, _FOLD_CELLS) * (1 - mesh.polygon(ring, _FOLD_CELLS)) > 0.5
        places = apply(self._crop, mesh.grid(_FOLD_CELLS)[here].astype(np.float64)) - self._origin
        photo = _remap(self._photo, places[:, None].astype(np.float32), cv2.INTER_LINEAR)
        drawn = _seen(self.base, self._mesh.at(self.rest, _FOLD_CELLS))[here]
        return photo.mean((0, 1)), drawn.mean(0)


def _gain(skin: Floats, drawn: Floats) -> Floats:
    """What the colours [3] between drawn lips are multiplied by: teeth take the light of the skin, half of its hue."""
    ratio = np.log(skin.clip(0.02) / drawn.clip(0.02))
    light = ratio @ np.array([0.299, 0.587, 0.114])
    return np.asarray(np.exp(light + 0.5 * (ratio - light)).clip(0.5, 2), np.float32)


def _seen(face: Drawn, placed: mesh.Placed) -> Floats:
    """A drawn face bent to where a mesh is: [cells,cells,3]."""
    places = mesh.grid(len(placed.labels)) + placed.field(face.points)
    return _remap(face.picture, places * len(face.picture) - 0.5, cv2.INTER_LINEAR)


def _hole(ring: Points, reach: float) -> Floats:
    """[F,F]: 1 inside a ring of points and so far round it, as a share of the crop's side."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(reach * _FOLD_CELLS_OF_CROP) + 1,) * 2)
    return np.asarray(cv2.dilate(mesh.polygon(ring, _FOLD_CELLS), disc), np.float32)


def _light(picture: Floats) -> Floats:
    """How light an RGB picture [h,w,3] is: [h,w]."""
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


_FOLD_CELLS = 256
"""Cells that folds are worked out on: they are soft."""
_FOLD_CELLS_OF_CROP = _FOLD_CELLS / (1 + 2 * mesh.MARGIN)
_ROUND_EYES, _ROUND_LIPS = 0.018, 0.03
"""How far round them no folds are laid, as shares of the crop's side."""
_DARK = np.array([0.3, 0.15, 0.14], np.float32)
"""The colour of a mouth that nothing lights, of the skin round it."""
_LINE, _LINE_ALPHA = 0.004, 0.8
"""How thick the line between lips that are shut is, of the cells, and how dark."""
_AJAR = 0.006, 0.02
"""How far apart a photo's lips are from which on its teeth are seen, and from which on all of them."""
_DEEPEST = 0.15
"""The logarithm of the shade of the deepest fold."""
_JUMP = 0.008
"""A difference of motion from one cell to the next that no skin has, in units of the crop."""


def _eye_back(corners: Points, rest: Points) -> Callable[[NDArray[np.floating]], NDArray[np.float64]]:
    """Takes places [...,2] back to where an eye was, whose corners [2,2] have moved: turned, and as wide as it was."""

    def axes(pair: Points) -> tuple[Points, float]:
        x, y = pair[1] - pair[0]
        width = max(float(np.hypot(x, y)), 1e-6)
        return np.array([[x, y], [-y, x]]) / width, width

    (now, width), (then, wide) = axes(corners), axes(rest)
    matrix = now.T @ np.diag([wide / width, 1]) @ then
    middle, middle_then = corners.mean(0), rest.mean(0)
    return lambda places: np.asarray((places - middle) @ matrix + middle_then)


_RIM = 0.25
"""How far beyond the mesh's lids an eye's rim reaches, of the eye's opening; and teeth beyond its lips."""


def _opening(points: Points, eye: int) -> float:
    upper, lower = motion.LIDS[eye]
    return float((points[lower, 1] - points[upper, 1]).mean())


def _opened(parted: float, before: float) -> float:
    """How much of a mouth's inside is new, whose lips were so far apart before: 0 to 1."""
    return ramp(parted - before, 0.002, 0.008) * ramp(parted / max(before, 0.012), 1.1, 1.6)


def _remap(image: Floats, places: Floats, how: int = cv2.INTER_CUBIC) -> Floats:
    """An image [h,w] or [h,w,C] at places [H,W,2] (x,y), its edge repeated."""
    x, y = (np.ascontiguousarray(places[:, :, i], np.float32) for i in (0, 1))
    return np.asarray(cv2.remap(image, x, y, how, borderMode=cv2.BORDER_REPLICATE), np.float32)
