"""The composite: the photo where nothing changed, the generated face where something did, no seam between."""

import cv2
import numpy as np
import pytest
from faces import LOWER_LIP, face, similarity

from reenact.blend import Blender, BlendOptions, Face, settling
from reenact.geometry import apply, compose, inverse

CROP = similarity(8, 240, (90, 40))  # the unit square to the photo's pixels
SHAPE = (330, 400)
EDGES = {
    "left": (-70, 40),
    "right": (230, 40),
    "top": (90, -60),
    "bottom": (90, 150),
    "corner": (-70, -60),
}


def waves(x, y):
    """A smooth colourful scene [...,3] in 0..1."""
    return 0.5 + 0.3 * np.stack([np.sin(6 * x + 2 * y), np.cos(5 * x - 3 * y), np.sin(4 * y) * np.cos(3 * x)], -1)


def places(crop=CROP):
    """Where each of the photo's pixels lies in the crop's unit square, [H,W,2]."""
    y, x = np.indices(SHAPE)
    return apply(inverse(crop), np.stack([x, y], 2).astype(float))


def photo(crop=CROP):
    """uint8: the scene, its unit square where the crop is."""
    unit = places(crop)
    return np.rint(waves(unit[..., 0], unit[..., 1]) * 255).astype(np.uint8)


def rendered(size=256):
    """The scene as a generator would draw it that gets everything right."""
    y, x = (np.indices((size, size)) + 0.5) / size
    return waves(x, y).astype(np.float32)


def noise(size=256, seed=0):
    return np.random.default_rng(seed).random((size, size, 3)).astype(np.float32)


def generated(picture, mouth=0.0):
    return Face(picture, face(mouth).astype(np.float32))


def spotted(size=256):
    """The scene with a magenta disc where the mouth is."""
    picture = rendered(size)
    y, x = (np.indices((size, size)) + 0.5) / size
    picture[np.hypot(x - 0.5, y - 0.74) < 0.08] = 1, 0, 1
    return picture


def seen(plane, point, crop=CROP):
    """The photo-sized plane at a point of the unit square."""
    x, y = np.rint(apply(crop, np.array([point]))[0]).astype(int)
    return plane[y, x]


def blend(blender, shown):
    return blender.blend(shown, 0, 0, 0.0)


def test_what_is_before_the_face_is_not_painted_over_and_throws_no_colour_on_it():
    front = np.zeros(SHAPE, bool)
    front[150:200] = True  # a magenta bar
    barred = photo()
    barred[front] = 255, 0, 255
    frame = blend(Blender(barred, CROP, generated(rendered()), front=front), generated(rendered(), mouth=0.06))
    np.testing.assert_array_equal(frame.rgb[front], barred[front])
    assert not frame.matte[front].any()
    below = np.zeros(SHAPE, bool)
    below[206:240, 150:260] = True
    assert np.abs(frame.rgb[below].astype(int) - photo()[below]).max() < 16


# --- The picture --------------------------------------------------------------------------------


@pytest.mark.parametrize("carry", [True, False])
def test_outside_the_matte_every_pixel_is_the_photos(carry):
    blender = Blender(photo(), CROP, generated(rendered()), BlendOptions(carry=carry))
    frame = blend(blender, generated(noise(), mouth=0.06))
    outside = frame.matte == 0
    assert outside.mean() > 0.3
    assert np.array_equal(frame.rgb[outside], photo()[outside])
    assert not np.array_equal(frame.rgb, photo())


def test_a_face_that_stays_as_it_was_leaves_the_photo():
    base = generated(noise())  # however bad the reconstruction
    frame = blend(Blender(photo(), CROP, base), base)
    assert np.abs(frame.rgb.astype(int) - photo()).max() <= 1


@pytest.mark.parametrize("carry", [True, False])
def test_a_perfect_drawing_of_the_photo_leaves_it(carry):
    blender = Blender(photo(), CROP, generated(rendered()), BlendOptions(carry=carry))
    frame = blend(blender, generated(rendered()))
    assert np.abs(frame.rgb.astype(int) - photo()).max() <= 3


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_the_drawing_lies_where_the_crop_says(size):
    shown = Blender(photo(), CROP, generated(rendered(size))).warped(generated(rendered(size)))
    inside = ((places() > 0.02) & (places() < 0.98)).all(2)
    assert np.abs(shown.astype(int) - photo())[inside].max() <= 2


@pytest.mark.parametrize("carry", [True, False])
def test_what_has_changed_is_shown(carry):
    blender = Blender(photo(), CROP, generated(rendered()), BlendOptions(carry=carry))
    frame = blend(blender, generated(spotted()))
    assert seen(frame.rgb, (0.5, 0.74)) == pytest.approx([255, 0, 255], abs=40)


def test_detail_of_the_photo_goes_where_the_face_has_changed():
    """A line that the reconstruction misses, as of shut lips: kept while the face stays, gone from an open mouth."""
    lined = photo()
    lined[np.abs(places()[..., 1] - 0.74) < 0.005] = 0
    left = {}
    for name, shown in (("stays", rendered()), ("opens", spotted())):
        with_line, without = (
            blend(Blender(target, CROP, generated(rendered())), generated(shown)).rgb for target in (lined, photo())
        )
        left[name] = np.abs(seen(with_line, (0.5, 0.74)).astype(int) - seen(without, (0.5, 0.74))).max()
    assert left["stays"] > 80
    assert left["opens"] < 30


@pytest.mark.parametrize("carry", [True, False])
def test_another_light_in_the_drawing_is_made_up_for(carry):
    dim = rendered() - 0.15
    frame = blend(Blender(photo(), CROP, generated(dim), BlendOptions(carry=carry)), generated(dim))
    assert np.abs(frame.rgb.astype(int) - photo()).max() <= 6  # 0.15 is 38


def test_two_resolutions_of_the_drawing_agree():
    small, large = (
        blend(Blender(photo(), CROP, generated(rendered(size))), generated(spotted(size))) for size in (256, 512)
    )
    difference = np.abs(small.rgb.astype(int) - large.rgb)
    rim = np.linalg.norm(places() - [0.5, 0.74], axis=2)
    assert difference[np.abs(rim - 0.08) > 0.02].max() <= 3  # the disc's rim has steps of a pixel
    assert np.array_equal(small.matte, large.matte)


def test_a_drawing_much_larger_than_the_face_is_not_aliased():
    checks = np.repeat((np.indices((1024, 1024)).sum(0) % 2)[:, :, None], 3, 2).astype(np.float32)
    grey = np.full((*SHAPE, 3), 128, np.uint8)
    frame = blend(Blender(grey, CROP, generated(np.full_like(checks, 0.5))), generated(checks))
    assert np.abs(frame.rgb.astype(int) - 128).max() < 20


@pytest.mark.parametrize("place", EDGES)
@pytest.mark.parametrize("carry", [True, False])
def test_a_face_at_the_pictures_edge(place, carry):
    crop = similarity(8, 240, EDGES[place])
    blender = Blender(photo(crop), crop, generated(rendered()), BlendOptions(carry=carry))
    same, other = blend(blender, generated(rendered())), blend(blender, generated(noise(), mouth=0.06))
    assert np.abs(same.rgb.astype(int) - photo(crop)).max() <= 3
    assert other.rgb.shape == (*SHAPE, 3)
    assert np.array_equal(other.rgb[other.matte == 0], photo(crop)[other.matte == 0])
    assert other.matte.max() == 255


def test_frames_do_not_touch_each_other_nor_the_photo():
    target = photo()
    blender = Blender(target, CROP, generated(rendered()))
    first = blend(blender, generated(spotted())).rgb.copy()
    blend(blender, generated(noise(), mouth=0.06)).rgb[:] = 0
    assert np.array_equal(blend(blender, generated(spotted())).rgb, first)
    assert np.array_equal(target, photo())


# --- The matte ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (0.0, 0.08), (0.08, 0.0)])
def test_the_matte_covers_mouth_and_chin_of_both_faces(before, after):
    blender = Blender(photo(), CROP, generated(rendered(), before))
    matte = blend(blender, generated(rendered(), after)).matte
    for mouth in (before, after):
        points = face(mouth)
        assert min(seen(matte, points[i]) for i in (*range(48, 68), *LOWER_LIP)) > 240
        assert min(seen(matte, points[i]) for i in range(17)) > 128


def test_the_matte_reaches_over_the_brows():
    matte = blend(Blender(photo(), CROP, generated(rendered())), generated(rendered())).matte
    assert min(seen(matte, point) for point in face()[17:27]) > 240


def test_the_matte_lets_hair_and_background_be():
    matte = blend(Blender(photo(), CROP, generated(rendered())), generated(rendered(), mouth=0.08)).matte
    assert [seen(matte, point) for point in ((0.02, 0.02), (0.98, 0.02), (0.02, 0.98), (0.98, 0.98))] == [0, 0, 0, 0]


def test_the_mattes_edge_is_soft():
    matte = blend(Blender(photo(), CROP, generated(rendered())), generated(rendered())).matte
    steps = [np.abs(np.diff(matte.astype(int), axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 255 / 4


def test_frame_and_matte_are_the_photos_size_and_carry_the_time():
    frame = Blender(photo(), CROP, generated(rendered())).blend(generated(rendered()), 7, 3003, 0.1001)
    assert frame.rgb.shape == (*SHAPE, 3)
    assert frame.matte.shape == SHAPE
    assert frame.matte.dtype == np.uint8
    assert (frame.index, frame.pts, frame.seconds) == (7, 3003, 0.1001)


# --- The landmark transform ---------------------------------------------------------------------

TURN = similarity(8, 0.96, (0.07, -0.04))  # of the picture's unit square


def turned(picture, points):
    """The face that moved by `TURN`, as a generator might draw it."""
    size = len(picture)
    to_unit = np.array([[1 / size, 0, 0.5 / size], [0, 1 / size, 0.5 / size]])
    matrix = compose(inverse(to_unit), compose(TURN, to_unit))
    moved = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return Face(moved, apply(TURN, points).astype(np.float32))


def test_a_face_that_moved_as_a_whole_is_moved_back():
    base = generated(rendered())
    assert np.allclose(settling(turned(base.picture, base.points), base), inverse(TURN), atol=1e-5)


def test_an_opening_mouth_moves_no_face():
    assert np.allclose(settling(generated(rendered(), mouth=0.08), generated(rendered())), np.eye(2, 3), atol=1e-5)


def test_a_face_that_was_drawn_elsewhere_lands_where_the_photos_face_is():
    base = generated(rendered())
    elsewhere = turned(base.picture, base.points)
    blender = Blender(photo(), CROP, base)
    frame = blender.blend(elsewhere, 0, 0, 0.0, settling(elsewhere, base))
    at_home = blender.blend(base, 0, 0, 0.0)
    assert np.abs(frame.rgb.astype(int) - at_home.rgb).max() <= 3
    assert np.abs(frame.matte.astype(int) - at_home.matte).max() <= 8
    assert np.abs(blender.blend(elsewhere, 0, 0, 0.0).rgb.astype(int) - at_home.rgb).max() > 20
