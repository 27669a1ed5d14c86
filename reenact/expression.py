"""A differentiable measure of a face's expression: the D2 that the paper's equation 2 asks for.

The Face Landmarker's blendshapes, and distances between landmarks that its blendshapes are slack about:
lips, lids, brows. Vertical distances are in units of the nose's length and horizontal ones in units of the
distance between the eyes, so that turning and nodding, which shorten both alike, cancel out. Landmarks know how far
lips are apart, not what is between them, so a generator would answer a cry with bared teeth; how much of the opening
is dark is therefore a number of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .face_landmarker import BLENDSHAPES, FaceLandmarkerNets, crop, roi_of_points, to_68, transform
from .types import FaceTrack, Landmarks

# Blendshapes that the network hardly ever moves or that say nothing of a face seen by a camera.
_IDLE = {"cheekPuff", "jawForward", "noseSneerLeft", "noseSneerRight", "cheekSquintLeft", "cheekSquintRight"}
USED = tuple(i for i, name in enumerate(BLENDSHAPES) if name not in _IDLE)

# Name -> (pairs of points whose mean distance it is, along x or y, in units of the eyes' or the nose's size).
DISTANCES: dict[str, tuple[tuple[tuple[int, int], ...], int]] = {
    "lips open": (((61, 67), (62, 66), (63, 65)), 1),
    "mouth width": (((48, 54),), 0),
    "jaw": (((33, 8),), 1),
    "corner left": (((33, 48),), 1),
    "corner right": (((33, 54),), 1),
    "upper lip": (((33, 51),), 1),
    "lid left": (((37, 41), (38, 40)), 1),
    "lid right": (((43, 47), (44, 46)), 1),
    "brow left": (((19, 36), (21, 39)), 1),
    "brow right": (((24, 45), (22, 42)), 1),
}
DARK = "mouth dark"
"""How much of the opening between the lips is darker than skin, in noses."""
_WEIGHTS = {"lips open": 4.0, "mouth width": 3.0, "lid left": 6.0, "lid right": 6.0, DARK: 8.0}
SMILING = ("mouthSmile", "mouthStretch", "mouthDimple")
"""What blendshapes that draw the corners of a mouth apart begin with ..."""
ROUND = ("mouthPucker", "mouthFunnel")
"""... and those that draw them together ..."""
ALL_ROUND = 0.5
"""... and from which sum of the latter on nothing of the former can be left."""
REGIONS: dict[str, tuple[str, ...]] = {
    "eyes": ("eye", "lid"),
    "brows": ("brow",),
    "mouth": ("mouth", "jaw", "lips", "corner", "upper"),
}
NAMES = (*(BLENDSHAPES[i] for i in USED), *DISTANCES, DARK)
"""What each of the measure's numbers is."""
WEIGHTS = torch.tensor([1.0] * len(USED) + [_WEIGHTS.get(name, 2.0) for name in (*DISTANCES, DARK)])
"""How much an error in each counts: a blendshape's unit is its whole range, a distance's a nose or two eyes."""


def region_of(name: str) -> str:
    """'mouth', 'eyes' or 'brows': where a number of the measure belongs."""
    return next(region for region, starts in REGIONS.items() if name.startswith(starts))


def by_region(shares: Mapping[str, float]) -> Tensor:
    """A share for each region -> one for each number of the measure [M]."""
    return torch.tensor([shares[region_of(name)] for name in NAMES])


def measure(points: Tensor, blendshapes: Tensor, inside: Tensor) -> Tensor:
    """Expressions [N,M] of faces, one column for each of `NAMES`.

    Args:
        points: [N,68,2] in pixels; any scale and place, roughly upright after removing the roll of the eyes.
        blendshapes: [N,51].
        inside: how light it is between the lips [N]; see `light_inside`.
    """
    points = _upright(points)
    across = (points[:, 36:42].mean(1) - points[:, 42:48].mean(1)).norm(dim=1)  # [N]
    nose = (points[:, 33] - points[:, 27]).norm(dim=1)
    columns = []
    for pairs, axis in DISTANCES.values():
        gaps = torch.stack([points[:, b, axis] - points[:, a, axis] for a, b in pairs], 1).mean(1)
        columns.append(gaps / (across if axis == 0 else nose))
    columns.append(columns[list(DISTANCES).index("lips open")] * (1 - inside))
    return torch.cat([unsquashed(blendshapes[:, list(USED)]), torch.stack(columns, 1)], 1)


# Along the inner lips from near one corner to near the other, and how far from the upper to the lower one to look.
_UPPER_LIP, _LOWER_LIP = (60, 61, 62, 63, 64), (60, 67, 66, 65, 64)
_DOWN = torch.linspace(0.15, 0.85, 6)
_CHEEKS = ((31, 1), (31, 2), (31, 3), (35, 13), (35, 14), (35, 15))  # skin lies halfway between these


def light_inside(pictures: Tensor, points: Tensor) -> Tensor:
    """How light faces are between their lips [N], of the lightness of their cheeks: teeth about 1, a dark mouth 0.4.

    Args:
        pictures: [N,3,S,S] in [-1,1].
        points: [N,68,2] in units of the picture. Where the lips touch the answer means nothing.
    """
    upper, lower = (_between(points[:, list(lip)]) for lip in (_UPPER_LIP, _LOWER_LIP))  # [N,7,2]
    down = _DOWN.to(points)[:, None, None]
    mouth = upper[:, None] * (1 - down) + lower[:, None] * down  # [N,6,7,2]
    skin = torch.stack([points[:, list(pair)].mean(1) for pair in _CHEEKS], 1)[:, None]
    luma = (pictures * pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True) * 0.5 + 0.5
    seen, usual = (
        F.grid_sample(luma, 2 * places - 1, padding_mode="border", align_corners=False).mean((1, 2, 3))
        for places in (mouth, skin)
    )
    return (seen / usual.clamp(min=0.05)).clamp(0, 2)


def _between(line: Tensor) -> Tensor:
    """[N,5,2] -> [N,7,2]: the points of a line without its ends, and those halfway."""
    return torch.cat([line[:, 1:-1], (line[:, 1:] + line[:, :-1]) / 2], 1)


def unsquashed(blendshapes: Tensor) -> Tensor:
    """Blendshapes before the network's final sigmoid, a fifth as large: these answer evenly to a moving face.

    A mouth that does not smile at all has a blendshape of 0.001 whose gradient is nil; before the sigmoid it is not.
    """
    return torch.logit(blendshapes, eps=1e-6) * 0.2


def blendshapes(seen: Tensor) -> Tensor:
    """Those of expressions [...,M], back in 0 to 1 and in the network's order [...,51]; 0 where they are not `USED`."""
    out = seen.new_zeros(*seen.shape[:-1], len(BLENDSHAPES))
    out[..., list(USED)] = _squashed(seen[..., : len(USED)])
    return out


def _squashed(x: Tensor) -> Tensor:
    """The inverse of `unsquashed`."""
    return torch.sigmoid(5 * x)


LIMITS = (-0.7, 0.7)
"""Between these, blendshapes of 0.03 and 0.97, unsquashed blendshapes say something; beyond lies noise."""


def limited(measures: Tensor) -> Tensor:
    """Measures [...,M] with their blendshapes kept within `LIMITS`."""
    count = len(USED)  # what follows the blendshapes, distances and whatever a caller appends, stays
    return torch.cat([measures[..., :count].clamp(*LIMITS), measures[..., count:]], -1)


def _upright(points: Tensor) -> Tensor:
    """The points turned so that the eyes are level."""
    # By the corners of the eyes: a wink must not tilt the line.
    along = points[:, [42, 45]].mean(1) - points[:, [36, 39]].mean(1)  # [N,2]
    cosine, sine = (along / along.norm(dim=1, keepdim=True)).unbind(1)
    turn = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)  # [N,2,2]
    return points @ turn.mT


def goals(seen: Tensor, anchor: Tensor | None, rest: Tensor, strength: Tensor | float = 1.0) -> Tensor:
    """What the target should show: its own expression and the driver's change since the anchor frame.

    Args:
        seen: the driver's expressions [T,M].
        anchor: that of its anchor frame [M]; None: the driver's expression itself, whatever the target's own is.
        rest: the target's own [M].
        strength: 1 is all of the change; or one for each number of the measure [M].
    """
    return limited(rest) + strength * (limited(seen) - limited(rest if anchor is None else anchor))


def rounded(seen: Tensor, since: Tensor) -> Tensor:
    """How far mouths have become round: expressions now and before [...,M] -> [...], 1 where no smile can be left.

    The muscle round the mouth works against those that draw its corners apart, so a photo's own smile gives way to it.
    """
    columns = [NAMES.index(name) for name in ROUND]
    rise = _squashed(seen[..., columns]) - _squashed(since[..., columns])
    return (rise.sum(-1) / ALL_ROUND).clamp(0, 1)


def less_smiling(rest: Tensor, neutral: Tensor, share: Tensor) -> Tensor:
    """Expressions with a share of their smile, as far as blendshapes tell it, given up: [...,M].

    Args:
        rest: [...,M].
        neutral: blendshapes of a face at rest [51].
        share: [...]; 1 is all of it.
    """
    smiling = torch.tensor([name.startswith(SMILING) for name in NAMES], device=rest.device)
    still = limited(at_rest(rest, neutral))
    change = torch.where(smiling, (still - rest).clamp(max=0), 0)
    return rest + share[..., None] * change


def at_rest(seen: Tensor, neutral: Tensor) -> Tensor:
    """The expressions of faces that show `seen` [...,M], were they at rest: lips shut, blendshapes `neutral` [51].

    For want of a frame in which they are; other distances stay as they are.
    """
    still = seen.clone()
    still[..., : len(USED)] = unsquashed(neutral[None, list(USED)])[0].to(seen)
    still[..., [NAMES.index("lips open"), NAMES.index(DARK)]] = 0
    return still


ACTED = {
    "mouth": ("mouthSmile", "mouthPucker", "mouthFunnel", "mouthUpperUp", "mouthLowerDown", "jawOpen"),
    "brows": ("browInnerUp",),
}
"""By region, what blendshapes begin with that tell that it is not at rest ..."""
SLIGHT, PLAIN = (0.2, 0.1), (0.45, 0.2)
"""... and how much more of one than another face at rest, and how many more noses between the lips, some faces have at
rest; and what none has."""


def rested(seen: Tensor, rest: Tensor, neutral: Tensor) -> Tensor:
    """Faces' expressions [...,M] as they would be at rest, as far as mouth and brows surely are not: [...,M].

    For clips without a moment of rest: a smile that lasts is no face's own. In clips with one, the frames most like a
    photo showed at most 0.15 more of each of `ACTED` than it, with lips at most 0.09 noses farther apart; in scenes
    without, 0.43 and more, or 0.17 (docs/method.md). Where a region is restless all its blendshapes are taken back to
    the other face's or, if those are less, to a neutral one's; of distances only that between the lips is.

    Args:
        seen: [...,M].
        rest: another face at rest [...,M]; as much as it smiles, any may.
        neutral: blendshapes of a face at rest [51].
    """
    out = seen.clone()
    usual = torch.maximum(at_rest(rest, neutral), rest)
    lips = NAMES.index("lips open")
    apart = _share((seen - rest)[..., lips], SLIGHT[1], PLAIN[1])
    for region, names in ACTED.items():
        columns = [i for i, name in enumerate(NAMES) if name.startswith(names)]
        more = (_squashed(seen[..., columns]) - _squashed(usual[..., columns])).max(-1).values
        share = _share(more, SLIGHT[0], PLAIN[0])
        if region == "mouth":
            share = torch.maximum(share, apart)
            inner = [lips, NAMES.index(DARK)]
            out[..., inner] += share[..., None] * (rest[..., inner] - seen[..., inner]).clamp(max=0)
        own = [i for i in range(len(USED)) if region_of(NAMES[i]) == region]
        out[..., own] += share[..., None] * (usual[..., own] - seen[..., own]).clamp(max=0)
    return out


def _share(x: Tensor, low: float, high: float) -> Tensor:
    return ((x - low) / (high - low)).clamp(0, 1)


def distance(a: Tensor, b: Tensor, strength: Tensor | None = None) -> Tensor:
    """How different expressions look: [...,M] and [...,M] -> [...]; numbers without `strength` [M] do not count."""
    weights = WEIGHTS if strength is None or not strength.any() else WEIGHTS * (strength != 0)
    return ((limited(a) - limited(b)) * weights.to(a.device)).abs().sum(-1)


_LIPS_OPEN = 40.0
"""How much more than other differences that counts: a mouth that is taken for shut while it is open can't open."""


_MADE_UP = 3.0
"""How much more than other differences counts what would have to be taken from a frame to make a rest of it."""


def nearest_rest(seen: Tensor, rest: Tensor, strength: Tensor | None = None, neutral: Tensor | None = None) -> int:
    """The frame of a clip [T,M] that looks most like the expression [M], among those where the face holds still.

    Motion is counted from it, and a face that is about to speak is no place to start: all that rests would then be
    pressed the other way. With `neutral` those count less that are not at rest (`rested`).
    """
    lips = list(NAMES).index("lips open")
    parted = _LIPS_OPEN * (seen[:, lips] - rest[lips]).abs()
    steps = distance(seen[1:], seen[:-1], strength)  # [T-1]
    moving = F.pad(steps, (1, 0)) + F.pad(steps, (0, 1)) if len(steps) else seen.new_zeros(1)
    moving[[0, -1]] *= 2  # the ends have one neighbour only
    unlike = distance(seen, rest, strength) + moving + parted
    if neutral is not None:
        unlike += _MADE_UP * distance(seen, rested(seen, rest, neutral), strength)
    return int(unlike.argmin())


def of_landmarks(face: Landmarks) -> Tensor:
    """The expression [M] of a detected face."""
    if face.blendshapes is None or face.inside is None:
        raise ValueError("this detector gives no expressions")
    inside = torch.tensor([face.inside])
    return measure(torch.from_numpy(face.points)[None], torch.from_numpy(face.blendshapes)[None], inside)[0]


def of_track(track: FaceTrack) -> Tensor:
    """The expressions [T,M] of a clip; NaN where there is no face."""
    if track.blendshapes is None or track.inside is None:
        raise ValueError("this detector gives no expressions")
    return measure(*map(torch.from_numpy, (track.points, track.blendshapes, track.inside)))


class Probe:
    """Measures pictures of one face that stays in its place, such as a generator's; differentiable."""

    def __init__(self, nets: FaceLandmarkerNets, picture: Tensor) -> None:
        """Find where the face is in `picture` [1,3,S,S] in [-1,1], aligned like FFHQ."""
        self.nets = nets
        size = picture.shape[-1]
        # Begin with the middle four fifths of the picture, where FFHQ's faces are, then close in.
        scale, shift = 0.8 * size / 256, 0.1 * size
        roi = torch.tensor([[[scale, 0, shift], [0, scale, shift]]], device=picture.device)
        with torch.no_grad():
            for _ in range(2):
                roi = roi_of_points(self._mesh(picture, roi))
        self._unit_roi = _to_unit(roi, size)

    def _mesh(self, pictures: Tensor, roi: Tensor) -> Tensor:
        roi = roi.expand(len(pictures), -1, -1)
        points, _ = self.nets.landmarks(crop(pictures * 0.5 + 0.5, roi))
        return transform(roi, points)  # [N,478,3]

    def mesh(self, pictures: Tensor) -> Tensor:
        """[N,3,S,S] in [-1,1] -> the landmarker's points [N,478,3] in units of the picture."""
        pictures = _not_too_fine(pictures)
        size = pictures.shape[-1]
        mesh = self._mesh(pictures, _from_unit(self._unit_roi, size))
        return (mesh + mesh.new_tensor([0.5, 0.5, 0.0])) / size

    def look(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `measure` takes, of [N,3,S,S] in [-1,1]: points [N,68,2] in units of the picture ([0,1]), the rest."""
        pictures = _not_too_fine(pictures)
        size = pictures.shape[-1]
        mesh = self._mesh(pictures, _from_unit(self._unit_roi, size))
        points = (to_68(mesh) + 0.5) / size
        return points, self.nets.blendshapes(mesh), light_inside(pictures, points)

    def __call__(self, pictures: Tensor) -> Tensor:
        """[N,3,S,S] -> expressions [N,M]."""
        return measure(*self.look(pictures))


def _not_too_fine(pictures: Tensor) -> Tensor:
    """Shrunk by areas where the landmarker's crop would skip pixels."""
    return F.adaptive_avg_pool2d(pictures, 512) if pictures.shape[-1] > 512 else pictures


def _to_unit(matrix: Tensor, size: int) -> Tensor:
    """A matrix into pixels of a picture of `size`, rewritten for the unit square; pixel centres lie at + 0.5."""
    return torch.cat([matrix[..., :2], matrix[..., 2:] + 0.5], -1) / size


def _from_unit(matrix: Tensor, size: int) -> Tensor:
    scaled = matrix * size
    return torch.cat([scaled[..., :2], scaled[..., 2:] - 0.5], -1)
