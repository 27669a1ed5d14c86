"""Following a face through clips whose truth is known: a detector that answers from a script, constructed pictures."""

import tracemalloc
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reenact import landmarks
from reenact.cuts import CutFinder
from reenact.errors import NoFaceError, UsageError
from reenact.follow import Choice
from reenact.images import read_image
from reenact.landmarks import (
    Pile,
    WithExpressions,
    choose_detector,
    fill_gaps,
    fill_missing,
    find_face,
    require_face,
    track_face,
)
from reenact.types import FaceTrack, Landmarks
from reenact.weights import WeightStore

FACE = read_image(Path(__file__).parents[1] / "data" / "face.png")
BLANK = np.zeros((20, 20, 3), np.uint8)


def face_at(x: float, y: float = 100, size: float = 100, tag: float = 1.0) -> Landmarks:
    """A face whose middle is x, y; `tag` stands in its blendshapes, pose and mesh."""
    grid = np.linspace(-0.5, 0.5, 68)
    points = np.stack([x + size * grid, y + size * grid], 1).astype(np.float32)
    known = (np.full(shape, tag, np.float32) for shape in (51, 3, (478, 3)))
    return Landmarks(points, 0.9, *known)


class Scripted:
    """A detector that says what it was told to, frame by frame."""

    def __init__(self, *script: list[Landmarks]) -> None:
        self.answers = iter(script)

        self.heard: list[list[float]] = []  # where the faces were of which it was told

    def track(self, frames: Iterable[np.ndarray], known: Sequence[Landmarks] = ()) -> Iterator[list[Landmarks]]:
        self.heard.append([float(face.points[:, 0].mean()) for face in known])
        for _ in frames:
            yield sorted(next(self.answers), key=lambda f: -np.ptp(f.points[:, 0]))


def tracked(*script: list[Landmarks], choice=None, cut_at: int | None = None) -> FaceTrack:
    black, white = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    white[:, 16:] = 255, 0, 0
    frames = [white if cut_at is not None and i >= cut_at else black for i in range(len(script))]
    return track_face(iter(frames), Scripted(*script), choice)


def middles(track: FaceTrack) -> list[float]:
    return track.points.mean(1)[:, 0].round(3).tolist()


# ---- Blendshapes from another


def plain(face: Landmarks) -> Landmarks:
    return Landmarks(face.points, face.score)


def informed(faces: list[Landmarks], known: list[Landmarks]) -> list[Landmarks]:
    return next(iter(WithExpressions(Scripted(faces), Scripted(known)).track([BLANK])))


def test_a_face_keeps_its_points_and_gets_the_blendshapes_of_the_one_that_lies_there():
    left, right = face_at(100, tag=0.2), face_at(400, tag=0.7)
    found = informed([plain(face_at(105)), plain(face_at(395))], [left, right])
    assert [f.blendshapes[0] for f in found] == pytest.approx([0.2, 0.7])
    assert [f.pose[0] for f in found] == pytest.approx([0.2, 0.7])
    assert [f.mesh[9, 2] for f in found] == pytest.approx([0.2, 0.7])
    assert np.array_equal(found[0].points, face_at(105).points)


def test_a_face_that_the_other_does_not_see_is_left_out():
    assert informed([plain(face_at(100))], [face_at(400)]) == []
    assert informed([plain(face_at(100))], []) == []


def test_two_detectors_go_through_a_clip_in_step():
    held = list[weakref.ref]()

    def frames() -> Iterator[np.ndarray]:
        for _ in range(20):
            assert sum(ref() is not None for ref in held) <= 4  # each detector's last, and what tee holds
            frame = BLANK.copy()
            held.append(weakref.ref(frame))
            yield frame

    script = [[face_at(100)]] * 20
    assert len(list(WithExpressions(Scripted(*script), Scripted(*script)).track(frames()))) == 20


# ---- One picture


def test_find_face_is_the_largest():
    small, large = face_at(50, size=40), face_at(200, size=80)
    assert find_face(BLANK, Scripted([small, large]), "a.jpg") is large


def test_find_face_names_the_picture_without_one():
    with pytest.raises(NoFaceError, match=r"no face found in holiday\.jpg"):
        find_face(BLANK, Scripted([]), "holiday.jpg")


# ---- Following


def test_a_track_holds_what_the_detector_said():
    track = tracked([face_at(100, tag=1)], [], [face_at(110, tag=3)])
    assert len(track) == 3
    assert track.found.tolist() == [True, False, True]
    assert middles(track)[::2] == [100, 110]
    assert track.score[::2].tolist() == pytest.approx([0.9, 0.9])
    assert track.blendshapes[:, 0].tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert track.pose[:, 2].tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert track.mesh[:, 477, 1].tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert np.isnan(track.points[1]).all()
    assert track.cuts == ()


def test_the_largest_of_the_first_frame_with_faces_is_followed_though_another_grows():
    left, right = [face_at(100 + 5 * i, size=100) for i in range(6)], [face_at(400, size=80 + 20 * i) for i in range(6)]
    assert middles(tracked([], *([a, b] for a, b in zip(left, right, strict=True))))[1:] == [
        100,
        105,
        110,
        115,
        120,
        125,
    ]


def test_the_face_nearest_to_a_point_is_followed_instead():
    script = [[face_at(100, size=100), face_at(300, size=50)]] * 3
    assert middles(tracked(*script, choice=Choice(place=(310, 90)))) == [300, 300, 300]


def test_another_face_does_not_stand_in_for_one_that_is_gone_for_a_moment():
    other = face_at(500, size=90)
    track = tracked([face_at(100), other], [other], [other], [face_at(120), other])
    assert track.found.tolist() == [True, False, False, True]
    assert middles(track)[3] == 120


def test_after_a_second_without_it_the_largest_will_do():
    other = face_at(500, size=60)
    track = tracked([face_at(100), other], *[[other]] * 30)
    assert not track.found[1:20].any()
    assert track.found[27:].all()
    assert middles(track)[-1] == 500


def test_a_cut_starts_again_with_the_largest():
    a, b = face_at(100, size=100), face_at(400, size=90)
    c, d = face_at(110, size=60), face_at(390, size=120)
    track = tracked([a, b], [a, b], [c, d], [c, d], cut_at=2)
    assert track.cuts == (2,)
    assert middles(track) == [100, 100, 390, 390]


def test_a_detector_without_expression_gives_a_track_without():
    bare = Landmarks(face_at(100).points, 1.0)
    track = tracked([bare], [])
    assert track.blendshapes is None
    assert track.mesh is None
    assert track.pose is None


def test_an_empty_clip_gives_an_empty_track():
    track = tracked()
    assert len(track) == 0
    with pytest.raises(NoFaceError, match=r"clip\.mp4"):
        require_face(track, "clip.mp4")


def test_require_face_is_content_with_one_and_names_the_clip_without():
    require_face(tracked([], [face_at(1)]), "clip.mp4")
    with pytest.raises(NoFaceError, match=r"no face found in any of the 2 frames of clip\.mp4"):
        require_face(tracked([], []), "clip.mp4")


def test_progress_counts_frames():
    seen = []
    track_face([BLANK] * 3, Scripted([], [], []), on_progress=seen.append)
    assert seen == [1, 2, 3]


def test_frames_are_not_kept():
    alive: list[weakref.ref] = []
    most = 0

    class Picture(np.ndarray):
        pass

    def frames():
        nonlocal most
        for _ in range(30):
            rgb = BLANK.copy().view(Picture)
            alive.append(weakref.ref(rgb))
            most = max(most, sum(ref() is not None for ref in alive))
            yield rgb

    track_face(frames(), Scripted(*[[]] * 30))
    assert most <= 4


# ---- Filling in


def test_missing_frames_lie_between_and_the_ends_are_held():
    track = tracked([], [face_at(100)], [], [], [face_at(130)], [])
    assert middles(FaceTrack(fill_missing(track), track.score, track.found, ())) == [100, 100, 110, 120, 130, 130]
    assert np.isnan(track.points[0]).all()  # the track itself stays


def test_nothing_is_filled_across_a_cut():
    track = tracked([face_at(100)], [], [], [face_at(400)], cut_at=2)
    assert fill_missing(track).mean(1)[:, 0].round(3).tolist() == [100, 100, 400, 400]


def test_a_scene_without_a_face_takes_the_nearest_in_time():
    found = np.array([True, False, False, False, False, True])
    values = np.array([[1.0], [np.nan], [np.nan], [np.nan], [np.nan], [9.0]])
    track = FaceTrack(np.zeros((6, 68, 2), np.float32), np.zeros(6, np.float32), found, (1, 5))
    assert fill_gaps(values, track)[:, 0].tolist() == [1, 1, 1, 9, 9, 9]


def test_values_of_any_kind_are_filled():
    track = tracked([face_at(1, tag=2)], [], [face_at(1, tag=4)])
    assert fill_gaps(track.blendshapes, track)[:, 7].tolist() == [2, 3, 4]
    assert fill_gaps(track.mesh, track)[:, 9, 2].tolist() == [2, 3, 4]
    assert fill_gaps(track.score.astype(np.float64), track).dtype == np.float64


def test_there_must_be_something_to_fill_from():
    with pytest.raises(NoFaceError, match="3 frames"):
        fill_missing(tracked([], [], []))


# ---- Cuts


def cuts_of(frames: Iterable[np.ndarray]) -> list[int]:
    finder = CutFinder()
    return [i for i, rgb in enumerate(frames) if finder.is_cut(rgb)]


def scene(seed: int, tint: tuple[float, float, float] = (1, 1, 1), size: int = 160) -> np.ndarray:
    """Blobs of light in a tint: a picture that has little in common with one of another seed."""
    light = np.random.default_rng(seed).random((6, 6)).astype(np.float32)
    grey = cv2.resize(light, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)[:, :, None]
    return (grey * np.array(tint) * 255).astype(np.uint8)


def test_cuts_between_scenes_are_found_where_they_are():
    clip = [scene(1)] * 5 + [scene(2, (1, 0.6, 0.4))] * 7 + [FACE] * 2 + [scene(3, (0.3, 0.8, 1))] * 4
    assert cuts_of(clip) == [5, 12, 14]


def test_cuts_are_found_without_colour():
    assert cuts_of([scene(1)] * 5 + [scene(2)] * 5 + [scene(4)] * 5) == [5, 10]


def test_a_cut_to_and_from_black():
    black = np.zeros((90, 160, 3), np.uint8)
    assert cuts_of([black] * 3 + [FACE] * 3 + [black] * 3) == [3, 6]


def test_the_first_frame_and_a_still_clip_have_none():
    assert cuts_of([FACE] * 30) == []
    assert cuts_of([np.zeros((8, 8, 3), np.uint8)] * 5) == []


@pytest.mark.parametrize("step", [4, 12, 30])
def test_fast_motion_is_no_cut(step):
    wide = cv2.copyMakeBorder(FACE, 0, 0, 300, 300, cv2.BORDER_REFLECT)
    there_and_back = [*range(300, 500, step), *range(500, 100, -step), *range(100, 300, step)]
    assert cuts_of(wide[:, x : x + 256] for x in there_and_back) == []


def test_a_sudden_jerk_after_rest_is_no_cut():
    wide = cv2.copyMakeBorder(FACE, 0, 0, 100, 100, cv2.BORDER_REFLECT)
    assert cuts_of([wide[:, 100:356]] * 20 + [wide[:, 130:386]] + [wide[:, 140:396]] * 20) == []


def test_a_face_that_turns_and_opens_its_mouth_is_no_cut():
    squeezed = [cv2.resize(FACE[:, 30:226], (w, 256)) for w in (256, 226, 196, 166, 196, 226, 256)]
    canvas = [cv2.copyMakeBorder(s, 0, 0, 0, 256 - s.shape[1], cv2.BORDER_REPLICATE) for s in squeezed]
    mouth = FACE.copy()
    cv2.ellipse(mouth, (125, 200), (25, 30), 0, 0, 360, (40, 10, 10), -1)
    assert cuts_of(canvas + [FACE[:, 30:226]] * 5 + [mouth[:, 30:226]] * 3) == []


def test_mild_flashes_and_a_changing_light_are_no_cuts():
    def lit(gain: float, offset: float) -> np.ndarray:
        return np.clip(FACE * gain + offset, 0, 255).astype(np.uint8)

    clip = [FACE] * 5 + [lit(1.3, 10)] * 2 + [FACE] * 5 + [lit(0.6, 0)] * 5 + [lit(1 - 0.02 * i, 0) for i in range(30)]
    assert cuts_of(clip) == []


def test_grain_is_no_cut():
    rng = np.random.default_rng(0)
    assert cuts_of(np.clip(FACE + rng.normal(0, 12, FACE.shape), 0, 255).astype(np.uint8) for _ in range(20)) == []
    assert cuts_of(rng.integers(0, 4, (64, 64, 3), dtype=np.uint8) for _ in range(20)) == []


def test_what_is_usual_in_a_clip_is_no_cut():
    strobe = [scene(1, (1, 0.9, 0.8)) if i % 2 else scene(1, (0.5, 0.9, 1)) for i in range(40)]
    assert [i for i in cuts_of(strobe) if i > 6] == []


# ---- Choosing a detector


class Module:
    """A plug-in that says who it is and where it runs."""

    def __init__(self, name: str, there: bool) -> None:
        self.name, self.there = name, there

    def create(self, store, device):
        return (self.name, device.type)

    def available(self, store):
        return self.there


@pytest.fixture
def modules(monkeypatch):
    made = {name: Module(name, there=True) for name in ("landmarker", "face-alignment", "dlib")}
    monkeypatch.setattr(landmarks.plugins, "module", lambda kind, name: made[name])
    return made


STORE = WeightStore(Path("nowhere"), offline=True)


@pytest.mark.parametrize(
    ("device", "there", "expected"),
    [
        ("cuda", True, "face-alignment"),
        ("cuda:1", True, "face-alignment"),
        ("cuda", False, "landmarker"),
        ("cpu", True, "landmarker"),
        ("mps", True, "landmarker"),
    ],
)
def test_auto_takes_what_suits_the_machine(modules, device, there, expected):
    modules["face-alignment"].there = there
    name, detector = choose_detector("auto", STORE, torch.device(device))
    assert name == expected
    assert detector == (expected, device.partition(":")[0])


def test_a_named_detector_is_taken(modules):
    assert choose_detector("dlib", STORE, torch.device("cuda"))[0] == "dlib"


def test_an_unknown_detector_is_answered_with_those_there_are():
    with pytest.raises(UsageError, match="no detector named 'yolo'; there are: auto, dlib, face-alignment, landmarker"):
        choose_detector("yolo", STORE, torch.device("cpu"))


# --- Rows that come piece by piece --------------------------------------------------------------


def test_a_pile_is_its_pieces_and_those_that_are_not_known_are_nan():
    pieces = [None, np.ones((2, 3, 2), np.float32), None, 2 * np.ones((1, 3, 2), np.float32)]
    pile = Pile()
    for rows, count in zip(pieces, (1, 2, 3, 1), strict=True):
        pile.add(rows, count)
    assert pile.rows.dtype == np.float32
    assert pile.rows.shape == (7, 3, 2)
    np.testing.assert_array_equal(pile.rows[:, 0, 0], [np.nan, 1, 1, np.nan, np.nan, np.nan, 2])


def test_a_pile_of_nothing_known_has_no_rows():
    pile = Pile()
    pile.add(None, 3)
    assert pile.rows is None


def test_a_pile_is_never_there_twice():
    pile, piece = Pile(), np.ones((250, 100), np.float32)
    tracemalloc.start()
    for _ in range(100):
        pile.add(piece, len(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * pile.rows.nbytes
