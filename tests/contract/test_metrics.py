"""The same questions to every metric: what it says of perfect results, of nothing, of faces that are not there."""

import math
import re
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from clips import make_clip

from reenact import landmarks, plugins
from reenact.images import read_image, write_image
from reenact.metrics import Clip, Context, Metric, Sample, View
from reenact.types import Frame, Landmarks, Rgb, Score
from reenact.video import MatteWriter, VideoWriter, probe, read_frames

pytestmark = pytest.mark.pretrained

CPU = torch.device("cpu")
FACE = read_image(Path(__file__).parents[1] / "data" / "face.png")  # 256x256
FRAMES = 3  # jitter takes no fewer


@pytest.fixture(scope="module", params=plugins.names("metrics"))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def module(name) -> ModuleType:
    return plugins.module("metrics", name)


class Clips:
    """Output, driver and truth that are one file, written as results are; the target is its first picture; a matte."""

    def __init__(self, folder: Path, store, moving: bool) -> None:
        pictures = [np.roll(FACE, (2 * i * moving, 3 * i * moving), (0, 1)) for i in range(FRAMES)]
        video, detector = written(folder, pictures), plugins.module("detectors", "landmarker").create(store, CPU)
        self.rgb = [frame.rgb for frame in read_frames(video)]
        clip = Clip(video, FRAMES, 256, 256, landmarks.track_face(iter(self.rgb), detector))
        write_image(folder / "target.png", FACE)
        target = Clip(folder / "target.png", 1, 256, 256, landmarks.track_face([FACE], detector), still=True)
        self.context = Context(clip, clip, target, clip, folder / "matte.mkv", FRAMES, store, CPU)

    def samples(self, context: Context) -> Iterator[Sample]:
        """Pixels are new in each sample and can't be written to."""
        for i in range(FRAMES):
            seen = [self._view(clip, i) for clip in (context.output, context.driver, context.target, context.truth)]
            output, driver, target, truth = seen
            assert output
            assert driver
            yield Sample(i, i / 25, output, driver, target, truth, matte() if context.matte else None)

    def _view(self, clip: Clip | None, index: int) -> View | None:
        if clip is None:
            return None
        return (
            View(frozen(FACE), face_of(clip, 0)) if clip.still else View(frozen(self.rgb[index]), face_of(clip, index))
        )


def written(folder: Path, pictures: Sequence[Rgb]) -> Path:
    """A result and its matte."""
    info = probe(make_clip(folder / "driver.mp4", range(FRAMES), size=(256, 256)))
    writers = VideoWriter(folder / "clip.mp4", 256, 256, info), MatteWriter(folder / "matte.mkv", 256, 256, info)
    for writer in writers:
        with writer:
            for i, rgb in enumerate(pictures):
                writer.write(Frame(rgb, i, round(i / 25 / info.time_base), i / 25, matte()))
    return folder / "clip.mp4"


def matte() -> np.ndarray:
    """The middle may differ from the target."""
    mask = np.zeros((256, 256), np.uint8)
    mask[64:-64, 64:-64] = 255
    return mask


def frozen(rgb: Rgb) -> Rgb:
    copy = rgb.copy()
    copy.setflags(write=False)
    return copy


def face_of(clip: Clip, row: int) -> Landmarks | None:
    t = clip.track
    return Landmarks(t.points[row], float(t.score[row]), t.blendshapes[row], t.pose[row]) if t.found[row] else None


@pytest.fixture(scope="module")
def still(store, tmp_path_factory) -> Clips:
    return Clips(tmp_path_factory.mktemp("still"), store, moving=False)


@pytest.fixture(scope="module")
def moving(store, tmp_path_factory) -> Clips:
    return Clips(tmp_path_factory.mktemp("moving"), store, moving=True)


def faceless(context: Context) -> Context:
    """The same, but nobody finds a face in the output."""
    track, count = context.output.track, len(context.output.track)
    nowhere = {key: np.full_like(getattr(track, key), np.nan) for key in ("points", "score", "blendshapes", "pose")}
    return replace(
        context, output=replace(context.output, track=replace(track, found=np.zeros(count, bool), **nowhere))
    )


def scored(module: ModuleType, clips: Clips, context: Context) -> list[Score]:
    metric = module.create(context)
    if isinstance(metric, str):
        return []
    for sample in clips.samples(context):
        metric.update(sample)
    return list(metric.score())


@pytest.fixture(scope="module")
def scores(module, moving) -> list[Score]:
    """Of the moving clip."""
    found = scored(module, moving, moving.context)
    assert found, "everything is given and installed"
    return found


def check_sane(scores: Sequence[Score]) -> None:
    """Finite or not measured, and then with a reason; a value for every frame or for none."""
    for score in scores:
        assert score.value is None or math.isfinite(score.value), score
        assert score.value is not None or score.note, f"{score.name}: no value and no reason"
        if score.per_frame is not None:
            assert len(score.per_frame) == FRAMES
            assert not np.isinf(score.per_frame).any()
    names = [score.name for score in scores]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*", n) for n in names)


def made(module: ModuleType, context: Context) -> Metric:
    """Where everything is given and installed, everything is measured."""
    metric = module.create(context)
    assert not isinstance(metric, str), metric
    return metric


def test_a_clip_that_is_the_target_at_rest_and_its_own_truth_is_perfect(module, still):
    scores = scored(module, still, still.context)
    check_sane(scores)
    assert scores
    for score in scores:
        if score.value is not None:
            best = {"lower": 0, "one": 1, "higher": 100 if score.unit == "dB" else 1}[score.better]
            # What the codec does to the target is little, but not nothing.
            assert score.value == pytest.approx(best, abs=0.5 if score.unit == "degrees" else 0.1), score


def test_a_moving_clip_has_finite_scores(scores):
    check_sane(scores)


def test_values_of_frames_are_those_of_the_score(scores):
    for score in scores:
        if score.value is not None and score.measured:
            known = score.per_frame[np.isfinite(score.per_frame)]
            assert known.min() - 1e-6 <= score.value <= known.max() + 1e-6, score


def test_the_same_samples_give_the_same_scores(module, moving, scores):
    again = scored(module, moving, moving.context)
    assert [(s.name, s.value) for s in again] == [(s.name, s.value) for s in scores]


def test_before_the_first_sample_nothing_is_measured_frame_by_frame(module, moving):
    for score in made(module, moving.context).score():
        assert score.per_frame is None or not score.measured, score
        assert score.value is None or math.isfinite(score.value), score


def test_an_output_without_a_face_is_neither_an_error_nor_perfect(module, moving, scores):
    """What needs a face is not measured; what does not is what it was."""
    found = scored(module, moving, faceless(moving.context))
    check_sane(found)
    before = {score.name: score.value for score in scores}
    for score in found:
        assert score.value is None or score.value == pytest.approx(before[score.name], rel=1e-6), score


def test_with_nothing_but_output_and_driver_it_works_or_says_why(module, moving):
    context = replace(moving.context, target=None, truth=None, matte=None)
    metric = module.create(context)
    if isinstance(metric, str):
        assert "--" in metric or "pip install" in metric, metric
    else:
        check_sane(scored(module, moving, context))


def test_pictures_are_measured_too(module, still):
    picture = still.context.target
    context = replace(still.context, output=picture, driver=picture, truth=picture, matte=None, frames=1)
    metric = module.create(context)
    if not isinstance(metric, str):
        metric.update(next(still.samples(context)))
        for score in metric.score():
            assert score.value is None or math.isfinite(score.value), score


def test_frames_are_not_kept(module, moving):
    metric, seen, alive = made(module, moving.context), list[weakref.ref](), list[int]()
    for sample in moving.samples(moving.context):
        seen += [weakref.ref(view.rgb) for view in (sample.output, sample.driver, sample.truth)]
        metric.update(sample)
        del sample
        alive.append(sum(rgb() is not None for rgb in seen))
    assert max(alive) <= 2 * 3  # this sample's, which the generator holds, and the last


def test_what_is_measured_is_documented(module, scores):
    """Each unit, and whose method or network it is."""
    text = module.__doc__
    for score in scores:
        assert score.unit in text, f"{score.name}: {score.unit}"
    assert re.search(r"Sources?:|Network:|\(\d{4}\)|Formulas?:", text)


_NAMES: dict[str, str] = {}  # score -> metric, of those asked so far


def test_no_other_metric_gives_a_score_of_that_name(name, scores):
    for score in scores:
        assert _NAMES.setdefault(score.name, name) == name
