"""Whose face is followed before a camera, and where the filters begin anew; detector and camera stand in."""

import numpy as np
import pytest
from faces import face

from reenact.follow import Choice
from reenact.live import _followed, _Seen
from reenact.types import Frame, Landmarks

NOISE = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)  # two scenes with nothing in common
BEFORE = _Seen(np.zeros((478, 3), np.float32), np.zeros(3, np.float32), np.zeros(1, np.float32))


def landmarks(place, mark):
    """A face at `place`, known by its pose."""
    return Landmarks(
        (100 * face() + place).astype(np.float32), 1.0, np.zeros(51, np.float32), np.full(3, mark, np.float32),
        np.zeros((478, 3), np.float32), 0.5,
    )  # fmt: skip


class Detector:
    """Finds in each picture what it is told to."""

    def __init__(self, found):
        self.found = found

    def track(self, frames):
        for _, found in zip(frames, self.found, strict=True):
            yield found


def followed(scenes, found, wanted="left"):
    frames = [Frame(NOISE[scene], i, i, i / 25) for i, scene in enumerate(scenes)]
    seen = list(_followed(frames, Detector(found), BEFORE, Choice(wanted)))
    assert [frame.index for frame, _, _ in seen] == list(range(len(frames)))
    return [float(now.pose[0]) for _, now, _ in seen], [scene for _, _, scene in seen]


def test_a_face_is_followed_wherever_it_goes():
    pairs = [[landmarks((x, 0), 1), landmarks((20, 300 - x), 2)] for x in (0, 30, 60, 90)]  # the other is the left one
    assert followed([0] * 4, pairs) == ([1] * 4, [0] * 4)


def test_after_a_cut_the_face_that_is_wanted_is_looked_for_anew_and_a_scene_begins():
    there, swapped = [landmarks((0, 0), 1), landmarks((300, 0), 2)], [landmarks((300, 0), 1), landmarks((0, 0), 2)]
    assert followed([0, 0, 1, 1], [there, there, swapped, swapped]) == ([1, 1, 2, 2], [0, 0, 1, 1])


@pytest.mark.parametrize("scenes", [[0, 0, 0], [0, 0, 1]])
def test_where_no_face_is_what_was_shown_before_is_held(scenes):
    assert followed(scenes, [[landmarks((0, 0), 1)], [], []])[0] == [1, 1, 1]
    assert followed(scenes, [[], [], [landmarks((0, 0), 3)]])[0] == [0, 0, 3]
