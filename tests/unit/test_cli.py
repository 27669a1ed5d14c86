"""The command line, with a stand-in for the pipeline: what is refused, what options mean, where results go."""

import re
import struct
import sys
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, make_sound, plain, stamps_of
from PIL import Image

from reenact import cli, pipeline, weights
from reenact.cli import IMAGE_SUFFIXES, main
from reenact.errors import NoFaceError, ReenactError
from reenact.images import is_image, read_image, write_image
from reenact.pipeline import PRESETS, Hooks
from reenact.types import Frame
from reenact.video import probe, read_frames

TARGET, DRIVER, RESULT = 200, 90, 30  # greys


@pytest.fixture
def target(tmp_path):
    write_image(tmp_path / "target.png", np.full((80, 64, 3), TARGET, np.uint8))
    return tmp_path / "target.png"


@pytest.fixture
def driver(tmp_path):
    def grey(index, width, height):
        return np.full((height, width, 3), DRIVER, np.uint8)

    return make_clip(tmp_path / "driver.mp4", size=(64, 64), picture=grey, sound="aac")


class Pipeline:
    """Stands in for `pipeline.reenact`: frames of one grey, the target's size, the driver's time."""

    def __init__(self):
        self.warning = "an odd thing"
        self.after = {}  # number of frames -> what is raised then

    def __call__(self, target, driver, options, store=None, hooks=Hooks(), checkpoint=None):  # noqa: B008  # frozen
        self.options, self.store, driver = options, store, Path(driver)
        rgb = np.full_like(read_image(Path(target)), RESULT)
        o = options
        frames = (
            [Frame(rgb, 0, 0, 0.0)] if is_image(driver) else list(read_frames(driver, o.start, o.end, o.max_frames))
        )
        hooks.note("detector: landmarker")
        hooks.warn(self.warning)
        for done, frame in enumerate(frames):
            if done in self.after:
                raise self.after[done]
            hooks.progress("frames", done + 1, len(frames))
            yield Frame(rgb, frame.index, frame.pts, frame.seconds, np.full(rgb.shape[:2], 7 * done, np.uint8))


@pytest.fixture
def fake(monkeypatch):
    fake = Pipeline()
    monkeypatch.setattr(pipeline, "reenact", fake)
    return fake


@pytest.fixture
def no_pipeline(monkeypatch):
    def begun(*args):
        raise AssertionError("the work must not begin")

    monkeypatch.setattr(pipeline, "reenact", begun)


def run(*words):
    return main([str(word) for word in words])


def error_line(capsys):
    """What the command said, which must be one line that begins as errors do."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("reenact: error: ")
    assert err.count("\n") == 1
    return err


# ---- What it says of itself


def test_help_shows_every_setting_with_the_default_of_its_class(capsys):
    with pytest.raises(SystemExit) as ended:
        run("--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    default = PRESETS["balanced"]
    assert f"where --fuse is splice (default: {default.driver.steps})" in text
    assert f"0: none (default: {default.smooth})" in text
    assert f"(default: {default.fuse.motion})" in text
    assert "examples:" in text


def test_help_names_what_there_is(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    from reenact import fuse, plugins

    for name in (*PRESETS, *fuse.FUSIONS, *fuse.MOTIONS, *plugins.names("detectors")):
        assert name in text


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        run("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("reenact ")


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_readmes_commands_are_commands():
    lines = [line.partition("#")[0].split()[1:] for line in README.splitlines() if line.startswith("    reenact ")]
    assert len(lines) > 8
    for words in lines:
        parser, _, rest = cli._command(words)
        parser.parse_args(rest)


def test_the_readmes_python_is_python(target, driver, tmp_path, fake, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").mkdir()
    target.rename("samples/target.jpg")
    driver.rename("samples/driver.mp4")
    exec(example, {})
    assert fake.options == replace(PRESETS["fast"], max_frames=10)
    assert capsys.readouterr().out.startswith("0.00 s (80, 64, 3)\n0.04 s ")


# ---- What is refused, at once

BAD_VALUES = [
    ("--start -1", "negative"),
    ("--start=-0:10", "negative"),
    ("--end -3", "negative"),
    ("--end 0", "later"),
    ("--start 0.3 --end 0.2", "later"),
    ("--start soon", "mm:ss"),
    ("--start 1:2:3:4", "mm:ss"),
    ("--start nan", "mm:ss"),
    ("--max-frames 0", "less than 1"),
    ("--max-frames 1.5", "whole number"),
    ("--seed -1", "less than 0"),
    ("--strength much", "not a number"),
    ("--strength inf", "not a number"),
    ("--smooth -1", "less than 0"),
    ("--folds -1", "less than 0"),
    ("--bend 1", "--bend"),
    ("--steps 0", "less than 1"),
    ("--preset best", "fast"),
    ("--generator nvidia", "mobile"),
    ("--detector haar", "landmarker"),
    ("--fuse blend", "splice"),
    ("--layers auto", "--fuse splice"),
    ("--fuse solve --layers auto", "--fuse splice"),
    ("--tune", "--fuse splice or --preset paper"),
    ("--fuse solve --tune", "--fuse splice or --preset paper"),
    ("--motion fast", "relative"),
    ("--frames 3", "--frames"),
    ("-q -v", "not allowed with"),
    ("extra.mp4", "extra.mp4"),
    ("--matte matte.mp4", ".mkv"),
    ("--matte missing/matte.mkv", "missing"),
]


@pytest.mark.parametrize(("words", "named"), BAD_VALUES, ids=[words for words, _ in BAD_VALUES])
def test_a_bad_value_is_one_line_that_names_what_is_good(words, named, target, driver, tmp_path, capsys, no_pipeline):
    before = sorted(tmp_path.iterdir())
    assert run(target, driver, "-o", tmp_path / "out.mp4", *words.split()) == 2
    line = error_line(capsys)
    assert words.split()[-1].split("=")[-1] in line
    assert named in line
    assert sorted(tmp_path.iterdir()) == before


def test_words_that_are_missing(capsys, no_pipeline):
    assert run() == 2
    assert "TARGET, DRIVER, -o/--output" in error_line(capsys)


OUTPUTS = [
    ("out.avi", ".mp4"),
    ("out", ".mp4"),
    ("out.png", "driver.mp4 is a video"),
    ("missing/out.mp4", "missing"),
    ("driver.mp4", "input"),
    ("link.mp4", "input"),
    ("earlier.mp4", "-y"),
]


@pytest.mark.parametrize(("name", "said"), OUTPUTS)
def test_an_output_that_cannot_be(name, said, target, driver, tmp_path, capsys, no_pipeline):
    (tmp_path / "link.mp4").symlink_to(driver)
    (tmp_path / "earlier.mp4").write_bytes(b"precious")
    assert run(target, driver, "-o", tmp_path / name) == 2
    line = error_line(capsys)
    assert name in line
    assert said in line
    assert (tmp_path / "earlier.mp4").read_bytes() == b"precious"


def test_not_even_overwriting_writes_into_an_input(target, driver, tmp_path, capsys, no_pipeline):
    assert run(target, driver, "-o", driver, "-y") == 2
    assert "input" in error_line(capsys)


def test_nor_into_a_mask(target, driver, tmp_path, capsys, no_pipeline):
    mask = tmp_path / "out.mp4"
    mask.write_bytes(b"a mask")
    assert run(target, driver, "-o", mask, "-y", "--front", mask) == 2
    assert "input" in error_line(capsys)
    assert mask.read_bytes() == b"a mask"


def test_a_read_only_folder(target, driver, tmp_path, capsys, no_pipeline, monkeypatch):
    folder = tmp_path / "sealed"
    folder.mkdir()
    # Root may write anywhere, so the system's answer stands in for the folder's mode.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder)
    assert run(target, driver, "-o", folder / "out.mp4") == 2
    assert str(folder) in error_line(capsys)


def test_the_matte_is_not_the_output(target, driver, tmp_path, capsys, no_pipeline):
    out = tmp_path / "out.mkv"
    assert run(target, driver, "-o", out, "--matte", tmp_path / "x" / ".." / "out.mkv") == 2
    error_line(capsys)


def test_a_picture_as_driver_wants_a_picture_as_output(target, tmp_path, capsys, no_pipeline):
    still = tmp_path / "face.png"
    write_image(still, plain(0, 64, 64))
    assert run(target, still, "-o", tmp_path / "out.mp4") == 2
    line = error_line(capsys)
    assert "face.png is a picture" in line
    assert ".png" in line
    assert run(target, still, "-o", tmp_path / "out.png", "--matte", tmp_path / "m.mkv") == 2
    assert "m.mkv" in error_line(capsys)


def test_a_trace_folder_that_is_a_file(target, driver, tmp_path, capsys, no_pipeline):
    assert run(target, driver, "-o", tmp_path / "out.mp4", "--trace", target) == 2
    assert "target.png" in error_line(capsys)


def test_a_resumed_run_adds_to_its_trace_unasked(target, driver, tmp_path, fake):
    words, trace = [target, driver, "-o", tmp_path / "out.mp4", "--trace", tmp_path / "trace"], tmp_path / "trace"
    fake.after = {2: ReenactError("cut off")}
    assert run(*words) == 1
    kept = cli._checkpoint_folder(tmp_path / "out.mp4")
    kept.mkdir()
    (kept / "job.json").write_text("{}")
    (trace / "layers.json").write_text("{}")
    fake.after = {}
    assert run(*words, "--resume") == 0
    assert (trace / "layers.json").is_file()
    assert (trace / "notes.txt").read_text().split("\n") == ["detector: landmarker"] * 2 + [""]


# ---- Inputs that can't be used: the true pipeline refuses them before it loads a network


def text_named_mp4(folder):
    (folder / "bad.mp4").write_text("not a video\n" * 100)
    return folder / "bad.mp4"


def without_frames(folder):
    """A header and nothing behind it."""
    with av.open(str(folder / "bad.mp4"), "w", options={"movflags": "+empty_moov"}) as output:
        output.add_stream("libx264", 25, width=64, height=64, pix_fmt="yuv420p")
        output.start_encoding()
    return folder / "bad.mp4"


BAD_DRIVERS = {
    "no file": (lambda folder: folder / "gone.mp4", "no such file"),
    "a text file": (text_named_mp4, "can't be read as a video"),
    "an empty file": (lambda folder: (folder / "bad.mp4").touch() or folder / "bad.mp4", "bad.mp4"),
    "a folder": (lambda folder: folder, "not a file"),
    "no frames": (without_frames, "no frame"),
    "sound only": (lambda folder: make_sound(folder / "song.m4a"), "sound but no picture"),
}


@pytest.mark.parametrize("kind", BAD_DRIVERS)
def test_a_driver_that_cannot_be_used(kind, target, tmp_path, capsys):
    make, said = BAD_DRIVERS[kind]
    folder = tmp_path / "inputs"
    folder.mkdir()
    bad = make(folder)
    assert run(target, bad, "-o", tmp_path / "out.mp4") == 1
    line = error_line(capsys)
    assert str(bad) in line
    assert said in line
    assert not list(tmp_path.glob("*out*"))


def bomb(path):
    """A PNG whose header promises 30,000 x 30,000 pixels."""
    write_image(path, plain(0, 64, 64))
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


BAD_TARGETS = {
    "no file": (lambda path: None, "no such file"),
    "a text file": (lambda path: path.write_text("hello"), "not a picture"),
    "16 pixels": (lambda path: Image.new("RGB", (16, 16)).save(path), "16x16 is too small"),
    "a decompression bomb": (bomb, "too large"),
}


@pytest.mark.parametrize("kind", BAD_TARGETS)
def test_a_target_that_cannot_be_used(kind, driver, tmp_path, capsys):
    make, said = BAD_TARGETS[kind]
    make(tmp_path / "bad.png")
    assert run(tmp_path / "bad.png", driver, "-o", tmp_path / "out.mp4") == 1
    line = error_line(capsys)
    assert "bad.png" in line
    assert said in line
    assert not list(tmp_path.glob("*out*"))


def test_a_start_after_the_end_of_the_driver(target, driver, tmp_path, capsys):
    assert run(target, driver, "-o", tmp_path / "out.mp4", "--start", "1:00") == 2
    assert "60 s" in error_line(capsys)


# ---- What options mean


def test_the_presets_set_everything_and_what_is_given_wins(target, driver, tmp_path, fake):
    out = tmp_path / "out.mp4"
    assert run(target, driver, "-o", out) == 0
    assert fake.options == PRESETS["balanced"]
    for preset in PRESETS:
        assert run(target, driver, "-o", out, "-y", "--preset", preset, "--steps", 7, "--layers", "2,4") == 0
        assert fake.options.steps == 7
        assert fake.options.fuse.layers == "2,4"
        assert fake.options.fuse.method == PRESETS[preset].fuse.method
        assert fake.options.driver == PRESETS[preset].driver


GIVEN = {
    "--generator mobile": ("generator", "mobile"),
    "--detector dlib": ("detector", "dlib"),
    "--device cuda:1": ("device", "cuda:1"),
    "--seed 5": ("seed", 5),
    "--start 0.1": ("start", 0.1),
    "--end 0:00.3": ("end", 0.3),
    "--max-frames 3": ("max_frames", 3),
    "--fuse splice": ("fuse.method", "splice"),
    "--layers expression": ("fuse.layers", "expression"),
    "--regions mouth=1.2,eyes": ("fuse.regions", "mouth=1.2,eyes"),
    "--motion absolute": ("fuse.motion", "absolute"),
    "--strength 0.5": ("fuse.strength", 0.5),
    "--anchor-frame 0": ("anchor", 0),
    "--size 128": ("size", 128),
    "--steps 3": ("steps", 3),
    "--keys 5": ("solve.keys", 5),
    "--folds 0.5": ("compose.folds", 0.5),
    "--driver-steps 2": ("driver.steps", 2),
    "--smooth 0": ("smooth", 0.0),
}


def test_tuning_goes_with_what_shows_the_drawn_face(target, driver, tmp_path, fake):
    for words in ("--fuse splice", "--preset paper"):
        assert run(target, driver, "-o", tmp_path / "out.mp4", "-y", "--tune", *words.split()) == 0
        assert fake.options.tune


@pytest.mark.parametrize("words", GIVEN)
def test_each_flag_sets_its_option_and_no_other(words, target, driver, tmp_path, fake):
    path, value = GIVEN[words]
    assert run(target, driver, "-o", tmp_path / "out.mp4", *words.split()) == 0
    assert fake.options == cli._with_setting(PRESETS["balanced"], path, value)


def test_times_are_seconds_minutes_or_hours():
    assert [cli._seconds(text) for text in ("12.5", "1:02.5", "1:00:00")] == [12.5, 62.5, 3600.0]


def test_offline_keeps_the_store_from_the_network(target, driver, tmp_path, fake):
    run(target, driver, "-o", tmp_path / "a.mp4", "--offline")
    assert fake.store.offline
    run(target, driver, "-o", tmp_path / "b.mp4")
    assert not fake.store.offline


# ---- Where results go


def test_a_video_gets_the_drivers_time_and_sound(target, driver, tmp_path, fake, capsys):
    out = tmp_path / "out.mp4"
    assert run(target, driver, "-o", out) == 0
    assert stamps_of(out) == stamps_of(driver)
    info = probe(out)
    assert (info.width, info.height, info.has_audio) == (64, 80, True)
    said, lines = capsys.readouterr()
    assert said == ""
    assert lines.splitlines()[-1].startswith(f"{out}: 10 frames in ")


def test_a_part_of_the_driver(target, driver, tmp_path, fake):
    assert run(target, driver, "-o", tmp_path / "out.mp4", "--start", 0.1, "--end", 0.3) == 0
    assert stamps_of(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(5)]


def test_a_picture_gives_a_picture(target, tmp_path, fake, capsys):
    write_image(tmp_path / "face.png", plain(0, 64, 64))
    for suffix in IMAGE_SUFFIXES:
        out = tmp_path / f"out{suffix}"
        assert run(target, tmp_path / "face.png", "-o", out) == 0
        assert abs(int(read_image(out)[40, 30, 0]) - RESULT) <= 2
    assert "1 frame in " in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["video", "picture"])
def test_side_by_side_shows_target_driver_and_result(kind, target, driver, tmp_path, fake):
    out = tmp_path / ("out.mp4" if kind == "video" else "out.png")
    if kind == "picture":
        driver = tmp_path / "face.png"
        write_image(driver, np.full((64, 64, 3), DRIVER, np.uint8))
    assert run(target, driver, "-o", out, "--side-by-side") == 0
    rgb = read_image(out) if kind == "picture" else next(iter(read_frames(out))).rgb
    assert rgb.shape == (80, 64 + 80 + 64, 3)  # the driver's 64x64 at the target's height
    assert [round(int(rgb[40, x, 0]), -1) for x in (30, 100, 180)] == [TARGET, DRIVER, RESULT]


def test_the_matte_is_saved_as_it_is(target, driver, tmp_path, fake):
    matte = tmp_path / "matte.mkv"
    assert run(target, driver, "-o", tmp_path / "out.mp4", "--matte", matte, "--side-by-side") == 0
    assert [int(f.rgb[5, 5, 0]) for f in read_frames(matte)] == [7 * i for i in range(10)]
    assert next(iter(read_frames(matte))).rgb.shape == (80, 64, 3)


def test_overwriting_replaces_an_earlier_file(target, driver, tmp_path, fake):
    (tmp_path / "out.mp4").write_bytes(b"old")
    assert run(target, driver, "-o", tmp_path / "out.mp4", "-y") == 0
    assert probe(tmp_path / "out.mp4").frame_count == 10


def test_a_file_named_as_a_subcommand_needs_a_path(target, driver, tmp_path, fake, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    target.rename(tmp_path / "weights")
    assert run("./weights", driver, "-o", "out.mp4") == 0
    assert run("weights", driver, "-o", "out.mp4", "-y") == 2


def test_warnings_are_lines_and_the_detector_that_was_picked_is_said(target, driver, tmp_path, fake, capsys):
    fake.warning = "driver.mp4: ends early"
    assert run(target, driver, "-o", tmp_path / "out.mp4") == 0
    lines = capsys.readouterr().err.splitlines()
    assert "detector: landmarker" in lines
    assert "reenact: warning: driver.mp4: ends early" in lines
    assert run(target, driver, "-o", tmp_path / "out.mp4", "-y", "--detector", "landmarker") == 0
    assert "detector:" not in capsys.readouterr().err


def test_quiet(target, driver, tmp_path, fake, capsys):
    assert run(target, driver, "-o", tmp_path / "out.mp4", "-q") == 0
    assert capsys.readouterr() == ("", "")


# ---- How it ends


@pytest.fixture
def earlier(tmp_path):
    """A file of the output's name, which must outlive what goes wrong."""
    (tmp_path / "out.mp4").write_bytes(b"precious")
    yield tmp_path / "out.mp4"
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert not list(tmp_path.glob(".*"))


def test_ctrl_c_keeps_what_is_done_under_another_name(target, driver, tmp_path, earlier, fake, capsys):
    fake.after = {6: KeyboardInterrupt()}
    assert run(target, driver, "-o", earlier, "-y", "--matte", tmp_path / "matte.mkv") == 130
    assert len(list(read_frames(tmp_path / "out.partial.mp4"))) == 6
    assert len(list(read_frames(tmp_path / "matte.partial.mkv"))) == 6
    assert f"{tmp_path / 'out.partial.mp4'} holds the first 6 frames" in capsys.readouterr().err


def test_ctrl_c_before_the_first_frame_leaves_nothing(target, driver, tmp_path, earlier, fake, capsys):
    fake.after = {0: KeyboardInterrupt()}
    assert run(target, driver, "-o", earlier, "-y") == 130
    assert not list(tmp_path.glob("*partial*"))
    assert capsys.readouterr().err.endswith("reenact: stopped\n")


def test_a_failure_halfway_leaves_nothing(target, driver, tmp_path, earlier, fake, capsys):
    fake.after = {6: NoFaceError("no face found in x")}
    assert run(target, driver, "-o", earlier, "-y", "--matte", tmp_path / "matte.mkv") == 1
    assert capsys.readouterr().err.endswith("reenact: error: no face found in x\n")
    assert not list(tmp_path.glob("*matte*"))


def test_a_bug_keeps_its_traceback(target, driver, earlier, fake):
    fake.after = {6: ZeroDivisionError()}
    with pytest.raises(ZeroDivisionError):
        run(target, driver, "-o", earlier, "-y")


# ---- weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REENACT_WEIGHTS", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_weights_list_names_every_file_and_its_state(cache, capsys):
    assert run("weights", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [weight.name for weight in weights.entries()]
    assert all("not fetched" in line for line in lines)


def test_weights_verify_says_what_is_damaged(cache, capsys):
    assert run("weights", "verify") == 0  # what is not there is not damaged
    (cache / "dlib-5.dat").write_bytes(b"short")
    assert run("weights", "verify") == 1
    out, err = capsys.readouterr()
    assert "dlib-5.dat: 5 bytes instead of 9,150,489" in out
    assert err.startswith("reenact: error: ")
    assert "dlib-5.dat" in err
    assert "stlpips" not in err


def test_weights_licenses_tell_of_non_commercial_origins(capsys):
    assert run("weights", "licenses") == 0
    assert "non-commercial" in capsys.readouterr().out
    assert run("weights", "licenses", "dlib-68.dat") == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_weights_fetch_offline_fails_in_one_line(cache, capsys):
    assert run("weights", "fetch", "dlib-5.dat", "--offline") == 1
    assert "dlib-5.dat" in error_line(capsys)


@pytest.mark.parametrize("words", ["weights list nonsense.bin", "weights burn", "weights"])
def test_weights_usage(words, cache, capsys):
    assert run(*words.split()) == 2
    error_line(capsys)


def test_the_module_is_the_command():
    import subprocess

    done = subprocess.run([sys.executable, "-m", "reenact"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("reenact: error: ")
