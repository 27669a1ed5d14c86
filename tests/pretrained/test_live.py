"""A camera as driver, with real networks; files and filter graphs stand in for cameras."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reenact.cli import main
from reenact.errors import NoFaceError, UsageError
from reenact.images import read_image
from reenact.live import live
from reenact.pipeline import PRESETS, Hooks
from reenact.video import probe, read_frames
from reenact.video.camera import Camera

pytestmark = pytest.mark.pretrained

SAMPLES = Path(__file__).parents[2] / "samples"
QUICK = replace(PRESETS["fast"], size=128, steps=2)


@pytest.fixture(scope="module")
def filmed(store):
    """The frames that the samples' driver, played as a camera, gives the samples' target; and what was noted."""
    notes: list[str] = []
    camera = Camera.named(f"camera:{SAMPLES / 'driver.mp4'}")
    return list(live(SAMPLES / "target.jpg", camera, QUICK, store, Hooks(note=notes.append))), notes


def test_the_target_moves_and_all_but_its_face_stays(filmed):
    frames, _ = filmed
    target = read_image(SAMPLES / "target.jpg")
    assert len(frames) >= 2
    for frame in frames:
        assert frame.rgb.shape == target.shape
        still = frame.matte == 0
        assert np.array_equal(frame.rgb[still], target[still])
    assert max((frame.matte > 0).mean() for frame in frames) > 0.02


def test_frames_keep_the_cameras_time(filmed):
    frames, notes = filmed
    driver = [f.seconds for f in read_frames(SAMPLES / "driver.mp4")]
    assert frames[0].seconds == pytest.approx(0, abs=0.5)  # the first may be dropped while the machine is busy
    for frame in frames:
        assert min(abs(frame.seconds - s) for s in driver) < 1e-3
    assert [f.index for f in frames] == list(range(len(frames)))
    assert "look at it for a moment" in notes[0]


def test_a_camera_that_sees_nobody_is_one_line(store, tmp_path):
    camera = Camera.named("camera:lavfi:color=gray:size=320x240:rate=10")
    with pytest.raises(NoFaceError, match=r"frames of camera:lavfi:color"):
        next(live(SAMPLES / "target.jpg", camera, QUICK, store))


@pytest.mark.parametrize(("fuse", "why"), [({"method": "splice"}, "splice"), ({"motion": "absolute"}, "absolute")])
def test_what_a_camera_cannot_have_is_refused(fuse, why):
    with pytest.raises(UsageError, match=why):
        next(live(SAMPLES / "target.jpg", Camera.named("camera:0"), replace(QUICK, fuse=replace(QUICK.fuse, **fuse))))


def test_the_head_turns_where_that_is_asked_for(store):
    camera = Camera.named(f"camera:{SAMPLES / 'driver.mp4'}")
    options = replace(QUICK, pose="driver", max_frames=2)
    frames = list(live(SAMPLES / "target.jpg", camera, options, store))
    assert len(frames) == 2
    assert frames[1].matte.any()


def test_the_command_films_so_many_frames(tmp_path):
    words = [SAMPLES / "target.jpg", f"camera:{SAMPLES / 'driver.mp4'}", "-o", tmp_path / "out.mp4", "--max-frames", 2]
    # A generator without a mapper learns expressions first.
    quick = ["--preset", "fast", "--size", 128, "--steps", 2, "--fuse", "solve", "--keys", 1]
    assert main([str(word) for word in [*words, *quick]]) == 0
    assert probe(tmp_path / "out.mp4").frame_count == 2
