"""Whether the output is a video as the driver is: frames, clock, sound, and the target untouched outside the matte.

Source: this project's; no network. Formulas:

- `frames`: how many frames more or fewer than the driver's.
- `timestamps`, `timestamps-largest`: mean and largest |difference| of presentation times, output against driver, in
  ms, each clip's counted from its first frame. They are the containers' stamps; nothing is decoded for them.
- `sound-drift`: how far the sound's beginning or end, whichever is worse, lies elsewhere against the picture than
  in the driver, in ms. They are the stamps of the first and last sound packet; of sound that was encoded again that
  is true to about a packet, 20 ms. What lies before a file's 0 is a codec's run-up, which players skip, and is
  skipped here too. An output with fewer frames than the driver is taken for its beginning, and its last packet is
  compared with the driver's packet of that number.
- `sound-length`: length of the sound, output divided by driver; an output that has lost its sound scores 0.
- `outside-mean`, `outside-largest`: |output - target| where the matte is 0, in levels of 0 to 255, over pixels and
  channels, at the output's resolution. The target is encoded alike first: by `video.VideoWriter` at its default
  quality, with the output's suffix and stamps; what is left is not the codec's doing, but for what changes inside
  the matte do to their neighbourhood.

Source: this project's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Frame, Rgb, Score
from ..video import SUFFIXES, VideoWriter, probe, read_frames
from ..video.stamps import SoundTimes, picture_stamps, picture_times, sound_times
from . import Clip, Context, Sample
from ._series import NO_MATTE, NO_TARGET, by_frame, largest, unmeasured

_ENCODED = "against the target encoded alike, by reenact's own writer at its default quality"
_NO_CLOCK = "a picture has no clock and no sound"


def create(context: Context) -> IntegrityMetric:
    """The metric; it reads the files' stamps at the end."""
    return IntegrityMetric(context)


class IntegrityMetric:
    """See `metrics.Metric`."""

    def __init__(self, context: Context) -> None:
        """Of the context the paths, lengths and kinds of the clips count."""
        self._context, self._moments = context, 0
        self._outside = _Outside(context.output, context.target)

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        self._moments += 1
        self._outside.update(sample)

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        return [*self._clock(), *self._outside.score()]

    def _clock(self) -> list[Score]:
        output, driver = self._context.output, self._context.driver
        if output.still or driver.still:
            names = {"frames": "frames", "timestamps": "ms", "timestamps-largest": "ms", "sound-drift": "ms"}
            scores = [unmeasured(name, unit, "lower", _NO_CLOCK) for name, unit in names.items()]
            return [*scores, unmeasured("sound-length", "", "one", _NO_CLOCK)]
        counted = f"{output.frames} of the driver's {driver.frames}"
        frames = Score("frames", "frames", "lower", abs(output.frames - driver.frames), None, counted)
        a, b = picture_times(output.path), picture_times(driver.path)
        return [frames, *_timestamps(a, b, self._moments), *_sound(output, driver, a[0], b[0])]


# ---- The clock and the sound -------------------------------------------------------------------------------------


def _timestamps(output: NDArray[np.float64], driver: NDArray[np.float64], frames: int) -> list[Score]:
    common = min(len(output), len(driver), frames)
    difference = np.full(frames, np.nan)
    difference[:common] = 1000 * np.abs((output - output[0])[:common] - (driver - driver[0])[:common])
    mean = by_frame("timestamps", "ms", "lower", difference, "", "no stamp")
    return [mean, largest("timestamps-largest", mean)]


def _sound(output: Clip, driver: Clip, output_zero: float, driver_zero: float) -> list[Score]:
    """Scores of drift and length; the zeros are when the first frames are shown."""
    heard, original = sound_times(output.path), sound_times(driver.path)
    drift, length = ("sound-drift", "ms", "lower"), ("sound-length", "", "one")
    if original is None:
        return [unmeasured(*score, "the driver has no sound") for score in (drift, length)]
    if heard is None:
        why = "the driver has sound and the output has none"
        return [unmeasured(*drift, why), Score(*length, 0.0, None, why)]
    zero = output_zero - driver_zero
    start = 1000 * (float(heard.packets[0] - original.packets[0]) - zero)
    end = 1000 * (_end_difference(heard, original, output.frames >= driver.frames) - zero)
    note = f"{start:+.1f} ms at the start, " + ("no telling at the end" if np.isnan(end) else f"{end:+.1f} at the end")
    lengths = f"{heard.seconds:.2f} s of the driver's {original.seconds:.2f} s"
    worst = float(np.nanmax(np.abs([start, end])))
    return [
        Score(*drift, worst, None, f"{note}; later is positive"),
        Score(*length, heard.seconds / original.seconds, None, lengths),
    ]


def _end_difference(heard: SoundTimes, original: SoundTimes, whole: bool) -> float:
    """Seconds from the original's end to the other's; of a part, from packet to packet, if they are the same."""
    if whole:
        return heard.end - original.end
    last = len(heard.packets) - 1
    if heard.codec != original.codec or last >= len(original.packets):
        return np.nan
    return float(heard.packets[last] - original.packets[last])


# ---- Outside the matte -------------------------------------------------------------------------------------------


class _Outside:
    """Compares what should be the target's pixels with the target's."""

    def __init__(self, output: Clip, target: Clip | None) -> None:
        self._output = output
        self._moves = target is not None and not target.still
        self._why = "no pixel lies outside the matte"
        self._target: Generator[Rgb, None, None] | None = None
        self._rows: list[tuple[float, float]] = []

    def update(self, sample: Sample) -> None:
        self._rows.append(self._mean_and_largest(sample))

    def _mean_and_largest(self, sample: Sample) -> tuple[float, float]:
        if sample.target is None or sample.matte is None:
            self._why = NO_TARGET if sample.target is None else NO_MATTE
            return np.nan, np.nan
        if self._moves:
            self._why = "the target is a clip, whose frames a codec changes otherwise each time"
            return np.nan, np.nan
        self._target = self._target or _encoded(sample.target.rgb, self._output)
        expected = next(self._target, sample.output.rgb[:0])
        if expected.shape != sample.output.rgb.shape:
            self._why = f"the output is {_size(sample.output.rgb)}, and the target, encoded, {_size(expected)}"
            return np.nan, np.nan
        difference = cv2.absdiff(sample.output.rgb, expected)[sample.matte == 0]
        return (float(difference.mean()), float(difference.max())) if difference.size else (np.nan, np.nan)

    def score(self) -> list[Score]:
        if self._target:
            self._target.close()
        columns = zip(("outside-mean", "outside-largest"), np.reshape(self._rows, (-1, 2)).T, strict=True)
        mean, most = (by_frame(n, "levels", "lower", values, _ENCODED, self._why) for n, values in columns)
        return [mean, largest(most.name, most)]


def _size(rgb: Rgb) -> str:
    return f"{rgb.shape[1]}x{rgb.shape[0]}"


def _encoded(target: Rgb, output: Clip) -> Generator[Rgb, None, None]:
    """The target as it comes out of a video like the output, frame by frame; of a picture, as it is."""
    if output.still:
        yield from repeat(target)
    with tempfile.TemporaryDirectory() as folder:
        suffix = output.path.suffix.lower()
        path = Path(folder) / f"target{suffix if suffix in SUFFIXES else '.mp4'}"
        _encode_still(target, output.path, path)
        for frame in read_frames(path):
            yield frame.rgb


def _encode_still(rgb: Rgb, like: Path, path: Path) -> None:
    # The codec spends bits by how long a frame is shown, so the stamps count.
    with VideoWriter(path, rgb.shape[1], rgb.shape[0], probe(like)) as writer:
        for index, stamp in enumerate(picture_stamps(like)):
            writer.write(Frame(rgb, index, stamp, 0.0))
