"""The simple ways to reenact, on faces whose motion is known: a detector reads it from a corner of the picture."""

import numpy as np
import pytest
from clips import make_clip
from faces import face, similarity

from reenact import baselines
from reenact.align import ffhq_crop
from reenact.baselines import METHODS, bend, direct, mesh, recoloured, still, warp
from reenact.errors import NoFaceError, UsageError
from reenact.geometry import apply, inverse
from reenact.images import write_image
from reenact.pipeline import Options
from reenact.types import Landmarks
from reenact.video import read_frames

SHAPE = (300, 320)
TARGET = similarity(0, 240, (40, 20))  # where the faces are: unit square to pixels
DRIVER = similarity(15, 120, (90, 40))  # smaller, and tilted
OPEN = 0.06  # of the face, what grey 200 in the corner stands for
OPTIONS = Options(smooth=0.0)


class Detector:
    """Sees one face, whose mouth is as open as the top left corner is bright; none where the corner is white."""

    def __init__(self, place):
        self.place = place

    def track(self, frames, known=()):
        for rgb in frames:
            level = float(rgb[:16, :16].mean())
            place = TARGET if rgb[-1, -1, 2] > 128 else self.place  # the target's last pixel is blue
            points = apply(place, face(OPEN * level / 200)).astype(np.float32)
            yield [] if level > 230 else [Landmarks(points, 1.0)]


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    found = Detector(DRIVER)
    monkeypatch.setattr(baselines.landmarks, "choose_detector", lambda name, store, device: (name, found))
    return found


def textured():
    """uint8 [300,320,3]: smooth colours, a mark of their own at every pixel; the corner black, the last pixel blue."""
    y, x = np.indices(SHAPE) / 40
    rgb = 120 + 60 * np.stack([np.sin(x + y), np.cos(x - 2 * y), np.sin(2 * x)], 2)
    rgb += np.random.default_rng(0).normal(0, 3, rgb.shape)
    rgb[:16, :16], rgb[-1, -1] = 0, (0, 0, 255)
    return rgb.clip(0, 255).astype(np.uint8)


def grey():
    """uint8 [300,320,3]: a plain face, with the same corner and last pixel."""
    rgb = np.full((*SHAPE, 3), 100, np.uint8)
    rgb[:16, :16], rgb[-1, -1] = 0, (0, 0, 255)
    return rgb


@pytest.fixture
def target(tmp_path):
    write_image(tmp_path / "target.png", textured())
    return tmp_path / "target.png"


def clip(path, levels):
    """A grey clip whose frames' corners have these levels."""

    def picture(index, width, height):
        rgb = np.full((height, width, 3), 90, np.uint8)
        rgb[:32, :32] = levels[index]
        return rgb

    return make_clip(path, range(5, 5 + len(levels)), size=(256, 240), picture=picture)


def marked(rgb, point):
    """A copy with a magenta disc round a point x,y."""
    y, x = np.indices(rgb.shape[:2])
    rgb = rgb.copy()
    rgb[np.hypot(x - point[0], y - point[1]) < 5] = 255, 0, 255
    return rgb


def mark_of(rgb):
    """Where the magenta disc is: x,y."""
    pixels = rgb.astype(float)
    y, x = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1] < 60) & (pixels[..., 2] > 200))
    return np.array([x.mean(), y.mean()])


# ---- All of them


@pytest.mark.parametrize("method", METHODS)
def test_there_is_a_frame_for_each_of_the_drivers_with_its_time(method, target, tmp_path):
    driver = clip(tmp_path / "driver.mp4", [0, 100, 200])
    made = list(METHODS[method](target, driver, OPTIONS))
    assert [(f.index, f.pts, f.seconds) for f in made] == [(f.index, f.pts, f.seconds) for f in read_frames(driver)]
    assert all(f.rgb.shape == (*SHAPE, 3) and f.matte.shape == SHAPE for f in made)


@pytest.mark.parametrize("method", METHODS)
def test_outside_the_matte_is_the_target(method, target, tmp_path):
    for frame in METHODS[method](target, clip(tmp_path / "driver.mp4", [0, 200]), OPTIONS):
        outside = frame.matte == 0
        assert outside.mean() > 0.3
        assert np.array_equal(frame.rgb[outside], textured()[outside])


@pytest.mark.parametrize("method", ["direct", "warp"])
def test_a_driver_without_a_face_is_refused_and_a_frame_without_one_is_not(method, target, tmp_path):
    with pytest.raises(NoFaceError, match=r"blank\.mp4"):
        list(METHODS[method](target, clip(tmp_path / "blank.mp4", [255, 255]), OPTIONS))
    assert len(list(METHODS[method](target, clip(tmp_path / "driver.mp4", [0, 255, 0]), OPTIONS))) == 3


def test_still_repeats_the_target(target, tmp_path):
    for frame in still(target, clip(tmp_path / "driver.mp4", [0, 200]), OPTIONS):
        assert np.array_equal(frame.rgb, textured())
        assert not frame.matte.any()


# ---- Warp


def test_a_driver_that_does_not_move_leaves_the_target_as_it_is(target, tmp_path):
    for frame in warp(target, clip(tmp_path / "driver.mp4", [120, 120, 120]), OPTIONS):
        assert np.array_equal(frame.rgb, textured())
        assert frame.matte.any()


def test_a_mouth_that_opens_moves_the_lip_by_as_much_of_the_targets_face(tmp_path):
    lip = apply(TARGET, face())[57]
    write_image(tmp_path / "target.png", marked(textured(), lip))
    first, last = warp(tmp_path / "target.png", clip(tmp_path / "driver.mp4", [0, 200]), OPTIONS)
    moved = mark_of(last.rgb) - mark_of(first.rgb)
    assert moved == pytest.approx(
        OPEN * np.array([0, 240]), abs=1.0
    )  # straight down, though the driver's head is tilted


def test_motion_counts_from_the_anchor_frame(tmp_path):
    lip = apply(TARGET, face())[57]
    write_image(tmp_path / "target.png", marked(textured(), lip))
    anchored = Options(smooth=0.0, anchor=1)
    first, last = warp(tmp_path / "target.png", clip(tmp_path / "driver.mp4", [0, 200]), anchored)
    assert mark_of(last.rgb) == pytest.approx(lip, abs=0.5)
    assert mark_of(first.rgb)[1] < lip[1] - 0.5 * OPEN * 240


def test_an_anchor_frame_that_there_is_not_is_refused(target, tmp_path):
    with pytest.raises(UsageError, match=r"--anchor-frame 2: the driver has frames 0 to 1"):
        list(warp(target, clip(tmp_path / "driver.mp4", [0, 200]), Options(anchor=2)))


def test_a_picture_as_driver_gives_its_expression_whole(tmp_path):
    """It has no anchor frame, so that the target's landmarks go where the driver's are."""
    lip = apply(TARGET, face())[57]
    write_image(tmp_path / "target.png", marked(textured(), lip))
    opened = np.full((240, 256, 3), 90, np.uint8)
    opened[:32, :32] = 200
    write_image(tmp_path / "driver.png", opened)
    (frame,) = warp(tmp_path / "target.png", tmp_path / "driver.png", OPTIONS)
    in_crop = apply(inverse(ffhq_crop(face(OPEN))), face(OPEN))[57]
    there = apply(ffhq_crop(apply(TARGET, face())), in_crop[None])[0]
    assert there[1] > lip[1] + 5
    assert mark_of(frame.rgb) == pytest.approx(there, abs=1.0)


# ---- Direct transfer


def test_the_target_as_its_own_driver_nearly_stays(target):
    (frame,) = direct(target, target, OPTIONS)
    change = np.abs(frame.rgb.astype(int) - textured())
    assert change[frame.matte > 0].mean() < 3
    assert frame.matte.max() == 255


def test_of_the_driver_no_background_comes_along(target, tmp_path):
    """A grey face before a green screen."""
    y, x = np.indices((240, 256))
    unit = apply(inverse(DRIVER), np.stack([x, y], 2).astype(float))
    rgb = np.full((240, 256, 3), (0, 255, 0), np.uint8)
    rgb[np.hypot((unit[..., 0] - 0.5) / 0.28, (unit[..., 1] - 0.5) / 0.37) < 1] = 128
    rgb[:16, :16] = 0
    write_image(tmp_path / "driver.png", rgb)
    write_image(tmp_path / "target.png", grey())
    (frame,) = direct(tmp_path / "target.png", tmp_path / "driver.png", OPTIONS)
    shown = frame.rgb[frame.matte > 0].astype(int)
    assert (shown[:, 1] - shown[:, 0]).max() < 10


def test_the_drivers_texture_is_what_is_shown(target, tmp_path):
    """A mark on the driver's nose comes to the target's nose."""
    rgb = np.full((240, 256, 3), 128, np.uint8)
    rgb[:16, :16] = 0
    write_image(tmp_path / "driver.png", marked(rgb, apply(DRIVER, face())[30]))
    write_image(tmp_path / "target.png", grey())
    (frame,) = direct(tmp_path / "target.png", tmp_path / "driver.png", OPTIONS)
    pixels = frame.rgb.astype(int)
    y, x = np.nonzero(pixels[..., 0] - pixels[..., 1] > 60)
    assert (x.mean(), y.mean()) == pytest.approx(apply(TARGET, face())[30], abs=1.5)


# ---- Bending


def unit_face(mouth=0.0):
    crop = ffhq_crop(face())
    return apply(inverse(crop), face(mouth))


def scene(size=200):
    y, x = (np.indices((size, size)) + 0.5) / size
    return np.stack([x, y, 0 * x], 2).astype(np.float32)


def test_every_landmark_goes_where_it_should():
    points, moved = unit_face(), unit_face(0.05)
    bent = bend(scene(), points, moved, mesh(points))
    for before, after in zip(points[48:60], moved[48:60], strict=True):
        x, y = np.rint(after * 200 - 0.5).astype(int)
        # Each pixel says where it came from; a pixel may lie a triangle aside.
        assert bent[y, x, :2] == pytest.approx(before, abs=0.015)


def test_lids_that_cross_leave_no_hole():
    points = unit_face()
    shut = points.copy()
    shut[[37, 38, 43, 44], 1] += 0.06  # the eyes are 0.04 high
    bent = bend(scene(), points, shut, mesh(points))
    assert np.isfinite(bent).all()
    near = np.abs(bent - scene())[..., :2].max(2)
    assert near.max() < 0.08  # nothing comes from farther away than the lids moved


def test_a_mesh_of_a_shut_mouth_can_open():
    shut = unit_face()
    shut[[65, 66, 67], 1] = shut[[63, 62, 61], 1]
    opened = shut.copy()
    opened[[65, 66, 67, 56, 57, 58], 1] += 0.05
    bent = bend(scene(), shut, opened, mesh(shut))
    x, y = np.rint((opened[66] + [0, -0.02]) * 200).astype(int)  # between the lips
    assert bent[y, x, 1] == pytest.approx(shut[66, 1], abs=0.01)  # the mouth's line, stretched


def test_recolouring_gives_the_mean_of_another_part():
    picture, like = np.full((8, 8, 3), 0.2, np.float32), np.full((8, 8, 3), 0.2, np.float32)
    like[2:4] = 0.1, 0.4, 0.3
    there = np.zeros((8, 8), bool)
    there[2:4] = True
    found = recoloured(picture, np.ones((8, 8), bool), like, there)
    assert found[0, 0] == pytest.approx([0.1, 0.4, 0.3])
