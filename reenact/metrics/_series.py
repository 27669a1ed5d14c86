"""What metrics share: values by frame become a score, what is missing is counted, one series follows another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..types import Floats, Score
from . import Sample, View

Series = NDArray[np.floating]

MOVES = 0.04  # what has a standard deviation above this over the driver moves
# What moves less is constant: on a still picture that went through a codec the landmarker's blendshapes wobble by
# 0.001 to 0.01 (0.026 at worst), and the correlation of such noise says nothing.
STILL = 0.01

NO_TARGET = "no target was given: --target"
NO_TRUTH = "no truth was given: --truth"
NO_MATTE = "no matte was given: --matte, which reenact's own --matte writes"
NO_FACE = "no face in the output or in what it is compared with"
NOTHING_MOVES = f"nothing moves in the driver: all standard deviations are {MOVES} or less"


# ---- Scores ------------------------------------------------------------------------------------------------------


def by_frame(name: str, unit: str, better: str, values: Sequence[float] | Series, note: str, why: str) -> Score:
    """The mean over the frames that have a value.

    Args:
        values: [T]; NaN where not measured.
        why: the reason where a frame has none; the note says how many frames that is.
    """
    table = np.asarray(values, np.float32)
    known = np.isfinite(table)
    if not known.any():
        return unmeasured(name, unit, better, why)
    value = float(table[known].mean(dtype=np.float64))
    return Score(name, unit, better, value, table, with_missing(note, known, why))


def of_clip(name: str, unit: str, better: str, value: float, note: str, why: str) -> Score:
    """One number of the whole clip; NaN: not measured, and `why` says the reason."""
    return unmeasured(name, unit, better, why) if np.isnan(value) else Score(name, unit, better, value, None, note)


def unmeasured(name: str, unit: str, better: str, why: str) -> Score:
    """A score that could not be had."""
    return Score(name, unit, better, None, None, why)


def largest(name: str, score: Score) -> Score:
    """Of a score of values by frame (better: lower), the one whose value is the worst frame's."""
    if score.per_frame is None:
        return replace(score, name=name)
    return replace(score, name=name, value=float(np.nanmax(score.per_frame)))


def with_missing(note: str, known: NDArray[np.bool_], why: str) -> str:
    """The note, and how many of the [T] frames do not count."""
    missing = int((~known).sum())
    lost = f"{missing} of {len(known)} frames left out: {why}" if missing else ""
    return "; ".join(part for part in (note, lost) if part)


# ---- Series ------------------------------------------------------------------------------------------------------


class Blendshapes:
    """The blendshapes of output and driver, collected sample by sample."""

    def __init__(self) -> None:
        self._output: list[Floats] = []
        self._driver: list[Floats] = []

    def add(self, sample: Sample) -> None:
        """Append one moment."""
        self._output.append(_blendshapes(sample.output))
        self._driver.append(_blendshapes(sample.driver))

    def tables(self) -> tuple[Floats, Floats]:
        """Output's and driver's, float32 [T,51]; a row without a face holds NaN."""
        return _table(self._output), _table(self._driver)


def _table(rows: list[Floats]) -> Floats:
    return np.array(rows, np.float32).reshape(-1, 51)


def _blendshapes(view: View) -> Floats:
    known = view.face.blendshapes if view.face else None
    return np.full(51, np.nan, np.float32) if known is None else known


def moving(driver: Floats) -> list[int]:
    """The columns of [T,N] that move, over the frames that have values."""
    known = driver[np.isfinite(driver).all(1)]
    return np.flatnonzero(known.std(0, dtype=np.float64) > MOVES).tolist() if len(known) else []


def follows(output: Series, driver: Series) -> tuple[float, float]:
    """How far [T] `output` follows [T] `driver`: Pearson's r, and the gain, which is the slope of output on driver.

    Frames where either is NaN are left out. A constant output (`STILL`) has r = 0. Both are NaN where no frame is
    left in which the driver changes.
    """
    known = np.isfinite(output) & np.isfinite(driver)
    a, b = (np.asarray(x[known], np.float64) for x in (output, driver))
    if not len(b) or np.ptp(b) == 0:
        return np.nan, np.nan
    a, b = a - a.mean(), b - b.mean()
    covariance = float(a @ b)
    r = covariance / float(np.sqrt((a @ a) * (b @ b))) if a.std() >= STILL else 0.0
    return r, covariance / float(b @ b)
