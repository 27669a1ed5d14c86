"""The crop is FFHQ's, follows the head and not the mouth, and shows the pixels that it says it shows."""

import cv2
import numpy as np
import pytest
from faces import face, similarity

from reenact.align import AlignOptions, cut_out, ffhq_crop, steady_crops
from reenact.geometry import apply, compose

CORNERS = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])


def corners(crops):
    """[...,2,3] -> the corners [...,4,2], in the order of FFHQ's quad."""
    return np.einsum("...ij,kj->...ki", crops[..., :2], CORNERS) + crops[..., None, :, 2]


# --- One face -----------------------------------------------------------------------------------


def ffhq_quad(points):
    """FFHQ's crop in complex numbers, where a quarter turn is a factor i."""
    z = points[:, 0] + 1j * points[:, 1]
    left, right, mouth = z[36:42].mean(), z[42:48].mean(), (z[48] + z[54]) / 2
    eye_to_eye, eye_to_mouth = right - left, mouth - (left + right) / 2
    x = eye_to_eye - 1j * eye_to_mouth
    x *= max(2.0 * abs(eye_to_eye), 1.8 * abs(eye_to_mouth)) / abs(x)
    y, c = 1j * x, (left + right) / 2 + 0.1 * eye_to_mouth
    quad = np.array([c - x - y, c - x + y, c + x + y, c + x - y])
    return np.stack([quad.real, quad.imag], 1)


@pytest.mark.parametrize("seed", range(20))
def test_crop_is_ffhqs(seed):
    rng = np.random.default_rng(seed)
    points = apply(similarity(rng.uniform(-180, 180), 300, (200, 100)), face() + rng.normal(scale=0.03, size=(68, 2)))
    assert corners(ffhq_crop(points)) == pytest.approx(ffhq_quad(points))


def test_a_drawn_face_fills_the_crop_as_it_was_drawn():
    assert ffhq_crop(face()) == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=0.06)


MOTIONS = [similarity(0, 1, (50, -30)), similarity(25, 1, (0, 0)), similarity(-140, 3, (9, 9))]


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_crop_moves_with_the_face(motion):
    points = apply(similarity(5, 200, (300, 200)), face(mouth=0.05))
    assert ffhq_crop(apply(motion, points)) == pytest.approx(compose(motion, ffhq_crop(points)))


# --- A clip -------------------------------------------------------------------------------------


def clip(mouths, places):
    """[T,68,2] float32, as detectors give them."""
    return np.stack([apply(p, face(m)) for m, p in zip(mouths, places, strict=True)]).astype(np.float32)


HERE = similarity(10, 300, (400, 200))


def test_an_opening_mouth_does_not_move_the_crop():
    points = clip(0.06 * (1 - np.cos(np.arange(50) / 4)), [HERE] * 50)
    each = corners(np.stack([ffhq_crop(p) for p in points]))
    assert np.ptp(each, axis=0).max() > 10  # what it would do frame by frame
    assert np.ptp(corners(steady_crops(points, ())), axis=0).max() < 0.1


def test_a_still_face_has_the_crop_of_a_picture():
    points = clip([0.02] * 9, [HERE] * 9)
    assert corners(steady_crops(points, ())) == pytest.approx(np.stack([ffhq_quad(points[0])] * 9), abs=0.01)


def test_a_mouth_open_in_the_first_frame_alone_does_not_make_the_crop():
    points = clip([0.1] + [0] * 8, [HERE] * 9)
    assert corners(steady_crops(points, ())) == pytest.approx(np.stack([ffhq_quad(points[1])] * 9), abs=0.01)


def test_a_moving_face_is_followed_without_lag():
    places = [compose(similarity(0, 1, (4 * t, -2 * t)), HERE) for t in range(60)]
    crops = corners(steady_crops(clip([0] * 60, places), ()))
    expected = corners(np.stack([ffhq_crop(apply(p, face())) for p in places]))
    assert crops[15:-15] == pytest.approx(expected[15:-15], abs=0.05)


def test_talking_while_moving_is_followed_too():
    places = [compose(similarity(0, 1, (4 * t, 0)), HERE) for t in range(60)]
    crops = corners(steady_crops(clip(0.06 * (1 - np.cos(np.arange(60) / 4)), places), ()))
    assert np.diff(crops, axis=0)[15:-15] == pytest.approx(np.broadcast_to([4, 0], (29, 4, 2)), abs=0.05)


def test_a_face_that_comes_nearer_and_tilts_is_followed_without_lag():
    places = [similarity(t / 2, 300 + 2 * t, (400, 200)) for t in range(80)]
    crops = steady_crops(clip([0] * 80, places), ())
    expected = np.stack([ffhq_crop(apply(p, face())) for p in places])
    assert corners(crops)[20:-20] == pytest.approx(corners(expected)[20:-20], abs=0.5)


def test_jitter_is_smoothed():
    rng = np.random.default_rng(0)
    points = clip([0] * 60, [HERE] * 60) + rng.normal(scale=1.0, size=(60, 68, 2)).astype(np.float32)
    rough = corners(steady_crops(points, (), AlignOptions(centre_sigma=0, axes_sigma=0)))
    smooth = corners(steady_crops(points, ()))
    assert np.diff(smooth, axis=0).std() < np.diff(rough, axis=0).std() / 2


def test_the_crop_starts_anew_at_a_cut():
    there = similarity(-20, 100, (50, 600))
    points = clip([0] * 20, [HERE] * 8 + [there] * 12)
    expected = corners(np.stack([ffhq_crop(apply(p, face())) for p in (HERE, there)]))
    crops = corners(steady_crops(points, (8,)))
    assert crops[:8] == pytest.approx(np.broadcast_to(expected[0], (8, 4, 2)), abs=0.01)
    assert crops[8:] == pytest.approx(np.broadcast_to(expected[1], (12, 4, 2)), abs=0.01)


def test_a_clip_of_one_frame_is_a_picture():
    points = clip([0.05], [HERE])
    assert corners(steady_crops(points, ()))[0] == pytest.approx(ffhq_quad(points[0]), abs=1e-3)


# --- Pixels -------------------------------------------------------------------------------------


def gradient(width=256, height=256):
    """Red tells x, green tells y."""
    y, x = np.indices((height, width))
    return np.stack([x, y, np.zeros_like(x)], 2).astype(np.uint8)


def looked_at(cut):
    """The x,y [S,S,2] in the picture of every pixel of the crop."""
    y, x = np.indices(cut.rgb.shape[:2])
    return apply(cut.to_frame, np.stack([x, y], 2))


CROPS = [similarity(0, 100, (60, 70)), similarity(30, 120, (110, 30)), similarity(-75, 130, (40, 190))]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [256, 128, 96])
def test_pixels_land_where_the_matrix_says(crop, size):
    cut = cut_out(gradient(), crop, size)
    error = cut.rgb[:, :, :2] - looked_at(cut)
    assert np.abs(error).max() < 0.6  # rounding to whole greys is 0.5 of it
    assert np.abs(error.mean((0, 1))).max() < 0.1  # half a pixel off would be 0.5


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [48, 40, 17])
def test_pixels_of_a_shrunk_crop_land_there_too(crop, size):
    cut = cut_out(gradient(), crop, size)
    error = cut.rgb[:, :, :2] - looked_at(cut)
    assert np.abs(error.mean((0, 1))).max() < 0.6  # half a pixel of the crop off would be 1 to 4; rounded twice, 0.5


@pytest.mark.parametrize("size", [16, 100])
def test_the_crops_corners_are_the_outer_ones_of_its_pixels(size):
    cut = cut_out(gradient(), CROPS[1], size)
    outer = (CORNERS * size) - 0.5
    assert apply(cut.to_frame, outer) == pytest.approx(corners(CROPS[1]))


def mirrored(values, last):
    """Where 0..last is reflected to, its ends not repeated."""
    return last - np.abs(last - np.abs(values))


@pytest.mark.parametrize("x", [-89.5, 39.5, 219.5])
@pytest.mark.parametrize("y", [-79.5, 29.5, 209.5])
def test_past_the_edge_the_picture_is_mirrored(x, y):
    cut = cut_out(gradient(), similarity(0, 128, (x, y)), 128)  # its pixels are pixels of the picture
    assert np.array_equal(cut.rgb[:, :, :2], mirrored(looked_at(cut), 255))


def test_a_crop_larger_than_the_picture_is_mirrored_on_all_sides():
    cut = cut_out(gradient(100, 80), similarity(0, 160, (-30.5, -40.5)), 160)
    assert np.array_equal(cut.rgb[:, :, :2], mirrored(looked_at(cut), [99, 79]))


def scene(size):
    """The same smooth scene at any resolution."""
    at = (np.arange(size) + 0.5) / size
    across, down = np.broadcast_arrays(np.sin(9 * at), np.cos(11 * at)[:, None])
    return np.stack([np.rint(127.5 + 120 * v).astype(np.uint8) for v in (across, down, -across)], 2)


@pytest.mark.parametrize("degrees", [0, 20, 135])
@pytest.mark.parametrize("large", [1000, 1700, 4000])
def test_a_large_picture_gives_the_same_crop_as_a_small_one(degrees, large):
    unit = similarity(degrees, 0.5, (0.45, 0.25))

    def cut(size):
        to_pixels = np.array([[size, 0, -0.5], [0, size, -0.5]])
        return cut_out(scene(size), compose(to_pixels, unit), 128).rgb.astype(int)

    difference = cut(large) - cut(400)
    assert np.abs(difference).max() <= 2
    assert np.abs(difference.mean((0, 1))).max() < 0.3


@pytest.mark.parametrize("shrink", [2, 3.3, 4, 6.7, 8])
def test_fine_detail_becomes_grey_and_no_pattern(shrink):
    checks = np.indices((1200, 1200)).sum(0) % 2 * 255
    rgb = np.repeat(checks[:, :, None], 3, 2).astype(np.uint8)
    cut = cut_out(rgb, similarity(0, 128 * shrink, (50, 50)), 128)
    assert np.abs(cut.rgb.astype(int) - 127.5).max() < 16  # of three by three squares, five may be white
    assert np.abs(cv2.blur(cut.rgb, (4, 4)).astype(int) - 127.5)[8:-8, 8:-8].max() < 16


def test_the_picture_is_left_alone():
    rgb = scene(400)
    cut_out(rgb, similarity(20, 300, (50, 50)), 64).rgb[:] = 0
    assert np.array_equal(rgb, scene(400))
