"""Metrics: one file each, found by the file's name. A file may give several scores that share their work.

A metric module has `create(context)`, which returns a `Metric` or, where it can't be measured here (no truth,
an extra that is not installed), a sentence that says why and what would help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..types import FaceTrack, Landmarks, Rgb, Score
from ..weights import WeightStore


@dataclass(frozen=True, eq=False)
class Clip:
    """One of the videos, or a picture repeated, as the first pass saw it."""

    path: Path
    frames: int  # decoded
    width: int
    height: int
    track: FaceTrack  # rows without a face hold NaN
    still: bool = False  # a picture


@dataclass(frozen=True, eq=False)
class Context:
    """What is known before the first sample."""

    output: Clip
    driver: Clip
    target: Clip | None  # of a picture, or of a clip at the output's times; None: not given
    truth: Clip | None
    matte: Path | None  # of the output
    frames: int  # how many samples there will be: the part that all clips have in common
    store: WeightStore
    device: torch.device


@dataclass(frozen=True, eq=False)
class View:
    """One clip at one moment."""

    rgb: Rgb  # uint8 [H,W,3]
    face: Landmarks | None  # with blendshapes and pose; None: no face was found


@dataclass(frozen=True, eq=False)
class Sample:
    """One moment of all clips; where two are one file, as driver and truth often are, they are one view too."""

    index: int
    seconds: float  # of the output
    output: View
    driver: View
    target: View | None
    truth: View | None  # of the output's size
    matte: NDArray[np.uint8] | None  # [H,W] of the output; None: not given


class Metric(Protocol):
    """Sees every sample once, in order, and keeps what it needs; memory must not grow but for numbers."""

    def update(self, sample: Sample) -> None:
        """Look at the next moment."""

    def score(self) -> Sequence[Score]:
        """The verdicts, after the last sample."""
