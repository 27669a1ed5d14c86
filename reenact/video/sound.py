"""A driver's sound, on its way into the output while the pictures are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import av
import av.container
import numpy as np

from reenact.types import Floats
from reenact.video.kinds import Kind
from reenact.video.read import Warn, increasing, open_input, packets, time_base

RUN_UP = Fraction(1, 10)
"""Seconds before the first sound that is heard, which a decoder may need; AAC and Opus ask for less."""

TOLERANCE = Fraction(1, 1000)
"""Seconds that sound which is encoded again may be off its stamps, which Matroska rounds to as much."""

LONGEST_GAP = 3600
"""Seconds of silence that are encoded; a longer gap is damage."""


class Sound(ABC):
    """A file's first sound track, handed to the output piece by piece as the picture advances.

    Times are in seconds on the file's clock.
    """

    def __init__(self, path: Path, warn: Warn) -> None:
        """Open the track; VideoError if that can't be."""
        self._path, self._warn = path, warn
        self._exit = ExitStack()
        self._input = self._exit.enter_context(open_input(path))
        self._source = self._input.streams.audio[0]
        self._zero = self._reached = Fraction(0)
        self._said: set[str] = set()
        self._pieces = self._all()
        self._held: list[tuple[Fraction, Any]] = []

    @abstractmethod
    def _all(self) -> Iterator[tuple[Fraction, Any]]:
        """Every piece of the track and the time at which it begins."""

    @abstractmethod
    def _put(self, time: Fraction, piece: Any) -> None:
        """Write a piece at `time` after the output's zero."""

    def begin(self, zero: Fraction) -> None:
        """Say which time is the output's zero, before the first `advance`."""
        self._zero = zero

    def advance(self, until: Fraction | None) -> None:
        """Write the pieces that begin before `until`; None: all that are left."""
        held, self._held = self._held, []
        for time, piece in chain(held, self._pieces):
            if until is not None and time >= until:
                self._held = [(time, piece)]
                return
            rest = None if until is None else self._rest(time, piece, until)
            self._put(time - self._zero, piece if rest is None else rest[0])
            if rest is not None:
                self._held = [rest[1:]]
                return

    def _rest(self, time: Fraction, piece: Any, until: Fraction) -> tuple[Any, Fraction, Any] | None:
        """A piece parted at `until`: the first part, when the second begins, and that; None: it stays whole."""
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._exit.close()

    def finish(self) -> None:  # noqa: B027  # most have nothing to do
        """Write what is still on its way through an encoder."""

    def _damaged(self) -> None:
        self._once("damage", f"can't be read at about {float(self._reached):.2f} s; going on without")

    def _once(self, kind: str, how: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._warn(f"{self._path}: the sound {how}")

    def _packets(self) -> Iterator[tuple[Fraction, av.Packet[Any]]]:
        """Every packet and the time at which it begins, later than the one before."""
        base = time_base(self._source)
        read = packets(self._input, self._source, self._damaged)
        stamped = ((packet.pts, packet.duration or 0, packet) for packet in read)
        for stamp, packet in increasing(stamped, round(1 / base), self._repaired):
            self._reached = stamp * base
            # What an edit list cuts away is not heard, and is nobody's business.
            if not (packet.is_discard and self._reached + RUN_UP < _heard_from(self._source)):
                packet.pts = stamp
                yield self._reached, packet

    def _repaired(self, how: str) -> None:
        self._once("stamps", f"has trouble with its clock: {how} after {float(self._reached):.2f} s; it was repaired")


class _CopiedSound(Sound):
    """Sound whose packets go through as they are."""

    def __init__(self, path: Path, output: av.container.OutputContainer, warn: Warn) -> None:
        super().__init__(path, warn)
        self._output = output
        self._stream = output.add_stream_from_template(self._source)

    def _all(self) -> Iterator[tuple[Fraction, av.Packet[Any]]]:
        for time, packet in self._packets():
            # A track that is heard from its start keeps the run-up that its decoder needs, though that lies before.
            if time >= self._zero or self._zero <= _heard_from(self._source):
                yield time, packet

    def _put(self, time: Fraction, packet: av.Packet[Any]) -> None:
        packet.pts = packet.dts = round(time / time_base(self._source))
        packet.stream = self._stream
        self._output.mux(packet)


class _EncodedSound(Sound):
    """Sound decoded and encoded again, cut to the sample.

    Encoders count samples and know no stamps. So the stamps are kept by making samples fit: silence where there is a
    gap, less where pieces overlap, and a piece stretched where a clock runs fast or slow.
    """

    def __init__(self, path: Path, output: av.container.OutputContainer, warn: Warn, encoder: str) -> None:
        super().__init__(path, warn)
        self._output = output
        rates = av.Codec(encoder, "w").audio_rates
        self._rate = self._source.rate
        rate = self._rate if not rates or self._rate in rates else 48000
        self._layout = "mono" if self._source.channels == 1 else "stereo"
        bits = 96_000 if self._layout == "mono" else 192_000
        self._stream = cast(av.AudioStream, output.add_stream(encoder, rate, layout=self._layout, bit_rate=bits))
        self._uniform: av.AudioResampler | None = None
        self._next: int | None = None  # the sample after the last one written, counted from the output's zero

    def _all(self) -> Iterator[tuple[Fraction, Floats]]:
        for time, packet in self._packets():
            yield from self._decoded(time, packet)
        yield from self._decoded(self._reached, None)

    def _decoded(self, time: Fraction, packet: av.Packet[Any] | None) -> Iterator[tuple[Fraction, Floats]]:
        """Samples [channels,N] and when they begin."""
        try:
            frames = self._source.decode(packet)
        except av.FFmpegError:
            self._damaged()
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                time = frame.pts * frame.time_base
            frame.pts = None
            if parts := [part.to_ndarray() for part in self._resampled(frame)]:
                yield time, np.concatenate(parts, axis=1)

    def _resampled(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """The frame in the layout of the output, at the track's rate."""
        try:
            self._uniform = self._uniform or av.AudioResampler("fltp", self._layout, self._rate)
            return self._uniform.resample(frame)
        except ValueError:  # the track has changed its format
            self._uniform = av.AudioResampler("fltp", self._layout, self._rate)
            return self._uniform.resample(frame)

    def _rest(self, time: Fraction, piece: Floats, until: Fraction) -> tuple[Floats, Fraction, Floats] | None:
        kept = round((until - time) * self._rate)
        if kept >= piece.shape[1]:
            return None
        return piece[:, :kept], time + Fraction(kept, self._rate), piece[:, kept:]

    def _put(self, time: Fraction, piece: Floats) -> None:
        begin = round(time * self._rate)
        if self._next is None:
            piece, begin = piece[:, max(0, -begin) :], max(0, begin)  # cut to the sample
            self._next = begin
        off = begin - self._next
        if off > LONGEST_GAP * self._rate:
            self._once("gap", f"is gone for over an hour after {float(self._reached):.2f} s; the rest is left out")
            return
        if abs(off) > TOLERANCE * self._rate:
            piece = self._fitting(piece, off)
        self._write(piece)

    def _fitting(self, piece: Floats, off: int) -> Floats:
        """The samples [C,N] so that they end where their stamp says, though it is `off` samples after the last end.

        As far as a 20th of their length they are stretched or shortened, which nobody hears; else silence is written
        before them, or their beginning goes.
        """
        channels, count = piece.shape
        if abs(off) * 20 <= count:
            places = np.linspace(0, count - 1, count + off)
            return np.stack([np.interp(places, np.arange(count), wave) for wave in piece]).astype(np.float32)
        for begin in range(0, off, self._rate):
            self._write(np.zeros((channels, min(self._rate, off - begin)), np.float32))
        return piece[:, max(0, -off) :]

    def _write(self, piece: Floats) -> None:
        assert self._next is not None  # `_put` has set it
        if piece.shape[1]:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "fltp", self._layout)
            frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._next
            self._output.mux(self._stream.encode(frame))
            self._next += piece.shape[1]

    def finish(self) -> None:
        """Write what is still on its way through the encoder."""
        if self._next is not None:
            self._output.mux(self._stream.encode(None))


def open_sound(
    path: Path, output: av.container.OutputContainer, kind: Kind, warn: Warn, encode: bool = False
) -> Sound | None:
    """The sound of `path` on its way into `output`: copied where that can be and `encode` is false."""
    with open_input(path) as container:
        codec = container.streams.audio[0].codec_context
        name = codec.codec.canonical_name if codec else None
    if name is None:
        warn(f"{path}: the sound is of a kind that can't be read; it is left out")
        return None
    if not encode:
        if kind.copied is None or name in kind.copied:
            with suppress(ValueError):  # what FFmpeg can't put into Matroska
                return _CopiedSound(path, output, warn)
        warn(f"{path}: its {name} sound doesn't go into {kind.format} as it is; encoded again with {kind.sound}")
    return _EncodedSound(path, output, warn, kind.sound)


def sound_start(path: Path) -> Fraction | None:
    """Seconds on the file's clock from which its sound is heard; None: it has no sound."""
    with open_input(path) as container:
        streams = container.streams.audio
        return _heard_from(streams[0]) if streams else None


def _heard_from(stream: av.AudioStream) -> Fraction:
    """Seconds; what lies before 0 is a codec's run-up, which players skip."""
    return max(Fraction(0), (stream.start_time or 0) * time_base(stream))
