"""The driver: a video, a picture or a motion template, its frames, and its face followed once through all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import landmarks, template
from .cuts import CutFinder
from .detectors import Detector
from .errors import NoFaceError
from .files import ArrayFile
from .follow import Choice, Followed
from .images import is_image, read_image
from .landmarks import Pile, Stretch, Threshold
from .resume import Checkpoint
from .template import Motion
from .types import FaceTrack, Frame, Landmarks, Rgb
from .video import Passes, probe, read_frames

MISSING = ("hold", "fade", "skip", "fail")
"""What comes where the driver shows no face: its last expression; the photo's own, faded to; no frame; an error."""

_PART = 100  # frames of a part that a checkpoint keeps, at least


@dataclass(frozen=True)
class Moment:
    """A frame's place in time, without its picture."""

    index: int
    pts: int
    seconds: float


class Driver:
    """What acts. A file that can't be used is found at once."""

    kept_as = "track"
    """Begins the names of what a checkpoint keeps of it."""

    def __init__(
        self, path: Path, start: float | None, end: float | None, most: int | None, warn: Callable[[str], None]
    ) -> None:
        """`start` and `end` in seconds, `most` in frames: the part of it that counts."""
        self.path, self._part, self._warn = path, (start, end, most), warn
        self.still = is_image(path)
        self.template = template.load(path).part(start, end, most) if template.is_template(path) else None
        if self.template is None and not self.still:
            next(iter(read_frames(path, start, end, 1)))
        self._passes = Passes(path, start, end, most, warn)

    def frames(self) -> Iterator[Frame]:
        """The pictures; a template has none."""
        if self.still:
            yield Frame(read_image(self.path), 0, 0, 0.0)
        elif self.template is None:
            yield from self._passes

    def follow(
        self,
        detector: Detector,
        choice: Choice,
        missing: str,
        on_progress: Callable[[int], None],
        checkpoint: Checkpoint | None = None,
    ) -> Motion:
        """Where its face is in every frame, and what it expresses.

        Args:
            detector: finds faces.
            choice: which of them.
            missing: one of `MISSING`; "fail" makes itself felt here.
            on_progress: called with the number of frames done.
            checkpoint: keeps what is done, and gives what was done before.

        Raises:
            NoFaceError: there is none in any frame, or one is missing where none may be.
        """
        motion = self.template or self._followed(detector, choice, missing, on_progress, checkpoint)
        if self.template:
            self._heed_missing(motion.track, motion.seconds, missing)
        landmarks.require_face(motion.track, str(self.path), choice)
        self._tell_of_missing(motion, missing)
        return motion

    def _followed(
        self,
        detector: Detector,
        choice: Choice,
        missing: str,
        on_progress: Callable[[int], None],
        checkpoint: Checkpoint | None,
    ) -> Motion:
        parts, meshes, moments = list[Stretch](), Pile(), list[Moment]()

        def add(part: Stretch) -> None:
            meshes.add(part.track.mesh, len(part.track))
            parts.append(replace(part, track=replace(part.track, mesh=None)))

        for part, its_moments in _earlier(checkpoint, self.kept_as):
            add(part)
            moments += its_moments
        for part in parts:
            self._heed_missing(part.track, [m.seconds for m in moments], missing)
        frames, lately = self.frames(), deque[Rgb](maxlen=CutFinder.MEMORY + 1)
        for frame in islice(frames, len(moments)):
            lately.append(frame.rgb)
        size = (0, 0)

        def counted() -> Iterator[Rgb]:
            nonlocal size
            for frame in frames:
                moments.append(Moment(frame.index, frame.pts, frame.seconds))
                size = frame.rgb.shape[1], frame.rgb.shape[0]
                yield frame.rgb
                on_progress(len(moments))

        if lately:
            size = lately[-1].shape[1], lately[-1].shape[0]
        fresh, saved = list[Stretch](), sum(len(part.track) for part in parts)
        before = parts[-1].end if parts else None
        for part in landmarks.stretches(counted(), detector, choice, before, lately):
            done = saved + sum(len(p.track) for p in fresh) + len(part.track)
            self._heed_missing(part.track, [m.seconds for m in moments[:done]], missing)
            fresh.append(part)
            if done - saved >= _PART:
                whole = landmarks.merged(fresh)
                if checkpoint:
                    checkpoint.keep(f"{self.kept_as}-{len(parts):06d}", _arrays(whole, moments[saved:done]))
                add(whole)
                fresh, saved = [], done
        for part in fresh:
            add(part)
        track = replace(landmarks.joined(parts), mesh=meshes.rows)
        if not track.found.any():
            landmarks.require_face(track, str(self.path), choice, max((part.most for part in parts), default=0))
        info = None if self.still else probe(self.path)
        return Motion(
            track=track,
            pts=np.array([m.pts for m in moments], np.int64),
            seconds=np.array([m.seconds for m in moments], np.float64),
            time_base=info.time_base if info else Fraction(1),
            frame_rate=info.frame_rate if info else None,
            duration=info.duration if info and self._part == (None, None, None) else None,
            size=size,
        )

    def _heed_missing(self, part: FaceTrack, seconds: Sequence[float] | NDArray[np.float64], missing: str) -> None:
        """End the run where a face is missing from the last part of the track and must not be."""
        if missing == "fail" and not part.found.all():
            index = len(seconds) - len(part) + int(part.found.argmin())
            where = f"{self.path}: no face in frame {index}, at {seconds[index]:.2f} s"
            raise NoFaceError(f"{where}; --on-missing hold, fade or skip goes on all the same", index)

    def _tell_of_missing(self, motion: Motion, missing: str) -> None:
        gone = np.flatnonzero(~motion.track.found)
        if len(gone):
            done = {
                "hold": "the face nearest in time stands in", "fade": "the photo's own expression stands in",
                "skip": "they are left out",
            }  # fmt: skip
            self._warn(
                f"{self.path}: no face in {len(gone)} of {len(motion)} frames, or a covered one, first at "
                f"{motion.seconds[gone[0]]:.2f} s; {done[missing]}"
            )


# ---- Parts of a track in a checkpoint ----------------------------------------------------------------------------


def _earlier(checkpoint: Checkpoint | None, kept_as: str) -> Iterator[tuple[Stretch, list[Moment]]]:
    """The parts that were followed before, in order."""
    start = number = 0
    while checkpoint and checkpoint.has(name := f"{kept_as}-{number:06d}"):
        with checkpoint.kept(name) as file:
            part, moments = _stretch(file), _moments(file, start)
        yield part, moments
        number, start = number + 1, start + len(moments)


def _arrays(part: Stretch, moments: Sequence[Moment]) -> dict[str, NDArray[Any]]:
    known, followed = part.end.known, part.end.followed
    state: dict[str, NDArray[Any]] = {
        "known_points": np.array([face.points for face in known], np.float32).reshape(-1, 68, 2),
        "known_score": np.array([face.score for face in known], np.float64),
        "known_dense": np.array([face.dense for face in known if face.dense is not None], np.float32).reshape(
            -1, 478, 3
        ),
        "followed": np.array([followed.usual, followed.gap, followed.rivals, followed.wary, followed.seen], np.float64),
    }
    if followed.points is not None and followed.look is not None:
        state |= {"followed_points": followed.points, "followed_look": followed.look}
    if followed.pose is not None:
        state |= {"followed_pose": followed.pose}
    return {
        **template.track_arrays(part.track),
        **state,
        "part": np.array([part.cut, part.most], np.int64),
        "pts": np.array([m.pts for m in moments], np.int64),
        "seconds": np.array([m.seconds for m in moments], np.float64),
    }


def _stretch(file: ArrayFile) -> Stretch:
    cut, most = file.read("part", "i", (2,), 2).tolist()
    points = file.read("known_points", "f", (None, 68, 2), 1 << 20)
    scores = file.read("known_score", "f", (len(points),), 1 << 20).tolist()
    dense = file.read("known_dense", "f", (None, 478, 3), 1 << 24)
    # A detector knows these for all faces or for none.
    more: list[Any] = [*dense] if len(dense) == len(points) else [None] * len(points)
    known = tuple(Landmarks(p, score, dense=d) for p, score, d in zip(points, scores, more, strict=True))
    usual, gap, rivals, wary, count = file.read("followed", "f", (5,), 5).tolist()
    seen = "followed_points" in file
    followed = Followed(
        points=file.read("followed_points", "f", (68, 2), 200) if seen else None,
        look=file.read("followed_look", "f", (16, 16, 3), 1000) if seen else None,
        usual=usual, gap=int(gap), rivals=bool(rivals), wary=int(wary), seen=int(count),
        pose=file.read("followed_pose", "f", (3,), 3) if "followed_pose" in file else None,
    )  # fmt: skip
    return Stretch(template.read_track(file), bool(cut), Threshold(known, followed), most)


def _moments(file: ArrayFile, start: int) -> list[Moment]:
    pts = file.read("pts", "i", (None,), 1 << 24).tolist()
    seconds = file.read("seconds", "f", (len(pts),), 1 << 24).tolist()
    return [Moment(start + i, p, s) for i, (p, s) in enumerate(zip(pts, seconds, strict=True))]
