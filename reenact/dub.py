"""A target that is a clip: it keeps its own motion, and the driver's expressions take the place of its own.

The clip is followed once, as the driver is. In each of its scenes one frame is its photo, in which the face is at rest:
its shape there, turned and placed as the head is in another frame, is where the face would be without an expression of
its own, and the driver's change is counted from that. Each frame of the result is then made of the clip's frame at that
time as of a photo (compose.py): pixels are moved from where its points are to where they should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import expression, landmarks, motion
from .acting import Stance
from .align import AlignOptions, steady_crops
from .detectors import Detector
from .driver import Driver, Moment
from .errors import VideoError
from .follow import Choice
from .geometry import apply, inverse
from .images import is_image
from .resume import Checkpoint
from .smooth import segments, zero_phase
from .spool import Spool
from .template import Motion
from .types import Affine, FaceTrack, Floats, Frame, Landmarks, Rgb
from .video import SUFFIXES, probe

AFTERWARDS = 0.5
"""Seconds of the clip that are followed beyond the driver's end: what is smoothed there knows how it goes on."""
HELD = 0.1
"""Seconds by which a clip may be shorter than the driver before that is worth a line."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One of the clip's frames, for one of the result's."""

    rgb: Rgb
    crop: Affine
    stance: Stance


def is_clip(path: Path) -> bool:
    """Whether a target moves, by its content. What nobody can read counts as a picture, whose reader says why."""
    if is_image(path) or not path.is_file():
        return False
    try:
        probe(path)
    except VideoError:
        return path.suffix.lower() in SUFFIXES
    return True


class Clip:
    """A target that moves. A file that can't be used is found at once."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        """Open it."""
        self.path, self._warn = path, warn
        self._followed = _Followed(path, None, None, None, warn)

    def follow(
        self,
        seconds: NDArray[np.float64],
        detector: Detector,
        choice: Choice,
        smooth: float,
        align: AlignOptions,
        on_progress: Callable[[int], None],
        checkpoint: Checkpoint | None = None,
    ) -> Motion:
        """Follow its face as far as the result goes.

        Args:
            seconds: the driver's times [T], which the result's frames are shown at.
            detector: the landmarker; its mesh is laid on its own points, which another's 68 would misplace.
            choice: which of the faces.
            smooth: sigma in frames, of its expressions and its place.
            align: how its crops follow it.
            on_progress: called with the number of frames done.
            checkpoint: keeps what is done, and gives what was done before.

        Raises:
            NoFaceError: there is none in any frame.
        """
        times = seconds - seconds[0]
        self._followed = _Followed(self.path, None, _lasting(seconds) + AFTERWARDS, None, self._warn)
        found = self._followed.follow(detector, choice, "hold", on_progress, checkpoint)
        moments = (Moment(i, int(found.pts[i]), float(found.seconds[i])) for i in range(len(found)))
        self._times = times
        self._frame_at = np.array([moment.index for moment in in_time(moments, times.tolist())])  # [T]
        if missing := short_by(found.seconds, seconds):
            self._warn(f"{self.path}: ends {missing:.1f} s before the driver does; its last frame is held")
        track = found.track
        points = landmarks.fill_missing(track)
        self._crops = steady_crops(points, track.cuts, align)
        assert track.pose is not None  # every face has one: the detector knows expressions
        self._pose = zero_phase(landmarks.fill_gaps(track.pose, track), smooth, track.cuts)
        self._places = zero_phase(points, smooth, track.cuts)
        seen = zero_phase(landmarks.fill_gaps(expression.of_track(track).numpy(), track), smooth, track.cuts)
        self._seen = torch.from_numpy(seen).float()
        self._mesh = Spool(landmarks.smoothed_mesh(track, smooth))
        self.track = replace(track, mesh=None)
        self._rests = _at_rest(self._seen, track)
        # Its own expression comes and goes before and after frames that show no face, and so pass as they are.
        self._presence = 1 - landmarks.presence(replace(self.track, found=~track.found))
        return replace(found, track=self.track)

    # ---- what of it a run asks for: as [T] rows, one for each of the driver's frames

    @property
    def own(self) -> Tensor:
        """What its face expresses [T,M]."""
        return self._seen[torch.from_numpy(self._frame_at)]

    @property
    def rest(self) -> Tensor:
        """What it would at rest [T,M]."""
        return self._seen[torch.from_numpy(self._rests[self._frame_at])]

    @property
    def scenes(self) -> NDArray[np.intp]:
        """The number of its scene [T]."""
        return np.searchsorted(self.track.cuts, self._frame_at, side="right")

    @property
    def presence(self) -> Floats:
        """How much of its expression may be replaced [T]: none where it shows no face."""
        return np.asarray(self._presence[self._frame_at], np.float32)

    def photo(self) -> tuple[Rgb, Landmarks]:
        """The frame at rest of the first scene, and its face."""
        index = int(self._rests[0])
        rgb = next(frame.rgb for frame in self._followed.frames() if frame.index == index)
        track = self.track
        assert track.blendshapes is not None
        assert track.pose is not None
        assert track.inside is not None
        return rgb, Landmarks(
            track.points[index], float(track.score[index]), track.blendshapes[index], track.pose[index],
            inside=float(track.inside[index]),
        )  # fmt: skip

    def shots(self, indices: Iterable[int]) -> Iterator[Shot]:
        """The clip's frames for some of the result's, whose numbers ascend."""
        for frame in in_time(self._followed.frames(), (self._times[i] for i in indices)):
            yield self._shot(frame)

    def pictures(self) -> Callable[[int], Rgb]:
        """What gives the clip's picture for one of the result's frames, asked for in order."""
        shown = iter(enumerate(in_time(self._followed.frames(), self._times.tolist())))
        return lambda index: next(frame.rgb for i, frame in shown if i == index)

    def _shot(self, frame: Frame) -> Shot:
        crop, t = self._crops[frame.index], frame.index
        resting = int(self._rests[t])
        face, at_rest = self._mesh[t].astype(np.float64), self._mesh[resting].astype(np.float64)
        to_picture = motion.placed(face, self._pose[t], self._places[t])  # [2,4]
        to_crop = inverse(crop)
        own, rest = (apply(to_crop, each @ to_picture[:, :3].T + to_picture[:, 3]) for each in (face, at_rest))
        assert self.track.blendshapes is not None  # as the pose
        blendshapes = self.track.blendshapes[resting]
        return Shot(frame.rgb, crop, Stance(own, rest, to_crop[:, :2] @ to_picture[:, :3], blendshapes))


class _Followed(Driver):
    """The clip as what is followed; of frames without a face something else is said than of a driver's."""

    kept_as = "clip"

    def _tell_of_missing(self, motion: Motion, missing: str) -> None:
        gone = np.flatnonzero(~motion.track.found)
        if len(gone):
            self._warn(
                f"{self.path}: no face in {len(gone)} of {len(motion)} frames, or a covered one, first at "
                f"{motion.seconds[gone[0]]:.2f} s; they stay as they are"
            )


class _Timed(Protocol):
    @property
    def seconds(self) -> float: ...


T = TypeVar("T", bound=_Timed)


def in_time(frames: Iterable[T], times: Iterable[float]) -> Iterator[T]:
    """For each time the frame nearest to it; of what is shorter the last is held.

    Args:
        frames: one at least, in order.
        times: seconds since the first frame, ascending.
    """
    source = iter(frames)
    here = next(source)
    first, ahead = here.seconds, next(source, None)
    for time in times:
        while ahead is not None and abs(ahead.seconds - first - time) < abs(here.seconds - first - time):
            here, ahead = ahead, next(source, None)
        yield here


def short_by(clip: NDArray[np.float64], driver: NDArray[np.float64]) -> float:
    """Seconds by which a clip ends before the driver does, both given by their frames' times; 0 up to `HELD`."""
    missing = _lasting(driver) - _lasting(clip)
    return missing if missing > HELD else 0.0


def _lasting(times: NDArray[np.float64]) -> float:
    """From the first frame's time to the end of the last, which is shown as long as most are."""
    return float(times[-1] - times[0] + np.median(np.diff(times))) if len(times) > 1 else 0.0


_OPEN = 0.8
"""The share of a clip's frames in which eyes are open no farther than at rest; and how far they must be, of that."""
_EYES = [expression.NAMES.index(name) for name in ("lid left", "lid right")]


def _at_rest(seen: Tensor, track: FaceTrack) -> NDArray[np.intp]:
    """For each frame [T] the one of its scene in which the face is most at rest."""
    known = np.flatnonzero(track.found)
    there = seen[torch.from_numpy(known)]
    neutral = expression.at_rest(there.median(0).values, torch.from_numpy(motion.Basis.load().neutral))
    neutral[_EYES] = there[:, _EYES].quantile(_OPEN, 0)
    # Who blinks, winks or squints is not at rest, however still.
    awake = known[(there[:, _EYES] > _OPEN * neutral[_EYES]).all(1).numpy()]
    found = np.full(len(track), known[0])  # a scene without any face passes as it is
    for part in segments(len(track), track.cuts):
        here, best = (some[(some >= part.start) & (some < part.stop)] for some in (known, awake))
        if len(here):
            choice = best if len(best) else here
            found[part] = choice[expression.nearest_rest(seen[torch.from_numpy(choice)], neutral)]
    return found
