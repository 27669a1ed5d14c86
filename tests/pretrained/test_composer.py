"""A real photo bent by its real mesh: what was asked of its points is measured again, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reenact.align import cut_out, ffhq_crop
from reenact.compose import Composer, Drawn
from reenact.detectors.landmarker import LandmarkerDetector
from reenact.expression import Probe
from reenact.face_landmarker import FaceLandmarkerNets, canonical_axes, head_pose, read_triangles
from reenact.images import read_image, to_tensor
from reenact.landmarks import find_face
from reenact.mesh import REACH_OF_HEADS, over
from reenact.motion import LIDS, LOWER_LIP, UPPER_LIP, goals, turned

ALL = {"mouth": 1.0, "eyes": 1.0, "brows": 1.0}
TARGET = Path(__file__).parents[2] / "samples" / "target.jpg"
SIZE = 512
CORNER = (61, 76, 62, 78, 146, 185, 95, 191)  # of the mouth, on the left
BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)

pytestmark = pytest.mark.pretrained


@pytest.fixture(scope="module")
def nets(store):
    return FaceLandmarkerNets.load(store.path("face_landmarker.task"))


@pytest.fixture(scope="module")
def triangles(store):
    return read_triangles(store.path("face_landmarker.task"))


@pytest.fixture(scope="module")
def target():
    return read_image(TARGET)


@pytest.fixture(scope="module")
def face(nets, target):
    return find_face(target, LandmarkerDetector(nets, torch.device("cpu")), "target")


class Measured:
    """The photo's crop, where its points are in it, and the same of other pictures."""

    def __init__(self, nets, target, face):
        self.crop = ffhq_crop(face.points)
        self.picture = self.cut(target)
        self._probe = Probe(nets, self.picture)
        self.mesh = self.meshed(target)
        self.rest = self.mesh[0, :, :2].double().numpy()

    def cut(self, rgb):
        return to_tensor(cut_out(rgb, self.crop, SIZE).rgb)

    def meshed(self, rgb):
        with torch.no_grad():
            return self._probe.mesh(self.cut(rgb))

    def points(self, rgb):
        """[478,2] in units of the crop."""
        return self.meshed(rgb)[0, :, :2].double().numpy()

    def goal(self, face, change):
        """The goal [478,2] of a driver who is the target, moved by centimetres [478,3]."""
        to_rest = canonical_axes(self.mesh)[0].double().numpy()
        return goals(face.mesh[None] + np.float32(change), face.mesh, self.rest, to_rest, ALL)[0]


@pytest.fixture(scope="module")
def seen(nets, target, face):
    return Measured(nets, target, face)


@pytest.fixture(scope="module")
def drawn(seen):
    """The photo as its own perfect reconstruction."""
    return Drawn(seen.picture[0].permute(1, 2, 0).numpy() * 0.5 + 0.5, seen.rest)


@pytest.fixture(scope="module")
def composer(target, seen, drawn, triangles):
    return Composer(target, seen.crop, seen.rest, drawn, triangles)


def raised(face, by, *parts, reach=1.5):
    """A change in centimetres [478,3] that raises parts, and less and less the skin round them."""
    change = np.zeros((478, 3))
    for part in parts:
        gaps = np.linalg.norm(face.mesh[:, None] - face.mesh[None, list(part)], axis=2).min(1)
        change[:, 1] += by * np.clip(1 - gaps / reach, 0, 1)
    return change


@pytest.fixture(scope="module")
def moved(composer, seen, face, drawn):
    """The goal and the frame with a corner of the mouth and a brow raised by half a centimetre."""
    goal = seen.goal(face, raised(face, 0.5, CORNER, BROW))
    return goal, composer.compose(goal, drawn, 0, 0, 0.0)


def test_a_driver_at_rest_leaves_the_photo_as_it_is(composer, seen, face, drawn, target):
    result = composer.compose(seen.goal(face, np.zeros((478, 3))), drawn, 0, 0, 0.0)
    np.testing.assert_array_equal(result.rgb, target)
    assert not result.matte.any()


@pytest.mark.parametrize("part", [CORNER, BROW], ids=["corner", "brow"])
def test_what_was_raised_is_measured_as_raised(part, moved, seen):
    goal, result = moved
    asked = (goal - seen.rest)[list(part), 1].mean()
    done = (seen.points(result.rgb) - seen.rest)[list(part), 1].mean()
    assert asked < -0.01  # half a centimetre of a head, in crops; y is down
    assert 0.6 * asked > done > 1.3 * asked


def test_the_other_side_stays(moved, seen):
    goal, result = moved
    done = np.abs(seen.points(result.rgb) - seen.rest)
    asked = np.abs(goal - seen.rest)[list(BROW), 1].mean()
    for part in ((291, 308, 324, 415), (300, 293, 334, 296, 336), LIDS[1][0], (152, 5, 4)):
        assert done[list(part)].mean() < 0.3 * asked


def test_outside_the_matte_nothing_changes_and_outside_the_face_the_matte_is_black(moved, seen, target, triangles):
    _, result = moved
    outside = result.matte == 0
    np.testing.assert_array_equal(result.rgb[outside], target[outside])
    assert (result.rgb[~outside] != target[~outside]).any(1).all()
    rows, columns = np.nonzero(~outside)
    ring = over(seen.rest, triangles).ring @ seen.crop[:, :2].T + seen.crop[:, 2]
    assert columns.min() >= ring[:, 0].min() - 2
    assert columns.max() <= ring[:, 0].max() + 2
    assert rows.min() >= ring[:, 1].min() - 2
    assert rows.max() <= ring[:, 1].max() + 2


def opening(points, lids):
    upper, lower = lids
    return (points[lower, 1] - points[upper, 1]).mean()


def test_lids_that_shut_are_measured_as_nearer_and_the_other_eyes_as_they_were(composer, seen, face, drawn):
    upper, lower = LIDS[0]
    change = raised(face, float((face.mesh[lower] - face.mesh[upper])[:, 1].mean()), upper)
    change[lower] = 0
    change[upper] = face.mesh[lower] - face.mesh[upper]
    result = composer.compose(seen.goal(face, change), drawn, 0, 0, 0.0)
    after = seen.points(result.rgb)
    assert opening(after, LIDS[0]) < 0.75 * opening(seen.rest, LIDS[0])
    assert opening(after, LIDS[1]) > 0.8 * opening(seen.rest, LIDS[1])


@pytest.mark.parametrize("lids", LIDS)
def test_no_skin_keeps_lids_from_shutting(lids, seen, triangles):
    upper, lower = lids
    goal = seen.rest.copy()
    goal[upper] = goal[lower]
    flat = over(seen.rest, triangles).unfolded(goal, seen.rest)
    np.testing.assert_allclose(flat[upper], flat[lower], atol=1e-3)


def test_a_dropped_jaw_is_measured_as_an_open_mouth(composer, seen, face, drawn):
    mouth = (seen.rest[UPPER_LIP] + seen.rest[LOWER_LIP]).mean(0) / 2
    below = (seen.rest[:, 1] > mouth[1]) & (np.abs(seen.rest[:, 0] - mouth[0]) < 0.15)
    below[UPPER_LIP], below[LOWER_LIP] = False, True
    result = composer.compose(seen.goal(face, raised(face, -1.0, np.flatnonzero(below), reach=0.01)), drawn, 0, 0, 0.0)
    gaps = [opening(points, (UPPER_LIP, LOWER_LIP)) for points in (seen.rest, seen.points(result.rgb))]
    assert gaps[1] > gaps[0] + 0.015


def test_a_photo_that_ends_in_the_face_is_bent_within_it(composer, seen, drawn, moved, target, triangles):
    goal, whole = moved
    cut = np.ascontiguousarray(target[:, : round(seen.crop[0, 2] + 0.75 * seen.crop[0, 0])])
    result = Composer(cut, seen.crop, seen.rest, drawn, triangles).compose(goal, drawn, 0, 0, 0.0)
    assert result.rgb.shape == cut.shape
    width = round(seen.crop[0, 2] + 0.5 * seen.crop[0, 0])
    apart = np.abs(result.rgb[:, :width].astype(int) - whole.rgb[:, :width])
    assert apart.mean() < 0.1


# ---- The canonical face's triangles


def test_triangles_cover_the_skin_and_their_rim_is_one_loop(triangles):
    assert triangles.shape == (898, 3)
    assert len(np.unique(triangles)) == 468
    assert (triangles.min(), triangles.max()) == (0, 467)
    edges = {(int(t[i]), int(t[i - 2])) for t in triangles for i in range(3)}
    assert len(edges) == 3 * 898  # none twice the same way: it has two sides
    follows = {a: b for a, b in edges if (b, a) not in edges}
    assert len(follows) == 36
    rim = [10]
    while follows[rim[-1]] != 10:
        rim.append(follows[rim[-1]])
    assert len(set(rim)) == 36
    assert {10, 152, 234, 454} < set(rim)


def test_triangles_run_counter_clockwise_seen_from_the_front(triangles, face):
    a, b, c = (face.mesh[triangles[:, i], :2] for i in range(3))
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    assert (ux * vy - uy * vx > 0).mean() > 0.95


@pytest.mark.parametrize("turn", [(10.0, 0, 0), (-10.0, 0, 0), (0, 8.0, 0), (0, 0, 10.0)])
def test_a_head_that_is_turned_is_seen_to_be(target, seen, drawn, triangles, turn):
    mesh = seen.mesh[0].double().numpy()
    composer = Composer(target, seen.crop, seen.rest, drawn, triangles, reach=REACH_OF_HEADS)
    result = composer.compose(
        seen.rest, drawn, 0, 0, 0.0, lambda points: turned(points, mesh, np.array(turn), np.zeros(3))
    )
    before, after = (head_pose(seen.meshed(rgb))[0].numpy() for rgb in (target, result.rgb))
    assert after - before == pytest.approx(turn, abs=4)
