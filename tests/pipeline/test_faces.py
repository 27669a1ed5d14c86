"""Frames without a face, whose face, and a driver's motion in place of the driver: the command with real networks."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from clips import make_clip, packets_of, stamps_of
from test_command import QUICK, Faces, assert_one_error, run

from reenact.images import read_image, write_image
from reenact.landmarks import choose_detector, find_face
from reenact.video import read_frames

pytestmark = pytest.mark.pretrained

WITHOUT = (0, 1, 4)  # of 8


@pytest.fixture(scope="module")
def faces(store):
    return Faces(store)


@pytest.fixture
def target(faces, tmp_path):
    write_image(tmp_path / "target.png", faces.target)
    return tmp_path / "target.png"


def mattes(path) -> list[bool]:
    """Whether anything of each frame differs from the photo."""
    return [bool(frame.rgb.any()) for frame in read_frames(path)]


def test_frames_without_a_face_are_left_out_and_the_others_keep_their_time(faces, target, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", without=WITHOUT, sound="aac")
    assert run(target, driver, "-o", tmp_path / "out.mp4", *QUICK, "--on-missing", "skip", "--side-by-side") == 0
    assert stamps_of(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(8) if i not in WITHOUT]
    assert packets_of(tmp_path / "out.mp4") == packets_of(driver)
    assert "no face in 3 of 8 frames" in capsys.readouterr().err
    shown = [frame.rgb[:, Faces.SIDE : 2 * Faces.SIDE] for frame in read_frames(tmp_path / "out.mp4")]
    acted = [frame.rgb for frame in read_frames(driver) if frame.index not in WITHOUT]
    assert all(np.abs(a.astype(int) - b).mean() < 8 for a, b in zip(shown, acted, strict=True))  # each beside its own


def test_what_is_before_the_face_stays_as_it_is(faces, target, tmp_path, capsys):
    """In what the driver's mouth would move."""
    shown = read_image(target)
    front = np.zeros(shown.shape[:2], np.uint8)
    half = Faces.SIDE // 2
    front[half:, half:] = 255
    write_image(tmp_path / "front.png", np.repeat(front[:, :, None], 3, 2))
    driver, matte = faces.clip(tmp_path / "driver.mp4"), tmp_path / "matte.mkv"
    words = ["--front", tmp_path / "front.png", "--matte", matte]
    assert run(target, driver, "-o", tmp_path / "out.mp4", *QUICK, *words) == 0
    moved = np.max([frame.rgb[:, :, 0] for frame in read_frames(matte)], 0)
    assert not moved[half:, half:].any()
    assert moved[half:, :half].any()
    assert run(driver, driver, "-o", tmp_path / "dub.mp4", *QUICK, *words[:2]) == 2
    assert_one_error(capsys, "--front", "driver.mp4 is a clip")


def test_glasses_stay_where_they_are(faces, store, tmp_path):
    """Drawn on the photo; the driver's lids and brows would take them along."""
    photo, rims = with_glasses(faces.target, store)
    write_image(tmp_path / "glasses.png", photo)
    driver, matte = faces.clip(tmp_path / "driver.mp4"), tmp_path / "matte.mkv"

    def moved(*words):
        out = tmp_path / "out.mp4"
        assert run(tmp_path / "glasses.png", driver, "-o", out, *QUICK, "--matte", matte, "-y", *words) == 0
        return np.max([frame.rgb[:, :, 0] for frame in read_frames(matte)], 0) > 0

    chin = np.zeros_like(photo)
    chin[3 * Faces.SIDE // 4 :] = 255
    write_image(tmp_path / "chin.png", chin)
    assert moved("--front", "none")[rims].mean() > 0.5
    assert moved("--front", "none")[chin[:, :, 0] > 0].any()
    both = moved("--front", tmp_path / "chin.png")
    assert both[rims].mean() < 0.15
    assert not both[chin[:, :, 0] > 0].any()


def with_glasses(rgb, store):
    """A face with black rims round its eyes, and where they are [h,w]."""
    points = find_face(rgb, choose_detector("landmarker", store, torch.device("cpu"))[1], "face").points
    left, right = points[36:42].mean(0), points[42:48].mean(0)
    apart = float(np.linalg.norm(right - left))
    where = np.zeros(rgb.shape[:2], np.uint8)
    for eye in (left, right):
        axes = round(0.38 * apart), round(0.28 * apart)
        cv2.ellipse(where, np.rint(eye).astype(int).tolist(), axes, 0, 0, 360, 1, 4)
    ends = left + 0.36 * (right - left), right - 0.36 * (right - left)
    cv2.line(where, *(np.rint(end).astype(int).tolist() for end in ends), 1, 4)
    out = rgb.copy()
    out[where > 0] = 20, 20, 25
    return out, where > 0


def test_expressions_fade_to_the_photos_own(faces, target, tmp_path):
    driver, matte = faces.clip(tmp_path / "driver.mp4", without=WITHOUT), tmp_path / "matte.mkv"
    words = ["--on-missing", "fade", "--matte", matte, "--anchor-frame", 2]
    assert run(target, driver, "-o", tmp_path / "out.mp4", *QUICK, *words) == 0
    moved = mattes(matte)
    assert [moved[i] for i in WITHOUT] == [False] * 3
    assert moved[5:] == [True] * 3


def test_a_missing_face_can_be_an_error(faces, target, tmp_path, capsys):
    driver = faces.clip(tmp_path / "driver.mp4", without=(3,))
    assert run(target, driver, "-o", tmp_path / "out.mp4", *QUICK, "--on-missing", "fail") == 1
    assert_one_error(capsys, "driver.mp4: no face in frame 3, at 0.12 s", "hold, fade or skip")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("whose", ["left", "right", "128,100", "1"])
def test_one_of_two_people_in_the_photo_is_moved(whose, faces, tmp_path):
    write_image(tmp_path / "target.png", np.concatenate([faces.target, faces.target[:, ::-1]], 1))
    driver, matte = faces.clip(tmp_path / "driver.mp4", frames=4), tmp_path / "matte.mkv"
    words = ["--matte", matte, "--target-face", whose, "--anchor-frame", 0]
    assert run(tmp_path / "target.png", driver, "-o", tmp_path / "out.mp4", *QUICK, *words) == 0
    last = list(read_frames(matte))[-1].rgb
    left, right = last[:, : Faces.SIDE].any(), last[:, Faces.SIDE :].any()
    assert (left, right) == ((True, False) if whose in ("left", "128,100") else (False, True))


def test_one_of_two_people_in_the_clip_is_followed(faces, target, tmp_path):
    def picture(index, width, height):
        return np.concatenate([faces.driver[0], faces.driver[index]], 1)  # the one on the left is still

    driver = make_clip(tmp_path / "driver.mp4", tuple(range(6)), size=(2 * Faces.SIDE, Faces.SIDE), picture=picture)
    changed = []
    for whose in ("left", "right"):
        table = tmp_path / f"{whose}.csv"
        words = ["--driver-face", whose, "--export-csv", table]
        assert run(target, driver, "-o", tmp_path / f"{whose}.mp4", *QUICK, *words) == 0
        rows = np.genfromtxt(table, delimiter=",", names=True)
        changed.append(float(np.ptp(rows["jawOpen"]) + np.ptp(rows["mouthSmileLeft"]) + np.ptp(rows["yaw"])))
    assert changed[0] < 0.5 * changed[1]


def test_motion_stands_in_for_its_driver(faces, target, tmp_path, capsys):
    driver, motion = faces.clip(tmp_path / "driver.mp4", without=(4,), sound="aac"), tmp_path / "motion.npz"
    table = tmp_path / "motion.csv"
    words = ["--latents", motion, "--latents-sound", "--export-csv", table]
    assert run(target, driver, "-o", tmp_path / "one.mp4", *QUICK, *words) == 0
    assert run(target, motion, "-o", tmp_path / "two.mp4", *QUICK) == 0
    assert (tmp_path / "two.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert table.read_text().count("\n") == 9

    assert run(target, motion, "-o", tmp_path / "part.mp4", *QUICK, "--start", "0.08", "--max-frames", 3) == 0
    assert len(list(read_frames(tmp_path / "part.mp4"))) == 3

    capsys.readouterr()
    assert run(target, motion, "-o", tmp_path / "three.mp4", *QUICK, "--fuse", "splice") == 2
    assert_one_error(capsys, "motion.npz: holds no pictures, which --fuse splice needs")
    assert run(target, motion, "-o", tmp_path / "three.mp4", *QUICK, "--side-by-side") == 2
    assert_one_error(capsys, "--side-by-side", "motion.npz")
    assert run(target, driver, "-o", tmp_path / "three.mp4", *QUICK, "--latents", motion) == 2
    assert_one_error(capsys, "motion.npz exists; -y overwrites it")


def test_motion_of_a_part_brings_the_sound_of_that_part_even_when_saved_again(faces, target, tmp_path):
    driver = faces.clip(tmp_path / "driver.mp4", sound="aac")
    part, again = tmp_path / "part.npz", tmp_path / "again.npz"
    words = ["--max-frames", 3, "--latents-sound", "--latents"]
    assert run(target, driver, "-o", tmp_path / "one.mp4", *QUICK, *words, part) == 0
    assert run(target, part, "-o", tmp_path / "two.mp4", *QUICK, "--latents-sound", "--latents", again) == 0
    assert run(target, again, "-o", tmp_path / "three.mp4", *QUICK) == 0
    one, two, three = ((tmp_path / f"{name}.mp4").read_bytes() for name in ("one", "two", "three"))
    assert one == two == three
