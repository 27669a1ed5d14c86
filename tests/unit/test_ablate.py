"""The experiments' words, files and pictures, and which slots stand for which layers; no network."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from reenact import ablate
from reenact.ablate import COUNTS, STARTS, Cell, Figure, replaced_slots, sheet, to_csv, to_json, write_figure
from reenact.cli import main
from reenact.errors import UsageError
from reenact.generators import mobile
from reenact.images import read_image, write_image

MOBILE = SimpleNamespace(name="mobile", live_layers=mobile.live_slots(), paper_layers=(2, 4))
STYLEGAN = SimpleNamespace(name="stylegan", live_layers=tuple(range(18)), paper_layers=(3, 4))  # the paper's own


# ---- Layers


@pytest.mark.parametrize(
    ("count", "start", "slots"),
    [
        (2, 4, (3, 4)),  # the paper's answer: its layers 4 and 5
        (2, 1, (0, 1)),
        (8, 2, (1, 2, 3, 4, 5, 6, 7, 8)),
        (2, -1, (16, 17)),
        (4, -2, (13, 14, 15, 16)),
        (4, 17, (16, 17)),
    ],
)
def test_the_papers_generator_counts_as_the_paper(count, start, slots):
    assert replaced_slots(STYLEGAN, count, start) == slots


@pytest.mark.parametrize(
    ("count", "start", "slots"),
    [
        (2, 4, (2, 4)),
        (2, 1, (0,)),  # it has one layer at 4x4, where the paper's has two
        (4, 2, (0, 1, 2, 4)),
        (2, -1, (20, 21)),
    ],
)
def test_other_generators_count_from_where_their_layers_4_and_5_are(count, start, slots):
    assert replaced_slots(MOBILE, count, start) == slots


@pytest.mark.parametrize(("count", "start"), [(0, 1), (2, 0), (1, 1), (2, 30), (2, -30)])
def test_layers_that_there_are_not_are_refused(count, start):
    with pytest.raises(UsageError, match=f"{count} layers from {start}: no slot of mobile"):
        replaced_slots(MOBILE, count, start)


def test_every_case_of_figure_14_is_another():
    cases = [replaced_slots(MOBILE, count, start) for count in COUNTS for start in STARTS]
    assert len(set(cases)) == len(cases) == 16


# ---- Files


def picture(red, side=32):
    """One green, which text never is."""
    return np.full((side, side, 3), (red, 200, 0), np.uint8)


FIGURE = Figure(
    "loss",
    (
        (Cell("a", "picture", picture(10)), Cell("a", "conv 1", picture(20), {"l2": 1.23456789, "psnr": None})),
        (Cell("b", "picture", picture(30)), Cell("b", "conv 1", picture(40), {"l2": 2.0, "psnr": 30.0})),
    ),
    {"l2": "0-255", "psnr": "dB"},
    ("A note.",),
    {"a conv 1": (1.0, 0.5, 0.25)},
)


def test_the_tables_hold_every_measured_picture():
    rows = list(csv.reader(io.StringIO(to_csv(FIGURE))))
    assert rows == [["row", "column", "l2", "psnr"], ["a", "conv 1", "1.23457", ""], ["b", "conv 1", "2.0", "30.0"]]
    content = json.loads(to_json(FIGURE))
    assert content["cells"][0] == {"row": "a", "column": "conv 1", "scores": {"l2": 1.23457, "psnr": None}}
    assert content["curves"] == {"a conv 1": [1, 0.5, 0.25]}
    assert content["notes"] == ["A note."]


def test_a_figure_is_written_with_its_curve(tmp_path):
    paths = write_figure(tmp_path, FIGURE)
    names = {"loss.png", "loss.json", "loss.csv", "loss-curve.png", "loss-curve.csv"}
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "loss-curve.csv").read_text().splitlines()[1:] == [
        "a conv 1,0,1.0", "a conv 1,1,0.5", "a conv 1,2,0.25"
    ]  # fmt: skip


def test_the_sheet_shows_every_picture_whole_in_its_place():
    page = np.asarray(sheet(FIGURE))
    places = []
    for red in (10, 20, 30, 40):
        y, x = np.nonzero((page == (red, 200, 0)).all(2))
        assert len(y) == 32 * 32
        places.append((np.median(y), np.median(x)))
    a, found_a, b, found_b = places
    assert a[0] == found_a[0] < b[0] == found_b[0]
    assert a[1] == b[1] < found_a[1] == found_b[1]


def test_a_curve_that_runs_away_is_drawn_and_written_as_far_as_it_goes(tmp_path):
    away = (3.0, 2.0, float("inf"), float("nan"), float("nan"))
    figure = Figure(
        "steps", FIGURE.rows, FIGURE.units, tuple(ablate._ran_away({"a": away, "b": (3.0, 1.0)})), {"a": away}
    )
    assert figure.notes == ("a: runs away; from iteration 2 on the loss is no number.",)
    write_figure(tmp_path, figure)
    assert json.loads((tmp_path / "steps.json").read_text())["curves"]["a"] == [3, 2, None, None, None]


# ---- The command


@pytest.fixture
def target(tmp_path):
    write_image(tmp_path / "a.png", picture(100, 80))
    return tmp_path / "a.png"


@pytest.fixture
def asked(monkeypatch):
    """What the experiments were asked for; each answers `FIGURE`."""
    calls = []

    def stand_in(name):
        def experiment(*args, **more):
            calls.append((name, args, more))
            args[{"ablate_layers": 2}.get(name, 1)].mkdir(exist_ok=True)
            return FIGURE

        return experiment

    for name in ("ablate_layers", "ablate_loss", "ablate_steps"):
        monkeypatch.setattr(ablate, name, stand_in(name))
    return calls


def run(*words):
    return main(["ablate", *map(str, words)])


def test_the_table_is_printed_and_the_files_are_named(target, asked, tmp_path, capsys):
    assert run("loss", target, "--out", tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert "a, conv 1: l2 0-255 1.235, psnr dB -\n" in out
    assert "A note." in out
    assert str(tmp_path / "out" / "loss.png") in err
    assert read_image(tmp_path / "out" / "loss.png").ndim == 3


def test_defaults_are_the_papers(target, asked, tmp_path):
    run("steps", target, "--out", tmp_path / "out")
    run("loss", target, target, "--out", tmp_path / "out", "-y")
    (_, (pictures, _, iterations), steps), (_, (both, _, count), _) = asked
    assert iterations == (0, 10, 50, 100, 1000)
    assert steps["settings"].options.target.start == "origin"
    assert list(pictures) == ["target"]
    assert list(both) == ["target", "driver"]
    assert count == ablate.SINGLE_CONV.steps


def test_steps_and_size_can_be_chosen(target, asked, tmp_path):
    run("steps", target, "--out", tmp_path / "1", "--steps", "0,3, 7", "--preset", "fast", "--size", 128)
    run("layers", target, target, "--out", tmp_path / "2", "--steps", 9)
    (_, args, steps), (_, _, layers) = asked
    assert args[2] == (0, 3, 7)
    assert steps["settings"].size == 128
    assert steps["settings"].options.target.optimiser == "adam"
    assert layers["settings"].options.target.steps == 9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("layers", "a.png"), "needs a DRIVER_IMAGE"),
        (("colours", "a.png"), "invalid choice: 'colours'"),
        (("loss", "gone.png"), "gone.png: no such file"),
        (("steps", "a.png", "--steps", "0,x"), "'0,x' is no list of whole numbers"),
        (("loss", "a.png", "--steps", "1,2"), "loss takes one number of steps"),
        (("loss", "a.png", "--steps", "0"), "at least 1"),
        (("loss", "a.png", "--preset", "best"), "--preset best: there is no such"),
    ],
)
def test_what_can_not_be_done_is_refused_before_the_work(words, said, target, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*words, "--out", "out") == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not asked


def test_earlier_results_stay_unless_told(target, asked, tmp_path, capsys):
    run("loss", target, "--out", tmp_path / "out")
    assert run("loss", target, "--out", tmp_path / "out") == 2
    assert "loss.png exists; -y overwrites it" in capsys.readouterr().err
    assert run("loss", target, "--out", tmp_path / "out", "-y") == 0
    assert len(asked) == 2
