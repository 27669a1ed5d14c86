"""What is before a target's face: masks read, what is behind them, and what they are refused for."""

import numpy as np
import pytest
from PIL import Image

from reenact.errors import ImageError, UsageError
from reenact.front import MARKED, behind, check_face, cover, hidden_by, read_front
from reenact.images import read_mask

SIDE = 96
PHOTO = np.full((SIDE, SIDE, 3), 128, np.uint8)
POINTS = np.stack(np.meshgrid(np.linspace(20, 70, 17), np.linspace(30, 80, 4)), 2).reshape(68, 2).astype(np.float32)


def bar(left=40, right=50):
    """uint8 [S,S], white in a standing bar."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, left:right] = 255
    return mask


def saved(tmp_path, picture, name="front.png", **how):
    path = tmp_path / name
    Image.fromarray(picture).save(path, **how)
    return path


def read(path):
    return read_front(path, "me.jpg", PHOTO)


def standing(side=SIDE, left=0.4, right=0.5):
    """bool [side,side]: the same bar."""
    front = np.zeros((side, side), bool)
    front[:, round(left * side) : round(right * side)] = True
    return front


# ---- Masks


def test_white_marks_and_grey_marks_in_part(tmp_path):
    mask = bar()
    mask[:, 60] = 51
    marked = read_mask(saved(tmp_path, mask))
    assert marked.dtype == np.float32
    np.testing.assert_allclose(marked, mask / 255, atol=1e-6)


def test_a_cut_out_marks_by_its_opacity_whatever_its_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    marked = read_mask(saved(tmp_path, np.dstack([colours, bar()])))
    np.testing.assert_allclose(marked, bar() / 255)


def test_what_is_opaque_all_over_marks_by_its_light(tmp_path):
    opaque = np.dstack([np.repeat(bar()[:, :, None], 3, 2), np.full((SIDE, SIDE), 255, np.uint8)])
    np.testing.assert_allclose(read_mask(saved(tmp_path, opaque)), bar() / 255)


def test_a_mask_of_a_photo_that_lies_on_its_side_is_turned_upright(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    marked = read_mask(saved(tmp_path, bar(0, 10), exif=turned))
    assert marked[:10].all()
    assert not marked[10:].any()


def test_a_mask_of_the_targets_size_is_taken(tmp_path):
    np.testing.assert_array_equal(read(saved(tmp_path, bar())), bar() > 0)


def test_what_compression_leaves_on_black_marks_nothing(tmp_path):
    noisy = np.maximum(bar(), np.random.default_rng(0).integers(0, 40, (SIDE, SIDE), np.uint8))
    np.testing.assert_array_equal(read(saved(tmp_path, noisy)), bar() > 0)
    assert MARKED > 40 / 255


def test_a_mask_with_a_pixel_that_is_not_quite_opaque_is_read_by_its_light(tmp_path):
    opaque = np.dstack([np.repeat(bar()[:, :, None], 3, 2), np.full((SIDE, SIDE), 255, np.uint8)])
    opaque[0, 0, 3] = 254
    assert np.abs(read_mask(saved(tmp_path, opaque)) - bar() / 255).max() < 0.01


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (np.zeros((SIDE, SIDE + 2), np.uint8), "is 98x96; take a picture of me.jpg's size, 96x96"),
        (np.zeros((SIDE, SIDE), np.uint8), "marks nothing"),
        (np.full((SIDE, SIDE), 20, np.uint8), "marks nothing"),
    ],
    ids=["size", "black", "nearly black"],
)
def test_what_cannot_be_is_one_line(tmp_path, mask, why):
    with pytest.raises(UsageError, match=why) as error:
        read(saved(tmp_path, mask))
    assert "front.png" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mask_that_is_none_is_one_line(tmp_path):
    (tmp_path / "front.png").write_text("none")
    with pytest.raises(ImageError, match=r"front\.png: not a picture"):
        read(tmp_path / "front.png")


def test_a_mask_that_hides_the_whole_face_is_refused():
    with pytest.raises(UsageError, match=r"front\.png: hides 100 % of the face"):
        check_face("front.png", np.ones((SIDE, SIDE), bool), POINTS)
    assert check_face("front.png", standing(), POINTS)


def test_a_mask_that_marks_nothing_near_the_face_is_known():
    far = np.zeros((400, 400), bool)
    far[380:, 380:] = True
    assert not check_face("front.png", far, POINTS)
    assert check_face("front.png", far, POINTS + 290)
    assert not check_face("front.png", far, POINTS - [300, 0])  # a face beyond the edge


# ---- What is behind


@pytest.mark.parametrize("side", [24, SIDE, 1500])
def test_what_is_hidden_reaches_a_little_beyond_the_mask_and_is_covered_whole(side):
    front = standing(side)
    hidden = hidden_by(front, side)
    assert hidden[front].all()
    reach = (hidden[0].sum() - front[0].sum()) / 2
    assert reach == max(1, round(0.008 * side))
    covered = cover(hidden, side)
    np.testing.assert_array_equal(covered[hidden], 1)
    assert covered.min() == 0 or side < 30
    assert (np.diff(covered[0, side // 2 + reach.astype(int) :]) <= 1e-6).all()  # less and less


def test_what_is_not_hidden_stays_bit_by_bit():
    picture, hidden = np.random.default_rng(0).random((SIDE, SIDE, 3), np.float32), standing()
    np.testing.assert_array_equal(behind(picture, hidden)[~hidden], picture[~hidden])


@pytest.mark.parametrize("side", [SIDE, 700])
def test_a_slope_goes_on_behind_and_nothing_of_what_is_before_it_is_left(side):
    slope = np.linspace(0.2, 0.8, side, dtype=np.float32)[None, :, None].repeat(side, 0).repeat(3, 2)
    picture, hidden = slope.copy(), standing(side)
    picture[hidden] = 0, 1, 0
    clear = behind(picture, hidden)
    assert np.abs(clear - slope).max() < 0.06
    np.testing.assert_array_equal(picture[hidden][:, 1], 1)  # what was given is left alone


@pytest.mark.parametrize("value", [False, True])
def test_where_nothing_or_all_is_hidden_nothing_can_be_invented(value):
    picture = np.random.default_rng(0).random((32, 32, 3), np.float32)
    np.testing.assert_array_equal(behind(picture, np.full((32, 32), value)), picture)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 7), (2, 3), (1500, 4), (3, 1500)])
def test_pictures_of_any_shape_have_something_behind(shape):
    hidden = np.zeros(shape, bool)
    hidden.flat[0] = True
    clear = behind(np.full((*shape, 3), 0.5, np.float32), hidden)
    assert clear.shape == (*shape, 3)
    np.testing.assert_allclose(clear, 0.5, atol=0.01)
