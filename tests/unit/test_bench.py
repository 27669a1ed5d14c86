"""The benchmark's own instruments: its stopwatch, its count of pictures, the paper's run that can be gone on with."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clips import make_clip
from programs import loaded

from reenact import plugins
from reenact.video import read_frames


@pytest.fixture(scope="module")
def bench():
    with loaded("bench") as module:
        yield module


@pytest.fixture
def clock(bench, monkeypatch):
    """Time that passes only where a test says so."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock.now)
    return clock


class Small:
    """Draws nothing but the mean of a latent."""

    name = "small"

    def synthesize(self, w, size):
        return w.mean((1, 2))[:, None, None, None].expand(-1, 3, size, size)


# --- Counting -----------------------------------------------------------------------------------


def test_pictures_are_counted_by_size_and_by_whether_a_gradient_came_back(bench):
    passes = bench.Passes()
    generator = passes.watch(Small())
    w = torch.zeros(2, 3, 4, requires_grad=True)
    for _ in range(3):
        generator.synthesize(w, 8).sum().backward()
    generator.synthesize(w, 8)  # nobody asks for its gradient
    with torch.no_grad():
        generator.synthesize(w[:1], 16)
    assert passes.take() == {"8 forward and backward": 6, "8 forward": 2, "16 forward": 1}
    assert passes.take() == {}


def test_a_watched_generator_is_the_generator(bench):
    inner = Small()
    watched = bench.Passes().watch(inner)
    w = torch.ones(1, 3, 4)
    assert torch.equal(watched.synthesize(w, 8), inner.synthesize(w, 8))
    assert watched.name == "small"
    watched.noise = "none"
    assert inner.noise == "none"


# --- The stopwatch ------------------------------------------------------------------------------


def test_time_and_pictures_are_booked_on_the_stage_that_reports(bench, clock):
    passes = bench.Passes()
    generator, w = passes.watch(Small()), torch.zeros(1, 3, 4)
    watch = bench.Stopwatch(passes)
    clock.now += 2
    watch.note("a network")
    clock.now += 1
    watch.note("another")
    for done in (1, 2):
        clock.now += 0.5
        watch.lap("track", done)
    clock.now += 4
    watch.note("said later")  # belongs to what comes next
    generator.synthesize(w, 8)
    watch.lap("invert", 1)
    assert watch.seconds == {"start": 3, "track": 1, "invert": 4}
    assert watch.counts == {"start": 1, "track": 2, "invert": 1}
    assert {stage: dict(n) for stage, n in watch.passes.items()} == {
        "start": {}, "track": {}, "invert": {"8 forward": 1},
    }  # fmt: skip


def test_a_device_is_waited_for_before_the_clock_is_read(bench, clock):
    def finish():
        clock.now += 3

    watch = bench.Stopwatch(bench.Passes(), finish)
    watch.lap("invert", 1)
    assert watch.seconds == {"invert": 3}


def test_time_against_length_is_a_line(bench, monkeypatch, capsys):
    def measured(target, driver, options):
        n = options.max_frames
        return bench.Measured(n, {"start": 9.0, "invert": 3.0, "frames": 0.2 * n}, {}, {}, 500.0, None)

    monkeypatch.setattr(bench, "measure", measured)
    found = bench.time_against_length(Path("t"), Path("d"), bench.PRESETS["fast"], [100, 25, 50])
    assert found["each"] == pytest.approx(0.2)
    assert found["before"] == pytest.approx(3)
    assert found["off"] == pytest.approx(0, abs=1e-9)
    assert [run["frames"] for run in found["runs"]] == [25, 50, 100]
    assert "3.00 s and 0.200 s a frame" in capsys.readouterr().out


# --- The paper's recipe -------------------------------------------------------------------------


class Descent:
    """In place of the paper's recipe: each step halves w; the loss is its square, and it takes a second."""

    whose = "nobody's"
    start = "mean"
    dies_at = None

    def __init__(self, clock):
        self.clock = clock

    def __call__(self, target, device):
        return self

    def st_lpips(self, w):
        self.clock.now += 50  # measuring is not the recipe's time
        return float(w.abs().max())

    def invert(self, steps, start, on_step):
        w = torch.ones(2, 512) if start is None else start
        for step in range(1, steps + 1):
            self.clock.now += 1
            if step == self.dies_at:
                raise KeyboardInterrupt
            on_step(step, float(w.square().max()), w)
            w = w / 2


@pytest.fixture
def descent(bench, clock, monkeypatch):
    descent = Descent(clock)
    monkeypatch.setattr(bench, "Paper", descent)
    monkeypatch.setattr(bench, "EVERY", 4)
    return descent


def test_a_full_run_keeps_losses_distances_and_its_own_seconds(bench, descent, tmp_path):
    path = tmp_path / "paper.json"
    bench.run_paper(Path("photos/me.jpg"), 10, path, torch.device("cpu"))
    run = json.loads(path.read_text())
    assert run["losses"] == [4.0**-k for k in range(10)]
    assert run["st_lpips"] == {str(k): 2.0 ** -(k - 1) for k in (1, 5, 9, 10)}
    assert run["seconds"] == 10
    assert (run["target"], run["start"]) == ("me.jpg", "mean")
    assert [p.name for p in tmp_path.iterdir()] == ["paper.json"]
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=r"is there already: of 10 of 10 steps on me\.jpg from mean"):
        bench.run_paper(Path("photos/me.jpg"), 10, path, torch.device("cpu"))
    assert path.read_bytes() == before


def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(bench, descent, tmp_path):
    whole, path = tmp_path / "whole.json", tmp_path / "cut.json"
    bench.run_paper(Path("me.jpg"), 12, whole, torch.device("cpu"))
    descent.dies_at = 8
    with pytest.raises(KeyboardInterrupt):
        bench.run_paper(Path("me.jpg"), 12, path, torch.device("cpu"))
    descent.dies_at = None
    with pytest.raises(SystemExit, match=r"is of 5 of 12 steps on me\.jpg from mean"):
        bench.run_paper(Path("you.jpg"), 12, path, torch.device("cpu"))
    descent.start = "zero"
    with pytest.raises(SystemExit, match="from mean; remove it, or name another file"):
        bench.run_paper(Path("me.jpg"), 12, path, torch.device("cpu"))
    descent.start = "mean"
    bench.run_paper(Path("me.jpg"), 12, path, torch.device("cpu"))
    once, twice = (json.loads(p.read_text()) for p in (whole, path))
    assert twice["losses"] == once["losses"]
    assert twice["st_lpips"] == once["st_lpips"]


def test_half_of_what_a_run_left_is_not_gone_on_with(bench, descent, tmp_path):
    path, kept = tmp_path / "cut.json", tmp_path / "cut.npz"
    descent.dies_at = 8
    with pytest.raises(KeyboardInterrupt):
        bench.run_paper(Path("me.jpg"), 12, path, torch.device("cpu"))
    record, latent = path.read_bytes(), kept.read_bytes()

    def again():
        bench.run_paper(Path("me.jpg"), 12, path, torch.device("cpu"))

    path.unlink()
    with pytest.raises(SystemExit, match=r"cut\.npz: is of a run whose record, .*cut\.json, is missing; remove it"):
        again()
    path.write_bytes(record)
    kept.unlink()
    with pytest.raises(SystemExit, match=r"can't be gone on with, .*cut\.npz is missing"):
        again()
    kept.write_bytes(latent)
    run = json.loads(record)
    path.write_text(json.dumps({**run, "losses": run["losses"][:1]}))
    with pytest.raises(SystemExit, match=r"cut\.npz: is of step 5, .*cut\.json of step 1; remove both"):
        again()


@pytest.mark.parametrize(
    ("changed", "wanted", "said"),
    [
        ({}, 0.25, "after 2 steps its ST-LPIPS was 0.2500"),
        ({"start": "zero"}, None, "of 2 of 2 steps on me.jpg from zero, not of all steps on me.jpg from mean; not"),
        ({"start": None}, None, "from zero"),  # as records were written while all began there
        ({"target": "you.jpg"}, None, "on you.jpg"),
        ({"losses": [1.0]}, None, "of 1 of 2 steps"),
    ],
)
def test_searches_are_compared_with_a_full_run_of_the_same_start(
    bench, descent, monkeypatch, tmp_path, capsys, changed, wanted, said
):
    record = {"target": "me.jpg", "steps": 2, "start": "mean", "losses": [1.0, 0.5], "st_lpips": {"1": 0.5, "2": 0.25}}
    record = {name: value for name, value in {**record, **changed}.items() if value is not None}
    path, asked = tmp_path / "paper.json", []
    path.write_text(json.dumps(record))

    def near_enough(paper, target, driver, options, wanted, sync):
        asked.append((options.fuse.method, options.target.near, wanted))
        there = 2 if wanted else None
        return {"seconds": [2.0, 4.0], "st_lpips": {1: 0.4, 2: 0.2}, "losses": (), "step_as_near": there}

    monkeypatch.setattr(bench, "near_enough", near_enough)
    found = bench.against_paper(Path("me.jpg"), Path("d"), bench.PRESETS["fast"], torch.device("cpu"), path)
    assert [method for method, _, _ in asked] == ["expression", "solve", "solve"]
    assert asked[2][1] < asked[1][1]  # the last is held less to where faces can be moved
    assert {each for _, _, each in asked} == {wanted}
    assert (found["step"], found["extrapolated"], found["st_lpips"]) == (1, 1000, wanted)
    told = capsys.readouterr().out
    assert said in told
    assert ("as near as the paper's at step 2, 4.00 s: 250 times less" in told) is (wanted is not None)


def test_a_step_of_it_is_timed_without_the_first(bench, descent):
    assert bench.step_seconds(descent, lambda: None) == 1


@pytest.mark.parametrize(
    ("wanted", "step", "measured"), [(0.5, 2, [1, 2, 4]), (0.1, None, [1, 2, 3, 4]), (None, None, [1, 4])]
)
def test_a_search_is_measured_until_it_is_as_near_as_the_paper(bench, clock, monkeypatch, wanted, step, measured):
    def search(*args, on_step=None, **more):
        for k in range(1, 5):
            clock.now += 2
            on_step(k, 1 / k, torch.full((2, 512), 1 / k))
        return SimpleNamespace(losses=(1.0,))

    monkeypatch.setattr(bench, "invert", search)
    monkeypatch.setattr(bench.running, "Run", lambda *args: bench.running.invert("what", "a run", on_step=None))
    paper = SimpleNamespace(st_lpips=lambda w: w[0, 0].item())
    found = bench.near_enough(paper, Path("t"), Path("d"), bench.PRESETS["fast"], wanted, lambda: None)
    assert found["step_as_near"] == step
    assert list(found["st_lpips"]) == measured
    assert found["seconds"] == [2, 4, 6, 8]


# --- Runs ---------------------------------------------------------------------------------------


@pytest.fixture
def acted(bench, clock, monkeypatch):
    """In place of the pipeline: loads a generator in a second, and draws and gives each frame in another."""

    def reenact(target, driver, options, hooks):
        generator = bench.generators.load(options.generator)
        clock.now += 1
        hooks.note("loaded")
        for frame in read_frames(driver, max_frames=options.max_frames):
            generator.synthesize(torch.zeros(1, 3, 4), 8)
            clock.now += 1
            hooks.progress("frames", frame.index + 1, None)
            yield frame

    monkeypatch.setattr(bench.generators, "load", lambda name: Small())
    monkeypatch.setattr(bench, "reenact", reenact)


@pytest.fixture
def driver(tmp_path):
    return make_clip(tmp_path / "driver.mp4", tuple(range(4)))


def test_a_run_is_measured(bench, acted, driver):
    found = bench.measure(Path("t"), driver, replace(bench.PRESETS["fast"], device="cpu", max_frames=3))
    assert (found.frames, found.running) == (3, 3)
    assert found.seconds == {"start": 1, "frames": 3}
    assert found.counts == {"start": 1, "frames": 3}
    assert found.passes == {"start": {}, "frames": {"8 forward": 3}}
    assert found.peak_mb > 10


def test_frames_are_saved_nearly_as_they_are(bench, driver, tmp_path):
    frames = list(read_frames(driver))
    assert bench.save(iter(frames), tmp_path / "saved.mp4", driver) == 4
    for saved, frame in zip(read_frames(tmp_path / "saved.mp4"), frames, strict=True):
        assert np.abs(saved.rgb.astype(int) - frame.rgb).mean() < 2


def test_quality_is_that_of_each_run_beside_the_longest(bench, acted, driver, tmp_path, monkeypatch):
    measured = []

    def evaluate(output, driver, target, truth, *, metrics, device):
        assert output.is_file()
        assert truth.is_file()
        assert set(metrics) <= set(plugins.names("metrics"))
        measured.append(output == truth)
        values = {"expression-r": 0.9, "st-lpips-vgg": 0.0 if output == truth else 0.1}
        return SimpleNamespace(score=lambda name: SimpleNamespace(value=values[name]))

    monkeypatch.setattr(bench, "evaluate", evaluate)
    options = {name: replace(bench.PRESETS["fast"], device="cpu", max_frames=2) for name in ("fast", bench.ENOUGH)}
    found = bench.quality_against_time(Path("t"), driver, options, tmp_path / "plot.png")
    assert measured == [True, False]
    one = {"seconds": 1, "r": 0.9}
    assert found == {bench.ENOUGH: {**one, "st_lpips": 0.0}, "fast": {**one, "st_lpips": 0.1}}
    assert (tmp_path / "plot.png").is_file()


def test_a_line_needs_two_lengths(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "t", "d", "--device", "cpu", "--lengths", "25", "25"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2
    assert "--lengths 25: a line needs two lengths or more" in capsys.readouterr().err
