"""Reading: what a player would show, frame by frame.

Rotation and pixel aspect are applied, colours converted by the matrix and range that the file names.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.container
import av.stream
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Interpolation

from reenact.errors import UsageError, VideoError
from reenact.types import Frame, Rgb, VideoInfo

Warn = Callable[[str], None]


def silent(message: str) -> None:
    """Where nobody listens to warnings."""


def probe(path: str | Path) -> VideoInfo:
    """What the video at `path` is, as a player shows it.

    Decodes one frame, since rotation and true size are known only then.

    Raises:
        VideoError: no such file, not a video, sound only, or not one frame that decodes.
    """
    with open_video(Path(path)) as (container, stream):
        picture = next(_decoded(container, stream, silent), None)
        if picture is None:
            raise VideoError(f"{path}: holds no frame that can be decoded")
        display = _Display.of(stream, picture)
        width, height = display.size
        return VideoInfo(
            path=Path(path),
            width=width,
            height=height,
            time_base=time_base(stream),
            frame_rate=_constant_rate(stream),
            duration=_duration(stream) or (container.duration / av.time_base if container.duration else None),
            frame_count=stream.frames or None,
            rotation=display.rotation,
            has_audio=bool(container.streams.audio),
        )


def read_frames(
    path: str | Path,
    start: float | None = None,
    end: float | None = None,
    max_frames: int | None = None,
    on_warning: Warn | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a video one by one: rgb uint8 [H,W,3], upright, square pixels.

    Two passes over one file give the same frames. `Frame.pts` is the file's own stamp, repaired where it
    doesn't increase; `Frame.seconds` counts from the first frame of the file; `Frame.index` counts the
    frames that are yielded.

    Args:
        path: any video that FFmpeg decodes, an animated GIF too.
        start: skip frames before this time, in seconds after the first frame.
        end: stop at the first frame at or after this time, in the same seconds.
        max_frames: stop after so many frames.
        on_warning: gets a line for what was repaired or lost. A damaged or cut-off file gives what decodes.

    Raises:
        UsageError: a negative time, `end` not after `start`, `start` after the last frame, `max_frames` < 1.
        VideoError: as `probe`.
    """
    if start is not None and not 0 <= start < math.inf:
        raise UsageError(f"start {start:g} s: must be 0 or more, in seconds after the first frame")
    if end is not None and not end > (start or 0.0):
        raise UsageError(f"end {end:g} s: must be later than the start, {start or 0.0:g} s")
    if max_frames is not None and max_frames < 1:
        raise UsageError(f"max_frames {max_frames}: must be 1 or more")
    return _read(Path(path), start or 0.0, math.inf if end is None else end, max_frames, on_warning or silent)


def _read(path: Path, start: float, end: float, max_frames: int | None, warn: Warn) -> Iterator[Frame]:
    with open_video(path) as (container, stream):
        clock = _Clock(path, time_base(stream), stream, warn)
        display: _Display | None = None
        index = 0
        for picture in _decoded(container, stream, clock.damaged):
            pts, seconds = clock.stamp(picture)
            display = display or _Display.of(stream, picture)
            if seconds >= end:
                return
            if seconds >= start:
                yield Frame(display.rgb(picture), index, pts, seconds)
                index += 1
                if index == max_frames:
                    return
        if display is None:
            raise VideoError(f"{path}: holds no frame that can be decoded")
        clock.ended(_duration(stream))
        if not index:
            raise UsageError(f"start {start:g} s: {path} ends at {clock.seconds:.2f} s")


@contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its stream of pictures."""
    with open_input(path) as container:
        # A cover picture of a song is a video stream too, for FFmpeg.
        covers = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & covers and s.codec_context]
        if not streams:
            what = "holds sound but no picture" if container.streams.audio else "is not a video"
            raise VideoError(f"{path}: {what}; give a video such as .mp4, .mov, .mkv, .webm or .gif")
        yield container, streams[0]


@contextmanager
def open_input(path: Path) -> Iterator[av.container.InputContainer]:
    """A file opened for reading, whatever it holds; VideoError if it can't be."""
    # os.path, since a folder that can't be entered is no reason for a traceback.
    if not os.path.exists(path):
        raise VideoError(f"{path}: no such file")
    if not os.path.isfile(path):
        raise VideoError(f"{path}: not a file; give a video such as .mp4, .mov, .mkv, .webm or .gif")
    try:
        # An absolute path is never taken for an address, and a playlist can't reach the network.
        container = av.open(
            str(path.absolute()), metadata_errors="replace", container_options={"protocol_whitelist": "file"}
        )
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: can't be read as a video ({reason(error)})") from error
    with container:
        yield container


def reason(error: Exception) -> str:
    """The short text of an error of the system or of FFmpeg."""
    return getattr(error, "strerror", None) or str(error)


def packets(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream, damaged: Callable[[], None]
) -> Iterator[av.Packet[Any]]:
    """Every packet that can be read. One failure is stepped over, a second at the same place ends the file."""
    stuck = False
    while True:
        try:
            for packet in container.demux(stream):
                stuck = False
                if packet.size:  # not the empty ones that end a file
                    yield packet
            return
        except av.FFmpegError:
            damaged()
            if stuck:
                return
            stuck = True


def _decoded(container: av.container.InputContainer, stream: av.VideoStream, damaged: Warn) -> Iterator[av.VideoFrame]:
    """Every frame that decodes.

    PyAV's default is threads within a frame, not across frames: what a decoder conjures up for damaged
    parts is then the same in every pass.
    """
    for packet in packets(container, stream, lambda: damaged("can't be read")):
        try:
            pictures = stream.decode(packet)
        except av.FFmpegError:
            damaged("can't be decoded")
            continue
        yield from _told_of(pictures, damaged)
    with suppress(av.FFmpegError):
        yield from _told_of(stream.decode(None), damaged)


def _told_of(pictures: Iterable[av.VideoFrame], damaged: Warn) -> Iterator[av.VideoFrame]:
    for picture in pictures:
        if picture.is_corrupt:
            damaged("is damaged")
        yield picture


class _Clock:
    """Stamps of one pass: the file's own, made increasing, with one warning for each kind of trouble."""

    def __init__(self, path: Path, time_base: Fraction, stream: av.VideoStream, warn: Warn) -> None:
        self.seconds = self._end = 0.0
        self._path, self._time_base, self._warn = path, time_base, warn
        self._step = max(1, round(1 / (time_base * _rate_or_guess(stream))))
        self._first: int | None = None
        self._last: int | None = None
        self._warned: set[str] = set()

    def stamp(self, picture: av.VideoFrame) -> tuple[int, float]:
        """The frame's pts in ticks, and its seconds after the first frame."""
        pts = picture.pts if picture.pts is not None else picture.dts
        if self._last is None:
            pts = self._first = pts or 0
        elif pts is None:
            pts = self._last + self._step
        elif pts <= self._last:
            # One tick later, not one frame: the frames that follow keep their own time, and so does the sound.
            pts = self._last + 1
            self._once("stamps", f"a time stamp doesn't increase after {self.seconds:.2f} s; it was repaired")
        self._last = pts
        self.seconds = float((pts - cast(int, self._first)) * self._time_base)
        self._end = self.seconds + float((picture.duration or self._step) * self._time_base)
        return pts, self.seconds

    def damaged(self, how: str) -> None:
        """Say once that the file is damaged here."""
        self._once("damage", f"{how} at about {self.seconds:.2f} s; going on with what decodes")

    def ended(self, duration: float | None) -> None:
        """Say it if the file ends well before the time that its header claims."""
        if duration is not None and self._end + 0.5 < duration:
            self._once("damage", f"ends at {self.seconds:.2f} s of {duration:.2f} s; going on with what decodes")

    def _once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(f"{self._path}: {message}")


@dataclass(frozen=True)
class _Display:
    """How stored pictures become what a player shows."""

    width: int  # of the stored picture with its pixels made square
    height: int
    matrix: tuple[int, int, int, int]  # signs of a, b, c, d: x' = a x + c y, y' = b x + d y

    @classmethod
    def of(cls, stream: av.VideoStream, picture: av.VideoFrame) -> _Display:
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if not Fraction(1, 8) <= aspect <= 8:  # 0 is "unknown"; far values are damage, and would ask for memory
            aspect = Fraction(1)
        # Whichever side is short grows, so that no detail is lost.
        width = round(picture.width * max(aspect, Fraction(1)))
        height = round(picture.height / min(aspect, Fraction(1)))
        return cls(width, height, _matrix(picture))

    @property
    def turned(self) -> bool:
        return self.matrix[0] == 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the screen."""
        return (self.height, self.width) if self.turned else (self.width, self.height)

    @property
    def rotation(self) -> int:
        """Degrees clockwise: 0, 90, 180 or 270; a mirrored picture is mirrored left to right first."""
        a, b, c, d = self.matrix
        mirror = a * d - b * c
        return round(math.degrees(math.atan2(b * mirror, a * mirror))) % 360

    def rgb(self, picture: av.VideoFrame) -> Rgb:
        """Pixels as displayed, uint8 [H,W,3]. All pictures get the first one's size."""
        rgb = _rgb24(picture, self.width, self.height)
        a, b, c, d = self.matrix
        if self.turned:
            rgb, a, d = rgb.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(rgb[:: d or 1, :: a or 1])


_TURNS = ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))  # by 0, 90, 180, 270 degrees clockwise


def _matrix(picture: av.VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix, snapped to quarter turns and mirrorings."""
    try:
        # PyAV's stubs call this a dict of names; it is a mapping that also takes a Type.
        data = cast(Any, picture.side_data).get(SideDataType.DISPLAYMATRIX)
    except ValueError:  # side data newer than PyAV's list of types
        return _TURNS[round(-picture.rotation / 90) % 4]
    if data is None:
        return _TURNS[0]
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(a) >= abs(b):
        return (-1 if a < 0 else 1), 0, 0, (-1 if d < 0 else 1)
    return 0, (-1 if b < 0 else 1), (-1 if c < 0 else 1), 0


def _rgb24(picture: av.VideoFrame, width: int, height: int) -> Rgb:
    """Convert to RGB of the given size by the matrix and range that the picture names."""
    full = picture.format.is_rgb or picture.format.name.startswith("yuvj") or picture.color_range == ColorRange.JPEG
    rgb = picture.reformat(
        width,
        height,
        "rgb24",
        src_colorspace=None if picture.format.is_rgb else _colorspace(picture),
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC,
    )
    return cast(Rgb, rgb.to_ndarray())


# H.273's number of a matrix, which frames carry, to swscale's: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020 twice.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


def _colorspace(picture: av.VideoFrame) -> int:
    """The named matrix; where none is named, what everyone assumes: BT.709 from 720 lines on, else BT.601."""
    return _MATRICES.get(picture.colorspace, 1 if picture.height >= 720 else 5)


def time_base(stream: av.VideoStream | av.AudioStream) -> Fraction:
    """Seconds per tick of the stream's stamps."""
    return stream.time_base or Fraction(1, 90000)


def _rate_or_guess(stream: av.VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _constant_rate(stream: av.VideoStream) -> Fraction | None:
    """Frames per second, or None where they vary: the average is off the rate that all stamps would fit."""
    average, base = stream.average_rate, stream.base_rate
    if not average or not base or abs(average / base - 1) > Fraction(1, 200):
        return None
    return average


def _duration(stream: av.VideoStream) -> float | None:
    """Seconds from the first frame to the end of the last, as far as the header knows."""
    if stream.duration:
        return float(stream.duration * time_base(stream))
    if tagged := _clock_time(stream.metadata.get("DURATION", "")):  # Matroska's, the end on the file's clock
        return float(tagged - (stream.start_time or 0) * time_base(stream))
    return None


def _clock_time(text: str) -> Fraction | None:
    """Seconds of "00:01:02.5"."""
    try:
        hours, minutes, seconds = text.split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None
