"""Which face, and the same again, in pictures whose people are flat colours: no network is asked."""

import numpy as np
import pytest

from reenact.errors import NoFaceError, UsageError
from reenact.follow import FORGET, FORGO, Choice, Followed, follow, parse_choice
from reenact.landmarks import STRETCH, find_face, joined, presence, require_face, stretches, track_face
from reenact.types import FaceTrack, Landmarks

RED, BLUE, HAND = (200, 60, 60), (40, 60, 190), (225, 190, 165)
HEIGHT, WIDTH, SIZE = 120, 400, 60


def face_at(x: float, y: float = 60, size: float = SIZE, yaw: float = 0) -> Landmarks:
    """A face with eyes, a mouth, a width and a pose."""
    shape = np.zeros((68, 2))
    shape[:17] = np.stack([np.linspace(-0.5, 0.5, 17), 0.4 * np.sin(np.linspace(0, np.pi, 17))], 1)
    shape[36:42], shape[42:48], shape[48:68] = (-0.2, -0.2), (0.2, -0.2), (0, 0.25)
    shape[27:36] = (0, 0)
    return Landmarks((shape * size + (x, y)).astype(np.float32), 0.9, pose=np.array([yaw, 0, 0], np.float32))


def picture(*people: tuple[float, tuple[int, int, int]]) -> np.ndarray:
    """People from left to right of colours; the last lies in front."""
    rgb = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for x, colour in people:
        rgb[:, max(0, int(x - SIZE)) : int(x + SIZE)] = colour
    return rgb


def followed(clip, choice=None, known=None):
    """x of the face in each (picture, faces), and what is known at the end."""
    known, places = known or Followed(), []
    for rgb, faces in clip:
        known, face = follow(known, rgb, faces, choice or Choice())
        places.append(None if face is None else round(float(face.points[27, 0])))
    return places, known


# ---- A rule


@pytest.mark.parametrize(
    ("text", "x"),
    [("largest", 200), ("left", 100), ("right", 300), ("0", 100), ("1", 200), ("2", 300), ("310,40", 300)],
)
def test_a_rule_picks_one_of_the_faces(text, x):
    faces = [face_at(200, size=80), face_at(300, size=70), face_at(100)]  # as detectors give them, the largest first
    assert parse_choice(text, "--target-face").pick(faces).points[27, 0] == x


def test_a_number_that_there_is_not_picks_none():
    assert parse_choice("3", "--target-face").pick([face_at(100), face_at(200)]) is None
    assert parse_choice("left", "--target-face").pick([]) is None


@pytest.mark.parametrize("text", ["", "middle", "-1", "1.5", "10,", "10,20,30", "1e3,4", "Left"])
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(UsageError, match=r"--driver-face .*: choose largest, left, right, a number"):
        parse_choice(text, "--driver-face")


class Answering:
    """A detector that gives the same faces again and again."""

    def __init__(self, *faces: Landmarks) -> None:
        self.faces = list(faces)

    def track(self, frames, known=()):
        return (self.faces for _ in frames)


def test_a_photo_with_too_few_faces_is_told_how_many_it_has():
    detector = Answering(face_at(100), face_at(200))
    with pytest.raises(UsageError, match=r"no face 2 in a\.jpg; it shows 2, from the left 0 to 1"):
        find_face(picture(), detector, "a.jpg", parse_choice("2", "--target-face"))


def test_a_clip_with_too_few_faces_too():
    choice = parse_choice("1", "--driver-face")
    (part,) = stretches([picture()] * 3, Answering(face_at(100)), choice)
    with pytest.raises(NoFaceError, match=r"no face 1 in a\.mp4; its frames show one, number 0 at most"):
        require_face(joined([part]), "a.mp4", choice, part.most)


# ---- The same face again


def crossing(front: str):
    """Red goes right, blue goes left, and where they meet the detector sees the one in front only."""
    for x in range(60, 341, 10):
        red, blue = (x, RED), (400 - x, BLUE)
        order = (blue, red) if front == "red" else (red, blue)
        faces = [face_at(x), face_at(400 - x)]
        if abs(2 * x - 400) < 60:
            faces = faces[:1] if front == "red" else faces[1:]
        yield picture(*order), faces


@pytest.mark.parametrize("front", ["red", "blue"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_face_is_the_same_after_a_crossing(front, side):
    places, _ = followed(crossing(front), parse_choice(side, ""))
    red = list(range(60, 341, 10))
    path = red if side == "left" else red[::-1]
    assert all(place in (None, x) for place, x in zip(places, path, strict=True))
    assert places[:8] == path[:8]
    assert places[-8:] == path[-8:]
    hidden = sum(place is None for place in places)
    assert hidden == 0 if (side == "left") == (front == "red") else 0 < hidden < 10


def test_who_is_gone_for_long_is_found_by_look_wherever_he_comes_back():
    both = [(picture((100, RED), (300, BLUE)), [face_at(300), face_at(100)])] * 3
    alone = [(picture((300, BLUE)), [face_at(300)])] * (FORGET + 10)
    back = [(picture((200, RED), (330, BLUE)), [face_at(330), face_at(200)])] * 2
    places, _ = followed([*both, *alone, *back], parse_choice("left", ""))
    assert places == [100] * 3 + [None] * (FORGET + 10) + [200] * 2


def test_where_nobody_was_asked_for_another_is_taken_in_the_end():
    both = [(picture((100, RED), (300, BLUE)), [face_at(100), face_at(300)])] * 3
    alone = [(picture((300, BLUE)), [face_at(300)])] * (FORGO + 5)
    assert followed([*both, *alone])[0][-1] == 300
    assert followed([*both, *alone], parse_choice("left", ""))[0][-1] is None


def test_a_face_that_is_covered_is_not_trusted_until_it_is_bare_again():
    bare, covered = (picture((200, RED)), [face_at(200)]), (picture((200, HAND)), [face_at(200)])
    places, _ = followed([bare] * 10 + [covered] * 8 + [bare] * 4)
    assert places == [200] * 10 + [None] * 8 + [200] * 4


def test_a_head_that_turns_looks_different_and_is_trusted():
    turns = [(picture((200, (200 - k, 60 + k // 2, 60))), [face_at(200, yaw=k)]) for k in range(0, 50, 2)]
    assert followed([turns[0]] * 15 + turns)[0] == [200] * 40


def test_who_makes_a_face_is_followed_by_place_while_others_keep_away():
    calm, wry = (200, 60, 60), (175, 40, 60)  # some 18 grey levels
    clip = [(picture((100, calm), (300, BLUE)), [face_at(100), face_at(300)])] * 15
    clip += [(picture((100, wry), (300, BLUE)), [face_at(100), face_at(300)])] * 5
    assert followed(clip, parse_choice("left", ""))[0] == [100] * 20


def test_a_light_that_is_switched_on_is_got_used_to():
    dim, bright = (picture((200, RED)), [face_at(200)]), (picture((200, (255, 120, 120))), [face_at(200)])
    places, _ = followed([dim] * 10 + [bright] * 100)
    assert places[10] is None
    assert places[-30:] == [200] * 30


# ---- Stretches


class Following(Answering):
    """A detector that remembers with which faces it was told to go on."""

    def __init__(self, *faces: Landmarks) -> None:
        super().__init__(*faces)
        self.told: list[int] = []

    def track(self, frames, known=()):
        self.told.append(len(known))
        return super().track(frames, known)


def test_a_detector_is_told_what_it_found_but_not_across_a_cut():
    detector = Following(face_at(100))
    red, blue = picture((200, RED)), picture((100, BLUE))
    blue[:60] = 0, 255, 0
    track = track_face([red] * (STRETCH + 5) + [blue] * 5, detector)
    assert track.cuts == (STRETCH + 5,)
    assert detector.told == [0, 1, 0]


def test_a_track_that_is_gone_on_with_is_the_one_that_was_not_left():
    clip = list(crossing("red")) * 18

    class Scripted:
        def __init__(self, script):
            self.script = iter(script)

        def track(self, frames, known=()):
            return (next(self.script) for _ in frames)

    pictures, script = [rgb for rgb, _ in clip], [faces for _, faces in clip]
    whole = list(stretches(pictures, Scripted(script), Choice("left")))
    assert len(whole) > 2
    done = len(whole[0].track)
    rest = stretches(
        pictures[done:], Scripted(script[done:]), Choice("left"), whole[0].end, pictures[max(0, done - 26) : done]
    )
    again, track = joined([whole[0], *rest]), joined(whole)
    assert again.cuts == track.cuts
    assert np.array_equal(again.points, track.points, equal_nan=True)


# ---- Presence


def test_presence_sinks_where_the_face_goes_and_rises_before_it_comes():
    found = np.array([True] * 5 + [False] * 60 + [True] * 5)
    track = FaceTrack(np.zeros((70, 68, 2), np.float32), np.zeros(70, np.float32), found, ())
    share = presence(track)
    assert share[found].min() == 1
    assert share[20:50].max() == 0
    assert (np.diff(share[4:17]) < 0).all()
    assert (np.diff(share[53:65]) > 0).all()


def test_a_scene_without_a_face_has_none():
    found = np.array([True] * 5 + [False] * 5)
    track = FaceTrack(np.zeros((10, 68, 2), np.float32), np.zeros(10, np.float32), found, (5,))
    assert presence(track).tolist() == [1] * 5 + [0] * 5
