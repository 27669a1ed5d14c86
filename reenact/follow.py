"""Which of several faces, and the same one again in the next picture, through crossings.

Where a face is and how large tells it from the others, but for the moments when they meet: then also what it looks
like does, a small picture of it, cut by eyes and mouth. The same tells when something covers it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .types import Floats, Landmarks, Rgb

SIDES = ("largest", "left", "right")


@dataclass(frozen=True)
class Choice:
    """A rule that picks one of the faces of a picture; `parse_choice` reads it."""

    side: str = "largest"  # one of `SIDES`; left and right are those of the image
    number: int | None = None  # counted from the left, from 0
    place: tuple[float, float] | None = None  # x,y in pixels: the face nearest to it

    def __str__(self) -> str:
        if self.place:
            return f"{self.place[0]:g},{self.place[1]:g}"
        return self.side if self.number is None else str(self.number)

    def pick(self, faces: list[Landmarks]) -> Landmarks | None:
        """The face meant, of a list that begins with the largest; None: it is not among them."""
        if not faces:
            return None
        if self.place:
            return min(faces, key=lambda face: float(np.hypot(*(face.points.mean(0) - self.place))))
        in_order = sorted(faces, key=lambda face: float(face.points[:, 0].mean()))
        if self.number is not None:
            return in_order[self.number] if self.number < len(in_order) else None
        return {"largest": faces[0], "left": in_order[0], "right": in_order[-1]}[self.side]


def parse_choice(text: str, flag: str) -> Choice:
    """Read "largest", "left", "right", "2" or "310,90".

    Raises:
        UsageError: it is none of them; `flag` is what the user wrote it for.
    """
    if text in SIDES:
        return Choice(text)
    if re.fullmatch(r"\d{1,3}", text):
        return Choice(number=int(text))
    if match := re.fullmatch(r"(\d{1,6}(?:\.\d*)?),(\d{1,6}(?:\.\d*)?)", text):
        return Choice(place=(float(match[1]), float(match[2])))
    raise UsageError(
        f"{flag} {text}: choose largest, left, right, a number counted from the left from 0, or X,Y in pixels"
    )


@dataclass(frozen=True, eq=False)
class Followed:
    """What is known of the face that is followed in a scene."""

    points: Floats | None = None  # [68,2] where it was last; None: it has not been seen yet
    look: Floats | None = None  # [16,16,3], its mean of late
    usual: float = 0.0  # how far from that mean it is of late
    gap: int = 0  # frames since it was last there
    rivals: bool = False  # whether another face has been seen beside it ...
    wary: int = 0  # ... and for how many frames more after it came near
    seen: int = 0  # frames in which it was there
    pose: Floats | None = None  # [3] in degrees, its mean of late, where the detector knows it


FORGET = 25  # frames without the face after which its place says nothing any more ...
FORGO = 100  # ... and after which, where nobody in particular was asked for, the rule begins again
REACH = 1.0  # how unlike in place and size the face may be from one frame to the next (see `_unlikeness`) ...
WIDEN = 0.05  # ... and how much more for each frame without it; where its look is asked too, more
WIDEN_LOOKING = 0.2
ENOUGH = 10  # frames after which it is known what the face usually looks like
WARY = 25  # frames after another face came near in which the look is asked too
STRANGE = 12.0  # how unlike in look, in grey levels, another person is: one who talks stays below 10 ...
COVERED = 24.0  # ... and what covers a face: strong expressions stay below 20
TURNING = 1.0  # what a degree of a turn of the head adds to that
TIMES_USUAL = 2.5  # how much more unlike than what it usually is
LOOK_COUNTS = 20.0  # grey levels that count as much as a face's width between faces that are near enough


def follow(known: Followed, rgb: Rgb, faces: list[Landmarks], choice: Choice) -> tuple[Followed, Landmarks | None]:
    """Find the face again in the next picture [H,W,3] of a scene; `Followed()` before the first.

    Returns:
        What is known now, and the face, one of `faces` (the largest first); None: it is not there, or a hand or the
        like covers so much of it that its expression can't be trusted.
    """
    if known.points is None:
        face = choice.pick(faces)
    else:
        face = _again(known, rgb, faces)
        if face is None and known.gap >= FORGO and choice == Choice():
            known, face = Followed(), choice.pick(faces)
    rivals = known.rivals or len(faces) > 1
    if face is None:
        return replace(known, gap=known.gap + 1, rivals=rivals, wary=max(0, known.wary - 1)), None
    wary = max(0, known.wary - 1) if _apart(face, faces, 2) else WARY
    look = look_of(rgb, face)
    if known.look is None:
        return Followed(face.points, look, rivals=rivals, wary=wary, seen=1, pose=face.pose), face
    off = _rms(look - known.look)
    # Without its pose a turning head can't be told from a covered one.
    covered = known.pose is not None and known.seen >= ENOUGH and off > _most(COVERED, known, face)
    # A hand is not the face's look; but what stays for a second or two, such as another light, becomes it.
    share = 0.02 if covered else 0.1 if _apart(face, faces, 1) else 0.0
    mean = (1 - share) * known.look + share * look
    pose = known.pose
    if pose is not None and face.pose is not None:
        pose = np.asarray((1 - share) * pose + share * face.pose, np.float32)
    usual = (1 - share) * known.usual + share * off
    now = Followed(face.points, mean, usual, 0, rivals, wary, known.seen + 1, pose)
    return now, None if covered else face


def _again(known: Followed, rgb: Rgb, faces: list[Landmarks]) -> Landmarks | None:
    """The face that is likely the one known, by place while that says enough, by look where it may be another's."""
    assert known.points is not None
    looking = known.wary > 0 or (known.gap > 0 and (known.rivals or len(faces) > 1))
    reach = math.inf
    if known.gap <= FORGET:
        reach = REACH + (WIDEN_LOOKING if looking else WIDEN) * known.gap
    best, best_cost = None, math.inf
    for face in faces:
        place, off = _unlikeness(face.points, known.points), 0.0
        if looking and known.look is not None:
            off = _rms(look_of(rgb, face) - known.look)
            if off > _most(STRANGE, known, face):
                continue
        cost = off / LOOK_COUNTS + (place if math.isfinite(reach) else 0.0)
        if place < reach and cost < best_cost:
            best, best_cost = face, cost
    return best


def _most(least: float, known: Followed, face: Landmarks) -> float:
    """How unlike what is known a face may look, in grey levels: `least`, or more where it turns or changes often."""
    turned = 0.0
    if known.pose is not None and face.pose is not None:
        turned = float(np.abs(face.pose - known.pose)[:2].max())  # rolling is undone
    return max(least + TURNING * turned, TIMES_USUAL * known.usual)


def _unlikeness(a: Floats, b: Floats) -> float:
    """Distance of two faces [68,2] in units of their size, plus the difference of their sizes in octaves."""
    size_a, size_b = (max(float(np.ptp(points, axis=0).max()), 1e-3) for points in (a, b))
    distance = float(np.hypot(*(a.mean(0) - b.mean(0))))
    return distance / math.sqrt(size_a * size_b) + abs(math.log2(size_a / size_b))


def _apart(face: Landmarks, faces: list[Landmarks], sizes: float) -> bool:
    """Whether no other face's middle lies nearer than so many of this one's sizes."""
    size = float(np.ptp(face.points, 0).max())
    gaps = [np.hypot(*(face.points.mean(0) - other.points.mean(0))) for other in faces if other is not face]
    return all(gap > sizes * size for gap in gaps)


_LOOK = 16  # pixels
_PLACES = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.8]], np.float32)  # of the eyes and the mouth


def look_of(rgb: Rgb, face: Landmarks) -> Floats:
    """The face without its surroundings, small and blurred: RGB float32 [16,16,3] in 0..255."""
    size = 4 * _LOOK
    middles = np.stack([face.points[part].mean(0) for part in (slice(36, 42), slice(42, 48), slice(48, 68))])
    # Three points that lie on a line have no place in the square; it is then a look like any other.
    matrix = cv2.getAffineTransform(middles.astype(np.float32), _PLACES * size)
    cut = cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    small = cv2.resize(cut, (_LOOK, _LOOK), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)


def _rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.square(values).mean()))
