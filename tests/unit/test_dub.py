"""A clip as target: which of its frames comes when, and where its face would be without its own expression."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip
from meshes import REST, TRIANGLES, opened, place

from reenact import run
from reenact.acting import Stance
from reenact.compose import ComposeOptions, Composer, Drawn
from reenact.dub import in_time, is_clip, short_by
from reenact.errors import NoFaceError
from reenact.face_landmarker import canonical_axes, facing, head_pose, to_68
from reenact.images import write_image
from reenact.landmarks import WithExpressions
from reenact.motion import INNER_LIPS, LIDS, PARTS, STRETCHED, goals, openable, placed
from reenact.template import Motion
from reenact.types import FaceTrack
from reenact.weights import WeightStore

ALL = {"mouth": 1.0, "eyes": 1.0, "brows": 1.0}


@dataclass(frozen=True)
class At:
    """A frame that is only a time."""

    seconds: float


def clip(rate, count, start=0.0):
    return [At(start + i / rate) for i in range(count)]


# ---- Which frame


def test_frames_of_one_rate_come_one_by_one_however_their_clocks_round():
    times = [round(i / 29.97, 3) for i in range(300)]
    assert list(in_time(clip(29.97, 300), times)) == clip(29.97, 300)


@pytest.mark.parametrize(("rate", "expected"), [(50, [0, 2, 4, 6, 8]), (12.5, [0, 0, 1, 1, 2])])
def test_another_rate_gives_the_frames_nearest_in_time(rate, expected):
    frames = clip(rate, 20)
    assert list(in_time(frames, [i / 25 - 1e-6 for i in range(5)])) == [frames[i] for i in expected]


def test_times_count_from_the_first_frame():
    frames = clip(25, 5, start=7.0)
    assert list(in_time(frames, [0, 0.08])) == [frames[0], frames[2]]


def test_of_a_shorter_clip_the_last_frame_is_held_and_of_a_longer_one_the_rest_left():
    frames = clip(25, 3)
    assert list(in_time(frames, [i / 25 for i in range(6)])) == [*frames, *[frames[-1]] * 3]
    assert list(in_time(iter(frames), [0.0])) == frames[:1]


def test_no_more_than_the_next_frame_is_taken_ahead():
    taken = []

    def source():
        for frame in clip(25, 10):
            taken.append(frame)
            yield frame

    shown = in_time(source(), [0.0, 0.04, 0.08])
    next(shown)
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("rate", "count", "missing"), [(25, 50, 0), (5, 10, 0), (60, 120, 0), (25, 100, 0), (5, 8, 0.4), (25, 45, 0.2)]
)
def test_a_clip_is_too_short_where_its_last_frame_ends_before_the_drivers(rate, count, missing):
    driver = 3 + np.arange(50) / 25
    assert short_by(np.arange(count) / rate, driver) == pytest.approx(missing)


def test_a_clip_is_told_by_its_content(tmp_path):
    write_image(tmp_path / "photo.mp4.png", np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "words.txt").write_text("words")
    assert is_clip(make_clip(tmp_path / "clip.mp4"))
    assert is_clip(make_clip(tmp_path / "clip.gif"))
    assert not is_clip(tmp_path / "photo.mp4.png")
    assert not is_clip(tmp_path / "words.txt")
    assert not is_clip(tmp_path / "missing.mp4")


# ---- Where its face is

with np.load(Path(__file__).parents[1] / "data" / "face_mediapipe.npz") as _recorded:
    POINTS = _recorded["points"].astype(np.float32)  # [478,3] in pixels


def test_a_face_turned_to_the_camera_goes_back_to_where_it_was():
    points = torch.from_numpy(POINTS)[None]
    face, pose = facing(points)[0].numpy(), head_pose(points)[0].numpy()
    matrix = placed(face, pose, to_68(POINTS))
    assert matrix[:, :3] == pytest.approx(canonical_axes(points)[0].numpy(), abs=1e-3 * np.abs(matrix).max())
    assert face @ matrix[:, :3].T + matrix[:, 3] == pytest.approx(POINTS[:, :2], abs=0.05)


def stance():
    """A mouth that is open now and shut at rest."""
    return Stance(opened(REST, 0.05), REST, np.eye(2, 3), np.zeros(51, np.float32))


def test_its_own_expression_is_taken_away_as_far_as_another_takes_its_place():
    here = stance()
    assert np.array_equal(here.freed(dict.fromkeys(ALL, 0.0)), here.own)
    lips = list(INNER_LIPS)
    assert here.freed(ALL)[lips] == pytest.approx(here.rest[lips], abs=1e-5)
    assert np.array_equal(here.freed(ALL), here.freed({**ALL, "mouth": 1.5}))  # more than all of it can't be
    half = here.freed(dict.fromkeys(ALL, 0.5))[lips]
    assert half == pytest.approx((here.own[lips] + here.rest[lips]) / 2, abs=1e-5)


def test_its_brows_go_back_as_far_as_a_drivers_would_bring_them():
    """Of both the landmarker sees as little."""
    raised, brows = REST.copy(), list(PARTS["brows"])
    raised[brows] -= [0, 0.02]
    here = Stance(raised, REST, np.array([[1.0, 0, 0], [0, -1, 0]]), np.zeros(51, np.float32))
    face = np.c_[REST * [1, -1], np.zeros(478)].astype(np.float32)
    lowered = face.copy()
    lowered[brows, 1] -= 0.02
    driven = goals(lowered[None], face, REST, here.to_rest, ALL)[0] - REST
    assert (here.freed(ALL) - here.own)[brows] == pytest.approx(driven[brows], abs=1e-5)


def opening(points, eye):
    upper, lower = LIDS[eye]
    return float((points[lower, 1] - points[upper, 1]).mean())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_an_eye_opens_hardly_farther_than_the_clip_shows_it(share):
    own = REST.copy()
    upper, lower = LIDS[0]
    own[upper] = own[lower] + share * (own[upper] - own[lower])
    goal = openable(REST, own)
    assert opening(goal, 0) == pytest.approx(STRETCHED * opening(own, 0))
    assert np.array_equal(goal[LIDS[1][0]], REST[LIDS[1][0]])  # the other eye is free to


def test_what_an_eye_can_do_is_left_as_it_is():
    assert np.array_equal(openable(REST, REST), REST)


# ---- Its mouth

SIDE = 400
BLUE, GREEN = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)


def speaking():
    """Grey, but blue between the lips of a mouth that is open."""
    own = opened(REST, 0.08)
    rgb = np.full((SIDE, SIDE, 3), 150, np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    return rgb, own, _inside(own, x, y)


def _inside(points, x, y):
    import cv2

    mask = np.zeros(x.shape, np.uint8)
    crop = place(SIDE)
    ring = points[list(INNER_LIPS)] @ crop[:, :2].T + crop[:, 2]
    cv2.fillPoly(mask, [np.rint(ring * 16).astype(np.int32)], 1, shift=4)
    return mask > 0


def composed(goal, inside):
    rgb, own, mouth = speaking()
    rgb[mouth] = 0, 0, 255
    drawn = [Drawn(np.full((256, 256, 3), colour, np.float32), goal) for colour in ((0.6,) * 3, GREEN)]
    made = Composer(rgb, place(SIDE), own, drawn[0], TRIANGLES, ComposeOptions(folds=0), inside=inside)
    return made.compose(goal, drawn[1], 0, 0, 0.0).rgb.astype(int)


def count(rgb, channel):
    other = [c for c in range(3) if c != channel]
    return int((rgb[:, :, channel] > rgb[:, :, other].max(2) + 40).sum())


def test_lips_that_shut_leave_nothing_of_the_open_mouth():
    mouth = speaking()[2]
    shut = composed(REST, inside=1.0)
    assert mouth.sum() > 300
    assert count(shut, 2) < 0.05 * mouth.sum()


def test_an_open_mouth_that_will_speak_other_words_shows_the_drawn_ones_inside():
    mouth = speaking()[2]
    rgb = composed(opened(REST, 0.06), inside=1.0)
    assert count(rgb, 1) > 0.4 * mouth.sum()
    assert count(rgb, 2) < 0.1 * mouth.sum()
    kept = composed(opened(REST, 0.06), inside=0.0)
    assert count(kept, 1) == 0
    assert count(kept, 2) > 0.4 * mouth.sum()


# ---- Who follows it


def test_a_clip_is_followed_by_the_landmarker_and_the_driver_by_the_detector_chosen(tmp_path, monkeypatch):
    """The landmarker's mesh is laid on its own 68 points."""
    points, mesh = np.ones((2, 68, 2), np.float32), np.ones((2, 478, 3), np.float32)
    track = FaceTrack(points, points[:, 0, 0].copy(), np.ones(2, bool), (), mesh=mesh)
    seen = Motion(track, np.arange(2), np.arange(2) / 25, Fraction(1, 25))
    used = {}

    def follow_clip(self, seconds, detector, *more):
        used["clip"] = detector
        raise NoFaceError("enough")

    def follow_driver(self, detector, *more):
        used["driver"] = detector
        return seen

    monkeypatch.setattr(run.landmarks, "choose_detector", lambda name, store, device: (name, name))
    monkeypatch.setattr(run.Clip, "follow", follow_clip)
    monkeypatch.setattr(run.Driver, "follow", follow_driver)
    clips = make_clip(tmp_path / "clip.mp4"), make_clip(tmp_path / "driver.mp4")
    for name in ("dlib", "landmarker"):
        store, options = WeightStore(tmp_path), run.Options(detector=name, device="cpu")
        with pytest.raises(NoFaceError, match="enough"):
            run.Run(*clips, options, store, run.Hooks())
        assert used["clip"] == "landmarker"
        assert used["driver"] == name if name == "landmarker" else isinstance(used["driver"], WithExpressions)
