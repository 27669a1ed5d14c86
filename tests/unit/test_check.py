"""The preflight: what is measured of constructed faces and clips, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import make_clip
from faces import face

from reenact import check as module
from reenact.check import FaceFacts, check, measured, to_json
from reenact.cli import main
from reenact.detectors import landmarker
from reenact.follow import Choice
from reenact.images import read_image, write_image
from reenact.types import Landmarks
from reenact.weights import WeightStore

FACE = read_image(Path(__file__).parents[1] / "data" / "face.png")
GOOD = FaceFacts(200, 0, 0, 0, 0.4, 1, 120, 0, 1.0, 0, 0)


def words(about: str = "target", **changes) -> list[str]:
    return [finding.what for finding in module._of_face(about, replace(GOOD, **changes))]


# ---- What is said of a face


def test_nothing_is_said_of_a_good_face():
    assert words() == []
    assert words("driver") == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"yaw": -60}, "pose"), ({"pitch": 40}, "pose"), ({"roll": 60}, "pose"), ({"width": 40}, "size"),
        ({"blur": 0.8}, "blur"), ({"noise": 12}, "noise"), ({"light": 20}, "light"), ({"light": 240}, "light"),
        ({"outside": 0.2}, "edge"), ({"score": 0.9}, "covered"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("about", ["target", "driver"])
def test_what_is_hard_is_said(changes, word, about):
    assert words(about, **changes) == [word]


def test_a_varying_rate_is_told_from_one_that_is_rounded():
    assert not module._varies(np.round(np.arange(60) / 29.97, 3))
    assert module._varies(np.cumsum(np.r_[0, np.tile([0.02, 0.05], 20)]))
    assert not module._varies(np.zeros(1))


# ---- Real faces


@pytest.fixture(scope="module")
def detector(store):
    return landmarker.create(store, torch.device("cpu"))


def facts(rgb, detector):
    return measured(rgb, next(iter(detector.track([rgb])))[0])


@pytest.mark.pretrained
def test_blur_noise_and_darkness_are_told_apart(detector):
    noise = np.random.default_rng(0).normal(0, 30, FACE.shape)
    plain = facts(FACE, detector)
    blurred = facts(cv2.GaussianBlur(FACE, (0, 0), 4), detector)
    noisy = facts(np.clip(FACE + noise, 0, 255).astype(np.uint8), detector)
    dark = facts((FACE * 0.2).astype(np.uint8), detector)

    def said(face):
        return [f.what for f in module._of_face("driver", face)]

    assert said(plain) == []
    assert said(blurred) == ["blur"]
    assert said(noisy) == ["noise"]
    assert said(dark) == ["light"]


@pytest.mark.pretrained
def test_a_clip_is_told_of_what_is_wrong_with_it(store, tmp_path):
    two = np.concatenate([FACE, cv2.resize(FACE, (128, 256))[:, ::-1]], 1)

    def picture(index, width, height):
        return np.full((256, 384, 3), 90, np.uint8) if 10 <= index < 20 else two

    stamps = tuple(i + (i % 3 == 0) for i in range(0, 60, 2))
    driver = make_clip(tmp_path / "driver.mp4", stamps, size=(384, 256), picture=picture)
    write_image(tmp_path / "target.png", FACE)
    report = check(tmp_path / "target.png", driver, Choice(), Choice(), store)
    said = {finding.what for finding in report.findings if finding.about == "driver"}
    assert {"missing", "cuts", "rate", "sound"} <= said
    assert not any(finding.fails for finding in report.findings)
    assert report.driver["frames"] == 30
    assert json.loads(to_json(report))["target"]["faces"] == 1


@pytest.mark.pretrained
def test_a_face_that_is_not_there_fails_and_says_how_many_there_are(store, tmp_path, capsys):
    write_image(tmp_path / "target.png", FACE)
    words = ["check", str(tmp_path / "target.png"), str(tmp_path / "target.png")]
    assert main(words) == 0
    assert capsys.readouterr().out == "nothing speaks against it\n"
    assert main([*words, "--target-face", "1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert [f["what"] for f in json.loads(out)["findings"] if f["fails"]] == ["face"]
    assert "there is no face 1; 1 are found" in err


class Two:
    """Sees two faces in all that is not black."""

    def track(self, frames, known=()):
        for rgb in frames:
            places = np.float32([[20, 20], [60, 20]]) if rgb.mean() > 20 else ()
            yield [found((face() * 40 + place).astype(np.float32)) for place in places]


def found(points) -> Landmarks:
    return Landmarks(points, 1.0, np.zeros(51, np.float32), np.zeros(3, np.float32))


@pytest.fixture
def said(monkeypatch, tmp_path):
    """said(target, driver, target_face) -> by what they are about and their word, the findings of those clips."""
    monkeypatch.setattr(module.landmarks, "choose_detector", lambda name, store, device: (name, Two()))

    def findings(target, driver, target_face=None) -> dict[tuple[str, str], str]:
        report = check(target, driver, target_face or Choice(), Choice(), WeightStore(tmp_path))
        return {(finding.about, finding.what): finding.says for finding in report.findings}

    return findings


def scenes(index, width, height):
    """Three pictures, then three of another place."""
    rng = np.random.default_rng(index // 3)
    return cv2.resize(rng.integers(60, 255, (4, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)


def test_of_a_clip_as_target_its_cuts_and_its_length_are_told(said, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", range(6), size=(120, 80), picture=scenes)
    driver = make_clip(tmp_path / "driver.mp4", range(16), size=(120, 80))
    findings = said(clip, driver)
    assert findings["target", "cuts"].startswith("1 cuts; each scene is followed by itself")
    assert findings["target", "length"] == "ends 0.4 s before the driver does; its last frame is held"
    findings = said(driver, clip)
    assert ("target", "cuts") not in findings
    assert ("target", "length") not in findings


def test_a_face_that_no_frame_of_a_clip_shows_is_another_thing_than_no_face(said, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", size=(120, 80))
    black = make_clip(tmp_path / "black.mp4", size=(120, 80), picture=lambda i, w, h: np.zeros((h, w, 3), np.uint8))
    assert said(clip, clip, Choice(number=3))["target", "face"].startswith("there is no face 3; 2 are found")
    assert said(black, clip)["target", "face"] == "no face is found in any of 10 frames that were looked at"
