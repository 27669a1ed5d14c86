"""Evaluating files whose content is known: which frames meet, what is refused, what is counted, what is written."""

import csv
import io
import json
import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip, plain, shade, stamps_of
from faces import face

from reenact import evaluate as module
from reenact.errors import NoFaceError, ReenactError, UsageError, VideoError
from reenact.evaluate import Evaluation, evaluate, from_json, to_csv, to_json
from reenact.files import write_text
from reenact.images import write_image
from reenact.metrics import Context, Sample
from reenact.types import Frame, Landmarks, Score
from reenact.video import MatteWriter, probe
from reenact.weights import WeightStore

SIZE = (66, 64)


class Detector:
    """Sees a face in all that is not black; where it is, and its blendshapes, tell how bright the picture is."""

    def __init__(self) -> None:
        self.clips = 0

    def track(self, frames, known=()) -> Iterator[list[Landmarks]]:
        self.clips += 1
        for rgb in frames:
            grey = float(rgb.mean())
            points = (face() * 40 + grey / 20).astype(np.float32)
            yield [Landmarks(points, 0.9, np.full(51, grey, np.float32), np.zeros(3, np.float32))] if grey > 20 else []


@pytest.fixture(autouse=True)
def detector(monkeypatch) -> Detector:
    found = Detector()
    monkeypatch.setattr(module.landmarks, "choose_detector", lambda name, store, device: (name, found))
    return found


class Recorder:
    """A metric that remembers what it is shown, but for the pixels."""

    def __init__(self) -> None:
        self.context: Context | None = None
        self.greys: list[dict[str, int]] = []
        self.faces: list[dict[str, float | None]] = []
        self.samples: list[tuple[int, float]] = []
        self.shapes: list[dict[str, tuple[int, ...]]] = []
        self.mattes: list[np.ndarray | None] = []
        self.one: list[bool] = []  # whether driver and truth are the same object
        self.alive: list[int] = []
        self._frames: list[weakref.ref] = []

    def create(self, context: Context) -> "Recorder":
        self.context = context
        return self

    def update(self, sample: Sample) -> None:
        views = {role: getattr(sample, role) for role in ("output", "driver", "target", "truth")}
        views = {role: view for role, view in views.items() if view}
        self.greys.append({role: int(view.rgb[:40, :40].mean().round()) for role, view in views.items()})
        self.faces.append({r: view.face.blendshapes[0] if view.face else None for r, view in views.items()})
        self.shapes.append({role: view.rgb.shape for role, view in views.items()})
        self.samples.append((sample.index, sample.seconds))
        self.mattes.append(sample.matte)
        self.one.append(sample.driver is sample.truth)
        self._frames.append(weakref.ref(sample.output.rgb))
        self.alive.append(sum(frame() is not None for frame in self._frames))

    def score(self) -> list[Score]:
        return []


@pytest.fixture
def seen(monkeypatch) -> Recorder:
    """What the only metric there is was shown."""
    recorder = Recorder()
    monkeypatch.setattr(module.plugins, "names", lambda kind: ["recorder"])
    monkeypatch.setattr(module.plugins, "module", lambda kind, name: recorder)
    return recorder


@pytest.fixture
def make(tmp_path):
    """make(name, frames, size, picture) writes a clip; make("x.png", grey=...) a picture."""

    def made(name: str, frames: int = 6, size=SIZE, picture=plain, grey: int = 100) -> Path:
        path = tmp_path / name
        if path.suffix == ".png":
            write_image(path, np.full((size[1], size[0], 3), grey, np.uint8))
            return path
        return make_clip(path, range(frames), size=size, picture=picture)

    return made


def near(grey: int) -> object:
    return pytest.approx(grey, abs=3)  # what a codec leaves of it


def going_dark(*dark: int):
    return lambda i, width, height: plain(i, width, height) * (i not in dark)


# ---- Which frames meet


def test_frames_are_paired_by_index(make, seen):
    backwards = make("b.mp4", picture=lambda i, w, h: plain(5 - i, w, h))
    evaluate(make("o.mp4"), make("d.mp4"), make("t.png"), backwards)
    assert [index for index, _ in seen.samples] == list(range(6))
    for i, greys in enumerate(seen.greys):
        assert greys == {
            "output": near(shade(i)), "driver": near(shade(i)), "target": 100, "truth": near(shade(5 - i))
        }  # fmt: skip


def test_each_view_has_the_face_of_its_own_frame(make, seen):
    evaluate(make("o.mp4"), make("d.mp4", picture=going_dark(2)))
    assert [faces["output"] for faces in seen.faces] == [near(shade(i)) for i in range(6)]
    assert [faces["driver"] is None for faces in seen.faces] == [i == 2 for i in range(6)]


def test_seconds_are_the_outputs(make, seen, tmp_path):
    slow = make_clip(tmp_path / "o.mp4", [0, 2, 4, 10], size=SIZE)
    result = evaluate(slow, make("d.mp4", 4))
    assert result.seconds.tolist() == [float(s) for s in stamps_of(slow)]
    assert [seconds for _, seconds in seen.samples] == result.seconds.tolist()


def test_a_picture_as_driver_stands_for_all_frames(make, seen):
    result = evaluate(make("o.mp4"), make("d.png", grey=77))
    assert result.frames == 6
    assert [greys["driver"] for greys in seen.greys] == [77] * 6
    assert seen.context.driver.still


def test_a_picture_as_output_is_one_sample(make, seen):
    result = evaluate(make("o.png"), make("d.png"), truth=make("t.png", grey=90))
    assert (result.frames, seen.context.frames) == (1, 1)
    assert seen.greys == [{"output": 100, "driver": 100, "truth": 90}]


def test_the_matte_comes_along(make, seen, tmp_path):
    clip, rng = make("o.mp4"), np.random.default_rng(0)
    mattes = [rng.integers(0, 256, SIZE[::-1], np.uint8) for _ in range(6)]
    with MatteWriter(tmp_path / "m.mkv", *SIZE, probe(clip)) as writer:
        for i, matte in enumerate(mattes):
            writer.write(Frame(np.zeros((*matte.shape, 3), np.uint8), i, i * 512, i / 25, matte))
    evaluate(clip, clip, matte=tmp_path / "m.mkv")
    assert seen.context.matte == tmp_path / "m.mkv"
    assert all(np.array_equal(a, b) for a, b in zip(seen.mattes, mattes, strict=True))


def test_frames_do_not_pile_up(make, seen):
    evaluate(make("o.mp4", 30), make("d.mp4", 30))
    assert max(seen.alive) <= 2


def test_a_file_that_is_driver_and_truth_is_followed_and_read_once(make, detector, seen):
    clip = make("d.mp4")
    evaluate(make("o.mp4"), clip, truth=clip)
    assert detector.clips == 2
    assert seen.one == [True] * 6
    evaluate(make("o.mp4"), clip, truth=make("t.mp4"))
    assert seen.one[6:] == [False] * 6


def test_a_clip_that_is_target_and_driver_comes_at_the_outputs_times_and_frame_by_frame(make, seen, tmp_path):
    slow = make_clip(tmp_path / "d.mp4", range(0, 18, 3), size=SIZE)
    evaluate(make("o.mp4"), slow, slow)
    for now, (driver, target) in enumerate(zip(range(6), [0, 0, 1, 1, 1, 2], strict=True)):
        for shown in (seen.greys[now], seen.faces[now]):
            assert shown["driver"] == near(shade(driver))
            assert shown["target"] == near(shade(target))


def test_progress_is_told_by_stage(make):
    told = []
    evaluate(
        make("o.mp4"), make("d.mp4"), make("t.png"), metrics=[],
        on_progress=lambda *report: told.append(report),
    )  # fmt: skip
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["track output", "track driver", "track target", "measure"]
    for stage in stages:
        counts = [(done, total) for name, done, total in told if name == stage]
        assert counts == [(i + 1, counts[-1][0]) for i in range(len(counts))]


# ---- Lengths and sizes


def test_one_frame_less_is_measured_and_said(make, seen):
    result = evaluate(make("o.mp4", 6), make("d.mp4", 7))
    assert (result.frames, seen.context.frames, len(seen.samples)) == (6, 6, 6)
    (note,) = result.notes
    assert "d.mp4 has 7 frames" in note
    assert "o.mp4 has 6" in note


@pytest.mark.parametrize(("output", "truth"), [(6, 8), (8, 6)])
def test_lengths_that_differ_by_more_are_refused_with_both(make, seen, output, truth):
    with pytest.raises(UsageError, match=r"\.mp4 has 8 frames and .*\.mp4 has 6; .*cut the (output|truth)"):
        evaluate(make("o.mp4", output), make("d.mp4", output), truth=make("t.mp4", truth))
    assert not seen.samples


def test_a_matte_of_another_length_is_refused(make):
    with pytest.raises(UsageError, match=r"m\.mp4 has 9 frames"):
        evaluate(make("o.mp4"), make("d.mp4"), matte=make("m.mp4", 9), metrics=[])


@pytest.mark.parametrize("role", ["truth", "matte"])
def test_another_size_is_refused_before_the_work(make, detector, role):
    with pytest.raises(UsageError, match=rf"other\.mp4: is 128x96, and .*o\.mp4 is 66x64; give a {role}"):
        evaluate(make("o.mp4"), make("d.mp4"), **{role: make("other.mp4", size=(128, 96))})
    assert detector.clips == 0


def test_driver_and_target_may_have_any_size(make, seen):
    evaluate(make("o.mp4"), make("d.mp4", size=(128, 96)), make("t.png", size=(70, 90)))
    assert seen.shapes[0] == {"output": (64, 66, 3), "driver": (96, 128, 3), "target": (90, 70, 3)}


def test_a_truth_that_lost_no_padding_fits(tmp_path):
    """An output's odd sides are padded, as videos need it; the truth and the matte are padded alike."""
    odd = np.random.default_rng(0).integers(0, 256, (65, 67, 3), np.uint8)
    write_image(tmp_path / "truth.png", odd)
    write_image(tmp_path / "output.png", np.pad(odd, ((0, 1), (0, 1), (0, 0)), mode="edge"))
    result = evaluate(
        tmp_path / "output.png", tmp_path / "output.png", truth=tmp_path / "truth.png", metrics=["pixels"]
    )
    assert result.score("l1").value == 0


def test_what_can_not_be_read_is_named(make, tmp_path):
    with pytest.raises(VideoError, match=r"nothing\.mp4: no such file"):
        evaluate(tmp_path / "nothing.mp4", make("d.mp4"))


def test_an_unknown_metric_is_refused_with_those_there_are(make):
    with pytest.raises(UsageError, match=r"no metric named 'beauty'; there are: .*pixels"):
        evaluate(make("o.mp4"), make("d.mp4"), metrics=["beauty"])


# ---- Missing faces, missing numbers


def test_a_driver_without_a_face_is_an_error(make):
    with pytest.raises(NoFaceError, match=r"no face found in any of the 6 frames of .*d\.mp4"):
        evaluate(make("o.mp4"), make("d.mp4", picture=going_dark(*range(6))))


def test_missing_faces_are_counted_and_not_averaged_away(make):
    dark, brighter = make("o.mp4", picture=going_dark(1, 4)), lambda *of: plain(*of) + np.uint8(40)
    result = evaluate(dark, make("d.mp4"), truth=make("t.mp4", picture=brighter), metrics=["akd", "pixels"])
    assert result.missing == {"output": 2, "driver": 0, "truth": 0}
    assert "output: no face in 2 of 6 frames" in result.notes[0]
    akd = result.score("akd")
    assert (akd.measured, len(akd.per_frame)) == (4, 6)
    assert "2 of 6 frames left out" in akd.note
    shift = 40 / 20 * math.sqrt(2)  # of a face in a picture that is brighter by 40; see Detector
    assert akd.value == pytest.approx(shift * 256 / max(SIZE), rel=0.1)
    assert result.score("l1").measured == 6


def test_an_output_without_any_face_is_measured_where_it_can(make):
    black = make("o.mp4", picture=going_dark(*range(6)))
    result = evaluate(black, make("d.mp4"), truth=make("t.mp4"), metrics=["akd", "jitter", "pixels"])
    assert result.missing["output"] == 6
    assert {s.name for s in result.scores if s.value is None} == {"akd", "jitter", "jitter-ratio"}
    assert all(s.note for s in result.scores if s.value is None)


def test_what_is_not_measured_is_said_with_the_reason(make, tmp_path):
    empty = WeightStore(tmp_path / "empty", offline=True)
    result = evaluate(make("o.mp4"), make("d.mp4"), metrics=["pixels", "jitter"], store=empty)
    assert result.skipped == {"pixels": "no truth was given: --truth"}
    assert [s.name for s in result.scores] == ["jitter", "jitter-driver", "jitter-ratio"]


def test_networks_that_can_not_be_had_cost_their_metric_only(make, tmp_path):
    empty, truth = WeightStore(tmp_path / "empty", offline=True), make("t.mp4")
    result = evaluate(make("o.mp4"), make("d.mp4"), truth=truth, metrics=["st-lpips", "pixels"], store=empty)
    assert "stlpips-vgg" in result.skipped["st-lpips"]
    assert result.score("l1").measured == 6


def test_settings_say_what_the_numbers_depend_on(make):
    settings = evaluate(make("o.mp4"), make("d.png"), metrics=["jitter"]).settings
    assert settings["output"].endswith("o.mp4")
    assert settings["output size"] == "66x64"
    assert (settings["output frames"], settings["driver frames"]) == ("6", "a picture")
    assert settings["metrics"] == "jitter"
    assert {"torch", "av", "numpy", "python", "device", "detector"} <= settings.keys()


def test_the_same_files_give_the_same_numbers(make):
    clips = make("o.mp4"), make("d.mp4"), None, make("t.mp4")
    first, second = (to_json(evaluate(*clips, metrics=["pixels", "ssim", "flow", "jitter"])) for _ in range(2))
    assert first == second


# ---- What is written


def measured() -> Evaluation:
    gaps = np.array([0.1, np.nan, 1 / 3], np.float32)
    return Evaluation(
        scores=(
            Score("akd", "px", "lower", 0.2166667, gaps, "one missing"),
            Score("gain", "", "one", 0.5, None, "of the clip"),
            Score("csim", "", "higher", None, None, "no target"),
        ),
        seconds=np.array([0, 0.04, 0.08]),
        missing={"output": 1},
        skipped={"pixels": "no truth"},
        notes=("a note, with a comma",),
        settings={"output": "ö.mp4"},
        faces={"output": (1.0, 2.0, 3.5, 4.0)},
    )


def test_json_holds_every_frame_and_null_where_there_is_no_number():
    content = json.loads(to_json(measured()), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["schema"] == "reenact-evaluation/1"
    assert content["frames"] == 3
    akd, gain, csim = content["scores"]
    assert akd["per_frame"] == [pytest.approx(0.1), None, pytest.approx(1 / 3)]
    assert (akd["worst"], akd["measured"], akd["value"]) == (2, 2, pytest.approx(0.2166667))
    assert (gain["per_frame"], csim["value"], csim["note"]) == (None, None, "no target")


def test_json_comes_back_as_it_went():
    text = to_json(measured())
    again = from_json(text)
    assert to_json(again) == text
    np.testing.assert_array_equal(again.scores[0].per_frame, measured().scores[0].per_frame)
    assert again.faces == measured().faces


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "reenact-evaluation/999"}', '{"schema": 1, "scores": 2}'])
def test_what_is_no_evaluation_is_refused(text):
    with pytest.raises(UsageError, match="evaluation"):
        from_json(text)


def test_csv_has_a_row_a_frame_and_the_clip_at_the_end():
    header, *rows = csv.reader(io.StringIO(to_csv(measured())))
    assert header == ["frame", "seconds", "akd", "gain", "csim"]
    assert [row[0] for row in rows] == ["0", "1", "2", "clip"]
    assert [row[1] for row in rows] == ["0.0", "0.04", "0.08", ""]
    assert [float(row[2] or math.nan) for row in rows] == pytest.approx([0.1, math.nan, 1 / 3, 0.2166667], nan_ok=True)
    assert [row[3] for row in rows] == ["", "", "", "0.5"]
    assert [row[4] for row in rows] == [""] * 4


def test_json_and_csv_say_the_same_of_a_real_run(make):
    result = evaluate(make("o.mp4"), make("d.mp4"), truth=make("t.mp4"), metrics=["pixels", "flow", "jitter"])
    objects = {item["name"]: item for item in json.loads(to_json(result))["scores"]}
    *frames, clip = csv.DictReader(io.StringIO(to_csv(result)))
    for name, item in objects.items():
        assert [row[name] for row in frames] == ["" if v is None else str(v) for v in item["per_frame"] or [None] * 6]
        assert clip[name] == ("" if item["value"] is None else str(item["value"]))


def test_a_file_appears_when_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "e.json"
    write_text(path, "first\n")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(ReenactError, match=r"e\.json: can't be written \(no space left\)"):
        write_text(path, "second\n")
    assert path.read_text() == "first\n"
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReenactError, match=r"e\.json: can't be written"):
        write_text(tmp_path / "none" / "e.json", "")
