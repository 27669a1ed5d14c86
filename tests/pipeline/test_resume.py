"""Killed at any moment and gone on with: the result is the one of a run that nobody disturbed.

REENACT_KILLS=20 makes a long test of it.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clips import packets_of, stamps_of
from test_command import QUICK, SPLICE, Faces

from reenact.images import write_image
from reenact.video import read_frames

pytestmark = pytest.mark.pretrained

KILLS = int(os.environ.get("REENACT_KILLS", "3"))
FRAMES, FACELESS = 48, (0, 1, 20, 21, 22)
# The command, with parts of the track so short that a short clip has many.
COMMAND = """
import sys
from reenact import cli, driver, landmarks
landmarks.STRETCH = driver._PART = 10
sys.exit(cli.main(sys.argv[1:]))
"""


class Scene:
    """A target, a driver, and what an undisturbed run makes of them."""

    def __init__(self, faces: Faces, folder: Path, words: list[str]) -> None:
        self.folder, self.words = folder, words
        write_image(folder / "target.png", faces.target)
        faces.clip(folder / "driver.mp4", FRAMES, without=FACELESS, sound="aac")
        began = time.monotonic()
        self.whole = self.start("whole.mp4")
        assert self.whole.wait() == 0
        self.seconds = time.monotonic() - began

    def start(self, name: str, *more: str) -> subprocess.Popen:
        inputs = [self.folder / "target.png", self.folder / "driver.mp4", "-o", self.folder / name]
        words = [sys.executable, "-c", COMMAND, *inputs, "--matte", self.folder / f"{name}.mkv", *self.words, *more]
        return subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True)

    def assert_like_whole(self, name: str) -> None:
        for suffix in ("", ".mkv"):
            made, whole = self.folder / f"{name}{suffix}", self.folder / f"whole.mp4{suffix}"
            for one, other in zip(read_frames(made), read_frames(whole), strict=True):
                assert np.array_equal(one.rgb, other.rgb), f"frame {one.index} differs"
            assert stamps_of(made) == stamps_of(whole)
        assert packets_of(self.folder / name) == packets_of(self.folder / "whole.mp4")
        assert not list(self.folder.glob(f"*{name}*checkpoint*"))


@pytest.fixture(scope="module")
def faces(store):
    return Faces(store)


@pytest.fixture(scope="module")
def scene(faces, tmp_path_factory):
    return Scene(faces, tmp_path_factory.mktemp("resume"), QUICK)


def test_a_run_that_is_killed_again_and_again_gives_the_same_frames(scene):
    moments, done, kills = random.Random(os.environ.get("REENACT_SEED", "1")), 0, 0
    while kills < KILLS:
        name, more = f"killed{done}.mp4", list[str]()
        while kills < KILLS:
            process = scene.start(name, *more)
            try:
                process.wait(moments.uniform(0.1, 1.0) * scene.seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills, more = kills + 1, ["--resume"]
                assert not (scene.folder / name).exists()
            else:
                break
        else:
            process = scene.start(name, "--resume")
            process.communicate()
        assert process.returncode == 0
        scene.assert_like_whole(name)
        done += 1


def test_the_papers_way_goes_on_too(faces, tmp_path):
    scene = Scene(faces, tmp_path, SPLICE)
    process = scene.start("out.mp4")
    wait_until(lambda: size_of(tmp_path / "out.mp4.checkpoint" / "frames.log") > 0)
    process.kill()
    process.communicate()
    assert scene.start("out.mp4", "--resume").wait() == 0
    scene.assert_like_whole("out.mp4")


def test_after_ctrl_c_what_was_done_is_not_taken_unasked(scene):
    process, folder = scene.start("stopped.mp4"), scene.folder / "stopped.mp4.checkpoint"
    wait_until(lambda: size_of(folder / "frames.log") > 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert f"reenact: {folder} keeps what was done; the same command with --resume goes on with it" in said

    again = scene.start("stopped.mp4")
    _, said = again.communicate()
    assert again.returncode == 2
    assert "--resume goes on with it, -y starts anew" in said

    other = scene.start("stopped.mp4", "--resume", "--strength", "0.5")
    _, said = other.communicate()
    assert other.returncode == 2
    assert "fuse.strength 1.0 (now 0.5)" in said

    assert scene.start("stopped.mp4", "--resume").wait() == 0
    scene.assert_like_whole("stopped.mp4")


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def wait_until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
