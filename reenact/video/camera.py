"""Pictures as they come: from a camera, or from a file or a filter graph at the pace of one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import av
import av.container

from reenact.errors import UsageError, VideoError
from reenact.types import Frame, Rgb, VideoInfo
from reenact.video.picture import Display
from reenact.video.read import read_frames, reason

if TYPE_CHECKING:
    from typing import Self

PREFIX = "camera:"
TICKS = Fraction(1, 90_000)
"""Seconds a tick of the frames' pts."""
_PATIENCE = (10.0, 5.0)  # seconds for a device to open, and for its next picture

# By sys.platform: FFmpeg's input, what it calls a camera of that name, and what it calls the number N.
_DEVICES = {
    "linux": ("v4l2", "{}", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none", "{}:none"),
    "win32": ("dshow", "video={}", ""),
}


def is_camera(driver: str | Path) -> bool:
    """Whether a driver is named as a camera is."""
    return str(driver).startswith(PREFIX)


@dataclass(frozen=True)
class Camera:
    """Where pictures come from."""

    name: str  # as the user gave it
    source: str  # as FFmpeg calls it
    format: str | None = None  # FFmpeg's input; None: a file
    options: dict[str, str] = field(default_factory=dict)
    paced: bool = False  # has no pace of its own: its stamps are waited for

    @classmethod
    def named(cls, name: str) -> Camera:
        """`camera:N`, `camera:NAME`, or instead of a device `camera:FILE` or `camera:lavfi:GRAPH`.

        Raises:
            UsageError: it isn't one of these, or this system knows no cameras.
        """
        rest = name.removeprefix(PREFIX)
        if not rest:
            raise UsageError(f"{name}: which camera? camera:0 is the first")
        if rest.startswith("lavfi:"):
            return cls(name, rest.removeprefix("lavfi:"), "lavfi", paced=True)
        if Path(rest).is_file():
            return cls(name, rest, paced=True)
        if sys.platform not in _DEVICES:
            raise UsageError(f"{name}: no cameras are known on {sys.platform}; record a video and give that")
        form, by_name, by_number = _DEVICES[sys.platform]
        if rest.isdecimal() and not by_number:
            return cls(name, by_name.format(_numbered(name, int(rest), form)), form)
        return cls(name, (by_number if rest.isdecimal() else by_name).format(rest), form)

    def info(self, frame: Frame) -> VideoInfo:
        """What a writer wants to know, from one of its frames."""
        height, width = frame.rgb.shape[:2]
        return VideoInfo(Path(self.name), width, height, TICKS, None, None, None, 0, False)


def _numbered(name: str, number: int, form: str) -> str:
    """The name of a camera where they have no numbers."""
    with suppress(ValueError, av.FFmpegError, AttributeError):  # PyAV before 18 can't list them
        devices = [d for d in av.enumerate_input_devices(form) if "video" in d.media_types]
        if number < len(devices):
            return str(devices[number].description)
    raise UsageError(f"{name}: there is no such camera; name one as the system does, camera:NAME")


class Feed:
    """The newest picture whenever one is asked for; those that nobody had time for are dropped.

    A context, and an iterator of frames: rgb uint8 [H,W,3] upright, `pts` in `TICKS` and `seconds` since the first
    picture, both of when it was taken; `index` counts those that are yielded. A thread reads.
    """

    def __init__(self, camera: Camera) -> None:
        """Nothing is opened yet."""
        self.camera = camera
        self.came = 0  # pictures, dropped ones too
        self._news = threading.Condition()
        self._newest: tuple[float, Callable[[], Rgb]] | None = None
        self._over = False
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name=camera.name, daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the camera."""
        self._stop.set()
        self._thread.join(_PATIENCE[1] + 1)

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until there are no more.

        Raises:
            VideoError: there is no such camera, it gives no pictures, or gives no more.
        """
        index, last = 0, -1
        while (taken := self._next()) is not None:
            seconds, rgb = taken
            pts = max(last + 1, round(seconds / TICKS))
            yield Frame(rgb(), index, pts, float(pts * TICKS))
            index, last = index + 1, pts

    def _next(self) -> tuple[float, Callable[[], Rgb]] | None:
        with self._news:
            while self._newest is None and not self._over:
                self._news.wait(0.1)  # with a time, or Ctrl-C would wait too
            taken, self._newest = self._newest, None
            if taken is None and self._error:
                raise self._error
            return taken

    # ---- the thread

    def _read(self) -> None:
        try:
            began = None
            for seconds, rgb in self._pictures():
                now = time.monotonic()
                began = now - seconds if began is None else began
                if self.camera.paced:
                    self._stop.wait(max(0.0, began + seconds - now))
                if self._stop.is_set():
                    return
                with self._news:
                    self.came, self._newest = self.came + 1, (seconds, rgb)
                    self._news.notify()
        except Exception as error:  # the thread that asks for frames raises it
            self._error = error
        finally:
            with self._news:
                self._over = True
                self._news.notify()

    def _pictures(self) -> Iterator[tuple[float, Callable[[], Rgb]]]:
        """Each picture's seconds since the first, and what makes its pixels."""
        if self.camera.format is None:
            for frame in read_frames(self.camera.source):
                yield frame.seconds, partial(getattr, frame, "rgb")
            return
        with self._opened() as container:
            stream, display, first = container.streams.video[0], None, None
            for picture in self._decoded(container):
                display = display or Display.of(stream, picture)
                time_ = float(picture.time or 0.0)
                first = time_ if first is None else first
                yield time_ - first, partial(display.rgb, picture, _unsaid)

    def _opened(self) -> av.container.InputContainer:
        camera = self.camera
        try:
            container = av.open(camera.source, format=camera.format, options=camera.options, timeout=_PATIENCE)
        except (av.FFmpegError, ValueError) as error:  # ValueError: no such input in this build of PyAV
            raise VideoError(f"{camera.name}: can't be opened ({reason(error)}); is it there, and free?") from error
        if not container.streams.video:
            container.close()
            raise VideoError(f"{camera.name}: gives no pictures")
        return container

    def _decoded(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        try:
            yield from container.decode(container.streams.video[0])
        except av.FFmpegError as error:
            raise VideoError(f"{self.camera.name}: gives no more pictures ({reason(error)})") from error


def _unsaid(kind: str, message: str) -> None:
    """What a camera's pictures are like, its owner knows."""
