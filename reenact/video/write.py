"""Writing: the driver's stamps and sound, under the file's name only when the file is whole."""

from __future__ import annotations

import math
import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, cast

import av
import av.container
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from reenact.errors import UsageError, VideoError
from reenact.files import Unfinished
from reenact.stopping import held
from reenact.types import Frame, VideoInfo
from reenact.video.kinds import KINDS, MATTE_KINDS, Kind
from reenact.video.read import Warn, reason, silent
from reenact.video.sound import Sound, open_sound, sound_start

if TYPE_CHECKING:
    from typing import Self

SUFFIXES = tuple(KINDS)

# H.264 level 5.1, the most that phones, browsers and graphics cards decode: 36,864 macroblocks, which holds
# 4096x2304. Encoders would take more, and gigabytes of memory with it.
MAX_SIDE = 4096
MAX_AREA = 36_864 * 16 * 16

# Fixed, so that the bytes don't depend on how many cores a machine has.
_THREADS = 4


def check_output(
    path: str | Path, inputs: Iterable[str | Path] = (), overwrite: bool = False, suffixes: Sequence[str] = SUFFIXES
) -> None:
    """Refuse an output that couldn't be written later, before any work is done.

    Raises:
        UsageError: a suffix that isn't one of `suffixes`, a folder that is missing or can't be written to,
            an output that is one of `inputs` (through links too), or that exists and `overwrite` is false.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: can't write {path.suffix or 'a file without suffix'}; use {', '.join(suffixes)}")
    if not os.path.isdir(path.parent):
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: can't write into folder {path.parent}; choose another one")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    for other in map(Path, inputs):
        if path.exists() and other.exists() and path.samefile(other):
            raise UsageError(f"{path}: is the input {other}; name another file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; -y overwrites it")


class _Writer(ABC):
    """A file that appears whole or not at all; `write` frames inside a with block.

    Picture and sound keep the driver's stamps, but for one shift of both that puts at 0 whichever begins
    first or, of a cut, its first frame. Leaving the block gives the file its name; an exception removes what
    was written; Ctrl-C keeps it, playable, as `NAME.partial.SUFFIX` (`partial_path`). In each case but the first
    an earlier file of the output's name stays.

    Encoding runs in a thread, one frame behind. Ctrl-C waits for the end of each step, so that it can't come between
    an encoder and the file.
    """

    kinds: ClassVar[dict[str, Kind]]

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        driver: VideoInfo | None = None,
        *,
        audio_from: str | Path | None = None,
        cut: bool = False,
        overwrite: bool = False,
        inputs: Sequence[str | Path] = (),
        on_warning: Warn | None = None,
        crf: int = 18,
        encode_sound: bool = False,
    ) -> None:
        if not 0 <= crf <= 51:
            raise UsageError(f"crf {crf}: must be 0 (lossless) to 51 (worst)")
        self.path = Path(path)
        self.partial_path: Path | None = None
        read_from = [*inputs, *([driver.path] if driver else []), *([audio_from] if audio_from else [])]
        check_output(self.path, read_from, overwrite, tuple(self.kinds))
        self._kind = self.kinds[self.path.suffix.lower()]
        self._width, self._height, self._driver, self._cut = width, height, driver, cut
        self._crf, self._encode_sound = crf, encode_sound
        self._time_base = driver.time_base if driver else Fraction(1, 25)
        self._rate = _nominal_rate(driver)
        self._warn: Warn = on_warning or silent
        self._first = self._last = self._step = self._origin = 0
        self._frames = 0
        self._drained = False
        self._sound_start = sound_start(Path(audio_from)) if audio_from else None
        self._sound: Sound | None = None
        self._file: Unfinished | None = None
        self._worker = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        try:
            with held(), self._writing():
                self._open(Path(audio_from) if audio_from and self._sound_start is not None else None)
        except BaseException:
            self.discard()
            raise

    def _open(self, audio_from: Path | None) -> None:
        self._file = Unfinished(self.path)
        self._output = av.open(
            str(self._file.path.absolute()),
            "w",
            format=self._kind.format,
            # No dates and no random identifiers: same frames, same bytes.
            container_options={**self._kind.options, **self._clock_options(), "fflags": "+bitexact"},
        )
        self._stream = cast(av.VideoStream, self._output.add_stream(self._kind.codec, self._rate))
        self._stream.codec_context.time_base = self._time_base
        self._set_up(self._stream.codec_context)
        if audio_from:
            self._sound = self._open_sound(audio_from)
        self._output.start_encoding()

    def _clock_options(self) -> dict[str, str]:
        """MP4 notes when each track begins in ticks of a clock of its own: milliseconds, unless told finer ones."""
        if self._kind.format not in ("mp4", "mov"):
            return {}
        ticks = self._time_base.denominator
        return {"movie_timescale": str(ticks * math.ceil(10_000 / ticks))} if ticks < 1_000_000 else {}

    @abstractmethod
    def _set_up(self, codec: av.VideoCodecContext) -> None:
        """Choose the encoder's size, format and options."""

    @abstractmethod
    def _picture(self, frame: Frame) -> av.VideoFrame:
        """The frame as the encoder takes it."""

    def _open_sound(self, audio_from: Path) -> Sound | None:
        """The sound on its way into the output, if that takes any."""
        return None

    @property
    def frames(self) -> int:
        """How many it was given."""
        return self._frames

    def write(self, frame: Frame) -> None:
        """Append a frame of the writer's size; its pts, in ticks of the driver's time base, must increase.

        Raises:
            VideoError: this frame or the one before can't be written, say because the disk is full.
        """
        if frame.rgb.shape[:2] != (self._height, self._width):
            raise ValueError(f"frame {frame.index}: {frame.rgb.shape}; expected {self._height}x{self._width}x3")
        if not self._frames:
            self._begin(frame.pts)
        elif frame.pts <= self._last:
            raise ValueError(f"frame {frame.index}: pts {frame.pts} after {self._last}; expected it to increase")
        else:
            self._step = frame.pts - self._last
        picture = self._picture(frame)
        picture.pts, picture.time_base = frame.pts - self._origin, self._time_base
        with held():
            self._submit(lambda: self._encode(picture, frame.pts * self._time_base))
            self._last = frame.pts
            self._frames += 1

    def _begin(self, first: int) -> None:
        """Set the output's zero and the first guess of how long a frame lasts."""
        self._first = self._origin = first
        self._step = max(1, round(1 / (self._rate * self._time_base)))
        if self._sound_start is not None and not self._cut:
            self._origin = min(first, math.floor(self._sound_start / self._time_base))
        if self._sound:
            self._sound.begin(self._origin * self._time_base)

    def _encode(self, picture: av.VideoFrame, seconds: Fraction) -> None:
        if self._sound:
            self._sound.advance(seconds)
        self._output.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            VideoError: no frame was written, or the disk is full. An earlier file of that name stays.
        """
        if not self._frames:
            raise VideoError(f"{self.path}: there is no frame to write")
        self.complete()
        self._rename(self.path)

    def complete(self) -> None:
        """Write all that is still to come, so that `close` has but to give the file its name.

        Of several outputs none replaces its earlier file before all are complete. VideoError: the disk is full.
        """
        if self._frames:
            self._finish(self._last_duration(), self._cut)

    def finish_partial(self) -> Path | None:
        """Close what was written so far, sound up to there, as `NAME.partial.SUFFIX`; None if there is nothing."""
        if not self._frames or self._is_gone():
            self.discard()
            return None
        self._finish(self._step, cut=True)
        self.partial_path = self.path.with_suffix(f".partial{self.path.suffix}")
        self._rename(self.partial_path)
        return self.partial_path

    def _finish(self, duration: int, cut: bool) -> None:
        """Write all that is still to come; `duration` is the last frame's, in ticks."""
        with held():
            self._submit(lambda: self._drain(duration, cut))
            self._wait()

    def _drain(self, duration: int, cut: bool) -> None:
        if self._drained:
            return
        if self._sound:
            self._sound.advance((self._last + duration) * self._time_base if cut else None)
            self._sound.finish()
            self._sound.close()
        for packet in self._stream.encode(None):
            if packet.pts == self._last - self._origin:
                packet.duration = duration
            self._output.mux(packet)
        self._output.close()
        self._drained = True

    def _last_duration(self) -> int:
        """Ticks that the last frame is shown: up to the driver's end where that is near, else as the one before."""
        if self._driver and self._driver.duration and not self._cut:
            rest = round(self._driver.duration / self._time_base) - (self._last - self._first)
            if 0 < rest * self._time_base <= 1:
                return rest
        return self._step

    def discard(self) -> None:
        """Drop what was written; nothing is left behind."""
        with held():
            self._worker.shutdown(wait=True)
            with suppress(av.FFmpegError, OSError, AttributeError):
                self._output.close()
            if self._sound:
                self._sound.close()
            if self._file:
                self._file.remove()

    def _rename(self, name: Path) -> None:
        assert self._file  # `_open` has made it
        with held(), self._writing():
            self._file.rename(name)
            self._worker.shutdown()

    def _is_gone(self) -> bool:
        return self._file is None or not self._file.path.exists()

    def _submit(self, work: Callable[[], None]) -> None:
        self._wait()
        if self._is_gone():  # or hours of work would end in nothing
            raise VideoError(f"{self.path}: can't be written (its folder, or the unfinished file in it, was removed)")
        self._pending = self._worker.submit(work)

    def _wait(self) -> None:
        if self._pending:
            with self._writing():
                self._pending.result()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the file system and FFmpeg say into one line."""
        try:
            yield
        except UnknownCodecError as error:
            raise VideoError(f"{self.path}: this build of PyAV has no encoder {error}; pip install av has") from error
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path}: can't be written ({reason(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
            elif issubclass(kind, KeyboardInterrupt):
                self.finish_partial()
            else:
                self.discard()
        except KeyboardInterrupt:
            self.finish_partial()
            raise
        except BaseException:
            self.discard()
            raise


class VideoWriter(_Writer):
    """Writes frames as H.264 (.mp4 .mov .mkv) or VP9 (.webm), with the driver's clock and sound.

    Pixels are 4:2:0, BT.709, limited range, and tagged so. An odd side is padded to even by repeating its last
    pixels; a picture beyond `MAX_SIDE` or `MAX_AREA` is scaled down; both are said once. Stamps are exact in
    .mp4 and .mov; Matroska and WebM round them to milliseconds. Same frames, same bytes.

    Args:
        path: the output; its suffix, one of `SUFFIXES`, chooses the container.
        width, height: of the frames, in pixels.
        driver: gives the time base of `Frame.pts` and the frame rate; None: 1/25 s per tick.
        audio_from: take the sound of this file, in the driver's clock; usually the driver's path. It is copied
            packet by packet, or encoded again where the container can't hold it, which is said.
        cut: the frames are a part of the driver: sound starts with the first frame, at the next packet (to the
            sample where it is encoded again), and ends with the last. Otherwise all of the sound is kept.
        overwrite: replace an existing file.
        inputs: further files that the output must not be.
        on_warning: gets a line for each thing said.
        crf: H.264's constant quality, 0 (lossless) to 51; 18 is hardly told from the original. VP9's scale is
            a little wider and is set accordingly.
        encode_sound: encode it again in any case, cut to the sample.

    Raises:
        UsageError: as `check_output`, or a `crf` out of range.
        VideoError: the file can't be written.
    """

    kinds = KINDS

    def _set_up(self, codec: av.VideoCodecContext) -> None:
        self._scaled = _fitted(self._width, self._height)
        self._say_size()
        codec.width, codec.height = self._scaled
        codec.pix_fmt = "yuv420p"
        codec.colorspace = codec.color_primaries = codec.color_trc = 1  # H.273's number of BT.709
        codec.color_range = ColorRange.MPEG
        codec.thread_count = _THREADS
        codec.options = _ENCODERS[self._kind.codec](self._crf, math.prod(self._scaled))

    def _say_size(self) -> None:
        width, height = self._scaled
        if width < self._width or height < self._height:
            self._warn(
                f"{self.path}: {self._width}x{self._height} is beyond what players take; scaled to {width}x{height}"
            )
        elif self._scaled != (self._width, self._height):
            self._warn(f"{self.path}: {self._width}x{self._height} is odd; padded to {width}x{height}")

    def _picture(self, frame: Frame) -> av.VideoFrame:
        width, height = self._scaled
        rgb = frame.rgb
        if width >= self._width and height >= self._height:
            rgb = np.pad(rgb, ((0, height - self._height), (0, width - self._width), (0, 0)), mode="edge")
        return av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
            width,
            height,
            "yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.AREA,
        )

    def _open_sound(self, audio_from: Path) -> Sound | None:
        return open_sound(audio_from, self._output, self._kind, self._warn, self._encode_sound)


class MatteWriter(_Writer):
    """Writes `Frame.matte`, uint8 [H,W], losslessly: FFV1, 8 bits of grey, .mkv.

    Takes the arguments of `VideoWriter`; `crf` and `encode_sound` mean nothing here. It holds no sound; give
    `audio_from` all the same, so that its zero is the video's. Matroska rounds stamps to milliseconds.
    """

    kinds = MATTE_KINDS

    def _set_up(self, codec: av.VideoCodecContext) -> None:
        codec.width, codec.height = self._width, self._height
        codec.pix_fmt = "gray"
        codec.color_range = ColorRange.JPEG
        codec.thread_count = _THREADS
        codec.options = {"level": "3"}

    def _picture(self, frame: Frame) -> av.VideoFrame:
        if frame.matte is None:
            raise ValueError(f"frame {frame.index} has no matte; expected uint8 {self._height}x{self._width}")
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.matte), "gray")


def _x264(crf: int, area: int) -> dict[str, str]:
    # The preset looks 40 frames ahead; above 1080p that is cut, so that the frames it holds take no more memory.
    ahead = max(2, min(40, 40 * 1920 * 1088 // area))
    options = {"crf": str(crf), "preset": "medium", "rc-lookahead": str(ahead)}
    if platform.machine() in ("x86_64", "AMD64"):
        # x264's AVX-512 code reads memory that it never set: the same frames gave different files.
        options["x264-params"] = "asm=SSE2,SSSE3,SSE4.2"
    return options


def _vp9(crf: int, area: int) -> dict[str, str]:
    # 0..63; about 6 more looks the same.
    return {"crf": str(crf * 63 // 51 + 2), "b:v": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"}


_ENCODERS: dict[str, Callable[[int, int], dict[str, str]]] = {"libx264": _x264, "libvpx-vp9": _vp9}


def _fitted(width: int, height: int) -> tuple[int, int]:
    """The even size to encode: one pixel more where a side is odd, less where the picture is too large."""
    scale = min(1.0, MAX_SIDE / max(width, height), math.sqrt(MAX_AREA / (width * height)))
    if scale == 1.0:
        return width + width % 2, height + height % 2
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


def _nominal_rate(driver: VideoInfo | None) -> Fraction:
    """Frames per second as a hint to the encoder; the stamps alone say when a frame is shown."""
    if driver is None:
        return Fraction(25)
    if driver.frame_rate:
        return driver.frame_rate
    if driver.frame_count and driver.duration:
        return Fraction(driver.frame_count / driver.duration).limit_denominator(1000) or Fraction(25)
    return Fraction(25)
