"""Peak memory over the length of the driver, which should not show.

    python tools/memory.py                             # 50, 500 and 2,000 frames of a small clip
    python tools/memory.py --seconds 10 600 --side 720 # ten seconds and ten minutes at 720p

Runs the whole command, a process for each clip; only the generator is a tiny one, so that it doesn't take hours: a
fixed face that the styles tint. The face is the samples' target; the drivers are loops of samples/driver.mp4 with a
tone.
Prints one line a clip, and how much memory a thousand frames more take.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from reenact import cli, plugins
from reenact.generators import Generator, mobile
from reenact.images import read_image, to_tensor
from reenact.types import Rgb
from reenact.video import read_frames
from reenact.weights import WeightStore

SAMPLES = Path(__file__).parents[1] / "samples"
RATE = 25


class Tiny:
    """A `Generator` that draws one face, in tints that the styles choose."""

    name = "mobile"
    noises = mobile.MobileGenerator.noises
    noise = "const"
    exits = mobile.MobileGenerator.exits
    num_layers = mobile.SLOTS
    live_layers = mobile.MobileGenerator.live_layers
    expression_layers = mobile.MobileGenerator.expression_layers
    paper_layers = mobile.MobileGenerator.paper_layers
    sizes: tuple[int, ...] = (128, 256, 512, 1024)

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.origin = self.mean_latent = torch.zeros(self.num_layers, 512)
        self.covariance = torch.eye(512)
        self._tints = 0.002 * torch.randn(512, 3 * 8 * 8, generator=random)
        self._face = to_tensor(read_image(SAMPLES / "target.jpg"))

    def synthesize(self, w: Tensor, size: int) -> Tensor:
        """[N,L,512] to [N,3,size,size]."""
        tints = (w.float().mean(1) @ self._tints).view(-1, 3, 8, 8)
        face = F.interpolate(self._face, (size, size), mode="area")
        return face + F.interpolate(tints, (size, size), mode="bilinear")

    def map(self, z: Tensor) -> Tensor:
        """[N,512] normal noise to [N,512] W: the same."""
        return z

    def layers_at(self, resolution: int) -> tuple[int, ...]:
        """All at 4: one tint is the sum of all slots."""
        return self.live_layers if resolution == 4 else ()

    def copied(self) -> Tiny:
        """The same, with tints of its own."""
        twin = copy.copy(self)
        twin._tints = self._tints.clone()
        return twin

    def weights(self) -> dict[str, Tensor]:
        """What its pictures are tinted with."""
        return {"tints": self._tints}

    def noise_maps(self) -> dict[str, float]:
        """None."""
        return {}

    @staticmethod
    def create(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> Generator:
        """As every generator's file has it."""
        return Tiny()


def make_driver(path: Path, frames: int, side: int) -> None:
    """A clip of `frames` frames, `side` high and 16:9 wide: the samples' driver to and fro, before grey."""
    width = side * 16 // 9 // 2 * 2
    shown = [_framed(frame.rgb, width, side) for frame in read_frames(SAMPLES / "driver.mp4")]
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", RATE)
        video.width, video.height, video.pix_fmt = width, side, "yuv420p"
        video.codec_context.options = {"preset": "ultrafast", "crf": "28"}
        sound = output.add_stream("aac", 48000, layout="mono")
        samples = 48000 // RATE
        for index in range(frames):
            there, back = divmod(index, len(shown) - 1)
            picture = shown[len(shown) - 1 - back if there % 2 else back]
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            wave = (4000 * np.sin(np.arange(index * samples, (index + 1) * samples) / 20)).astype(np.int16)
            tone = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
            tone.sample_rate, tone.time_base, tone.pts = 48000, Fraction(1, 48000), index * samples
            output.mux(sound.encode(tone))
        for stream in (video, sound):
            output.mux(stream.encode(None))


def _framed(rgb: Rgb, width: int, height: int) -> Rgb:
    framed = np.full((height, width, 3), 128, np.uint8)
    left = (width - height) // 2
    framed[:, left : left + height] = cv2.resize(rgb, (height, height), interpolation=cv2.INTER_AREA)
    return framed


def _reenact(driver: Path, output: Path, target: Path) -> None:
    """In a process of its own: the command with the tiny generator, then the peak of its memory in bytes."""
    import resource

    plugins_module = plugins.module

    def module(folder: str, name: str) -> object:
        return Tiny if folder == "generators" else plugins_module(folder, name)

    plugins.module = module  # type: ignore[assignment]  # what stands in has the one function that is called
    words = [target, driver, "-o", output, "--preset", "fast", "--steps", "2", "--size", "128", "--quiet"]
    status = cli.main([str(word) for word in words])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(status, peak if sys.platform == "darwin" else peak * 1024)


def measure(frames: int, side: int, folder: Path) -> tuple[float, float]:
    """Megabytes at most, and seconds, of a clip of so many frames."""
    driver, output = folder / f"{frames}.mp4", folder / f"{frames}.out.mp4"
    make_driver(driver, frames, side)
    # A small target, so that frames are made quickly.
    Image.fromarray(read_image(SAMPLES / "target.jpg")).resize((160, 160)).save(folder / "target.png")
    began = time.monotonic()
    command = [sys.executable, __file__, "--run", str(driver), str(output), str(folder / "target.png")]
    status, peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-2:]
    if status != "0":
        raise SystemExit(f"{driver}: exit status {status}")
    made = sum(1 for _ in _stamps(output))
    if made != frames:
        raise SystemExit(f"{output}: {made} frames; expected {frames}")
    for file in (driver, output):
        file.unlink()
    return int(peak) / 1024**2, time.monotonic() - began


def _stamps(path: Path) -> Iterator[int]:
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size and packet.pts is not None:
                yield packet.pts


def main() -> None:
    """Measure each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    lengths = parser.add_mutually_exclusive_group()
    lengths.add_argument("--frames", type=int, nargs="+", default=[50, 500, 2000])
    lengths.add_argument("--seconds", type=float, nargs="+", help=f"instead, at {RATE} frames a second")
    parser.add_argument("--side", type=int, default=360, help="height of the drivers")
    parser.add_argument("--run", type=Path, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        _reenact(*args.run)
        return
    counts = [round(s * RATE) for s in args.seconds] if args.seconds else args.frames
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            peak, seconds = measure(count, args.side, Path(folder))
            peaks.append(peak)
            print(f"{count:7} frames of {args.side} lines: {peak:6.0f} MB, {seconds:.0f} s", flush=True)
    if len(counts) > 1:
        slope = np.polyfit(counts, peaks, 1)[0] * 1000
        print(
            f"{slope:+.1f} MB for a thousand frames; the longest takes {peaks[-1] / peaks[0] - 1:+.1%} of the shortest"
        )


if __name__ == "__main__":
    main()
