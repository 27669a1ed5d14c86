"""The command on real faces and with real networks, small and short: it runs, and what is odd does not stop it."""

import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip, packets_of, stamps_of, truncate
from PIL import Image

from reenact.cli import main
from reenact.generators import mobile
from reenact.images import read_image, to_rgb, write_image
from reenact.types import Rgb
from reenact.video import MAX_SIDE, probe, read_frames
from reenact.weights import WeightStore

pytestmark = pytest.mark.pretrained

SAMPLES = Path(__file__).parents[2] / "samples"

# As little work as there can be: the ways taken are the same.
QUICK = ["--preset", "fast", "--size", "128", "--steps", "2", "--layers", "4"]
SPLICE = [*QUICK, "--fuse", "splice", "--driver-steps", "1"]


class Faces:
    """People that the generator makes up: `target`, and the frames of another who changes."""

    SIDE = 256

    def __init__(self, store: WeightStore) -> None:
        generator = mobile.create(store, torch.device("cpu"))
        mean = generator.mean_latent
        noise = torch.randn(3, 512, generator=torch.Generator().manual_seed(4))
        with torch.inference_mode():
            people = mean + 0.6 * (generator.map(noise)[:, None] - mean)  # [3,L,512]
            self.target = to_rgb(generator.synthesize(people[:1], self.SIDE))[0]
            changed = people[1].clone()
            changed[list(generator.expression_layers)] = people[2, 0]
            path = torch.stack([torch.lerp(people[1], changed, t) for t in torch.linspace(0, 0.5, 8)])
            self.driver = to_rgb(generator.synthesize(path, self.SIDE))  # [8,S,S,3]

    def clip(self, path: Path, frames: int = 8, without: tuple[int, ...] = (), **more: object) -> Path:
        """A clip of the driver; the frames `without` show a wall."""
        wall = np.full_like(self.driver[0], 128)

        def picture(index: int, width: int, height: int) -> Rgb:
            return wall if index in without else self.driver[index % len(self.driver)]

        return make_clip(path, tuple(range(frames)), size=(self.SIDE, self.SIDE), picture=picture, **more)


@pytest.fixture(scope="module")
def faces(store):
    return Faces(store)


@pytest.fixture
def target(faces, tmp_path):
    write_image(tmp_path / "target.png", faces.target)
    return tmp_path / "target.png"


def run(*words):
    return main([str(word) for word in words])


# ---- One run, looked at from all sides. Its driver has no face in the first frames and in the middle.


class Made:
    """What `reenact` left behind."""

    def __init__(self, faces: Faces, folder: Path) -> None:
        self.target, self.driver = folder / "target.png", folder / "driver.mp4"
        self.out, self.matte, self.trace = folder / "out.mp4", folder / "matte.mkv", folder / "trace"
        write_image(self.target, faces.target)
        faces.clip(self.driver, without=(0, 1, 4), sound="aac")
        words = [self.target, self.driver, "-o", self.out, "--matte", self.matte, "--trace", self.trace, *QUICK]
        words += ["--anchor-frame", "3"]  # the driver smiles throughout
        done = subprocess.run([sys.executable, "-m", "reenact", *map(str, words)], capture_output=True, text=True)
        self.status, self.said, self.lines = done.returncode, done.stdout, done.stderr.splitlines()

    def traced(self, name: str) -> Rgb:
        return np.asarray(Image.open(self.trace / name))


@pytest.fixture(scope="module")
def made(faces, tmp_path_factory):
    return Made(faces, tmp_path_factory.mktemp("made"))


def test_a_driver_whose_face_is_gone_at_times_works(made):
    assert made.status == 0, made.lines
    assert probe(made.out).frame_count == 8
    (warning,) = (line for line in made.lines if line.startswith("reenact: warning: "))
    assert "driver.mp4: no face in 3 of 8 frames" in warning


def test_the_result_has_the_targets_size_and_the_drivers_clock_and_sound(made):
    info = probe(made.out)
    assert (info.width, info.height) == (Faces.SIDE, Faces.SIDE)
    assert stamps_of(made.out) == stamps_of(made.driver)
    assert packets_of(made.out) == packets_of(made.driver)


def test_it_says_what_it_did_in_plain_lines(made):
    assert made.said == ""
    assert "detector: landmarker" in made.lines
    assert any(line.startswith("making frames: 8 frames in ") for line in made.lines)
    assert made.lines[-1].startswith(f"{made.out}: 8 frames in ")
    assert not any("\x1b" in line for line in made.lines)


def test_outside_the_mask_the_target_is_untouched(made):
    target, changed = read_image(made.target), []
    for index in range(8):
        composite = made.traced(f"frame-{index:06d}-composite.png")
        outside = made.traced(f"frame-{index:06d}-mask.png").max(2) == 0
        assert np.array_equal(composite[outside], target[outside])
        assert (composite[~outside] != target[~outside]).any(1).all()
        changed.append(1 - outside.mean())
    assert min(changed) < 0.01  # one of them is the frame of rest
    assert 0.1 < max(changed) < 0.8


def test_the_matte_is_the_mask_without_loss(made):
    mattes = [frame.rgb for frame in read_frames(made.matte)]
    assert len(mattes) == 8
    for index, matte in enumerate(mattes):
        assert np.array_equal(matte, made.traced(f"frame-{index:06d}-mask.png"))


def test_the_trace_shows_every_stage_and_the_losses(made):
    names = {path.name for path in made.trace.iterdir()}
    assert {"target-crop.png", "loss-target.png", "losses.csv"} <= names
    assert {f"frame-000007-{s}.png" for s in ("driver", "fused", "mask", "composite")} <= names
    assert {f"sheet-{i:06d}.png" for i in range(8)} <= names


# ---- Odd drivers


def test_a_driver_cut_off_in_the_middle_gives_what_decodes(faces, target, tmp_path, capsys):
    driver = truncate(faces.clip(tmp_path / "driver.mp4", frames=16), 0.6)
    decodes = len(list(read_frames(driver)))
    assert 2 <= decodes < 16
    assert run(target, driver, "-o", tmp_path / "out.mp4", *SPLICE) == 0
    assert len(list(read_frames(tmp_path / "out.mp4"))) == decodes
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("reenact: warning: ")]
    assert len(warnings) == 1  # though the file is read more than once
    assert "driver.mp4" in warnings[0]


@pytest.mark.parametrize("way", ["expression", "splice"])
def test_a_driver_of_one_frame(way, faces, target, tmp_path):
    driver = faces.clip(tmp_path / "driver.mp4", frames=1)
    assert run(target, driver, "-o", tmp_path / "out.mp4", *SPLICE, "--fuse", way) == 0
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 1


@pytest.mark.parametrize("way", ["expression", "splice"])
def test_a_picture_as_driver_gives_a_picture_and_the_same_one_again(way, faces, target, tmp_path):
    write_image(tmp_path / "driver.png", faces.driver[-1])
    for name in ("one.png", "two.png"):
        assert run(target, tmp_path / "driver.png", "-o", tmp_path / name, *SPLICE, "--fuse", way, "--seed", 1) == 0
    assert read_image(tmp_path / "one.png").shape == faces.target.shape
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_driver_of_no_strength_leaves_the_photo(faces, target, tmp_path):
    driver, out = faces.clip(tmp_path / "driver.mp4", frames=3), tmp_path / "out.mkv"
    words = ["--strength", 0, "--matte", tmp_path / "matte.mkv", "--trace", tmp_path / "trace"]
    assert run(target, driver, "-o", out, *QUICK, *words) == 0
    for index in range(3):
        composite = np.asarray(Image.open(tmp_path / "trace" / f"frame-{index:06d}-composite.png")).astype(int)
        assert np.abs(composite - faces.target).max() <= 2


def test_absolute_motion_asks_for_no_frame_of_rest(faces, target, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", frames=3)
    assert run(target, driver, "-o", tmp_path / "out.mp4", *QUICK, "--motion", "absolute", "--folds", 0) == 0
    assert "anchor frame" not in capsys.readouterr().err
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 3


def test_a_driver_without_any_face(faces, target, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", frames=3, without=(0, 1, 2))
    assert run(target, driver, "-o", tmp_path / "out.mp4", *SPLICE) == 1
    assert_one_error(capsys, "no face", "driver.mp4")
    assert not list(tmp_path.glob("*out*"))


def test_a_part_of_the_driver_is_all_that_is_looked_at(faces, target, tmp_path):
    driver = faces.clip(tmp_path / "driver.mp4", without=(0, 1, 6, 7))
    out = tmp_path / "out.mp4"
    assert run(target, driver, "-o", out, *SPLICE, "--start", "0.08", "--end", "0.24", "--max-frames", 3) == 0
    assert stamps_of(out) == [Fraction(i, 25) for i in range(3)]


# ---- Odd targets


def test_a_target_without_a_face(faces, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", frames=2)
    write_image(tmp_path / "wall.png", np.full((128, 128, 3), 128, np.uint8))
    assert run(tmp_path / "wall.png", driver, "-o", tmp_path / "out.mp4", *SPLICE) == 1
    assert_one_error(capsys, "no face", "wall.png")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("kind", ["picture", "video"])
def test_a_huge_target_gives_a_huge_picture_or_the_largest_video(kind, faces, tmp_path, capsys):
    width, height = 12_000, 9_000
    huge = np.full((height, width, 3), 128, np.uint8)
    face = np.asarray(Image.fromarray(faces.target).resize((1500, 1500)))
    huge[3000:4500, 5000:6500] = face
    write_image(tmp_path / "huge.jpg", huge)
    if kind == "picture":
        write_image(tmp_path / "driver.png", faces.driver[-1])
        assert run(tmp_path / "huge.jpg", tmp_path / "driver.png", "-o", tmp_path / "out.jpg", *SPLICE) == 0
        assert read_image(tmp_path / "out.jpg").shape == (height, width, 3)
    else:
        driver = faces.clip(tmp_path / "driver.mp4", frames=1)
        assert run(tmp_path / "huge.jpg", driver, "-o", tmp_path / "out.mp4", *SPLICE) == 0
        assert probe(tmp_path / "out.mp4").width <= MAX_SIDE
        assert "12000x9000 is beyond what players take; scaled to" in capsys.readouterr().err


# ---- Options that only the pipeline knows to be wrong


@pytest.mark.parametrize("layers", ["99", "a", "3"])
def test_layers_that_the_generator_lacks(layers, faces, target, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", frames=2)
    assert run(target, driver, "-o", tmp_path / "out.mp4", *SPLICE, "--layers", layers) == 2
    assert_one_error(capsys, "--layers", layers)


@pytest.mark.parametrize("options", [["--regions", "nose"], ["--regions", "mouth", *SPLICE]])
def test_regions_that_cannot_be_are_refused(options, faces, tmp_path, target, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", frames=2)
    assert run(target, driver, "-o", tmp_path / "out.mp4", *options) == 2
    assert_one_error(capsys, "--regions", options[1])


def test_a_size_that_the_generator_cannot_make(faces, target, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", frames=2)
    assert run(target, driver, "-o", tmp_path / "out.mp4", *SPLICE, "--size", 300) == 2
    assert_one_error(capsys, "300", "128, 256, 512, 1024")


def test_a_device_that_is_not_there(faces, target, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", frames=2)
    assert run(target, driver, "-o", tmp_path / "out.mp4", *SPLICE, "--device", "cuda:99") == 2
    assert_one_error(capsys, "cuda:99", "auto")


def assert_one_error(capsys, *parts):
    """The last line is the error, it is the only one, and names these."""
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("reenact: error: ")
    assert sum("error" in line for line in lines) == 1
    assert all(part in lines[-1] for part in parts)


# ---- Ctrl-C


def test_ctrl_c_leaves_a_playable_file_at_once_and_the_earlier_one(faces, target, tmp_path):
    driver, out = faces.clip(tmp_path / "driver.mp4", frames=100, sound="aac"), tmp_path / "out.mp4"
    out.write_bytes(b"precious")
    words = [sys.executable, "-m", "reenact", target, driver, "-o", out, "-y", *SPLICE]
    process = subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: list(tmp_path.glob(".out.mp4.*")) or process.poll() is not None)
        time.sleep(1)  # a few frames more
        process.send_signal(signal.SIGINT)
        _, lines = process.communicate(timeout=20)
    finally:
        process.kill()
    partial = tmp_path / "out.partial.mp4"
    frames = len(list(read_frames(partial)))
    assert process.returncode == 130
    assert 1 <= frames < 100
    assert f"reenact: {partial} holds the first {frames} frame" in lines
    assert "Traceback" not in lines
    assert out.read_bytes() == b"precious"
    assert {p.name for p in tmp_path.iterdir()} == {
        "target.png", "driver.mp4", "out.mp4", "out.partial.mp4", "out.mp4.checkpoint",
    }  # fmt: skip


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# ---- The samples


def test_the_samples_are_what_the_readme_says(tmp_path):
    target, driver = SAMPLES / "target.jpg", SAMPLES / "driver.mp4"
    assert run(target, driver, "-o", tmp_path / "out.mp4", *SPLICE, "--max-frames", 3) == 0
    out = probe(tmp_path / "out.mp4")
    assert read_image(target).shape == (out.height, out.width, 3)
    assert out.has_audio


def test_a_detector_without_blendshapes_serves_a_solved_expression_too(tmp_path):
    target, driver, out = SAMPLES / "target.jpg", SAMPLES / "driver.mp4", tmp_path / "out.mp4"
    words = ["--detector", "dlib", "--fuse", "expression", "--max-frames", 3]
    assert run(target, driver, "-o", out, *QUICK, *words) == 0
    assert sum(1 for _ in read_frames(out)) == 3
