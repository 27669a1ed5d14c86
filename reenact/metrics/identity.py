"""Identity: how like the target, and the truth, the output's person is, and how steadily.

Network: dlib's ResNet-128 (`dlib_face_recognition_resnet_model_v1`), 128 numbers of a face cut out by dlib's 5-point
alignment, 150 pixels with padding 0.25, whatever the clip's resolution. It takes 0.1 s a face on one core.

- `identity-target`, `identity-truth`: Euclidean distance of the numbers; below 0.6 dlib takes two for one person.
- `csim-target`, `csim-truth`: their cosine. That of ArcFace, which papers report, has another scale.
- `tl-id`, `tg-id`: mean cosine over adjacent frames (TL, local) and over all pairs of frames (TG, global), output
  divided by driver; 1: as steady as the driver. Tzaban et al., "Stitch it in Time" (2022).

The five points are those of dlib's own 5-point predictor, run in a box made of our landmarks. Its points stand for
45, 42 (the corners, outer and inner, of the eye on the right of the picture), 36, 39 (on the left) and 33 (under
the nose) of the 68, but a little elsewhere: on 25 pictures (seven targets, a generated face, frames of four clips)
the numbers differ from those that dlib gives in its own detector's box by 0.035 on average (0.10 at most), by 0.089
(0.15) with our five of the 68, and by 0.033 (0.08) with dlib's own box moved by a twentieth of its side.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Floats, Rgb, Score
from ..weights import WeightStore
from . import Context, Sample, View
from ._series import NO_FACE, NO_TARGET, NO_TRUTH, by_frame, of_clip

JITTERS, PADDING = 0, 0.25  # the chip itself, and not a mean over copies that are moved at random

Embed = Callable[[View], "Floats | None"]
"""The identity of a view's face, float32 [128]; None where it has none."""

_NETWORK = "dlib ResNet-128"
_FEW = "it takes two frames with a face in output and driver, for tl-id adjacent ones"


def create(context: Context) -> IdentityMetric | str:
    """The metric, or the sentence that says how to get dlib.

    Raises:
        WeightsError: the weights can't be had.
    """
    try:
        dlib = importlib.import_module("dlib")
    except ImportError:
        return "identity needs dlib: pip install 'reenact[dlib]'"
    return IdentityMetric(DlibIdentity(dlib, context.store))


class DlibIdentity:
    """dlib's numbers of a face; on the CPU."""

    # dlib's own boxes are squares around the middle of the inner points, so many times as large as the landmarks'.
    BOX = 1.1

    def __init__(self, dlib: Any, store: WeightStore) -> None:
        """`dlib` is the module."""
        self._dlib = dlib
        self._predict = dlib.shape_predictor(str(store.path("dlib-5.dat")))
        self._network = dlib.face_recognition_model_v1(str(store.path("dlib-resnet128.dat")))

    def __call__(self, view: View) -> Floats | None:
        """Float32 [128], of a length of about 1.4; None where there is no face."""
        if view.face is None:
            return None
        rgb = np.ascontiguousarray(view.rgb)
        shape = self._predict(rgb, self._box(view.face.points))
        return np.array(self._network.compute_face_descriptor(rgb, shape, JITTERS, PADDING), np.float32)

    def _box(self, points: Floats) -> Any:
        middle, half = points[17:].mean(0), self.BOX * np.ptp(points, axis=0).mean() / 2
        return self._dlib.rectangle(*(round(float(v)) for v in (*(middle - half), *(middle + half))))


class IdentityMetric:
    """See `metrics.Metric`. Of the target each picture is looked at once: a photo, or a clip's frame."""

    def __init__(self, embed: Embed) -> None:
        """`embed` is the network."""
        self._embed = embed
        self._shown: Rgb | None = None  # of the target, last
        self._target: Floats | None = None  # who is seen there
        self._given = {"target": False, "truth": False}
        self._distances: dict[str, list[float]] = {"target": [], "truth": []}
        self._cosines: dict[str, list[float]] = {"target": [], "truth": []}
        self._steadiness = {"output": _Steadiness(), "driver": _Steadiness()}

    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        output, driver = self._embed(sample.output), self._embed(sample.driver)
        truth = driver if sample.truth is sample.driver else self._embed(sample.truth) if sample.truth else None
        self._compare("target", sample.target, output, self._seen_in(sample.target))
        self._compare("truth", sample.truth, output, truth)
        # The same moments count in both.
        both = output is not None and driver is not None
        self._steadiness["output"].add(output if both else None)
        self._steadiness["driver"].add(driver if both else None)

    def _seen_in(self, target: View | None) -> Floats | None:
        if target and target.rgb is not self._shown:
            self._shown, self._target = target.rgb, self._embed(target)
        return self._target

    def _compare(self, other: str, view: View | None, a: Floats | None, b: Floats | None) -> None:
        self._given[other] |= view is not None
        distance, cosine = (np.nan, np.nan) if a is None or b is None else (np.linalg.norm(a - b), _unit(a) @ _unit(b))
        self._distances[other].append(float(distance))
        self._cosines[other].append(float(cosine))

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        return [*self._likeness("target", NO_TARGET), *self._likeness("truth", NO_TRUTH), *self._ratios()]

    def _likeness(self, other: str, absent: str) -> list[Score]:
        why = NO_FACE if self._given[other] else absent
        near, cosine = f"{_NETWORK}, Euclidean; one person below 0.6", f"{_NETWORK}, cosine; not ArcFace's scale"
        return [
            by_frame(f"identity-{other}", "", "lower", self._distances[other], near, why),
            by_frame(f"csim-{other}", "", "higher", self._cosines[other], cosine, why),
        ]

    def _ratios(self) -> list[Score]:
        output, driver = self._steadiness["output"], self._steadiness["driver"]
        note = f"{_NETWORK}, cosine over {{}} frame pairs, output to driver"
        pairs = {"tl-id": ("adjacent", output.local, driver.local), "tg-id": ("all", output.all, driver.all)}
        return [of_clip(n, "", "one", a / b, note.format(which), _FEW) for n, (which, a, b) in pairs.items()]


class _Steadiness:
    """Mean cosine over frame pairs, in constant memory: over all pairs it follows from the sum of the unit vectors."""

    def __init__(self) -> None:
        self._before: NDArray[np.float64] | None = None
        self._sum, self._frames = np.zeros(128), 0
        self._adjacent, self._pairs = 0.0, 0

    def add(self, numbers: Floats | None) -> None:
        """The next frame's; None: no face."""
        unit = None if numbers is None else _unit(numbers)
        if unit is not None:
            self._sum, self._frames = self._sum + unit, self._frames + 1
            if self._before is not None:
                self._adjacent, self._pairs = self._adjacent + float(unit @ self._before), self._pairs + 1
        self._before = unit

    @property
    def local(self) -> float:
        """Over adjacent frames; NaN: there are none."""
        return self._adjacent / self._pairs if self._pairs else np.nan

    @property
    def all(self) -> float:
        """Over all pairs; NaN: there is none. |Σu|² counts each pair twice, and each frame with itself."""
        n = self._frames
        return (float(self._sum @ self._sum) - n) / (n * (n - 1)) if n > 1 else np.nan


def _unit(numbers: Floats) -> NDArray[np.float64]:
    return numbers / np.linalg.norm(numbers.astype(np.float64))
