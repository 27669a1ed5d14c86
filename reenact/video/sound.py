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

from reenact.video.kinds import Kind
from reenact.video.read import Warn, open_input, packets, time_base


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
            self._put(time - self._zero, piece)

    def close(self) -> None:
        """Let go of the file."""
        self._exit.close()

    def finish(self) -> None:  # noqa: B027  # most have nothing to do
        """Write what is still on its way through an encoder."""

    def _damaged(self) -> None:
        self._warn(f"{self._path}: the sound can't be read at about {float(self._reached):.2f} s; going on without")

    def _packets(self) -> Iterator[av.Packet[Any]]:
        for packet in packets(self._input, self._source, self._damaged):
            if packet.pts is not None:
                self._reached = packet.pts * time_base(self._source)
                yield packet


class _CopiedSound(Sound):
    """Sound whose packets go through as they are."""

    def __init__(self, path: Path, output: av.container.OutputContainer, warn: Warn) -> None:
        super().__init__(path, warn)
        self._output = output
        self._stream = output.add_stream_from_template(self._source)
        self._last: int | None = None

    def _all(self) -> Iterator[tuple[Fraction, av.Packet[Any]]]:
        for packet in self._packets():
            # A track that is heard from its start keeps the run-up that its decoder needs, though that lies before.
            if self._reached >= self._zero or self._zero <= _heard_from(self._source):
                yield self._reached, packet

    def _put(self, time: Fraction, packet: av.Packet[Any]) -> None:
        stamp = round(time / time_base(self._source))
        if self._last is not None and stamp <= self._last:  # no container takes stamps that don't increase
            stamp = self._last + 1
        self._last = packet.pts = packet.dts = stamp
        packet.stream = self._stream
        self._output.mux(packet)


class _EncodedSound(Sound):
    """Sound that the output can't hold as it is: decoded, and encoded again."""

    def __init__(self, path: Path, output: av.container.OutputContainer, warn: Warn, encoder: str) -> None:
        super().__init__(path, warn)
        self._output = output
        rates = av.Codec(encoder, "w").audio_rates
        rate = self._source.rate if not rates or self._source.rate in rates else 48000
        mono = self._source.channels == 1
        self._stream = cast(
            av.AudioStream,
            output.add_stream(encoder, rate, layout="mono" if mono else "stereo", bit_rate=96_000 if mono else 192_000),
        )

    def _all(self) -> Iterator[tuple[Fraction, av.AudioFrame]]:
        for packet in self._packets():
            yield from self._decoded(packet)
        yield from self._decoded(None)

    def _decoded(self, packet: av.Packet[Any] | None) -> Iterator[tuple[Fraction, av.AudioFrame]]:
        try:
            frames = self._source.decode(packet)
        except av.FFmpegError:
            self._damaged()
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                yield frame.pts * frame.time_base, frame

    def _put(self, time: Fraction, frame: av.AudioFrame) -> None:
        stamp = round(time * frame.sample_rate)
        if stamp + frame.samples <= 0:
            return
        if stamp < 0:  # cut to the sample
            frame, stamp = _without_start(frame, -stamp), 0
        frame.time_base, frame.pts = Fraction(1, frame.sample_rate), stamp
        self._output.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what is still on its way through the encoder."""
        self._output.mux(self._stream.encode(None))


def _without_start(frame: av.AudioFrame, samples: int) -> av.AudioFrame:
    """The frame less its first samples."""
    wave = frame.to_ndarray()  # [channels, samples], or [1, samples * channels] where they are interleaved
    skipped = samples if frame.format.is_planar else samples * frame.layout.nb_channels
    rest: Any = np.ascontiguousarray(wave[:, skipped:])
    shorter = av.AudioFrame.from_ndarray(rest, frame.format.name, frame.layout.name)
    shorter.sample_rate = frame.sample_rate
    return shorter


def open_sound(path: Path, output: av.container.OutputContainer, kind: Kind, warn: Warn) -> Sound | None:
    """The sound of `path` on its way into `output`, copied where that can be."""
    with open_input(path) as container:
        codec = container.streams.audio[0].codec_context
        name = codec.codec.canonical_name if codec else None
    if name is None:
        warn(f"{path}: the sound is of a kind that can't be read; it is left out")
        return None
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
