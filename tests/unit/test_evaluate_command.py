"""`reenact evaluate`: refuses early, writes what was asked for, and says the numbers."""

import json

import numpy as np
import pytest
from clips import make_clip
from evaluations import evaluation, score

from reenact import evaluate
from reenact.cli import main
from reenact.types import Score

FRAMES = 5
MEASURED = evaluation(
    [
        score("akd", [1, 2, np.nan, 9, 4], unit="px"),
        score("ssim-face", [0.5, 0.6, 0.7, 0.8, 0.9], "higher"),
        Score("jitter-ratio", "", "one", 1.25),
        Score("sound-drift", "ms", "lower", None, None, "no sound"),
        score("pose-target", range(FRAMES), unit="degrees"),
        score("pose-target-yaw", range(FRAMES), unit="degrees"),
        Score("st-lpips-vgg", "", "lower", 0.25),  # not a part: there is no st-lpips
    ],
    FRAMES,
    skipped={"identity": "needs dlib"},
    notes=("driver: no face in 1 of 5 frames",),
)


@pytest.fixture
def clips(tmp_path):
    return [str(make_clip(tmp_path / f"{name}.mp4", tuple(range(FRAMES)))) for name in ("out", "driver")]


@pytest.fixture
def measured(monkeypatch):
    """What `evaluate` was asked for; it answers `MEASURED`."""
    asked = []

    def answer(*files, **more):
        asked.append((files, more))
        return MEASURED

    monkeypatch.setattr(evaluate, "evaluate", answer)
    return asked


def run(clips, *words):
    return main(["evaluate", clips[0], "--driver", clips[1], *map(str, words)])


def test_the_numbers_are_plain_lines_where_there_is_no_terminal(clips, measured, capsys):
    assert run(clips) == 0
    assert capsys.readouterr().out.splitlines() == [
        "akd: 4 px, lower is better, worst 9 at frame 3, not measured in 1 of 5 frames",
        "ssim-face: 0.7, higher is better, worst 0.5 at frame 0",
        "jitter-ratio: 1.25, 1 is ideal",
        "pose-target: 2 degrees, lower is better, worst 4 at frame 4",
        "st-lpips-vgg: 0.25, lower is better",
        "1 more, part by part, with -v",
        "identity: not measured: needs dlib",
        "sound-drift: not measured: no sound",
        "note: driver: no face in 1 of 5 frames",
    ]


def test_verbose_says_the_parts_too(clips, measured, capsys):
    assert run(clips, "-v") == 0
    assert "pose-target-yaw: 2 degrees, lower is better, worst 4 at frame 4" in capsys.readouterr().out.splitlines()


def test_every_file_that_was_asked_for_is_written(clips, measured, tmp_path):
    files = [tmp_path / name for name in ("a.json", "a.csv", "a.html")]
    assert run(clips, "--json", files[0], "--csv", files[1], "--html", files[2]) == 0
    assert json.loads(files[0].read_text())["frames"] == FRAMES
    assert files[1].read_text().startswith("frame,seconds,akd,ssim-face,")
    assert files[2].read_text().startswith("<!doctype html>")


def test_what_is_given_is_what_is_measured(clips, measured, tmp_path):
    run(clips, "--truth", clips[1], "--metrics", "expression, ssim", "--device", "cpu")
    ((files, more),) = measured
    assert [str(file) if file else None for file in files] == [*clips, None, clips[1], None]
    assert more["metrics"] == ["expression", "ssim"]
    assert more["device"] == "cpu"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "{}/there.json"], "-y overwrites it"),
        (["--html", "{}/no/such.html"], "there is no folder"),
        (["--csv", "{}/table.txt"], "use .csv"),
        (["--html", "{}/a.html", "--json", "{}/a.html"], "use .json"),
        (["--metrics", "ssim,,akd"], "no list of names"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_measured(clips, measured, tmp_path, capsys, words, said):
    (tmp_path / "there.json").write_text("{}")
    assert run(clips, *[word.format(tmp_path) for word in words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not measured


def test_one_file_cannot_be_two_outputs(clips, measured, tmp_path, capsys):
    (tmp_path / "a.csv").symlink_to(tmp_path / "a.json")
    assert run(clips, "-y", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv") == 2
    assert "--csv" in (error := capsys.readouterr().err)
    assert "is --json too" in error
    assert not measured


def test_with_y_an_earlier_file_is_replaced(clips, measured, tmp_path):
    (tmp_path / "there.json").write_text("old")
    assert run(clips, "-y", "--json", tmp_path / "there.json") == 0
    assert json.loads((tmp_path / "there.json").read_text())["frames"] == FRAMES


def test_a_file_that_is_missing_or_a_metric_that_is_none_is_one_line(clips, tmp_path, capsys):
    assert run([str(tmp_path / "none.mp4"), clips[1]]) == 1
    assert "none.mp4: no such file" in capsys.readouterr().err
    assert run(clips, "--metrics", "beauty") == 2
    assert "'beauty'" in capsys.readouterr().err
