"""Damaged inputs by the thousand: each gets a result or one line, and nothing else.

    python tools/fuzz.py                             # 2,000 cases, some minutes
    python tools/fuzz.py --cases 50000 --seed 7

Small videos, pictures, lists of pairs and weight files are made on the spot, damaged, and given to the command, whose
networks a stand-in replaces: what reads, checks and writes files is all there. A case has failed if it ends in a
traceback, writes to stderr what is no line of the command's, takes longer than `SECONDS`, more memory than `BYTES`,
kills its process, leaves a temporary file, or writes anything outside its own folder. A case is its number and --seed:
`--only NUMBER` repeats it. Exit status 1 if any failed.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from PIL import Image

from reenact import cli, pipeline, template, weights
from reenact.errors import ReenactError
from reenact.images import is_image, read_image
from reenact.manifest import read_manifest
from reenact.pipeline import Hooks, Options
from reenact.resume import Checkpoint
from reenact.types import FaceTrack, Floats, Frame
from reenact.video import Passes
from reenact.weights import WeightStore

SECONDS = 60.0
BYTES = 3 * 1024**3

Rng = np.random.Generator

# ---- What is damaged


@dataclass(frozen=True)
class Seed:
    """A whole file."""

    name: str
    data: bytes


def make_seeds(folder: Path) -> dict[str, list[Seed]]:
    """Whole files of every kind, small ones."""
    return {
        "video": [*_videos(folder)],
        "picture": [*_pictures()],
        "template": [_template(folder / "a.npz", None), _template(folder / "b.npz", folder / "h264.mp4")],
        "list": [
            Seed("pairs.toml", b'[[pair]]\ntarget = "a.png"\ndriver = "b.mp4"\n\n[[pair]]\nname = "x"\nkind = "self"\n'
                 b'driver = "b.mp4"\n'),
            Seed("pairs.csv", "name,kind,target,driver,truth\n,,a.png,b.mp4,\n\"é\",self,,b.mp4,\n".encode()),
        ],
        "weights": [Seed(path.name, path.read_bytes()) for path in (weights.shipped("motion.safetensors"),)],
    }  # fmt: skip


def _videos(folder: Path) -> Iterator[Seed]:
    kinds = [
        ("h264.mp4", "libx264", "yuv420p", "aac"),
        ("h264.mov", "libx264", "yuv420p", "pcm_s16le"),
        ("h264.mkv", "libx264", "yuv420p10le", "libopus"),
        ("h264.ts", "libx264", "yuv420p", "aac"),
        ("vp8.webm", "libvpx", "yuv420p", "libopus"),
        ("vp9.webm", "libvpx-vp9", "yuv420p", None),
        ("av1.webm", "libsvtav1", "yuv420p", None),
        ("mjpeg.avi", "mjpeg", "yuvj420p", "pcm_s16le"),
        ("hevc.mp4", "libx265", "yuv420p10le", None),
        ("mpeg2.mpg", "mpeg2video", "yuv420p", "mp2"),
        ("alpha.mov", "qtrle", "argb", None),
        ("film.gif", "gif", "rgb8", None),
    ]
    for name, codec, pix_fmt, sound in kinds:
        yield Seed(name, _video(folder / name, codec, pix_fmt, sound))


def _video(path: Path, codec: str, pix_fmt: str, sound: str | None) -> bytes:
    with av.open(str(path), "w") as output:
        video = cast(av.VideoStream, output.add_stream(codec, 25))
        video.width, video.height, video.pix_fmt = 64, 64, pix_fmt
        quiet = {"libx265": {"x265-params": "log-level=none"}, "libx264": {"bf": "2"}}
        video.codec_context.options = quiet.get(codec, {})
        packets: list[Any] = []
        for index in range(12):
            x = (np.arange(64)[None, :] * 4 + 9 * index) % 256
            rgb = np.dstack([np.broadcast_to(x, (64, 64)), np.broadcast_to(x.T, (64, 64)), np.full((64, 64), 90)])
            packets += video.encode(av.VideoFrame.from_ndarray(rgb.astype(np.uint8), "rgb24"))
        packets += video.encode(None)
        if sound:
            stream = cast(av.AudioStream, output.add_stream(sound, 48000, layout="stereo"))
            for begin in range(0, 24_000, 960):
                wave = (8000 * np.sin(np.arange(begin, begin + 960) / 20)).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], "s16", "stereo")
                frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), begin
                packets += stream.encode(frame)
            packets += stream.encode(None)
        output.start_encoding()
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path.read_bytes()


def _pictures() -> Iterator[Seed]:
    x = np.arange(80)
    rgb = Image.fromarray(np.dstack([*np.meshgrid(3 * x, 2 * x), np.full((80, 80), 99)]).astype(np.uint8))
    exif = Image.Exif()
    exif[0x112] = 6
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("a.jpg", rgb, {"exif": exif}),
        ("b.jpg", rgb.convert("CMYK"), {"progressive": True}),
        ("a.png", rgb.convert("RGBA"), {}),
        ("b.png", Image.fromarray(np.arange(6400, dtype=np.uint16).reshape(80, 80)), {}),
        ("c.png", rgb, {"save_all": True, "append_images": [rgb.rotate(90)]}),
        ("a.webp", rgb, {"exif": exif}),
        ("a.gif", rgb.convert("P"), {"save_all": True, "append_images": [rgb.rotate(90).convert("P")]}),
        ("a.tif", rgb, {"compression": "tiff_lzw"}),
        ("a.bmp", rgb, {}),
        ("a.ico", rgb, {}),
    ]
    for name, image, options in kinds:
        file = io.BytesIO()
        image.save(file, {"jpg": "jpeg", "tif": "tiff"}.get(name[2:], name[2:]), **options)
        yield Seed(name, file.getvalue())


def _template(path: Path, sound: Path | None) -> Seed:
    random = np.random.default_rng(0)

    def some(*shape: int) -> Floats:
        return random.uniform(0, 1, (12, *shape)).astype(np.float32)

    track = FaceTrack(
        100 * some(68, 2), some(), np.ones(12, np.bool_), (5,), some(51), some(3), some(478, 3), some()
    )  # fmt: skip
    clock = np.arange(12, dtype=np.int64)
    template.save(path, template.Motion(track, clock, clock / 25, Fraction(1, 25), Fraction(25), 0.48, (64, 64)), sound)
    return Seed(path.name, path.read_bytes())


# ---- How


def damaged(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """The data after some mutations, mostly one or two."""
    result = bytearray(data)
    for _ in range(int(rng.geometric(0.5))):
        _MUTATIONS[rng.integers(len(_MUTATIONS))](result, rng, others)
    return bytes(result)


def _place(data: bytearray, rng: Rng) -> int:
    """Anywhere, but mostly near the beginning or the end, where headers are."""
    if not data:
        return 0
    length = len(data)
    near = min(length - 1, int(rng.exponential(length / 20)))
    return [near, length - 1 - near, int(rng.integers(length))][rng.integers(3)]


def _flip(data: bytearray, rng: Rng, others: list[bytes]) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _number(data: bytearray, rng: Rng, others: list[bytes]) -> None:
    """A field of 1 to 8 bytes that is as large, small or odd as can be."""
    size = [1, 2, 4, 8][rng.integers(4)]
    value = [0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, 2 ** (4 * size)][rng.integers(6)]
    begin = _place(data, rng)
    data[begin : begin + size] = value.to_bytes(size, "big" if rng.integers(2) else "little")


def _noise(data: bytearray, rng: Rng, others: list[bytes]) -> None:
    begin = _place(data, rng)
    size = int(min(len(data) - begin, 1 + rng.exponential(40)))
    data[begin : begin + size] = rng.integers(0, 256, size, np.uint8).tobytes()


def _cut(data: bytearray, rng: Rng, others: list[bytes]) -> None:
    begin = _place(data, rng)
    del data[begin : begin + int(1 + rng.exponential(60))]


def _end(data: bytearray, rng: Rng, others: list[bytes]) -> None:
    del data[_place(data, rng) :]


def _repeat(data: bytearray, rng: Rng, others: list[bytes]) -> None:
    begin = _place(data, rng)
    data[begin:begin] = data[begin : begin + int(1 + rng.exponential(200))]


def _graft(data: bytearray, rng: Rng, others: list[bytes]) -> None:
    """A piece of another file."""
    other, begin = others[rng.integers(len(others))], _place(data, rng)
    start = int(rng.integers(len(other)))
    data[begin : begin + int(rng.integers(200))] = other[start : start + int(rng.exponential(200))]


_MUTATIONS: list[Callable[[bytearray, Rng, list[bytes]], None]] = [
    _flip, _flip, _number, _number, _noise, _cut, _end, _repeat, _graft,
]  # fmt: skip


# ---- What is done with it


def stand_in(
    target: Path | str,
    driver: Path | str,
    options: Options | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Frame]:
    """`pipeline.reenact` without networks: both files are read as there, and a corner of the target is the result."""
    o, warn = options or Options(), (hooks or Hooks()).warn
    rgb = np.ascontiguousarray(read_image(Path(target))[:64, :64])
    matte = np.zeros(rgb.shape[:2], np.uint8)
    if template.is_template(Path(driver)):
        motion = template.load(Path(driver)).part(o.start, o.end, o.max_frames)
        for index, pts in enumerate(motion.pts.tolist()):
            yield Frame(rgb, index, pts, float(motion.seconds[index]), matte)
        return
    if is_image(Path(driver)):
        read_image(Path(driver))
        yield Frame(rgb, 0, 0, 0.0, matte)
        return
    passes = Passes(Path(driver), o.start, o.end, o.max_frames, warn)
    count = sum(1 for _ in passes)
    for frame in passes:
        yield Frame(rgb, frame.index, frame.pts, frame.seconds, matte)
    assert count


def run_case(number: int, seed: int, seeds: dict[str, list[Seed]], folder: Path) -> str:
    """Do one case in an empty folder; says how it ended, "ok" or "refused". Other than that it raises."""
    rng = np.random.default_rng((seed, number))
    kind = ["video", "video", "video", "video", "picture", "template", "list", "weights"][number % 8]
    chosen = seeds[kind][rng.integers(len(seeds[kind]))]
    data = damaged(chosen.data, rng, [s.data for s in seeds[kind]])
    path = folder / chosen.name
    path.write_bytes(data)
    if kind == "list":
        return _refused(lambda: read_manifest(path))
    if kind == "weights":
        return _refused(lambda: weights.read_tensors(path))
    return _command(kind, path, rng, seeds, folder)


def _refused(read: Callable[[], object]) -> str:
    try:
        read()
    except ReenactError as error:
        _one_line(str(error))
        return "refused"
    return "ok"


def _command(kind: str, path: Path, rng: Rng, seeds: dict[str, list[Seed]], folder: Path) -> str:
    """The command on the damaged file, as target or as driver."""
    target, driver = folder / "whole.png", path
    whole = next(s for s in seeds["picture"] if s.name == "a.png")
    target.write_bytes(whole.data)
    if kind == "picture" and rng.integers(3):
        target, driver = path, target
    out = folder / ("out.png" if is_image(driver) else ["out.mp4", "out.mkv", "out.webm", "out.mov"][rng.integers(4)])
    words = [str(target), str(driver), "-o", str(out), "--audio", ["copy", "copy", "encode", "none"][rng.integers(4)]]
    if out.suffix != ".png":
        extra = [[], ["--start", "0.2"], ["--end", "0.3"], ["--max-frames", "4"], ["--side-by-side"]]
        words += extra[rng.integers(len(extra))]
        words += ["--matte", str(folder / "matte.mkv")] if rng.integers(4) == 0 else []
    said, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(errors):
        status = cli.main(words)
    _check_lines(status, errors.getvalue().splitlines(), str(out))
    expected = {target.name, driver.name, *([out.name] if status == 0 else [])}
    left = {p.name for p in folder.iterdir()} - {"matte.mkv", path.name, "whole.png"}
    if left - expected or (status == 0) != (out.name in left):
        raise AssertionError(f"status {status}, and in its folder: {sorted(left)}")
    return "ok" if status == 0 else "refused"


def _check_lines(status: int, lines: list[str], out: str) -> None:
    """Whether stderr holds the command's own lines, one error among them where there is one."""
    own = re.compile(rf"reenact: |{re.escape(out)}: |making frames: |following the driver: |detector: ")
    if odd := [line for line in lines if not own.match(line)]:
        raise AssertionError(f"a line that isn't the command's: {odd[0]}")
    errors = [line for line in lines if line.startswith("reenact: error: ")]
    if status not in (0, 1, 2) or len(errors) != (status != 0):
        raise AssertionError(f"status {status} with {len(errors)} lines of error")
    for line in errors:
        _one_line(line)


def _one_line(text: str) -> None:
    if not text.strip() or "\n" in text or len(text) > 1000:
        raise AssertionError(f"not one clear line: {text[:2000]!r}")


# ---- The processes


def _work(pipe: Connection, seed: int, seeds: dict[str, list[Seed]], base: Path) -> None:
    """Do cases by number until there are none; answers (how it ended or None, traceback or None, peak memory)."""
    pipeline.reenact = stand_in
    warnings.simplefilter("always")
    outside: list[str] = []
    temporary = base / "temporary"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    sys.addaudithook(lambda event, args: _watch(event, args, base, outside))
    while (number := pipe.recv()) is not None:
        folder = base / f"case-{number}"
        folder.mkdir()
        outside.clear()
        try:
            ended, why = run_case(number, seed, seeds, folder), None
        except Exception:
            ended, why = None, traceback.format_exc()
        if left := [path.name for path in temporary.iterdir()]:
            ended, why = None, f"left a temporary file: {left[0]}"
        if outside:
            ended, why = None, f"written outside its folder: {outside[0]}"
        shutil.rmtree(folder, ignore_errors=True)
        pipe.send((ended, why, _peak()))


_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree"}


def _watch(event: str, args: tuple[Any, ...], base: Path, outside: list[str]) -> None:
    """Note what is written to, outside `base`. Bytecode of modules that are imported late doesn't count."""
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    within = event in ("os.remove", "os.rmdir") and args[1] != -1  # a name in an open folder: rmtree's way
    if (event in _CHANGES or writes) and not within and isinstance(args[0], (str, os.PathLike)):
        path = os.path.abspath(os.fspath(args[0]))
        if not path.startswith((str(base), os.devnull, "/dev/shm")) and "__pycache__" not in path:
            outside.append(f"{event} {path}")


def _peak() -> int:
    """Bytes of memory that this process has held at most; 0 where the system doesn't tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Worker:
    """A process that does cases, and is replaced when one of them ends it."""

    def __init__(self, seed: int, seeds: dict[str, list[Seed]], base: Path) -> None:
        self._task = (seed, seeds, base)
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(theirs, *self._task), daemon=True)
        self._process.start()
        theirs.close()

    def case(self, number: int) -> tuple[str | None, str | None, int]:
        """How it ended (None: badly), why, and the peak of memory."""
        self._pipe.send(number)
        try:
            if self._pipe.poll(SECONDS):
                ended, why, peak = self._pipe.recv()
                if peak <= BYTES:
                    return ended, why, peak
                self._restart()  # or each case after it would be blamed
                return None, f"took {peak / 1024**3:.1f} GB of memory", peak
            why = f"took longer than {SECONDS:.0f} s"
        except (EOFError, ConnectionError):
            self._process.join(5)
            why = f"ended its process ({self._process.exitcode})"
        self._restart()
        return None, why, 0

    def _restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


_SPAWN = multiprocessing.get_context("spawn")


def main() -> int:
    """Run the cases; print those that failed and how many ended how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this case alone")
    args = parser.parse_args()
    os.environ.setdefault("SVT_LOG", "1")  # an encoder that talks
    base = Path(tempfile.mkdtemp(prefix="reenact-fuzz-")).resolve()
    began, ends, failed, highest = time.monotonic(), Counter[str](), 0, 0
    try:
        (base / "seeds").mkdir()
        seeds = make_seeds(base / "seeds")
        worker = Worker(args.seed, seeds, base)
        for number in range(args.cases) if args.only is None else [args.only]:
            ended, why, peak = worker.case(number)
            highest = max(highest, peak)
            if ended is None:
                failed += 1
                print(f"--- case {number} of seed {args.seed}: {why}", flush=True)
            ends[ended or "failed"] += 1
        worker.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    counts = ", ".join(f"{count} {how}" for how, count in sorted(ends.items()))
    print(f"{sum(ends.values())} cases: {counts}; {time.monotonic() - began:.0f} s, at most {highest / 1024**2:.0f} MB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
