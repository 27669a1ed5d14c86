"""A driver's motion, with its clock and if wanted its sound: in memory, in a file of its own, as a table.

The file is numpy's .npz: a zip of plain arrays, no pickle. docs/template.md says what is in it.
"""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
from numpy.typing import NDArray

from .errors import UsageError, VideoError
from .face_landmarker import BLENDSHAPES
from .files import ArrayFile, open_arrays, write_arrays
from .landmarks import OPTIONAL
from .types import FaceTrack, Floats, VideoInfo
from .video.read import open_input, packets, time_base

SUFFIX = ".npz"
FORMAT, VERSION = "reenact-motion", 1
LONGEST = 432_000
"""Frames of a template at most, four hours: a file must not ask for any memory it likes."""

_WHAT = "a motion template"
_RATIO_NONE = (0, 0)


@dataclass(frozen=True, eq=False)
class Motion:
    """One driver's face through T frames, and when each is shown."""

    track: FaceTrack
    pts: NDArray[np.int64]  # [T] in ticks of `time_base`, ascending
    seconds: NDArray[np.float64]  # [T] after the driver's first frame
    time_base: Fraction
    frame_rate: Fraction | None = None  # None: variable, or unknown
    duration: float | None = None  # seconds
    size: tuple[int, int] = (0, 0)  # width and height of the pictures that the points lie in

    def __len__(self) -> int:
        return len(self.pts)

    def part(self, start: float | None, end: float | None, most: int | None) -> Motion:
        """The frames from `start` to before `end`, seconds as `Motion.seconds`, and no more than `most`.

        Raises:
            UsageError: there are none.
        """
        low = int(np.searchsorted(self.seconds, start or 0.0))
        high = len(self) if end is None else int(np.searchsorted(self.seconds, end))
        if most is not None:
            high = min(high, low + most)
        if low >= high:
            raise UsageError(f"start {start or 0:g} s: the template ends at {self.seconds[-1]:.2f} s")
        rows = slice(low, high)
        kept = {
            f.name: value[rows]
            for f in fields(FaceTrack)
            if isinstance(value := getattr(self.track, f.name), np.ndarray)
        }
        cuts = tuple(cut - low for cut in self.track.cuts if low < cut < high)
        track = replace(self.track, **kept, cuts=cuts)
        return replace(self, track=track, pts=self.pts[rows], seconds=self.seconds[rows])


def is_template(path: Path) -> bool:
    """Whether a driver is one, by its name."""
    return path.suffix.lower() == SUFFIX


def described(path: Path, motion: Motion, sound: bool) -> VideoInfo:
    """What `video.probe` would say of the driver that the motion was taken from."""
    width, height = motion.size
    return VideoInfo(
        path, width, height, motion.time_base, motion.frame_rate, motion.duration, len(motion), 0, sound
    )  # fmt: skip


# ---- The file ----------------------------------------------------------------------------------------------------


def save(path: Path, motion: Motion, sound_from: Path | None = None, cut: bool = False) -> None:
    """Write a template.

    Args:
        path: the file.
        motion: what goes into it.
        sound_from: a file whose first sound track goes in too, packet by packet; None, or a silent file: none.
        cut: whether the motion is a part of that file's; its sound is then cut when the template is used.

    Raises:
        UsageError: the detector knew points only.
        ReenactError: it can't be written.
        VideoError: the sound can't be read.
    """
    if any(getattr(motion.track, name) is None for name in OPTIONAL):
        raise UsageError(f"{path}: this detector finds points only; --detector landmarker knows more")
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION, np.int64),
        **clock_arrays(motion),
        **track_arrays(motion.track),
        "blendshape_names": np.array(BLENDSHAPES),
    }
    packed = copied_sound(sound_from) if sound_from else None
    if packed is not None:
        arrays["sound"] = np.frombuffer(packed, np.uint8)
        arrays["sound_cut"] = np.array(cut)
    write_arrays(path, arrays)


def load(path: Path) -> Motion:
    """Read a template.

    Raises:
        ReenactError: it is none, is damaged, or is of a later version.
    """
    with open_arrays(path, _WHAT) as file:
        if str(file.read("format", "U", (), 1)) != FORMAT:
            raise ValueError("it holds something else")
        version = int(file.read("version", "iu", (), 1))
        if version != VERSION:
            raise ValueError(f"it is of version {version}, and this program knows {VERSION}")
        if file.read("blendshape_names", "U", (len(BLENDSHAPES),), 100).tolist() != list(BLENDSHAPES):
            raise ValueError("its blendshapes are others")
        motion = _checked(_clock(file, read_track(file)))
    return motion


def has_sound(path: Path) -> bool:
    """Whether a template brings sound; otherwise as `load`."""
    with open_arrays(path, _WHAT) as file:
        return "sound" in file


def sound_is_cut(path: Path) -> bool:
    """Whether a template's motion is a part only of what its sound goes with; otherwise as `load`."""
    with open_arrays(path, _WHAT) as file:
        return "sound_cut" in file and bool(file.read("sound_cut", "b", (), 1))


def unpack_sound(path: Path, folder: Path) -> Path | None:
    """Write a template's sound into a folder, as a file that FFmpeg reads; None: it has none. Otherwise as `load`."""
    with open_arrays(path, _WHAT) as file:
        if "sound" not in file:
            return None
        sound = file.read("sound", "u", (None,), 1 << 31)
        if sound.dtype != np.uint8:
            raise ValueError(f"sound is {sound.dtype}")
    unpacked = folder / "sound"
    unpacked.write_bytes(sound.tobytes())
    return unpacked


def copied_sound(path: Path) -> bytes | None:
    """A file's first sound track alone, packet by packet, in a container that FFmpeg reads.

    Raises:
        VideoError: the file can't be read, or none of the containers takes its codec.
    """
    with open_input(path) as source:
        if not source.streams.audio:
            return None
        track = source.streams.audio[0]
        # MP4 and MOV know of a codec's run-up before 0; NUT takes whatever they don't.
        for form in ("mp4", "mov", "nut"):
            packed = io.BytesIO()
            with suppress(ValueError, av.FFmpegError):
                ticks = time_base(track).denominator
                clock = {} if form == "nut" else {"movie_timescale": str(ticks * max(1, -(-10_000 // ticks)))}
                with av.open(packed, "w", format=form, container_options={"fflags": "+bitexact", **clock}) as output:
                    stream = output.add_stream_from_template(track)
                    output.start_encoding()
                    _copy(source, track, output, stream)
                return packed.getvalue()
    raise VideoError(f"{path}: its sound can't be copied; leave --latents-sound out")


def _copy(
    source: av.container.InputContainer,
    track: av.AudioStream,
    output: av.container.OutputContainer,
    stream: av.AudioStream,
) -> None:
    for packet in packets(source, track, lambda: None):  # damage is told of where the sound is read for the result
        if packet.pts is not None:
            packet.stream = stream
            output.mux(packet)


# ---- Arrays ------------------------------------------------------------------------------------------------------


def clock_arrays(motion: Motion) -> dict[str, NDArray[Any]]:
    """When the frames are shown, as `load` reads it."""
    rate = motion.frame_rate
    return {
        "pts": motion.pts,
        "seconds": motion.seconds,
        "time_base": np.array([motion.time_base.numerator, motion.time_base.denominator], np.int64),
        "frame_rate": np.array([rate.numerator, rate.denominator] if rate else _RATIO_NONE, np.int64),
        "duration": np.array(np.nan if motion.duration is None else motion.duration, np.float64),
        "size": np.array(motion.size, np.int64),
    }


def track_arrays(track: FaceTrack) -> dict[str, NDArray[Any]]:
    """A track's columns by name; `read_track` reads them."""
    columns = {f.name: getattr(track, f.name) for f in fields(FaceTrack) if f.name != "cuts"}
    known = {name: column for name, column in columns.items() if column is not None}
    return {**known, "cuts": np.array(track.cuts, np.int64)}


def read_track(file: ArrayFile) -> FaceTrack:
    """What `track_arrays` wrote.

    Raises:
        ValueError: it is not such.
    """
    found = file.read("found", "b", (None,), LONGEST)
    frames = len(found)

    def column(name: str, shape: tuple[int, ...]) -> Floats:
        rows = file.read(name, "f", (frames, *shape), LONGEST * max(1, int(np.prod(shape))))
        return np.asarray(rows, np.float32)

    cuts = file.read("cuts", "iu", (None,), LONGEST).tolist()
    if any(not 0 <= cut < frames for cut in cuts):
        raise ValueError("a cut lies outside")
    return FaceTrack(
        points=column("points", (68, 2)),
        score=column("score", ()),
        found=found,
        cuts=tuple(sorted(set(cuts))),
        **{name: column(name, shape) for name, shape in OPTIONAL.items() if name in file},
    )


def _clock(file: ArrayFile, track: FaceTrack) -> Motion:
    base, rate = (file.read(name, "iu", (2,), 2).tolist() for name in ("time_base", "frame_rate"))
    duration = float(file.read("duration", "f", (), 1))
    if min(base) < 1 or max(base) > 1 << 31 or min(rate) < 0:
        raise ValueError("its clock is not one")
    return Motion(
        track=track,
        pts=file.read("pts", "iu", (len(track),), LONGEST).astype(np.int64),
        seconds=file.read("seconds", "f", (len(track),), LONGEST).astype(np.float64),
        time_base=Fraction(*base),
        frame_rate=Fraction(*rate) if min(rate) else None,
        duration=duration if np.isfinite(duration) and duration > 0 else None,
        size=tuple(file.read("size", "iu", (2,), 2).tolist()),
    )


def _checked(motion: Motion) -> Motion:
    """The motion, if a run can rely on it; raises ValueError."""
    track = motion.track
    if not len(motion):
        raise ValueError("it has no frame")
    if (np.diff(motion.pts) <= 0).any() or abs(motion.pts).max() > 1 << 53:
        raise ValueError("its stamps don't increase")
    if not np.isfinite(motion.seconds).all() or (np.diff(motion.seconds) < 0).any():
        raise ValueError("its seconds don't increase")
    for name in ("points", *OPTIONAL):
        rows = getattr(track, name)
        if rows is None:
            raise ValueError(f"{name} is missing")
        if not np.isfinite(rows[track.found]).all() or (abs(rows[track.found]) > 1e6).any():
            raise ValueError(f"{name} holds what is no number of a face")
    return motion


# ---- The table ---------------------------------------------------------------------------------------------------


def to_csv(motion: Motion) -> str:
    """A row a frame: times, whether there is a face and how sure that is, cuts, pose in degrees, blendshapes.

    What is not known is empty.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["frame", "pts", "seconds", "face", "score", "cut", "yaw", "pitch", "roll", *BLENDSHAPES])
    track, cuts = motion.track, set(motion.track.cuts)
    for i in range(len(motion)):
        there = bool(track.found[i])
        pose = _cells(track.pose[i] if there and track.pose is not None else None, 3, ".2f")
        shapes = _cells(track.blendshapes[i] if there and track.blendshapes is not None else None, 51, ".4f")
        score = f"{track.score[i]:.3f}" if there else ""
        table.writerow(
            [i, motion.pts[i], f"{motion.seconds[i]:.6f}", int(there), score, int(i in cuts), *pose, *shapes]
        )
    return out.getvalue()


def _cells(values: Floats | None, count: int, form: str) -> list[str]:
    return [""] * count if values is None else [format(float(v), form) for v in values]
