"""The benchmark's own instruments: its stopwatch, its count of pictures, the paper's run that can be gone on with."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools" / "bench.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench"]


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
    assert run["target"] == "me.jpg"
    assert [p.name for p in tmp_path.iterdir()] == ["paper.json"]


def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(bench, descent, tmp_path):
    whole, path = tmp_path / "whole.json", tmp_path / "cut.json"
    bench.run_paper(Path("me.jpg"), 12, whole, torch.device("cpu"))
    descent.dies_at = 8
    with pytest.raises(KeyboardInterrupt):
        bench.run_paper(Path("me.jpg"), 12, path, torch.device("cpu"))
    descent.dies_at = None
    with pytest.raises(SystemExit, match=r"is of me\.jpg and 12 steps"):
        bench.run_paper(Path("you.jpg"), 12, path, torch.device("cpu"))
    bench.run_paper(Path("me.jpg"), 12, path, torch.device("cpu"))
    once, twice = (json.loads(p.read_text()) for p in (whole, path))
    assert twice["losses"] == once["losses"]
    assert twice["st_lpips"] == once["st_lpips"]


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
    monkeypatch.setattr(bench.pipeline, "Run", lambda *args: bench.pipeline.invert("what", "a run", on_step=None))
    paper = SimpleNamespace(st_lpips=lambda w: w[0, 0].item())
    found = bench.near_enough(paper, Path("t"), Path("d"), bench.PRESETS["fast"], wanted, lambda: None)
    assert found["step_as_near"] == step
    assert list(found["st_lpips"]) == measured
    assert found["seconds"] == [2, 4, 6, 8]
