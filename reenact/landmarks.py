"""Which face, through a whole clip: choose a detector, find the face of a picture, follow one through a video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from . import plugins
from .cuts import CutFinder
from .detectors import Detector
from .errors import NoFaceError, UsageError
from .follow import Choice, Followed, follow
from .smooth import segments, zero_phase
from .types import FaceTrack, Floats, Landmarks, Rgb
from .weights import WeightStore

_Real = TypeVar("_Real", bound=np.floating)
_Item = TypeVar("_Item")

# ---- Detectors ---------------------------------------------------------------------------------------------------


def choose_detector(name: str, store: WeightStore, device: torch.device) -> tuple[str, Detector]:
    """The detector of that name, and its name; 'auto' is face-alignment where it is fast, landmarker elsewhere.

    Raises:
        UsageError: there is none of that name.
        WeightsError: its weights can't be had.
    """
    if name == "auto":
        name = _fitting(store, device)
    elif name not in (known := plugins.names("detectors")):
        raise UsageError(f"no detector named {name!r}; there are: {', '.join(['auto', *known])}")
    detector: Detector = plugins.module("detectors", name).create(store, device)
    return name, detector


def _fitting(store: WeightStore, device: torch.device) -> str:
    if device.type == "cuda" and plugins.module("detectors", "face-alignment").available(store):
        return "face-alignment"
    return "landmarker"


class WithExpressions:
    """A detector that knows of faces only where they are, told the rest by another that looks at the same pictures.

    A face that the other does not see is left out.
    """

    def __init__(self, detector: Detector, reader: Detector) -> None:
        """`detector` gives the points and the score, `reader` the rest."""
        self._detector, self._reader = detector, reader

    def track(self, frames: Iterable[Rgb], known: Sequence[Landmarks] = ()) -> Iterator[list[Landmarks]]:
        """See `detectors.Detector.track`."""
        seen, again = _twice(frames)
        for faces, others in zip(self._detector.track(seen, known), self._reader.track(again, known), strict=True):
            told = ((face, _same_face(face, others)) for face in faces)
            yield [replace(k, points=face.points, score=face.score) for face, k in told if k]


def _twice(items: Iterable[_Item]) -> tuple[Iterator[_Item], Iterator[_Item]]:
    """The same stream for two readers, holding what the slower has not had yet; `itertools.tee` holds dozens."""
    source = iter(items)
    queues = deque[_Item](), deque[_Item]()

    def reader(queue: deque[_Item]) -> Iterator[_Item]:
        while True:
            if not queue:
                try:
                    item = next(source)
                except StopIteration:
                    return
                for each in queues:
                    each.append(item)
                del item
            yield queue.popleft()

    return reader(queues[0]), reader(queues[1])


def _same_face(face: Landmarks, others: list[Landmarks]) -> Landmarks | None:
    """The one of `others` that lies where `face` does: nearer than a quarter of its size."""
    near = min(others, key=lambda other: _distance(face, other), default=None)
    return near if near and _distance(face, near) < 0.25 * float(np.ptp(face.points, 0).max()) else None


def _distance(a: Landmarks, b: Landmarks) -> float:
    """Between the middles of two faces, in pixels."""
    return float(np.hypot(*(a.points.mean(0) - b.points.mean(0))))


# ---- One picture -------------------------------------------------------------------------------------------------


def find_face(rgb: Rgb, detector: Detector, where: str, choice: Choice | None = None) -> Landmarks:
    """One face of an RGB uint8 [H,W,3] picture.

    Args:
        where: what the picture is called in the error, usually its file.
        choice: which; None: the largest.

    Raises:
        NoFaceError: there is none.
        UsageError: there are not so many.
    """
    faces = next(iter(detector.track([rgb])))
    if not faces:
        raise NoFaceError(f"no face found in {where}; it needs one that is seen from the front or half aside")
    face = (choice or Choice()).pick(faces)
    if face is None:
        raise UsageError(f"there is no face {choice} in {where}; it shows {_numbered(len(faces))}")
    return face


def _numbered(count: int) -> str:
    return "one, number 0" if count == 1 else f"{count}, from the left 0 to {count - 1}"


# ---- A clip ------------------------------------------------------------------------------------------------------

STRETCH = 250
"""Frames that a detector follows faces through; then it is asked anew, and told of the faces it had found."""


@dataclass(frozen=True, eq=False)
class Threshold:
    """What is handed on from one stretch of a clip to the next."""

    known: tuple[Landmarks, ...] = ()  # the faces of the last frame
    followed: Followed = field(default_factory=Followed)


@dataclass(frozen=True, eq=False)
class Stretch:
    """A clip's next frames: at most `STRETCH`, and of one scene."""

    track: FaceTrack
    cut: bool  # whether a scene begins with it
    end: Threshold
    most: int  # faces in one picture


def track_face(
    frames: Iterable[Rgb],
    detector: Detector,
    choice: Choice | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> FaceTrack:
    """Follow one face through a clip. Of the frames nothing is kept.

    It is the one chosen in the first frame that has it, then the one most like it in place, size and look; a scene cut
    begins anew.

    Args:
        frames: RGB uint8 [H,W,3].
        choice: which face; None: the largest.
        on_progress: called with the number of frames done.
    """
    return joined(list(stretches(frames, detector, choice or Choice(), on_progress=on_progress)))


def stretches(
    frames: Iterable[Rgb],
    detector: Detector,
    choice: Choice,
    before: Threshold | None = None,
    lately: Iterable[Rgb] = (),
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Stretch]:
    """What `track_face` does, piece by piece, so that it can be gone on with later; `joined` makes the track.

    Args:
        frames: RGB uint8 [H,W,3].
        detector: finds faces.
        choice: which face.
        before: where an earlier call left off, after the last stretch whole.
        lately: then, the frames just before, as many as `CutFinder.MEMORY` + 1.
        on_progress: called with the number of frames done.
    """
    finder, source, done = CutFinder(), iter(frames), 0
    for rgb in lately:
        finder.is_cut(rgb)
    threshold = before or Threshold()
    ahead = next(source, None)
    cut = ahead is not None and finder.is_cut(ahead)
    while ahead is not None:
        began_with_cut, chosen, most = cut, list[Landmarks | None](), 0
        # Where a scene begins nothing is known.
        known, followed = ((), Followed()) if cut else (threshold.known, threshold.followed)
        held = [ahead]

        def scene(held: list[Rgb] = held) -> Iterator[Rgb]:
            nonlocal ahead, cut
            for _ in range(STRETCH):
                yield held[0]
                ahead = next(source, None)
                cut = ahead is not None and finder.is_cut(ahead)
                if ahead is None or cut:
                    return
                held[0] = ahead

        for faces in detector.track(scene(), known):
            followed, face = follow(followed, held[0], faces, choice)
            chosen.append(face and replace(face, dense=None))
            known, most, done = tuple(faces), max(most, len(faces)), done + 1
            if on_progress:
                on_progress(done)
        threshold = Threshold(known, followed)
        yield Stretch(_track(chosen), began_with_cut, threshold, most)


class Pile:
    """Rows that come piece by piece, in one array: where a system can move memory, there are never two copies."""

    def __init__(self) -> None:
        """Of no rows."""
        self.rows: Floats | None = None  # [T,...]; None: no piece had any
        self._count = 0

    def add(self, rows: Floats | None, count: int) -> None:
        """The next `count` rows [count,...]; None: they are not known, and are NaN."""
        if rows is not None and self.rows is None:
            self.rows = np.full((self._count, *rows.shape[1:]), np.nan, np.float32)
        self._count += count
        if self.rows is not None:
            self.rows.resize((self._count, *self.rows.shape[1:]), refcheck=False)  # nobody has seen it yet
            self.rows[self._count - count :] = np.nan if rows is None else rows


def joined(parts: Sequence[Stretch]) -> FaceTrack:
    """The whole track."""
    tracks = [part.track for part in parts] or [_track([])]
    starts = np.cumsum([0, *map(len, tracks)]).tolist()

    def column(name: str) -> Floats | None:
        there = [getattr(track, name) for track in tracks]
        pile = Pile()
        for rows, track in zip(there, tracks, strict=True):
            pile.add(rows, len(track))
        return pile.rows

    return FaceTrack(
        points=np.concatenate([track.points for track in tracks]),
        score=np.concatenate([track.score for track in tracks]),
        found=np.concatenate([track.found for track in tracks]),
        cuts=tuple(cut for start, part in zip(starts, parts, strict=False) for cut in _cuts(part, start)),
        **{name: column(name) for name in OPTIONAL},
    )


def merged(parts: Sequence[Stretch]) -> Stretch:
    """Stretches that follow each other as one, which may then hold cuts."""
    track, first = joined(parts), parts[0]
    track = replace(track, cuts=tuple(cut for cut in track.cuts if cut))
    return Stretch(track, first.cut, parts[-1].end, max(part.most for part in parts))


def _cuts(part: Stretch, start: int) -> list[int]:
    """Of a part that begins at frame `start` of the clip."""
    return [start] * part.cut + [start + cut for cut in part.track.cuts]


OPTIONAL: dict[str, tuple[int, ...]] = {"blendshapes": (51,), "pose": (3,), "mesh": (478, 3), "inside": ()}
"""What of a face not every detector knows, and the shape of one."""


def _track(chosen: Sequence[Landmarks | None]) -> FaceTrack:
    """A scene's faces, or a part of it, as a track."""

    def rows(name: str, shape: tuple[int, ...]) -> Floats:
        table = np.full((len(chosen), *shape), np.nan, np.float32)
        for i, face in enumerate(chosen):
            if face and getattr(face, name) is not None:
                table[i] = getattr(face, name)
        return table

    known = {name for face in chosen if face for name in OPTIONAL if getattr(face, name) is not None}
    return FaceTrack(
        points=rows("points", (68, 2)),
        score=rows("score", ()),
        found=np.array([face is not None for face in chosen], np.bool_),
        cuts=(),
        **{name: rows(name, shape) for name, shape in OPTIONAL.items() if name in known},
    )


def require_face(track: FaceTrack, where: str, choice: Choice | None = None, most: int = 0) -> None:
    """Do nothing if the track has a face at all.

    Args:
        where: what the clip is called in the error.
        choice: which face was looked for; None: the largest.
        most: faces in any one frame.

    Raises:
        NoFaceError: it has none, or no frame.
    """
    if track.found.any():
        return
    if most:
        raise NoFaceError(f"there is no face {choice} in {where}; its frames show {_numbered(most)} at most")
    raise NoFaceError(f"no face found in any of the {len(track)} frames of {where}")


def fill_missing(track: FaceTrack) -> Floats:
    """The track's points, float32 [T,68,2], with the frames that have none filled in; see `fill_gaps`."""
    return fill_gaps(track.points, track)


def fill_gaps(values: NDArray[_Real], track: FaceTrack) -> NDArray[_Real]:
    """A copy of [T,...] values with the rows filled in where `track` has no face.

    Within a scene the last face is held, and leads over to the next within the last `BRIDGE` frames before it; it is
    held before the first and after the last. A scene without any takes the row nearest in time.

    Raises:
        NoFaceError: there is no face in the whole track.
    """
    if len(track) and not track.found.any():
        raise NoFaceError(f"no face found in any of the {len(track)} frames")
    filled = values.copy()
    everywhere = np.flatnonzero(track.found)
    for part in segments(len(track), track.cuts):
        times = np.arange(part.start, part.stop)
        known = times[track.found[part]]
        if len(known):
            filled[part] = _interpolated(times, known, values[known])
        else:
            nearest = np.abs(times[:, None] - everywhere).argmin(1)
            filled[part] = values[everywhere[nearest]]
    return filled


def smoothed_mesh(track: FaceTrack, sigma: float) -> Floats:
    """The track's mesh [T,478,3], smoothed, with gaps filled: in place, some points at a time, since it takes memory.

    Args:
        track: of a detector that knows meshes.
        sigma: in frames, as of `zero_phase`.
    """
    mesh = track.mesh
    if mesh is None:
        raise ValueError("this detector gives no meshes")
    for first in range(0, mesh.shape[1], 16):
        some = fill_gaps(mesh[:, first : first + 16], track)
        mesh[:, first : first + 16] = zero_phase(some, sigma, track.cuts)
    return mesh


def _interpolated(times: NDArray[np.integer], known: NDArray[np.integer], rows: NDArray[_Real]) -> NDArray[_Real]:
    """Rows at `times`, given those at the times `known` (ascending)."""
    after = np.searchsorted(known, times).clip(0, len(known) - 1)
    before = np.where(known[after] == times, after, after - 1).clip(0)
    span = (known[after] - known[before]).clip(1, BRIDGE)
    share = (1 - (known[after] - times) / span).clip(0, 1).reshape(-1, *[1] * (rows.ndim - 1))
    between: NDArray[_Real] = (rows[before] * (1 - share) + rows[after] * share).astype(rows.dtype)
    return between


BRIDGE = 12
"""Frames, about half a second, in which a face that was gone comes back."""


def presence(track: FaceTrack) -> Floats:
    """How much there is of the face [T]: 1 where it is, sinking to 0 within `BRIDGE` frames of its scene, and back."""
    share = np.zeros(len(track), np.float32)
    for part in segments(len(track), track.cuts):
        known = np.flatnonzero(track.found[part])
        if len(known):
            times = np.arange(part.stop - part.start)
            after = np.searchsorted(known, times).clip(0, len(known) - 1)
            away = np.minimum(np.abs(known[after] - times), np.abs(times - known[(after - 1).clip(0)]))
            share[part] = 0.5 + 0.5 * np.cos(np.pi * (away / BRIDGE).clip(0, 1))
    return share
