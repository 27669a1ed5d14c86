"""Evaluations made up, so that what a table or page must show of them is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reenact.evaluate import Evaluation
from reenact.types import Score

RATE = 25


def score(name: str, values: Sequence[float], better: str = "lower", unit: str = "", note: str = "") -> Score:
    """A score with a value a frame, NaN where it was not measured."""
    table = np.array(values, np.float32)
    return Score(name, unit, better, float(np.nanmean(table)), table, note)


def evaluation(scores: Sequence[Score], frames: int, **more: object) -> Evaluation:
    """What was measured of `frames` frames, `RATE` a second."""
    parts = {"missing": {}, "skipped": {}, "notes": (), "settings": {"reenact": "0"}, **more}
    return Evaluation(tuple(scores), np.arange(frames) / RATE, **parts)
