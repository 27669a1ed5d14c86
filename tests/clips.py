"""Clips made on the spot, so that what is in them is known: `make_clip(path, ...)` and what spoils a file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ENCODERS = {".webm": "libvpx", ".gif": "gif"}
SOUND_ENCODERS = {"opus": "libopus"}


def shade(index: int) -> int:
    """The grey of frame `index` of a clip, far from its neighbours'."""
    return 40 + 37 * index % 160


def plain(index: int, width: int, height: int) -> np.ndarray:
    """One grey per frame, uint8 [H,W,3]."""
    return np.full((height, width, 3), shade(index), np.uint8)


def quarters(index: int, width: int, height: int) -> np.ndarray:
    """Red, green, blue and white quarters: top left, top right, bottom left, bottom right."""
    rgb = np.full((height, width, 3), 255, np.uint8)
    rgb[: height // 2, : width // 2] = 255, 0, 0
    rgb[: height // 2, width // 2 :] = 0, 255, 0
    rgb[height // 2 :, : width // 2] = 0, 0, 255
    return rgb


def make_clip(
    path: Path,
    stamps: Sequence[int] = tuple(range(10)),
    time_base: Fraction = Fraction(1, 25),
    *,
    size: tuple[int, int] = (64, 48),
    picture: Callable[[int, int, int], np.ndarray] = plain,
    rate: Fraction = Fraction(25),
    sound: str | None = None,
    sound_start: float = 0.0,
    sound_seconds: float | None = None,
    aspect: Fraction | None = None,
    bframes: int = 0,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip with one frame for each stamp (ticks of `time_base`) and, if named, a sound codec's track.

    `size` is width, height in stored pixels; `aspect` the shape of one. Sound is as long as the picture unless
    `sound_seconds` says otherwise, and begins at `sound_start` seconds.
    """
    encoder = ENCODERS.get(path.suffix, "libx264")
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as output:
        video = output.add_stream(encoder, rate)
        video.width, video.height = size
        video.pix_fmt = "rgb8" if encoder == "gif" else pix_fmt
        video.codec_context.time_base = time_base
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        if encoder == "libx264":
            video.codec_context.options = {"crf": "4", "bf": str(bframes), "g": "12", **(options or {})}
        else:
            video.codec_context.options = {"crf": "4", "b": "2M", **(options or {})} if encoder != "gif" else {}
        packets = []
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24").reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = stamp, time_base
            packets += video.encode(frame)
        packets += video.encode(None)
        if sound:
            seconds = (stamps[-1] + 1) * time_base if sound_seconds is None else sound_seconds
            packets += _sound(output, sound, sound_start, float(seconds))
        output.start_encoding()
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


def make_sound(path: Path, codec: str = "aac", seconds: float = 1.0) -> Path:
    """Write a file that holds sound alone."""
    with av.open(str(path), "w") as output:
        for packet in _sound(output, codec, 0.0, seconds):
            output.mux(packet)
    return path


def _sound(output: av.container.OutputContainer, codec: str, start: float, seconds: float) -> list[av.Packet]:
    rate = 48000
    stream = output.add_stream(SOUND_ENCODERS.get(codec, codec), rate, layout="mono")
    time = np.arange(round(seconds * rate)) / rate
    # A rising tone: no two packets are alike.
    wave = (8000 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.int16)
    packets = []
    for begin in range(0, len(wave), 960):
        frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 960], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate) + begin
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def turn(path: Path, degrees: int, mirror: bool = False) -> Path:
    """Write a display matrix into an .mp4: `degrees` clockwise, of a picture that is mirrored first."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    a, b, c, d = (-cos, -sin, -sin, cos) if mirror else (cos, sin, -sin, cos)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def truncate(path: Path, keep: float = 0.5) -> Path:
    """Cut a file off after a part of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def scramble(path: Path, where: float = 0.5, length: int = 400) -> Path:
    """Overwrite bytes in the middle of a file."""
    data = bytearray(path.read_bytes())
    begin = int(len(data) * where)
    data[begin : begin + length] = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    path.write_bytes(data)
    return path


def stamps_of(path: Path, kind: str = "video") -> list[Fraction]:
    """Seconds of every packet of the first track of `kind`, in order of presentation."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return sorted(p.pts * p.time_base for p in container.demux(stream) if p.size)


def packets_of(path: Path, kind: str = "audio") -> list[bytes]:
    """The bytes of every packet of the first track of `kind`."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(p) for p in container.demux(stream) if p.size]
