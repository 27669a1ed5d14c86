"""`reenact benchmark` with methods and measurements made up: what is done, once, again and in spite of a failure."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from clips import make_clip, shade, stamps_of
from evaluations import evaluation, score

from reenact import baselines, benchmark
from reenact.benchmark import PAPER_TABLE, Files, Outcome, Settings, TableRow, run_benchmark, table1
from reenact.cli import main
from reenact.errors import NoFaceError
from reenact.images import read_image, write_image
from reenact.manifest import Pair, read_manifest
from reenact.pipeline import Options
from reenact.types import Score
from reenact.video import probe, read_frames

FRAMES = 6
L1 = {"direct": 20.0, "warp": 15.0, "still": 10.0, "reenact": 5.0}
MADE = {"reenact", "direct"}  # the methods of `METHODS` here


class Work:
    """Stands in for methods and measurement, and counts them."""

    def __init__(self):
        self.runs, self.measured, self.refused = [], [], set()

    def method(self, name):
        def make(target, driver, options, store, hooks):
            self.runs.append((name, target.name, driver.name))
            if target.name in self.refused:
                raise NoFaceError(f"no face found in {target}")
            return baselines.still(target, driver, options, store, hooks)

        return make

    def evaluate(self, output, driver, target, truth, matte, **more):
        frames = len(list(read_frames(driver)))
        self.measured.append({"files": (output, driver, target, truth, matte), **more})
        values = np.full(frames, L1[output.parent.name])
        scores = [score("l1", values), score("l2", 2 * values), score("ssim", 1 - values / 100, "higher")]
        return evaluation(scores, frames)


@pytest.fixture
def work(monkeypatch):
    work = Work()
    monkeypatch.setattr(benchmark, "METHODS", {name: work.method(name) for name in ("reenact", "direct")})
    monkeypatch.setattr(benchmark, "evaluate", work.evaluate)
    return work


@pytest.fixture
def manifest(tmp_path):
    """Two people with a truth, and one of himself."""
    write_image(tmp_path / "anna.png", np.full((80, 64, 3), 200, np.uint8))
    make_clip(tmp_path / "ben.mp4", tuple(range(FRAMES)), size=(64, 64), sound="aac")
    make_clip(tmp_path / "truth.mp4", tuple(range(FRAMES)), size=(64, 80))
    (tmp_path / "list.toml").write_text(
        '[[pair]]\ntarget = "anna.png"\ndriver = "ben.mp4"\ntruth = "truth.mp4"\n'
        '[[pair]]\nkind = "self"\ndriver = "ben.mp4"\n'
    )
    return tmp_path / "list.toml"


def run(manifest, *words):
    return main(["benchmark", str(manifest), "--methods", "reenact,direct", *map(str, words)])


def results(manifest):
    return json.loads((manifest.parent / "benchmark" / "results.json").read_text())


# ---- What there is afterwards


def test_every_pair_is_made_and_measured_by_every_method(manifest, work):
    assert run(manifest) == 0
    folder = manifest.parent / "benchmark"
    for pair in ("anna-ben", "ben"):
        for method in MADE:
            place = folder / pair / method
            assert {p.name for p in place.iterdir()} == {"out.mp4", "matte.mkv", "evaluation.json", "report.html"}
            assert len(stamps_of(place / "out.mp4")) == len(stamps_of(place / "matte.mkv")) == FRAMES
            assert probe(place / "out.mp4").has_audio
    assert {p.name for p in folder.iterdir()} == {"anna-ben", "ben", "index.html", "results.csv", "results.json"}


def test_pairs_are_measured_against_their_own_files(manifest, work):
    run(manifest)
    folder = manifest.parent
    own = folder / "benchmark" / "ben"
    by_pair = {m["files"][0].parent.parent.name: m["files"][1:4] for m in work.measured}
    assert by_pair["anna-ben"] == (folder / "ben.mp4", folder / "anna.png", folder / "truth.mp4")
    assert by_pair["ben"] == (folder / "ben.mp4", own / "target.png", folder / "ben.mp4")
    assert read_image(own / "target.png").mean() == pytest.approx(shade(0), abs=2)


def test_numbers_are_written_by_run_and_as_means_by_group(manifest, work):
    run(manifest)
    content = results(manifest)
    assert [(r["pair"], r["group"], r["method"], r["scores"]["l1"]["value"]) for r in content["runs"]] == [
        ("anna-ben", "paired", "reenact", 5), ("anna-ben", "paired", "direct", 20),
        ("ben", "self", "reenact", 5), ("ben", "self", "direct", 20),
    ]  # fmt: skip
    assert content["means"]["self"]["l1"] == {"pairs": 1, "methods": {"reenact": 5, "direct": 20}}
    rows = list(csv.DictReader((manifest.parent / "benchmark" / "results.csv").open()))
    assert [(row["pair"], row["method"], float(row["l2"])) for row in rows][:2] == [
        ("anna-ben", "reenact", 10), ("anna-ben", "direct", 40)
    ]  # fmt: skip


def test_the_page_links_every_report_and_shows_the_driver(manifest, work):
    run(manifest)
    page = (manifest.parent / "benchmark" / "index.html").read_text()
    assert all(f'href="{pair}/{method}/report.html"' in page for pair in ("anna-ben", "ben") for method in MADE)
    assert "frames of anna-ben by driver" in page
    assert "frames of anna-ben by truth" in page
    assert "frames of ben by truth" not in page  # it is the driver


def test_max_frames_cuts_driver_and_truth(manifest, work):
    assert run(manifest, "--max-frames", 3) == 0
    for measured in work.measured:
        _, driver, _, truth, _ = measured["files"]
        assert len(stamps_of(driver)) == len(stamps_of(truth)) == 3
        assert driver.parent.parent == manifest.parent / "benchmark"
    greys = [frame.rgb.mean() for frame in read_frames(manifest.parent / "benchmark" / "ben" / "driver.mp4")]
    assert greys == pytest.approx([shade(i) for i in range(3)], abs=2)
    assert "The first 3 frames" in (manifest.parent / "benchmark" / "index.html").read_text()


def test_what_was_asked_for_reaches_methods_and_measurement(manifest, work):
    assert run(manifest, "--metrics", "ssim,pixels", "--device", "cpu", "--out", manifest.parent / "there") == 0
    assert {(m["metrics"], m["device"]) for m in work.measured} == {(("ssim", "pixels"), "cpu")}
    assert (manifest.parent / "there" / "index.html").exists()


# ---- Again


def test_a_second_run_does_nothing_and_says_the_same(manifest, work):
    run(manifest)
    before, numbers = len(work.runs), results(manifest)
    written = {p: p.stat().st_mtime_ns for p in (manifest.parent / "benchmark").rglob("*/*/*")}
    assert run(manifest) == 0
    assert len(work.runs) == len(work.measured) == before == 4
    assert results(manifest) == numbers
    assert {p: p.stat().st_mtime_ns for p in written} == written


def test_what_is_made_anew_gives_the_same_numbers(manifest, work, tmp_path):
    run(manifest)
    numbers = results(manifest)
    run(manifest, "--out", tmp_path / "other")
    assert json.loads((tmp_path / "other" / "results.json").read_text()) == numbers


@pytest.mark.parametrize("words", [("--preset", "fast"), ("--metrics", "pixels"), ("--max-frames", 4)])
def test_a_changed_setting_does_it_again(manifest, work, words):
    run(manifest)
    run(manifest, *words)
    assert len(work.runs) == 8


def test_a_changed_input_does_again_what_it_is_in(manifest, work):
    run(manifest)
    write_image(manifest.parent / "anna.png", np.full((80, 64, 3), 100, np.uint8))
    run(manifest)
    assert [target for _, target, _ in work.runs[4:]] == ["anna.png", "anna.png"]


@pytest.mark.parametrize("name", ["out.mp4", "matte.mkv", "report.html", "evaluation.json"])
def test_a_run_that_is_not_whole_is_done_again(manifest, work, name):
    run(manifest)
    (manifest.parent / "benchmark" / "ben" / "direct" / name).unlink()
    run(manifest)
    assert [(method, target) for method, target, _ in work.runs[4:]] == [("direct", "target.png")]


def test_a_run_that_was_stopped_leaves_no_old_evaluation(manifest, work, monkeypatch):
    run(manifest)

    def stop(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "evaluate", stop)
    assert run(manifest, "--preset", "fast") == 130
    assert not (manifest.parent / "benchmark" / "anna-ben" / "reenact" / "evaluation.json").exists()


def test_another_method_joins_what_is_there(manifest, work):
    main(["benchmark", str(manifest), "--methods", "direct"])
    run(manifest)
    assert [method for method, _, _ in work.runs] == ["direct", "direct", "reenact", "reenact"]


# ---- Failure


def test_a_pair_that_fails_is_noted_and_the_others_go_on(manifest, work, capsys):
    work.refused = {"anna.png"}
    assert run(manifest) == 1
    err = capsys.readouterr().err
    assert "warning: anna-ben by direct: no face found in" in err
    assert "error: 2 of 4 runs failed" in err
    runs = results(manifest)["runs"]
    assert ["no face found" in (r["error"] or "") for r in runs] == [True, True, False, False]
    assert runs[0]["scores"] == {}
    assert "no face found in" in (manifest.parent / "benchmark" / "index.html").read_text()
    work.refused = set()
    assert run(manifest) == 0
    assert len(work.runs) == 6  # what had gone well is not done again


def test_a_driver_that_can_not_be_read_is_a_failure_of_its_pair(manifest, work):
    (manifest.parent / "ben.mp4").write_bytes(b"no video")
    text = manifest.read_text().replace('driver = "ben.mp4"\ntruth', 'driver = "truth.mp4"\ntruth')
    manifest.write_text(text)
    assert run(manifest) == 1
    assert [bool(r["error"]) for r in results(manifest)["runs"]] == [False, False, True, True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "reenact,magic"), "no method named 'magic'; there are: reenact, direct"),
        (("--methods", ","), "is no list of names"),
        (("--metrics", "beauty"), "no metric named 'beauty'"),
        (("--preset", "best"), "--preset best: there is no such"),
        (("--max-frames", "0"), "'0' is no number of frames"),
        (("--device", "abacus"), "--device abacus"),
        (("--table1", "--metrics", "akd"), "--table1: is of the metrics pixels and ssim"),
        (("--out", "list.toml"), "can't be a folder for results"),
    ],
)
def test_what_can_not_be_done_is_refused_before_the_work(manifest, work, capsys, monkeypatch, words, said):
    monkeypatch.chdir(manifest.parent)
    assert run(manifest, *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not work.runs


def test_a_list_that_is_refused_ends_it_too(manifest, work, capsys):
    manifest.write_text("")
    assert run(manifest) == 2
    assert "lists no pair" in capsys.readouterr().err


def test_table_1_needs_a_truth(manifest, work, capsys):
    manifest.write_text('[[pair]]\ntarget = "anna.png"\ndriver = "ben.mp4"\n')
    assert run(manifest, "--table1") == 2
    assert "has a truth" in capsys.readouterr().err


# ---- Table 1


def outcome(pair, method, l1, l2, ssim, where=""):
    scores = [score(f"l1{where}", [l1]), score(f"l2{where}", [l2]), score(f"ssim{where}", [ssim], "higher")]
    made = Pair(pair, "cross", *(["x"] * 3))
    return Outcome(made, method, Files("x", "x", "x"), "x", evaluation(scores, 1))


def test_table_1_has_a_row_a_method_and_compares_with_direct_transfer():
    outcomes = [
        outcome("a", "reenact", 5, 10, 0.9), outcome("a", "direct", 10, 30, 0.7),
        outcome("b", "reenact", 7, 20, 0.8), outcome("b", "direct", 20, 30, 0.6),
    ]  # fmt: skip
    rows, pairs = table1(outcomes)
    assert pairs == 2
    assert rows[0] == TableRow("reenact", 6, 15, pytest.approx(0.85), pytest.approx(0.4), 0.5, pytest.approx(0.2))
    assert rows[1] == TableRow("direct transfer", 15, 30, pytest.approx(0.65), 1, 1, 0)


def test_table_1_counts_only_pairs_that_all_methods_have():
    outcomes = [
        outcome("a", "reenact", 5, 10, 0.9), outcome("a", "direct", 10, 30, 0.7), outcome("b", "reenact", 90, 90, 0),
        replace(outcome("b", "direct", 0, 0, 0), evaluation=None, error="no face"),
    ]  # fmt: skip
    rows, pairs = table1(outcomes)
    assert (rows[0].l1, pairs) == (5, 1)
    assert table1(outcomes[2:]) == ([], 0)
    assert table1(outcomes, "-face") == ([], 0)


def test_table_1_without_direct_transfer_compares_nothing():
    (row,), _ = table1([outcome("a", "reenact", 5, 10, 0.9)])
    assert row.l1_ratio is row.l2_ratio is row.ssim_gain is None


def test_the_papers_ratios_are_those_of_its_numbers():
    direct, _, theirs = PAPER_TABLE
    assert (direct.l1, direct.l2, direct.ssim) == (1790, 211, 0.815)
    assert [round(theirs.l1_ratio, 2), round(theirs.l2_ratio, 2), round(theirs.ssim_gain, 3)] == [0.57, 0.64, 0.086]


def test_table_1_is_printed_beside_the_papers(manifest, work, capsys):
    assert run(manifest, "--table1") == 0
    out = capsys.readouterr().out
    ours = "reenact: L1 5, L2 10, SSIM 0.950, L1 / direct 0.25, L2 / direct 0.25, SSIM - direct +0.150"
    assert out.count(ours) == 2  # of two people, and of one
    assert "the paper's method: L1 1024, L2 136, SSIM 0.901, L1 / direct 0.57, L2 / direct 0.64" in out
    assert "RGB values 0..255" in out
    assert "a unit that it does not name" in out


# ---- The library


def test_the_library_runs_without_a_console(manifest, work, tmp_path):
    outcomes = run_benchmark(read_manifest(manifest), tmp_path / "out", Settings(("direct",), Options(max_frames=2)))
    assert [(o.pair.name, o.group, o.again, o.error) for o in outcomes] == [
        ("anna-ben", "paired", False, ""), ("ben", "self", False, "")
    ]  # fmt: skip
    assert isinstance(outcomes[0].scores["l1"], Score)
