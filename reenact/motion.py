"""Where a driver's motion brings the points of a target's face.

They are points of the Face Landmarker's mesh, turned by the rigid fit of its canonical face to look into the camera, so
that what is left of a driver's motion is its expression, and scaled to that face's centimetres, so that it fits a face
of any size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from .expression import ACTED, REGIONS, SMILING
from .face_landmarker import BLENDSHAPES, IBUG_68
from .geometry import ramp
from .types import Floats
from .weights import read_tensors, shipped

SKIN = 468
"""The mesh's points from here on are the irises': five an eye, its middle first."""

# Numbers of the mesh's points; left and right as in the image.
# fmt: off
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
"""A ring."""
_CHEEKS_AND_JAW = (
    50, 280, 205, 425, 36, 266, 187, 411, 207, 427, 64, 294, 98, 327,
    132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361,
)
_BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
_STILL = (10, 67, 297, 109, 338, 54, 284, 127, 356, 234, 454, 6, 197, 195, 5, 4, 162, 389, 168, 33, 133, 362, 263)
# fmt: on
LIDS = (
    ([246, 161, 160, 159, 158, 157, 173], [7, 163, 144, 145, 153, 154, 155]),
    ([398, 384, 385, 386, 387, 388, 466], [382, 381, 380, 374, 373, 390, 249]),
)
"""Of each eye the upper lid and the lower, from left to right, without the corners."""
CORNERS = ((33, 133), (362, 263))
"""Of each eye, left and right in the image."""
UPPER_LIP, LOWER_LIP = list(INNER_LIPS[:10:-1]), list(INNER_LIPS[1:10])
"""From the corner on the left to the one on the right, without both."""
HOLES = [*INNER_LIPS, *(i for eye in LIDS for lid in eye for i in lid), *(i for eye in CORNERS for i in eye)]
"""The rims of mouth and eyes."""
PARTS: dict[str, tuple[int, ...]] = {
    "mouth": (*OUTER_LIPS, *INNER_LIPS, *_CHEEKS_AND_JAW),
    "eyes": tuple(i for eye in LIDS for lid in eye for i in lid),
    "brows": _BROWS,
}
"""Regions, as of `--regions`, and points of the mesh that move with them alone."""
BROWS_SEEN = 0.5
"""How much of a brow's motion the landmarker sees. Of photos whose brows were moved by known lengths it saw 0.4 to
0.95; with 0.5 what it sees of a target's is nearest to what it saw of the driver's (docs/method.md)."""
MORE = 0.25
"""Centimetres: brows go no further than so much beyond what is seen, for a forehead ends."""
_UNSURE = ("mouthClose", "mouthFrown", "jawLeft", "jawRight", "jawForward")
OF_REGION = {
    region: np.array([name.startswith(REGIONS[region]) and not name.startswith(_UNSURE) for name in BLENDSHAPES])
    for region in ACTED
}
"""Which of the 51 blendshapes are of each region of `expression.ACTED`, but for those whose motion the basis hardly
knows: people show so little of them that a unit is 5 to 34 centimetres."""
IRISES = (468, 473)
WIDER = 1.4
"""How much wider than the driver's a mouth may count, or narrower: a smile in the photo makes it wide, too."""
WIDEST = 1.5
"""How much wider than in the anchor frame an eye may open: lids are short, and their errors are not."""
STRETCHED = 1.3
"""How much wider than in the picture an eye may be made that the picture has half shut: a shut one stays shut."""
GAPES = 0.15, 0.4
"""How much taller for its width than in the photo a mouth must be to gape in part, and all the way."""
BENT, STRAIGHTENED = 0.9, 0.5
"""Centimetres: how far from the lips' line what bends them is felt; and how much of what bends them otherwise than the
driver's is taken from them: all of it is read as a pucker."""
SHUT, HALF_SHUT = 0.18, 0.5
"""The share of its opening at which an eye counts as shut, for a blink is over before its lids are seen to touch; and
the share from which that is no longer made up for."""


@dataclass(frozen=True, eq=False)
class Basis:
    """How a face's mesh moves with its blendshapes, over many people; trained by tools/train_motion.py."""

    moves: Floats  # [51,478,3]: centimetres a unit of each blendshape
    neutral: Floats  # [51]: the blendshapes of a face at rest

    @classmethod
    @cache
    def load(cls) -> Basis:
        """What the package ships.

        Raises:
            WeightsError: the file is not there, or damaged.
        """
        stored = read_tensors(shipped("motion.safetensors"))
        return cls(stored["basis"].astype(np.float32), stored["neutral"])

    def without(self, meshes: Floats, blendshapes: Floats, wanted: Floats) -> Floats:
        """Where the points of faces [...,478,3] would be with blendshapes `wanted` [51] instead of their own [...,51].

        What is a person's own shape stays.
        """
        change = np.tensordot((blendshapes - wanted).astype(np.float32), self.moves, 1)
        return np.asarray(meshes - change, np.float32)

    def lips_together(self, mesh: Floats, apart: float) -> Floats:
        """A face's points [478,3] with its jaw raised until its lips are only so many centimetres apart."""
        near = share_of("mouth", mesh)
        jaw = near[:, None] * self.moves[BLENDSHAPES.index("jawOpen")]
        too_far = between_lips(mesh) - apart
        return mesh if too_far <= 0 else np.asarray(mesh - too_far / between_lips(jaw) * jaw, np.float32)

    def smile(self, blendshapes: Floats) -> Floats:
        """What a smile has moved in a face with these blendshapes [51]: centimetres [478,3]."""
        smiling = np.array([name.startswith(SMILING) for name in BLENDSHAPES])
        smile = np.where(smiling, (blendshapes - self.neutral).clip(0), 0).astype(np.float32)
        return np.tensordot(smile, self.moves, 1)


def between_lips(mesh: Floats) -> float:
    """How far apart lips are in a mesh [478,3] whose y is up, or how far a motion of it parts them."""
    return float((mesh[UPPER_LIP, 1] - mesh[LOWER_LIP, 1]).mean())


def parted(points: NDArray[np.floating]) -> float:
    """How far apart the lips of a face [478,2] are, y down, in its units."""
    return float((points[LOWER_LIP, 1] - points[UPPER_LIP, 1]).mean())


def mouth_width(points: NDArray[np.floating]) -> float:
    """From corner to corner of a face's mouth, in the units of its points [478,2]."""
    return float(np.linalg.norm(points[INNER_LIPS[10]] - points[INNER_LIPS[0]]))


def gapes(points: NDArray[np.floating], rest: NDArray[np.floating]) -> float:
    """How much rounder than at rest a mouth is: 0, as a smile or speech, to 1, gaping. Both [478,2]."""
    now, before = (parted(each) / max(mouth_width(each), 1e-6) for each in (points, rest))
    return ramp(now - before, *GAPES)


def eye_ring(eye: int) -> list[int]:
    """The points round an eye, 0 the left one in the image, from its left corner over the upper lid."""
    upper, lower = LIDS[eye]
    left, right = CORNERS[eye]
    return [left, *upper, right, *lower[::-1]]


def shares(rest: NDArray[np.floating], strength: Mapping[str, float]) -> NDArray[np.float64]:
    """How much of the driver's motion each point [478] takes: what lies between regions takes some of each.

    `rest`: the face's points [478,2] or [478,3].
    """
    near, values = [], []
    for points, value in (*((PARTS[p], strength[p]) for p in PARTS), (_STILL, 0.0)):
        gaps = cdist(rest, rest[list(points)]).min(1)
        near.append(1 / (gaps**2 + 1e-6))
        values.append(value)
    weights = np.array(near)
    out: NDArray[np.float64] = (weights * np.array(values)[:, None]).sum(0) / weights.sum(0)
    out[SKIN:] = strength["eyes"]
    return out


def share_of(region: str, rest: NDArray[np.floating]) -> NDArray[np.float64]:
    """How much each point [478] moves with one of `PARTS`, as by `shares`: 0 to 1."""
    return shares(rest, {part: float(part == region) for part in PARTS})


def taken(
    seen: NDArray[np.floating], rest: NDArray[np.floating], strength: Mapping[str, float], centimetre: float
) -> NDArray[np.float64]:
    """What a face takes of a motion, by `shares`; its brows go farther than they were seen to (`BROWS_SEEN`, `MORE`).

    Args:
        seen: the motion of the points [...,478,2], as the landmarker sees it.
        rest: the face's points [478,2].
        strength: by region.
        centimetre: how long one is in their units.
    """
    lacks = (1 / BROWS_SEEN - 1) * np.asarray(seen, np.float64)
    length = np.linalg.norm(lacks, axis=-1, keepdims=True)
    brows = shares(rest, {"mouth": 0.0, "eyes": 0.0, "brows": strength["brows"]})
    more = brows[:, None] * lacks / (1 + length / (MORE * centimetre))
    return np.asarray(shares(rest, strength)[:, None] * seen + more)


def centimetre(to_rest: NDArray[np.float64]) -> float:
    """How long one is where a step in centimetres is `to_rest` [2,3]."""
    return float(np.linalg.norm(to_rest, axis=1).mean())


FARTHEST_TURN = 20.0
"""Degrees: beyond, a photo has too little of a head's other side."""


def turned(
    points: NDArray[np.floating],
    mesh: NDArray[np.floating],
    pose: NDArray[np.floating],
    since: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Points of a face [478,2], its head turned as another's did.

    Args:
        points: the face's, in units of its crop, y down.
        mesh: the face at rest [478,3], in the same units; its depths are what turning moves sideways.
        pose: the other's yaw, pitch and roll [3] in degrees, as of `face_landmarker.head_pose`.
        since: the same when it began. Of the change each angle counts up to `FARTHEST_TURN`.
    """
    now, before = Rotation.from_euler(_ORDER, np.stack([pose, since]) * _SIGNS, degrees=True)
    angles = (now * before.inv()).as_euler(_ORDER, degrees=True).clip(-FARTHEST_TURN, FARTHEST_TURN)
    # The picture's y and z run against the model's.
    matrix = Rotation.from_euler(_ORDER, angles, degrees=True).as_matrix() * np.outer([1, -1, -1], [1, -1, -1])
    pivot = mesh[list(_TEMPLES)].mean(0)
    deep = np.column_stack([points, mesh[:, 2]]) - pivot
    return np.asarray((deep @ matrix.T + pivot)[:, :2])


_ORDER, _SIGNS = "YXZ", (1, -1, -1)
"""Of the rotations that make up a pose, outermost first, and how their angles count."""
_TEMPLES = (127, 356)
"""A head turns round what is between them."""


def placed(face: NDArray[np.floating], pose: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The way back from `face_landmarker.facing` into the picture: [2,4], of centimetres x, y, z, 1 to its x, y.

    Args:
        face: [478,3] in centimetres, looking into the camera.
        pose: its yaw, pitch and roll [3] in degrees in the picture, as of `face_landmarker.head_pose`.
        points: its 68 points [68,2] in the picture, which tell its place and size.
    """
    matrix = Rotation.from_euler(_ORDER, pose * _SIGNS, degrees=True).as_matrix()
    axes = matrix[:2] * [[1], [-1]]  # the picture's y runs down
    seen = face[list(IBUG_68)] @ axes.T
    middle, middle_there = seen.mean(0), points.mean(0)
    scale = ((seen - middle) * (points - middle_there)).sum() / np.square(seen - middle).sum()  # least squares
    return np.column_stack([scale * axes, middle_there - scale * middle])


def less_smiling(
    points: NDArray[np.floating], smile: Floats, share: float, to_rest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A face's points [478,2] with a share of its smile given up; see `expression.rounded`.

    Args:
        points: in any units.
        smile: what it has moved, as of `Basis.smile`.
        share: 1 is all of it.
        to_rest: as of `goals`.
    """
    if share == 0:
        return np.asarray(points, np.float64)
    mouth = shares(points, {"mouth": share, "eyes": 0.0, "brows": 0.0})
    return np.asarray(points - mouth[:, None] * (smile @ to_rest.T))


def goals(
    driver: Floats,
    anchor: Floats,
    rest: NDArray[np.floating],
    to_rest: NDArray[np.float64],
    strength: Mapping[str, float],
) -> NDArray[np.float64]:
    """Where the target's points should be: at rest, moved by the driver's change since its anchor frame.

    A mouth moves to the sides by its own width, so that rounded lips of one narrower than the driver's are not a slit.
    Where it gapes its lips are bent half as the driver's, whatever the line is in which they meet.
    Lids open by the driver's share of what they did, so that they shut when the driver's do, however wide the eye.
    Brows go farther than the driver's are seen to; see `taken`.

    Args:
        driver: [T,478,3], as of `FaceTrack.mesh`.
        anchor: the mesh that motion starts from: [478,3], or one a frame [T,478,3].
        rest: the target's points [478,2], in any units.
        to_rest: [2,3], what a change in centimetres of a face that looks into the camera is in those units.
        strength: 1 is all of the change, by region.

    Returns:
        [T,478,2] in the units of `rest`.
    """
    change = driver - anchor
    change[..., 0] *= _sideways(anchor, rest, to_rest)
    moved = rest + taken(change @ to_rest.T, rest, strength, centimetre(to_rest))
    moved += _rounded(moved, anchor, rest, to_rest)
    for upper, lower in LIDS:
        opening = (driver[:, upper, 1] - driver[:, lower, 1]).mean(1)  # [T]; y is up
        usual = (anchor[..., upper, 1] - anchor[..., lower, 1]).mean(-1).clip(1e-3)
        left = opening / usual
        change = np.where(left < HALF_SHUT, (left - SHUT).clip(0) * HALF_SHUT / (HALF_SHUT - SHUT), left) - 1
        open_by = (1 + strength["eyes"] * change).clip(0, WIDEST)
        moved[:, upper] = moved[:, lower] + open_by[:, None, None] * (rest[upper] - rest[lower])
    # Lips that are asked to cross, as when the driver presses its own more than in the anchor frame, only meet.
    # As they may already in the photo, by a hair.
    crossing = (
        moved[:, UPPER_LIP, 1] - moved[:, LOWER_LIP, 1] - (rest[UPPER_LIP, 1] - rest[LOWER_LIP, 1]).clip(0)
    ).clip(0)
    moved[:, LOWER_LIP, 1] += crossing / 2
    moved[:, UPPER_LIP, 1] -= crossing / 2
    return moved


def _sideways(anchor: Floats, rest: NDArray[np.floating], to_rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far points [...,478] go to the side where the driver's go 1: near the mouth, as far as it is as wide."""
    left, right = INNER_LIPS[0], INNER_LIPS[10]
    own = mouth_width(rest) / np.linalg.norm(to_rest[:, 0])
    drivers = np.linalg.norm(anchor[..., right, :2] - anchor[..., left, :2], axis=-1)
    wider = (own / drivers.clip(1e-3)).clip(1 / WIDER, WIDER)
    return np.asarray(1 + share_of("mouth", rest) * (np.expand_dims(wider, -1) - 1))


def _rounded(
    moved: NDArray[np.float64], anchor: Floats, rest: NDArray[np.floating], to_rest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How points [T,478,2] move on, so that lips that meet in a curve do not keep it in a mouth that gapes.

    What is compared is the driver's line as the target's head is turned: a mouth bulges, and so hangs in one that nods.
    """
    corners, middle = [INNER_LIPS[0], INNER_LIPS[10]], [INNER_LIPS[5], INNER_LIPS[15]]
    width = max(mouth_width(rest), 1e-6)
    along = (rest[corners[1]] - rest[corners[0]]) / width
    down = np.array([-along[1], along[0]])
    off = rest - rest[corners].mean(0)
    hangs = off[middle].mean(0) @ down  # the lips' middle, below their corners
    drivers = (anchor[..., middle, :].mean(-2) - anchor[..., corners, :].mean(-2)) @ to_rest.T @ down
    aside, below = off @ along / (width / 2), off @ down / centimetre(to_rest)
    near = (1 - aside**2).clip(0) * np.exp(-np.square(below / BENT))
    by = STRAIGHTENED * np.array([gapes(points, rest) for points in moved]) * (drivers - hangs)
    return np.asarray(by[:, None, None] * near[:, None] * down)


def openable(goal: NDArray[np.float64], own: NDArray[np.floating]) -> NDArray[np.float64]:
    """A goal [478,2] whose eyes open no farther than they can in a picture where the points are at `own` [478,2]."""
    out = goal.copy()
    for upper, lower in LIDS:
        wanted, there = ((points[lower, 1] - points[upper, 1]).mean() for points in (goal, own))
        if wanted > (most := max(STRETCHED * there, 0.0)):
            out[upper] = goal[lower] + most / wanted * (goal[upper] - goal[lower])
    return out
