"""Clips made on the spot, so that what is in them is known: `make_clip(path, ...)` and what spoils a file."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image

from reenact.types import Frame
from reenact.video import VideoWriter, probe, read_frames

ENCODERS = {".webm": "libvpx", ".gif": "gif"}
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm", ".ts": "mpegts"}
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


def encode(
    path: Path,
    codec: str,
    pix_fmt: str = "yuv420p",
    frames: int = 10,
    *,
    size: tuple[int, int] = (64, 48),
    picture: Callable[[int, int, int], np.ndarray] = plain,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of one stream at 25 frames a second by an encoder of that name."""
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, 25)
        video.width, video.height = size
        video.pix_fmt = pix_fmt
        video.codec_context.options = options or {}
        for index in range(frames):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture(index, *size), "rgb24")))
        output.mux(video.encode(None))
    return path


def remux(
    source: Path,
    path: Path,
    change: Callable[[av.Packet], bool] = lambda packet: True,
    options: dict[str, str] | None = None,
    stream: bool = False,
) -> Path:
    """Copy the packets for which `change`, which may change them, is true. `stream`: the muxer can't go back."""
    with av.open(str(source)) as before, path.open("wb") as file:
        sink = _OneWay(file) if stream else str(path)
        with av.open(sink, "w", format=_FORMATS[path.suffix], options=options or {}) as after:
            streams = {s.index: after.add_stream_from_template(s) for s in before.streams}
            for packet in before.demux():
                if packet.size and change(packet):
                    packet.stream = streams[packet.stream.index]
                    after.mux(packet)
    return path


class _OneWay:
    """A file that can only be written on, as a browser's recorder does."""

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.close = file.write, file.close


def jpegs(path: Path, pictures: Sequence[np.ndarray], orientation: int = 1) -> Path:
    """Write pictures uint8 [H,W,3], of any sizes, as Motion JPEG with that EXIF orientation."""
    exif = Image.Exif()
    exif[0x112] = orientation
    with av.open(str(path), "w") as output:
        video = output.add_stream("mjpeg", 25)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuvj420p"
        output.start_encoding()
        for index, rgb in enumerate(pictures):
            file = BytesIO()
            Image.fromarray(rgb).save(file, "JPEG", quality=95, exif=exif)
            packet = av.Packet(file.getvalue())
            packet.stream, packet.time_base, packet.pts, packet.dts = video, Fraction(1, 25), index, index
            output.mux(packet)
    return path


def edit(path: Path, skip: dict[str, float]) -> Path:
    """Let the edit list of an .mp4 cut away so many seconds of its "video" and "audio" track."""
    with av.open(str(path)) as container:
        ticks = [round(skip[s.type] / s.time_base) for s in container.streams]
    data, place = bytearray(path.read_bytes()), 0
    for more in ticks:
        place = data.index(b"elst", place) + 4
        duration, begin = struct.unpack_from(">Ii", data, place + 8)
        struct.pack_into(">Ii", data, place + 8, duration, begin + more)
    path.write_bytes(data)
    return path


def move_clusters(path: Path, change: Callable[[int, int], int]) -> Path:
    """Give each cluster of a Matroska file the time (ms) that `change` says, from its number and its time."""
    data = bytearray(path.read_bytes())
    places = [m.end() for m in re.finditer(rb"\x1f\x43\xb6\x75", data)]
    for number, place in enumerate(places):
        begin = data.index(b"\xe7", place, place + 20) + 2
        length = data[begin - 1] & 0x7F
        time = int.from_bytes(data[begin : begin + length], "big")
        data[begin : begin + length] = change(number, time).to_bytes(length, "big")
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


def lag(before: np.ndarray, after: np.ndarray) -> int:
    """Samples by which the second sound comes later than the first."""
    return int(np.argmax(np.correlate(after[20000:30000], before[23000:27000], "valid"))) - 3000


def tone(path: Path) -> np.ndarray:
    """The sound as samples at 48 kHz, the first one at second 0 of the file."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[0]))
        channels = 1 if frames[0].format.is_planar else frames[0].layout.nb_channels
        wave = np.concatenate([f.to_ndarray()[0, ::channels].astype(float) for f in frames])
        begin = round(frames[0].pts * frames[0].time_base * 48000)
    return np.concatenate([np.zeros(max(begin, 0)), wave[max(-begin, 0) :]])


def corner_colours(rgb: np.ndarray) -> list[str]:
    """Names of the colours of the four quarters, row by row."""
    height, width = rgb.shape[:2]
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    places = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return [names[tuple((rgb[place] > 127).astype(int))] for place in places]


def copy(source: Path, output: Path, **options) -> list[Frame]:
    """What the pipeline does, with the driver's own pictures."""
    cuts = {k: options.pop(k) for k in ("start", "end", "max_frames") if k in options}
    info = probe(source)
    sound = source if info.has_audio else None
    frames = list(read_frames(source, **cuts))
    with VideoWriter(output, info.width, info.height, info, audio_from=sound, cut=bool(cuts), **options) as writer:
        for frame in frames:
            writer.write(frame)
    return frames
