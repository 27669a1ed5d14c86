"""Lips and lids of the output against the driver's, as another detector sees them.

Expressions are made and measured by the Face Landmarker; dlib's 68 points know nothing of it. Formulas: the lips'
aspect ratio is the mean distance of the three pairs of inner lip points 61-67, 62-66, 63-65 over the mouth's width
48-54; the lids' is the mean of both eyes' (|37-41| + |38-40|) / (2 |36-39|), "Real-Time Eye Blink Detection using
Facial Landmarks" (Soukupova and Cech, 2016).

- `lips-r`, `lids-r`: Pearson's r of dlib's ratio in the output and the landmarker's in the driver.
- `lips-r-ceiling`, `lids-r-ceiling`: the same with dlib's ratio in the driver itself: what two detectors reach between
  themselves, so that no output can be asked for more.

Network: dlib's 68-point predictor, on the face cut out by the landmarker's box and brought to 400 pixels, for it gives
whole pixels. Where the driver's ratio has a standard deviation below `MOVES_BY` there is nothing to follow.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ..types import Floats, Score
from . import Context, Sample, View
from ._series import NO_FACE, follows, of_clip, unmeasured

MOVES_BY = 0.015
SIDE = 400
_MARGIN = 0.4  # round the box, of its side
_SIZE = 1.15  # of dlib's box, in extents of brows, nose, mouth and chin

_PARTS = ("lips", "lids")


def create(context: Context) -> AspectMetric | str:
    """The metric; a sentence where dlib is not installed."""
    try:
        dlib = importlib.import_module("dlib")
    except ImportError:
        return "lips and lids of a second detector need dlib: pip install 'reenact[dlib]'"
    return AspectMetric(dlib, dlib.shape_predictor(str(context.store.path("dlib-68.dat"))))


class AspectMetric:
    """See `metrics.Metric`."""

    def __init__(self, dlib: Any, predict: Any) -> None:
        """`dlib` is the module, `predict` its predictor of 68 points."""
        self._dlib, self._predict = dlib, predict
        self._rows: list[tuple[Floats, Floats, Floats]] = []

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        driver = sample.driver.face
        known = _NOTHING if driver is None else aspects(driver.points)
        self._rows.append((self._seen(sample.output), self._seen(sample.driver), known))

    def _seen(self, view: View) -> Floats:
        """dlib's ratios [2]; NaN without a face."""
        if view.face is None:
            return _NOTHING
        points = view.face.points[17:]
        middle, half = points.mean(0), _SIZE * float(np.ptp(points, axis=0).mean()) / 2
        zoom = SIDE / (2 * half)
        reach = (1 + 2 * _MARGIN) * half
        matrix = np.array([[zoom, 0, -zoom * (middle[0] - reach)], [0, zoom, -zoom * (middle[1] - reach)]])
        side = round(2 * reach * zoom)
        how = cv2.INTER_LINEAR if zoom > 0.7 else cv2.INTER_AREA
        cut = cv2.warpAffine(view.rgb, matrix, (side, side), flags=how, borderMode=cv2.BORDER_REPLICATE)
        edge = round((reach - half) * zoom)
        shape = self._predict(np.ascontiguousarray(cut), self._dlib.rectangle(edge, edge, edge + SIDE, edge + SIDE))
        return aspects(np.array([(p.x, p.y) for p in shape.parts()], np.float32))

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        output, driver, known = np.array(self._rows, np.float32).reshape(-1, 3, 2).transpose(1, 0, 2)
        scores: list[Score] = []
        for i, part in enumerate(_PARTS):
            scores += _pair(part, output[:, i], driver[:, i], known[:, i])
        return scores


def _pair(part: str, output: Floats, driver: Floats, known: Floats) -> list[Score]:
    names = f"{part}-r", f"{part}-r-ceiling"
    moves = float(np.nanstd(known)) if np.isfinite(known).any() else 0.0
    if moves < MOVES_BY:
        return [unmeasured(name, "", "higher", f"the driver's {part} hardly move") for name in names]
    ceiling = follows(driver, known)[0]
    r = follows(output, known)[0]
    note = "dlib's 68 points in the output, the landmarker's in the driver"
    if ceiling > 0:
        note += f"; {r / ceiling:.2f} of the ceiling"
    return [
        of_clip(names[0], "", "higher", r, note, NO_FACE),
        of_clip(names[1], "", "higher", ceiling, "both in the driver: what two detectors agree on", NO_FACE),
    ]


_NOTHING = np.full(2, np.nan, np.float32)


def aspects(points: Floats) -> Floats:
    """The aspect ratios of lips and lids [2] of 68 points [68,2]."""

    def gap(a: int, b: int) -> float:
        return float(np.linalg.norm(points[a] - points[b]))

    lips = (gap(61, 67) + gap(62, 66) + gap(63, 65)) / 3 / max(gap(48, 54), 1e-6)
    eyes = [(gap(i + 1, i + 5) + gap(i + 2, i + 4)) / max(2 * gap(i, i + 3), 1e-6) for i in (36, 42)]
    return np.array([lips, sum(eyes) / 2], np.float32)
