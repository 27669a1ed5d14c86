"""Reading: what a player would show, frame by frame.

Rotation and pixel aspect are applied, colours converted by the matrix and range that the file names.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any, TypeVar

import av
import av.container
import av.stream

from reenact.errors import UsageError, VideoError
from reenact.types import Frame, VideoInfo
from reenact.video.picture import Display, deinterlaced, refusal

Warn = Callable[[str], None]

MAX_PIXELS = 100_000_000
"""Of the largest frame that is decoded; more is taken for damage, and would take gigabytes."""

T = TypeVar("T")


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
        display = _display(path, stream, picture)
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
        display: Display | None = None
        index = 0
        pictures = clock.stamped(_decoded(container, stream, clock.damaged))
        for (pts, seconds), picture in deinterlaced(pictures, clock.once):
            if display is None:
                display = _display(path, stream, picture)
                clock.began(pts, stream.start_time)
            if seconds >= end:
                return
            if seconds >= start:
                yield Frame(display.rgb(picture, clock.once), index, pts, seconds)
                index += 1
                if index == max_frames:
                    return
        if display is None:
            raise VideoError(f"{path}: holds no frame that can be decoded")
        clock.ended(_duration(stream))
        if not index:
            raise UsageError(f"start {start:g} s: {path} ends at {clock.seconds:.2f} s")


def _display(path: str | Path, stream: av.VideoStream, picture: av.VideoFrame) -> Display:
    if why := refusal(picture):
        raise VideoError(f"{path}: {why}")
    return Display.of(stream, picture)


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
        codec = streams[0].codec_context
        if codec.width * codec.height > MAX_PIXELS:
            most = f"at most {MAX_PIXELS // 10**6} million pixels"
            raise VideoError(f"{path}: {codec.width}x{codec.height} is too large; {most}")
        codec.options = {"max_pixels": str(MAX_PIXELS)}  # a frame may still claim more
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


def increasing(
    items: Iterable[tuple[int | None, int, T]], second: int, repaired: Callable[[str], None]
) -> Iterator[tuple[int, T]]:
    """Each passenger with a stamp that is later than the one before.

    A stamp that stands out from both its neighbours is put between them. Where the clock begins anew, a second or
    more earlier, what follows is moved behind what was. Else a late one is set one tick after the one before, not one
    frame: those that follow keep their own time.

    Args:
        items: (stamp in ticks, or None; duration in ticks; passenger), looked at one ahead.
        second: ticks in a second.
        repaired: gets a phrase for each repair.
    """
    shift, last, usual = 0, None, 1
    for (stamp, step, passenger), after in _with_next(items):
        following = None if after is None or after[0] is None else after[0] + shift
        if stamp is None:
            stamp = 0 if last is None else last + usual
        else:
            stamp += shift
            before = last if last is not None or following is None else following - step - 1
            if before is not None and following is not None and before < following < stamp - (last is None) * second:
                stamp = (before + following) // 2
                repaired("a time stamp stands out")
            if last is not None and last - stamp >= second:
                shift += last + usual - stamp
                stamp = last + usual
                repaired("the clock begins anew")
            elif last is not None and stamp <= last:
                stamp = last + 1
                repaired("a time stamp doesn't increase")
        yield stamp, passenger
        last, usual = stamp, max(1, step)


def _with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Each item and the one after it; None after the last."""
    ahead, behind = tee(items)
    return zip(behind, chain(islice(ahead, 1, None), [None]), strict=False)


class _Clock:
    """Stamps of one pass: the file's own, made increasing, with one warning for each kind of trouble."""

    def __init__(self, path: Path, time_base: Fraction, stream: av.VideoStream, warn: Warn) -> None:
        self.seconds = self._end = 0.0
        self._path, self._time_base, self._warn = path, time_base, warn
        self._step = max(1, round(1 / (time_base * _rate_or_guess(stream))))
        self._first: int | None = None
        self._decoded: int | None = None
        self._warned: set[str] = set()

    def stamped(self, pictures: Iterable[av.VideoFrame]) -> Iterator[tuple[tuple[int, float], av.VideoFrame]]:
        """Each picture with its pts in ticks, and its seconds after the first picture."""
        for pts, picture in increasing(self._stamps(pictures), round(1 / self._time_base), self._repaired):
            self._first = pts if self._first is None else self._first
            self.seconds = float((pts - self._first) * self._time_base)
            self._end = self.seconds + float((picture.duration or self._step) * self._time_base)
            yield (pts, self.seconds), picture

    def _stamps(self, pictures: Iterable[av.VideoFrame]) -> Iterator[tuple[int | None, int, av.VideoFrame]]:
        for picture in pictures:
            self._decoded = picture.dts if picture.pts is None else picture.pts
            yield self._decoded, self._step, picture

    def _repaired(self, how: str) -> None:
        self.once("stamps", f"{how} after {self.seconds:.2f} s; it was repaired")

    def damaged(self, how: str) -> None:
        """Say once that the file is damaged here."""
        seconds = self.seconds
        if self._first is not None and self._decoded is not None:  # one picture is looked ahead
            seconds = max(seconds, float((self._decoded - self._first) * self._time_base))
        self.once("damage", f"{how} at about {seconds:.2f} s; going on with what decodes")

    def began(self, pts: int, start: int | None) -> None:
        """Say it if the first picture comes well after the first packet: what lies between needs what is missing."""
        if start is not None and (late := float((pts - start) * self._time_base)) > 0.1:
            self.once("key", f"has no key frame in its first {late:.2f} s; the picture begins after them")

    def ended(self, duration: float | None) -> None:
        """Say it if the file ends well before the time that its header claims."""
        if duration is not None and self._end + 0.5 < duration:
            self.once("damage", f"ends at {self.seconds:.2f} s of {duration:.2f} s; going on with what decodes")

    def once(self, kind: str, message: str) -> None:
        """Say something of the file, unless something of that kind was said."""
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(f"{self._path}: {message}")


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
