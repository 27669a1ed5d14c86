"""A clip as target, with real networks, small and short: its own frames, the driver's clock and expressions."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from clips import make_clip, packets_of, stamps_of
from test_command import Faces

from reenact import PRESETS, Hooks, reenact
from reenact.cli import main
from reenact.images import read_image, write_image
from reenact.resume import Checkpoint
from reenact.video import probe, read_frames

pytestmark = pytest.mark.pretrained

QUICK = replace(PRESETS["fast"], size=128, steps=2)
WORDS = ["--preset", "fast", "--size", "128", "--steps", "2"]
GONE = (9, 10)


@pytest.fixture(scope="module")
def faces(store):
    return Faces(store)


@pytest.fixture(scope="module")
def folder(faces, tmp_path_factory):
    """A photo of the driver at rest, the same as a clip, a clip that moves and is short, and who acts."""
    folder = tmp_path_factory.mktemp("dub")
    write_image(folder / "photo.png", faces.target)
    still = {"picture": lambda index, width, height: faces.target, "pix_fmt": "yuv444p"}
    make_clip(folder / "still.mkv", tuple(range(8)), size=(Faces.SIDE, Faces.SIDE), **still)
    faces.clip(folder / "moving.mp4", 30, without=GONE)
    faces.clip(folder / "driver.mp4", 8, sound="aac")
    return folder


def made(folder, target, driver="driver.mp4", options=QUICK, checkpoint=None, warnings=None):
    hooks = Hooks(warn=(warnings if warnings is not None else []).append)
    return list(reenact(folder / target, folder / driver, options, hooks=hooks, checkpoint=checkpoint))


@pytest.fixture(scope="module")
def dubbed(folder):
    return made(folder, "moving.mp4")


def test_a_photo_repeated_gives_the_photos_result(folder):
    shown = read_image(folder / "photo.png").astype(int)
    coded = next(iter(read_frames(folder / "still.mkv"))).rgb.astype(int)  # a codec has changed it a little
    most = 0.0
    for photo, still in zip(made(folder, "photo.png"), made(folder, "still.mkv"), strict=True):
        change = photo.rgb - shown
        most = max(most, np.abs(change).mean())
        assert np.abs(still.rgb - coded - change).mean() < 0.4 * np.abs(change).mean() + 0.1
    assert most > 1


def test_its_frames_come_with_the_drivers_clock(folder, dubbed):
    clip = [frame.rgb for frame in read_frames(folder / "moving.mp4", max_frames=8)]
    driver = list(read_frames(folder / "driver.mp4"))
    assert [(f.index, f.pts, f.seconds) for f in dubbed] == [(f.index, f.pts, f.seconds) for f in driver]
    for frame, own in zip(dubbed, clip, strict=True):
        assert np.array_equal(frame.rgb[frame.matte == 0], own[frame.matte == 0])
    assert 0.02 < max((frame.matte > 0).mean() for frame in dubbed) < 0.8


def test_a_strength_of_nothing_gives_the_clip_bit_by_bit(folder):
    nothing = replace(QUICK, fuse=replace(QUICK.fuse, strength=0.0))
    frames = made(folder, "moving.mp4", options=nothing)
    for frame, own in zip(frames, read_frames(folder / "moving.mp4", max_frames=8), strict=True):
        assert np.array_equal(frame.rgb, own.rgb)
        assert not frame.matte.any()


def test_a_shorter_clip_is_held_and_what_shows_no_face_stays_as_it_is(faces, folder):
    faces.clip(folder / "short.mp4", 12, without=GONE)
    faces.clip(folder / "long.mp4", 16)
    said = []
    frames = made(folder, "short.mp4", "long.mp4", warnings=said)
    own = [frame.rgb for frame in read_frames(folder / "short.mp4")]
    assert len(frames) == 16
    assert any("short.mp4: ends 0.2 s before the driver does; its last frame is held" in line for line in said)
    assert any("short.mp4: no face in 2 of 12 frames" in line and "stay as they are" in line for line in said)
    for index in GONE:
        assert np.array_equal(frames[index].rgb, own[index])
    for frame in frames[12:]:
        assert np.array_equal(frame.rgb[frame.matte == 0], own[-1][frame.matte == 0])


def test_what_is_kept_comes_back_on_the_frames_it_was_made_from(folder, dubbed, tmp_path):
    def checkpoint(resume):
        return Checkpoint(tmp_path / "out.checkpoint", resume)

    stopped = reenact(folder / "moving.mp4", folder / "driver.mp4", QUICK, checkpoint=checkpoint(False))
    for _ in range(5):
        next(stopped)
    stopped.close()
    assert (tmp_path / "out.checkpoint" / "frames.log").stat().st_size > 0
    again = made(folder, "moving.mp4", checkpoint=checkpoint(True))
    for one, other in zip(again, dubbed, strict=True):
        assert np.array_equal(one.rgb, other.rgb)
        assert np.array_equal(one.matte, other.matte)


def test_the_command_gives_the_drivers_times_and_sound_beside_target_and_driver(folder, tmp_path):
    out, trace = tmp_path / "out.mp4", tmp_path / "trace"
    words = [folder / "moving.mp4", folder / "driver.mp4", "-o", out, "--side-by-side", *WORDS, "--max-frames", 3]
    words += ["--trace", trace]
    assert main([str(word) for word in words]) == 0
    assert stamps_of(out) == [Fraction(i, 25) for i in range(3)]
    assert packets_of(out)
    assert {path.name for path in trace.glob("sheet-*")} == {f"sheet-{i:06d}.png" for i in range(3)}
    assert (probe(out).width, probe(out).height) == (3 * Faces.SIDE, Faces.SIDE)
    own = next(iter(read_frames(folder / "moving.mp4"))).rgb
    assert np.abs(next(iter(read_frames(out))).rgb[:, : Faces.SIDE].astype(int) - own).mean() < 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fuse", "splice"], "which takes --fuse expression"),
        (["--fuse", "solve"], "which takes --fuse expression"),
        (["--pose", "driver"], "whose head moves as it does"),
        (["--layers", "4"], "--layers 4: "),
        (["--generator", "stylegan2"], "which needs a generator whose expressions were learnt: mobile"),
    ],
)
def test_what_a_clip_cannot_do_is_refused_in_one_line(words, says, folder, tmp_path, capsys):
    command = [folder / "moving.mp4", folder / "driver.mp4", "-o", tmp_path / "out.mp4", *words]
    assert main([str(word) for word in command]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("reenact: "))
    assert "moving.mp4 is a clip" in line
    assert says in line


def test_a_picture_or_a_camera_moves_no_clip(folder, tmp_path, capsys):
    for driver, out in ((folder / "photo.png", "out.png"), (f"camera:{folder / 'driver.mp4'}", "out.mp4")):
        assert main([str(folder / "moving.mp4"), str(driver), "-o", str(tmp_path / out)]) == 2
        assert "is a clip" in capsys.readouterr().err


def test_a_look_beforehand_says_what_stays(folder, capsys):
    assert main(["check", str(folder / "moving.mp4"), str(folder / "driver.mp4")]) == 0
    assert "moving.mp4: no face in 2 of 30 frames that were looked at; they stay as they are" in capsys.readouterr().out
