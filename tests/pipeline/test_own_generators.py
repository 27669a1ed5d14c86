"""The command with generators of one's own: files in, frames out, whatever size they draw in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stylegans

from reenact import formats
from reenact import run as running
from reenact.cli import main
from reenact.images import read_image
from reenact.pipeline import PRESETS
from reenact.tune import TuneOptions
from reenact.video import probe, read_frames

SAMPLES = Path(__file__).parents[2] / "samples"
QUICK = ["--preset", "fast", "--max-frames", "2", "--steps", "2", "--driver-steps", "1", "--keys", "1", "-v"]


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A generator of each kind, in a format of each kind, of two sizes."""
    folder = tmp_path_factory.mktemp("files")
    one = stylegans.random_checkpoint("stylegan1", 64, 8)
    two = stylegans.random_checkpoint("stylegan2", 256, 8)
    (folder / "one.pkl").write_bytes(stylegans.tf_pickle(one))
    (folder / "two.pt").write_bytes(stylegans.torch_saved({"g_ema": stylegans.rosinality_state(two)}))
    return folder


@pytest.mark.pretrained
@pytest.mark.parametrize("fuse", ["expression", "splice"])
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("one.pkl", "generator: stylegan1, 64 pixels, early exits: none"),
        ("two.pt", "generator: stylegan2, 256 pixels, early exits: 128"),
    ],
)
def test_a_file_with_a_generator(files, tmp_path, capsys, file, said, fuse):
    out, trace = tmp_path / "out.mp4", tmp_path / "trace"
    words = [SAMPLES / "target.jpg", SAMPLES / "driver.mp4", "-o", out, *QUICK, "--trace", trace]
    assert run(*words, "--generator", files / file, "--fuse", fuse, "--layers", "8x8,p5") == 0
    lines = capsys.readouterr().err.splitlines()
    assert said in lines
    assert said in (trace / "notes.txt").read_text().splitlines()
    assert not [line for line in lines if "warning" in line]
    target = read_image(SAMPLES / "target.jpg")
    assert (probe(out).height, probe(out).width) == target.shape[:2]
    assert len(list(read_frames(out))) == 2


@pytest.mark.pretrained
def test_a_tuned_generator_is_shown_and_gone_on_with(files, tmp_path, monkeypatch):
    """The second run, after the first was stopped when it was tuned, tunes no more and gives the same frames."""
    tuning = TuneOptions(steps=2, map_steps=2, edits=1, seen=64)
    monkeypatch.setitem(PRESETS, "fast", replace(PRESETS["fast"], tuning=tuning))
    words = [SAMPLES / "target.jpg", SAMPLES / "driver.mp4", *QUICK, "--generator", files / "one.pkl"]
    words += ["--fuse", "splice", "--layers", "8x8,p5", "--tune"]
    assert run(*words, "-o", tmp_path / "whole.mp4", "--trace", tmp_path / "trace") == 0
    assert "tune,4," in (tmp_path / "trace" / "losses.csv").read_text()
    shown = [read_image(tmp_path / "trace" / f"{stage}.png").astype(int) for stage in ("reconstruction", "tuned")]
    assert np.abs(shown[0] - shown[1]).max() > 0

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running.Run, "_made", stopped)
        assert run(*words, "-o", tmp_path / "out.mp4") == 130
    monkeypatch.setattr(running, "tune", stopped)
    assert run(*words, "-o", tmp_path / "out.mp4", "--resume") == 0
    for one, other in zip(*(read_frames(tmp_path / f"{name}.mp4") for name in ("out", "whole")), strict=True):
        assert np.array_equal(one.rgb, other.rgb)


@pytest.mark.pretrained
def test_the_papers_recipe_with_the_papers_generator(files, tmp_path, capsys):
    pytest.importorskip("dlib", reason="the paper's landmarks are dlib's")
    words = [SAMPLES / "target.jpg", SAMPLES / "driver.mp4", "-o", tmp_path / "out.mp4", "--preset", "paper"]
    few = ["--max-frames", "1", "--steps", "3", "--driver-steps", "1", "--trace", tmp_path / "trace"]
    assert run(*words, *few, "--generator", files / "one.pkl", "--noise", "none") == 0
    notes = (tmp_path / "trace" / "notes.txt").read_text()
    assert "detector: dlib" in notes
    assert "features: " in notes
    mask = np.asarray(read_image(tmp_path / "trace" / "frame-000000-mask.png"))
    assert 0.01 < (mask > 0).mean() < 0.5  # a hull with a blurred edge
    assert len(np.unique(mask)) > 20


@pytest.mark.pretrained
def test_noise_may_be_random_and_can_then_not_be_gone_on_with(files, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    words = [SAMPLES / "target.jpg", SAMPLES / "driver.mp4", "-o", out, *QUICK, "--max-frames", "1"]
    words += ["--generator", files / "two.pt", "--noise", "random"]
    assert run(*words) == 0
    assert run(*words, "-y", "--resume") == 2
    assert "--noise random" in capsys.readouterr().err
    assert out.exists()


def test_conversion(files, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    assert run("weights", "convert", files / "two.pt", out) == 0
    assert f"{out}: stylegan2, 256x256; early exits: 128" in capsys.readouterr().err
    assert formats.read(out).source["format"] == "rosinality's .pt"
    before = out.read_bytes()
    assert run("weights", "convert", files / "one.pkl", out) == 2
    assert out.read_bytes() == before
    assert run("weights", "convert", files / "one.pkl", out, "-y") == 0
    assert formats.read(out).kind == "stylegan1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["weights", "convert", "one.pkl"], "write a generator's file and the file to make"),
        (["weights", "convert", "one.pkl", "out.pkl"], "write a generator's file and the file to make"),
        (["T", "D", "-o", "out.mp4", "--generator", "nothing.pkl"], "nothing.pkl: no such file, and no such name"),
        (["T", "D", "-o", "out.mp4", "--perceptual", "vgg16"], "goes with --preset paper"),
    ],
)
def test_words_that_are_refused_before_the_work(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    words = [{"T": SAMPLES / "target.jpg", "D": SAMPLES / "driver.mp4"}.get(word, word) for word in words]
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())


@pytest.mark.pretrained
def test_a_file_that_is_none_and_a_licence_that_was_not_accepted(tmp_path, monkeypatch, capsys):
    (tmp_path / "page.pkl").write_bytes(b"<!DOCTYPE html><html>Quota exceeded</html>")
    words = [SAMPLES / "target.jpg", SAMPLES / "driver.mp4", "-o", tmp_path / "out.mp4", *QUICK, "--generator"]
    assert run(*words, tmp_path / "page.pkl") == 1
    assert "page.pkl: is a web page, not a network" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", None)
    assert run(*words, "stylegan1") == 1
    said = capsys.readouterr().err
    assert "stylegan1.pkl: CC BY-NC 4.0" in said
    assert "its licence must be accepted first" in said
    assert not (tmp_path / "out.mp4").exists()
