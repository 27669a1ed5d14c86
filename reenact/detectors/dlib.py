"""dlib's frontal face detector (HOG) and its 68-point predictor: what the paper used.

Needs the `dlib` extra. Finds faces that look into the camera; the landmarks are whole pixels. Sources: Dalal and
Triggs, "Histograms of Oriented Gradients for Human Detection" (2005), as implemented in dlib; Kazemi and Sullivan,
"One Millisecond Face Alignment with an Ensemble of Regression Trees" (2014).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from ..errors import WeightsError
from ..types import Landmarks, Rgb
from ..weights import WeightStore

# It sees faces from 80 pixels up. So the picture is brought to this longer side, and while nothing is found to the
# next: 40 pixels at first, then 27.
LONGER_SIDES = (1280, 2560, 3840)
LARGEST_ZOOM = 4.0  # enlarging more shows nothing new


def create(store: WeightStore, device: torch.device) -> DlibDetector:
    """The detector, its weights fetched if need be. It always runs on the CPU.

    Raises:
        WeightsError: dlib is not installed, or the weights can't be had.
    """
    try:
        dlib = importlib.import_module("dlib")
    except ImportError as error:
        raise WeightsError(
            "detector 'dlib' needs dlib: pip install 'reenact[dlib]', or take --detector landmarker"
        ) from error
    return DlibDetector(dlib, str(store.path("dlib-68.dat")))


class DlibDetector:
    """See `detectors.Detector`. Each picture is searched anew; there are neither blendshapes nor pose."""

    def __init__(self, dlib: Any, weights: str) -> None:
        """`dlib` is the module, `weights` the file of the predictor."""
        self._dlib = dlib
        self._find, self._predict = dlib.get_frontal_face_detector(), dlib.shape_predictor(weights)

    def track(self, frames: Iterable[Rgb], known: Sequence[Landmarks] = ()) -> Iterator[list[Landmarks]]:
        """See `detectors.Detector.track`."""
        for rgb in frames:
            boxes = self._boxes(rgb)
            boxes.sort(key=lambda box: -box[0].area())
            yield [self._landmarks(rgb, rectangle, score) for rectangle, score in boxes]

    def _boxes(self, rgb: Rgb) -> list[tuple[Any, float]]:
        """dlib's rectangles in pixels of the picture, with their scores: how far beyond the threshold, from 0 up."""
        for side in LONGER_SIDES:
            zoom = min(side / max(rgb.shape[:2]), LARGEST_ZOOM)
            way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
            rectangles, scores, _ = self._find.run(cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=way), 0, 0.0)
            if len(rectangles):
                return [(self._scaled(r, 1 / zoom), s) for r, s in zip(rectangles, scores, strict=True)]
            if zoom == LARGEST_ZOOM:
                break
        return []

    def _scaled(self, r: Any, factor: float) -> Any:
        return self._dlib.rectangle(*(round(v * factor) for v in (r.left(), r.top(), r.right(), r.bottom())))

    def _landmarks(self, rgb: Rgb, rectangle: Any, score: float) -> Landmarks:
        shape = self._predict(np.ascontiguousarray(rgb), rectangle)
        points = np.array([(p.x, p.y) for p in shape.parts()], np.float32)
        return Landmarks(points, 1 / (1 + math.exp(-score)))
