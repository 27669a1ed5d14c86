"""Expression of the output against the driver's: how far off, and how well it follows.

Network: Google's Face Landmarker, at the clip's own resolution; it gives 51 blendshapes of 0 to 1. mediapipe lists 52;
its first, `_neutral`, says nothing of an expression and is left out. Formulas:

- `expression`: mean |Δ| of the 51, the variant of the field's AED (Average Expression Distance) that is meant here.
- `expression-r-NAME`, `expression-gain-NAME`: of each blendshape that moves in the driver (its standard deviation
  over the driver is above `_series.MOVES`), Pearson's r of output and driver over time, and the gain, the slope of
  output on driver. A constant output has r = 0.
- `expression-r`, `expression-gain`: their means over those of `LISTED` that move.

Frames where either face is missing are left out, and the note counts them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..face_landmarker import BLENDSHAPES
from ..types import Floats, Score
from . import Context, Sample
from ._series import NO_FACE, NOTHING_MOVES, Blendshapes, by_frame, follows, moving, of_clip, unmeasured, with_missing

LISTED = (
    *("jawOpen", "mouthSmileLeft", "mouthSmileRight", "mouthPucker", "mouthFunnel", "eyeBlinkLeft", "eyeBlinkRight"),
    *("browInnerUp", "browDownLeft", "browDownRight", "mouthFrownLeft", "eyeSquintLeft"),
)
"""The blendshapes of the means: large, visible movements that the network tells well."""

_BETTER = {"r": "higher", "gain": "one"}


def create(context: Context) -> ExpressionMetric:
    """The metric; it needs nothing but the blendshapes."""
    return ExpressionMetric()


class ExpressionMetric:
    """See `metrics.Metric`."""

    def __init__(self) -> None:
        self._seen = Blendshapes()

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        self._seen.add(sample)

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        output, driver = self._seen.tables()
        difference = np.abs(output - driver).mean(1)
        off = by_frame("expression", "", "lower", difference, "AED as mean |Δ| of 51 blendshapes", NO_FACE)
        return [off, *_following(output, driver)]


def _following(output: Floats, driver: Floats) -> list[Score]:
    """The means first, then each blendshape that moves."""
    found = {BLENDSHAPES[i]: follows(output[:, i], driver[:, i]) for i in moving(driver)}
    known = np.isfinite(output + driver).all(1)
    scores = [_mean(kind, i, found, known) for i, kind in enumerate(_BETTER)]
    for i, (kind, better) in enumerate(_BETTER.items()):
        note = with_missing("", known, NO_FACE)
        scores += [of_clip(f"expression-{kind}-{n}", "", better, both[i], note, NO_FACE) for n, both in found.items()]
    return scores


def _mean(kind: str, column: int, found: dict[str, tuple[float, float]], known: NDArray[np.bool_]) -> Score:
    name, better = f"expression-{kind}", _BETTER[kind]
    names = [n for n in LISTED if n in found]
    if not names:
        return unmeasured(name, "", better, NOTHING_MOVES if not found else "none of the listed moves in the driver")
    note = with_missing(f"mean of {len(names)} that move: {', '.join(names)}", known, NO_FACE)
    return of_clip(name, "", better, float(np.mean([found[n][column] for n in names])), note, NO_FACE)
