"""Which face, through a whole clip: choose a detector, find the face of a picture, follow one through a video."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from . import plugins
from .detectors import Detector
from .errors import NoFaceError, UsageError
from .smooth import segments
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

    def track(self, frames: Iterable[Rgb]) -> Iterator[list[Landmarks]]:
        """See `detectors.Detector.track`."""
        seen, again = _twice(frames)
        for faces, known in zip(self._detector.track(seen), self._reader.track(again), strict=True):
            told = ((face, _same_face(face, known)) for face in faces)
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


def find_face(rgb: Rgb, detector: Detector, where: str) -> Landmarks:
    """The largest face of an RGB uint8 [H,W,3] picture.

    Args:
        where: what the picture is called in the error, usually its file.

    Raises:
        NoFaceError: there is none.
    """
    faces = next(iter(detector.track([rgb])))
    if not faces:
        raise NoFaceError(f"no face found in {where}; it needs one that is seen from the front or half aside")
    return faces[0]


# ---- A clip ------------------------------------------------------------------------------------------------------


def track_face(
    frames: Iterable[Rgb],
    detector: Detector,
    near: tuple[float, float] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> FaceTrack:
    """Follow one face through a clip. Of the frames nothing is kept.

    It is the largest face of the first frame that has one, then the one most like it in place and size; after a
    scene cut, or when it has been gone for long, again the largest.

    Args:
        frames: RGB uint8 [H,W,3].
        near: start with the face nearest to this x,y in pixels instead of the largest.
        on_progress: called with the number of frames done.
    """
    cuts, finder = list[bool](), CutFinder()

    def watched() -> Iterator[Rgb]:
        for rgb in frames:
            cuts.append(finder.is_cut(rgb))
            yield rgb

    follower, chosen = _Follower(near), list[Landmarks | None]()
    for index, faces in enumerate(detector.track(watched())):
        chosen.append(follower.choose(faces, cuts[index]))
        if on_progress:
            on_progress(index + 1)
    return _track(chosen, tuple(i for i, cut in enumerate(cuts) if cut))


def _track(chosen: list[Landmarks | None], cuts: tuple[int, ...]) -> FaceTrack:
    def rows(values: list[Floats | float | None], shape: tuple[int, ...]) -> Floats:
        table = np.full((len(values), *shape), np.nan, np.float32)
        for i, value in enumerate(values):
            if value is not None:
                table[i] = value
        return table

    shapes, poses = [f.blendshapes if f else None for f in chosen], [f.pose if f else None for f in chosen]
    meshes = [f.mesh if f else None for f in chosen]
    insides = [f.inside if f else None for f in chosen]
    return FaceTrack(
        points=rows([f.points if f else None for f in chosen], (68, 2)),
        score=rows([f.score if f else None for f in chosen], ()),
        found=np.array([f is not None for f in chosen], np.bool_),
        cuts=cuts,
        blendshapes=rows([*shapes], (51,)) if any(s is not None for s in shapes) else None,
        pose=rows([*poses], (3,)) if any(p is not None for p in poses) else None,
        mesh=rows([*meshes], (478, 3)) if any(m is not None for m in meshes) else None,
        inside=rows([*insides], ()) if any(i is not None for i in insides) else None,
    )


class _Follower:
    """Picks the same face again and again."""

    FORGET = 25  # frames without the face after which any will do
    REACH = 1.0  # how unlike the face may be from one frame to the next (see `_unlikeness`) ...
    WIDEN = 0.05  # ... and how much more for each frame without it

    def __init__(self, near: tuple[float, float] | None) -> None:
        self._near, self._gap = near, 0
        self._last: Landmarks | None = None

    def choose(self, faces: list[Landmarks], cut: bool) -> Landmarks | None:
        if cut or self._gap > self.FORGET:
            self._last = None
        face = self._again(faces, self._last) if self._last else self._first(faces)
        self._gap = 0 if face else self._gap + 1
        self._last = face or self._last
        return face

    def _first(self, faces: list[Landmarks]) -> Landmarks | None:
        if not faces or self._near is None:
            return faces[0] if faces else None
        near, self._near = np.array(self._near), None  # meant for the beginning only
        return min(faces, key=lambda f: float(np.hypot(*(f.points.mean(0) - near))))

    def _again(self, faces: list[Landmarks], last: Landmarks) -> Landmarks | None:
        best = min(faces, key=lambda f: _unlikeness(f, last), default=None)
        reach = self.REACH + self.WIDEN * self._gap
        return best if best and _unlikeness(best, last) < reach else None


def _unlikeness(a: Landmarks, b: Landmarks) -> float:
    """Distance of two faces in units of their size, plus the difference of their sizes in octaves."""
    size_a, size_b = (max(float(np.ptp(f.points, axis=0).max()), 1e-3) for f in (a, b))
    distance = float(np.hypot(*(a.points.mean(0) - b.points.mean(0))))
    return distance / math.sqrt(size_a * size_b) + abs(math.log2(size_a / size_b))


def require_face(track: FaceTrack, where: str) -> None:
    """Do nothing if the track has a face at all.

    Raises:
        NoFaceError: it has none, or no frame.
    """
    if not track.found.any():
        raise NoFaceError(f"no face found in any of the {len(track)} frames of {where}")


def fill_missing(track: FaceTrack) -> Floats:
    """The track's points, float32 [T,68,2], with the frames that have none filled in; see `fill_gaps`."""
    return fill_gaps(track.points, track)


def fill_gaps(values: NDArray[_Real], track: FaceTrack) -> NDArray[_Real]:
    """A copy of [T,...] values with the rows filled in where `track` has no face.

    Linear between the faces of a scene, held before the first and after the last; a scene without any takes the
    row nearest in time.

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


def _interpolated(times: NDArray[np.integer], known: NDArray[np.integer], rows: NDArray[_Real]) -> NDArray[_Real]:
    """Rows at `times`, given those at the times `known` (ascending)."""
    after = np.searchsorted(known, times).clip(0, len(known) - 1)
    before = np.where(known[after] == times, after, after - 1).clip(0)
    span = np.maximum(known[after] - known[before], 1)
    share = ((times - known[before]) / span).clip(0, 1).reshape(-1, *[1] * (rows.ndim - 1))
    between: NDArray[_Real] = (rows[before] * (1 - share) + rows[after] * share).astype(rows.dtype)
    return between


# ---- Scene cuts --------------------------------------------------------------------------------------------------


class CutFinder:
    """Says of each frame whether a new scene begins with it, from the frames so far (so it works live).

    Two frames differ by 1 - correlation of small grey thumbnails, at the best of all shifts up to a fifth of the
    width, plus the Hellinger distance of their histograms of chromaticity. So neither quick movement nor a change
    of light counts for much: in clips of faces frames in succession differ by 0.1 at most, in a fast head turn or
    a flash by 0.25, and across cuts by 0.3 (greyscale) or 0.7 (colour) and more.
    """

    LEAST = 0.3  # no cut below
    TIMES_USUAL = 4.0  # nor below so many times what has been usual lately, as in shaky or cluttered clips
    FEW, MEMORY = 5, 25  # frames that say what is usual: at least, at most

    def __init__(self) -> None:
        """A finder has seen nothing; use one per clip."""
        self._before: tuple[Floats, Floats] | None = None
        self._usual: deque[float] = deque(maxlen=self.MEMORY)

    def is_cut(self, rgb: Rgb) -> bool:
        """Whether a scene begins with this RGB uint8 [H,W,3] frame; the first frame is no cut."""
        before, self._before = self._before, (_thumbnail(rgb), _chromaticities(rgb))
        if before is None:
            return False
        change = _difference(before, self._before)
        usual = float(np.median(self._usual)) if len(self._usual) >= self.FEW else 0.0
        self._usual.append(change)
        return change > max(self.LEAST, self.TIMES_USUAL * usual)


_SIDE, _SHIFT = 32, 6  # of the thumbnail
_NOISE = 5.0  # grey levels: what nearly flat thumbnails show has no meaning


def _thumbnail(rgb: Rgb) -> Floats:
    """Blurred and grey, [32,32]."""
    small = cv2.cvtColor(cv2.resize(rgb, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0), np.float32)


def _chromaticities(rgb: Rgb) -> Floats:
    """Histogram [48,48], of sum 1, of the shares of red and green in the light; dark pixels count less."""
    small = cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32) + 10
    light = small.sum(1)
    shares = small[:, :2] / light[:, None]
    counts, _, _ = np.histogram2d(shares[:, 0], shares[:, 1], bins=48, range=[[0, 1], [0, 1]], weights=light)
    blurred = cv2.GaussianBlur(counts.astype(np.float32), (0, 0), 1.0)  # a slight change crosses bins
    return np.asarray(blurred / blurred.sum(), np.float32)


def _difference(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    """0: the same, about 1: nothing in common; see `CutFinder`."""
    # Both ways: a flat middle would fit anywhere.
    alike = min(_best_correlation(a[0], b[0]), _best_correlation(b[0], a[0]))
    return 1 - alike + math.sqrt(max(0.0, 1 - float(np.sqrt(a[1] * b[1]).sum())))


def _best_correlation(a: Floats, b: Floats) -> float:
    """Of the middle of thumbnail `a` with the places of `b` that are up to `_SHIFT` pixels off."""
    middle = a[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    places = np.lib.stride_tricks.sliding_window_view(b, middle.shape).reshape(-1, middle.size)
    patch, places = middle.ravel() - middle.mean(), places - places.mean(1, keepdims=True)
    noise = _NOISE**2 * patch.size
    energies = ((patch**2).sum() + noise) * ((places**2).sum(1) + noise)
    return float(((places @ patch + noise) / np.sqrt(energies)).max())
