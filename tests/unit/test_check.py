"""The preflight: what is measured of constructed faces and clips, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import make_clip

from reenact import check as module
from reenact.check import FaceFacts, check, measured, to_json
from reenact.cli import main
from reenact.detectors import landmarker
from reenact.follow import Choice
from reenact.images import read_image, write_image

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
