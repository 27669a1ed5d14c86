"""A photo bent by its mesh, with what a drawn face adds: on pictures whose every pixel is known."""

import cv2
import numpy as np
import pytest
from meshes import REST, TRIANGLES, near, opened, place, shut

from reenact import mesh
from reenact.compose import ComposeOptions, Composer, Drawn
from reenact.motion import INNER_LIPS, IRISES, LIDS, LOWER_LIP, OUTER_LIPS, SKIN, UPPER_LIP, eye_ring

SIDE = 400
CHEEK, CORNER = 205, 61
GREY = 0.6
PLAIN = ComposeOptions(folds=0)


def noise(height, width, seed=0):
    """uint8 [H,W,3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def grey(height=SIDE, width=SIDE):
    return np.full((height, width, 3), round(255 * GREY), np.uint8)


def drawn(points=REST, size=256, rgb=(GREY, GREY, GREY)):
    """A drawn face of one colour."""
    return Drawn(np.full((size, size, 3), rgb, np.float32), points)


def composer(photo, crop=None, base=None, options=None, rest=REST):
    return Composer(photo, place(SIDE) if crop is None else crop, rest, base or drawn(), TRIANGLES, options)


def composed(photo, goal, face=None, **more):
    return composer(photo, **more).compose(goal, face or drawn(), 0, 0, 0.0)


def filled(photo, ring, colour, crop=None):
    """The photo with a polygon of the crop in one colour."""
    crop = place(SIDE) if crop is None else crop
    corners = np.rint((ring @ crop[:, :2].T + crop[:, 2]) * 16).astype(np.int32)
    cv2.fillPoly(photo, [corners], colour, shift=4)
    return photo


def inside(ring, side=SIDE):
    """bool [side,side]: where a picture of the crop shows the inside of a polygon."""
    return filled(np.zeros((side, side), np.uint8), ring, 1, place(side)) > 0


def dotted(point, crop=None, height=SIDE, width=SIDE, radius=2.0):
    """Grey with a soft dark dot at a point of the crop."""
    crop = place(SIDE) if crop is None else crop
    x, y = crop[:, :2] @ point + crop[:, 2]
    rows, columns = np.mgrid[:height, :width]
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return np.rint(255 * GREY * (1 - 0.8 * dot[:, :, None]).repeat(3, 2)).astype(np.uint8)


def spot(rgb, channel=None):
    """Where, x,y, a picture is unlike the grey, or in one channel unlike the others."""
    seen = rgb.astype(float)
    weight = np.abs(seen.mean(2) - round(255 * GREY)) if channel is None else seen[:, :, channel] - seen.min(2)
    weight = np.where(weight > 12, weight, 0)
    rows, columns = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def beyond(crop, height, width):
    """bool [H,W]: what lies outside the ring that does not move, by two pixels or more."""
    within = filled(np.zeros((height, width), np.uint8), mesh.over(REST, TRIANGLES).ring, 1, crop)
    return cv2.dilate(within, np.ones((5, 5), np.uint8)) == 0


def smiling(by=(0.01, -0.015)):
    """The goal with the corner of the mouth and what is round it moved, fading."""
    goal = REST.copy()
    gaps = np.linalg.norm(REST[:SKIN] - REST[CORNER], axis=1)
    goal[:SKIN] += np.clip(1.3 - gaps / 0.08, 0, 1)[:, None] * by
    return goal


# ---- At rest

PLACES = {
    "large": (place(900, 20, 10), 930, 960),
    "usual": (place(SIDE), SIDE, SIDE),
    "small": (place(60, 7, 5), 80, 90),
    "tiny": (place(24, 30, 30), 80, 80),
    "turned": (np.array([[300.0, 80, 20.3], [-80, 300, 90.7]]), 420, 430),
    "over the left edge": (place(300, -110, 0), 300, 300),
    "over the lower edge": (place(300, 20, 80), 300, 340),
    "larger than the picture": (place(600, -150, -150), 300, 300),
}


@pytest.mark.parametrize("options", [None, PLAIN], ids=["folds", "plain"])
@pytest.mark.parametrize(("crop", "height", "width"), PLACES.values(), ids=PLACES)
def test_a_goal_at_rest_leaves_the_photo_bit_by_bit(crop, height, width, options):
    photo = noise(height, width)
    base = Drawn(np.random.default_rng(1).random((128, 128, 3), np.float32), REST + 0.01)
    result = composed(photo, REST.copy(), base, crop=crop, base=base, options=options)
    np.testing.assert_array_equal(result.rgb, photo)
    assert not result.matte.any()


@pytest.mark.parametrize("gap", [-0.002, 0.0, 0.001])
def test_lips_that_touch_in_the_photo_leave_it_bit_by_bit_too(gap):
    """As they are measured they may cross by a hair, and hide no teeth."""
    rest = REST.copy()
    rest[UPPER_LIP] = rest[LOWER_LIP] - [0, gap]
    photo = noise(SIDE, SIDE)
    frame = composer(photo, rest=rest).compose(rest, drawn(rest), 0, 0, 0.0)
    assert np.array_equal(frame.rgb, photo)


@pytest.mark.parametrize(("crop", "height", "width"), PLACES.values(), ids=PLACES)
def test_a_face_of_any_size_and_place_moves_and_all_around_it_does_not(crop, height, width):
    photo = noise(height, width)
    goal = shut(opened(smiling(), 0.04), LIDS[0])
    result = composed(photo, goal, drawn(opened(REST, 0.05)), crop=crop)
    assert result.rgb.shape == photo.shape
    assert result.rgb.dtype == np.uint8
    assert (result.rgb != photo).any()
    still = beyond(crop, height, width)
    np.testing.assert_array_equal(result.rgb[still], photo[still])


def masked(photo, front, goal, face=None):
    held = Composer(photo, place(SIDE), REST, drawn(), TRIANGLES, PLAIN, front=front)
    return held.compose(goal, face or drawn(), 0, 0, 0.0)


def test_what_is_before_the_face_stays_and_the_face_moves_behind_it():
    photo, goal = grey(), smiling((0.05, -0.05))
    front = np.zeros((SIDE, SIDE), bool)
    x, y = np.rint(place(SIDE)[:, :2] @ REST[CORNER] + place(SIDE)[:, 2]).astype(int)
    front[y - 60 : y + 60, x - 8 : x + 8] = True  # a green stick across the corner of the mouth
    photo[front] = 0, 255, 0
    bent = composed(photo, goal).rgb
    assert (bent[front] != (0, 255, 0)).any()  # without a mask it moves along
    held = masked(photo, front, goal)
    np.testing.assert_array_equal(held.rgb[front], photo[front])
    green = held.rgb[:, :, 1].astype(int) - held.rgb[:, :, 0]
    assert green[~front].max() < 30  # and no second one beside it
    np.testing.assert_array_equal(held.matte, 255 * (held.rgb != photo).any(2))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_face_behind_something_is_at_rest_the_photo_bit_by_bit(share):
    photo, front = noise(SIDE, SIDE), np.random.default_rng(1).random((SIDE, SIDE)) < share
    frame = masked(photo, front, REST.copy())
    np.testing.assert_array_equal(frame.rgb, photo)
    assert not frame.matte.any()


def test_the_matte_is_white_exactly_where_pixels_differ():
    photo = noise(SIDE, SIDE)
    result = composed(photo, opened(smiling(), 0.03), drawn(opened(REST, 0.05)))
    assert 0.02 < (result.matte > 0).mean() < 0.9
    np.testing.assert_array_equal(result.matte, 255 * (result.rgb != photo).any(2))


def test_a_frame_has_its_place_in_time_and_the_photo_is_not_written_to():
    photo = noise(SIDE, SIDE)
    given = photo.copy()
    maker = composer(photo)
    first = maker.compose(smiling(), drawn(), 7, 21, 0.28)
    assert (first.index, first.pts, first.seconds) == (7, 21, 0.28)
    again = maker.compose(REST, drawn(), 8, 24, 0.32)
    np.testing.assert_array_equal(photo, given)
    np.testing.assert_array_equal(again.rgb, photo)
    assert (first.rgb != photo).any()


def test_a_frame_does_not_depend_on_those_before():
    photo, goal, face = noise(SIDE, SIDE), opened(smiling(), 0.03), drawn(opened(REST, 0.05))
    used = composer(photo)
    used.compose(opened(REST, 0.06), face, 0, 0, 0.0)
    np.testing.assert_array_equal(used.compose(goal, face, 1, 1, 0.1).rgb, composed(photo, goal, face).rgb)


def test_goals_are_not_written_to():
    goal = opened(smiling(), 0.2)
    given = goal.copy()
    composed(noise(SIDE, SIDE), goal)
    np.testing.assert_array_equal(goal, given)


# ---- Skin


@pytest.mark.parametrize("shift", [(6, -4), (-3.5, 0), (0, 5)])
@pytest.mark.parametrize("index", [CHEEK, CORNER, 66, 17])
def test_a_dot_on_the_skin_moves_as_the_points_round_it(index, shift):
    goal = REST.copy()
    goal[near(REST, index, 0.06)] += np.array(shift) / SIDE
    photo = dotted(REST[index])
    before, after = spot(photo), spot(composed(photo, goal, options=PLAIN).rgb)
    np.testing.assert_allclose(after - before, shift, atol=0.35)


@pytest.mark.parametrize("side", [60, 150, 900])
def test_a_dot_moves_by_the_same_share_of_any_face(side):
    crop, goal = place(side, 10, 10), REST.copy()
    goal[near(REST, CHEEK, 0.06)] += [0.02, -0.015]
    size = side + 20
    photo = dotted(REST[CHEEK], crop, size, size, radius=max(0.8, side / 200))
    before, after = spot(photo), spot(composed(photo, goal, crop=crop, options=PLAIN).rgb)
    np.testing.assert_allclose((after - before) / side, [0.02, -0.015], atol=0.003)


def test_in_a_turned_photo_it_moves_along_the_faces_own_axes():
    crop = np.array([[300.0, -120, 120.0], [120, 300, 20]])
    goal = REST.copy()
    goal[near(REST, CHEEK, 0.06)] += [0.02, 0]
    photo = dotted(REST[CHEEK], crop, 460, 460)
    before, after = spot(photo), spot(composed(photo, goal, crop=crop, options=PLAIN).rgb)
    np.testing.assert_allclose(after - before, [6, 2.4], atol=0.35)


def test_what_moves_far_from_a_dot_does_not_move_it():
    photo = dotted(REST[CHEEK])
    goal = REST.copy()
    goal[near(REST, 66, 0.05)] += [0, -0.02]
    np.testing.assert_allclose(spot(composed(photo, goal, options=PLAIN).rgb), spot(photo), atol=0.05)


def test_a_photo_that_ends_in_the_face_is_bent_as_the_whole_one():
    photo = cv2.GaussianBlur(noise(SIDE, SIDE), (0, 0), 3)
    goal = smiling()
    for part in ((slice(None), slice(None, 260)), (slice(None, 330), slice(None))):
        cut = np.ascontiguousarray(photo[part])
        result, whole = (composed(p, goal, options=PLAIN).rgb for p in (cut, photo))
        height, width = cut.shape[0] - 25, cut.shape[1] - 25
        apart = np.abs(result[:height, :width].astype(int) - whole[:height, :width])
        assert apart.max() <= 1


def shaded(height=SIDE):
    """Darker above, lighter below."""
    return np.linspace(60, 200, height).astype(np.uint8)[:, None, None].repeat(SIDE, 1).repeat(3, 2)


def test_below_a_dropped_jaw_a_smooth_photo_stays_smooth():
    """The ring that does not move is beyond the crop there."""
    photo = shaded(SIDE + 80)
    rgb = composed(photo, opened(REST, 0.05), drawn(opened(REST, 0.05)), options=PLAIN).rgb.astype(int)
    steps = np.diff(rgb[round(0.9 * SIDE) :, :, 0], axis=0)
    assert steps.min() >= -1
    assert steps.max() <= 3


def test_skin_that_a_goal_folds_is_not_torn():
    """A lip turned out over the chin: the photo's smooth shade stays as smooth."""
    photo = shaded()
    goal = REST.copy()
    goal[[17, 84, 314]] += [0, 0.08]
    rgb = composed(photo, goal, options=PLAIN).rgb.astype(int)
    assert np.diff(rgb[:, :, 0], axis=0).min() > -3


# ---- Eyes


def coloured_eyes(colour=(0, 255, 0), inner=0.85):
    photo = grey()
    for eye in (0, 1):
        ring = REST[eye_ring(eye)]
        filled(photo, ring.mean(0) + inner * (ring - ring.mean(0)), colour)
    return photo


def greenness(rgb):
    """[H,W]: how much greener than red a picture is."""
    return np.maximum(rgb[:, :, 1].astype(int) - rgb[:, :, 0], 0)


@pytest.mark.parametrize("eye", [0, 1])
def test_a_shut_eye_shows_nothing_of_what_was_between_its_lids(eye):
    photo = coloured_eyes(inner=0.7)
    seen = greenness(composed(photo, shut(REST, LIDS[eye]), options=PLAIN).rgb)
    middle = SIDE // 2 + 10
    halves = seen[:, :middle], seen[:, middle:]
    before = greenness(photo)[:, :middle], greenness(photo)[:, middle:]
    assert halves[eye].sum() < 0.02 * before[eye].sum()
    np.testing.assert_array_equal(halves[1 - eye], before[1 - eye])


def test_half_shut_eyes_show_half_of_it():
    goal = REST.copy()
    for upper, lower in LIDS:
        goal[upper] = (REST[upper] + REST[lower]) / 2
    seen = (greenness(composed(coloured_eyes(), goal, options=PLAIN).rgb) > 100).sum()
    assert 0.25 < seen / (greenness(coloured_eyes()) > 100).sum() < 0.65


def test_wide_eyes_show_no_skin_between_the_lids():
    goal = REST.copy()
    for upper, _ in LIDS:
        goal[upper] -= [0, 0.012]
    rgb = composed(coloured_eyes(inner=1.1), goal, options=PLAIN).rgb
    for eye in (0, 1):
        ring = goal[eye_ring(eye)]
        x, y = np.rint((ring.mean(0) - np.array([0, 0.004])) * SIDE).astype(int)
        assert greenness(rgb)[y - 3 : y + 4, x - 3 : x + 4].min() > 200


def with_irises():
    """White eyes with blue irises."""
    photo = coloured_eyes((255, 255, 255), 1.0)
    for iris in IRISES:
        x, y = np.rint((REST[iris] * SIDE - 0.5) * 16).astype(int)
        cv2.circle(photo, (int(x), int(y)), round(0.012 * SIDE * 16), (0, 0, 255), -1, cv2.LINE_AA, 4)
    return photo


def glancing(x, y=0.0):
    goal = REST.copy()
    goal[SKIN:] += [x, y]
    return goal


def blue_spots(rgb):
    """Where the blue is in the left half and in the right."""
    middle = SIDE // 2 + 10
    return np.stack([spot(rgb[:, :middle], 2), spot(rgb[:, middle:], 2) + np.array([middle, 0])])


@pytest.mark.parametrize(("x", "y"), [(0.006, 0), (-0.006, 0), (0.004, -0.003)])
def test_irises_move_as_far_as_they_are_asked(x, y):
    photo = with_irises()
    moved = blue_spots(composed(photo, glancing(x, y), options=PLAIN).rgb) - blue_spots(photo)
    np.testing.assert_allclose(moved, np.full((2, 2), [x, y]) * SIDE, atol=0.5)


@pytest.mark.parametrize("way", [-1, 1])
def test_a_far_glance_ends_before_the_iris_leaves_the_eye(way):
    photo = with_irises()
    small, far = (blue_spots(composed(photo, glancing(way * x), options=PLAIN).rgb) for x in (0.005, 0.2))
    assert (way * (far - small)[:, 0] > 0).all()
    for eye in (0, 1):
        ring = REST[eye_ring(eye)] * SIDE
        assert ring[:, 0].min() < far[eye, 0] < ring[:, 0].max()


def test_a_glance_moves_the_eyeballs_alone():
    photo = with_irises()
    changed = composed(photo, glancing(0.006, 0.002)).matte > 0
    assert changed.any()
    eyes = inside(REST[eye_ring(0)]) | inside(REST[eye_ring(1)])
    assert not (changed & (cv2.dilate(eyes.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0)).any()


def test_the_points_of_a_drawn_face_have_no_part_in_the_eyes():
    photo = with_irises()
    goal = shut(glancing(0.005), LIDS[1])
    one, other = (composed(photo, goal, drawn(points), options=PLAIN).rgb for points in (REST, shut(REST, LIDS[0])))
    np.testing.assert_array_equal(one, other)


# ---- The mouth

BLUE = (0.1, 0.1, 0.9)


def blueness(rgb):
    return np.maximum(rgb[:, :, 2].astype(int) - rgb[:, :, 0], 0)


def lips_apart(points):
    return (points[LOWER_LIP, 1] - points[UPPER_LIP, 1]).mean()


def inside_of(points, colour=BLUE, size=512):
    """A drawn face, grey, with a colour between its lips."""
    rgb = np.full((size, size, 3), GREY, np.float32)
    rgb[inside(points[list(INNER_LIPS)], size)] = colour
    return Drawn(rgb, points)


def test_an_opening_mouth_shows_what_the_drawn_face_has_there_and_only_there():
    goal = opened(REST, 0.06)
    rgb = composed(grey(), goal, inside_of(opened(REST, 0.05)), options=PLAIN).rgb
    seen = blueness(rgb) > 40
    mouth = inside(goal[list(INNER_LIPS)])
    assert (seen & mouth).sum() > 0.8 * mouth.sum()
    lips = cv2.dilate(mouth.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    assert not (seen & ~lips).any()


def test_a_shut_mouth_shows_nothing_of_the_drawn_one():
    face = inside_of(opened(REST, 0.05))
    assert blueness(composed(grey(), smiling(), face, options=PLAIN).rgb).max() <= 1


def test_a_drawn_mouth_that_has_stayed_shut_gives_a_dark_one():
    goal = opened(REST, 0.08)
    between = composed(grey(), goal, inside_of(REST)).rgb[inside(goal[list(INNER_LIPS)])]
    assert np.median(between.max(1)) < 0.5 * GREY * 255
    assert blueness(between[None]).max() < 60


def test_a_mouth_that_is_open_in_the_photo_keeps_what_is_in_it():
    rest = opened(REST, 0.04)
    photo = filled(grey(), rest[list(INNER_LIPS)], (0, 255, 0))
    base = inside_of(rest)
    for goal in (rest, rest + (smiling() - REST)):
        rgb = composed(photo, goal, inside_of(opened(REST, 0.05)), rest=rest, base=base, options=PLAIN).rgb
        assert blueness(rgb).max() <= 8
        assert (greenness(rgb) > 100).sum() > 0.8 * (greenness(photo) > 100).sum()


def test_the_inside_of_a_drawn_mouth_is_as_light_as_the_photos_skin():
    """A photo half as light as what was drawn of it."""
    dark = np.full((SIDE, SIDE, 3), round(255 * GREY / 2), np.uint8)
    face, goal = inside_of(opened(REST, 0.05)), opened(REST, 0.06)
    x, y = (goal[13] + goal[14]) / 2 * SIDE
    light, dim = (composed(photo, goal, face, options=PLAIN).rgb[int(y), int(x), 2] for photo in (grey(), dark))
    assert dim == pytest.approx(light / 2, rel=0.1)


def toothed(points, band, size=512):
    """A drawn face with white teeth from the upper lip down by `band` of the picture, and the dark below."""
    rgb = np.full((size, size, 3), GREY, np.float32)
    mouth = inside(points[list(INNER_LIPS)], size)
    axis = (np.arange(size) + 0.5) / size
    lip = np.interp(axis, *points[UPPER_LIP].T)
    teeth = mouth & (axis[:, None] < lip + band)
    rgb[mouth] = 0.05
    rgb[teeth] = (1.0, 1.0, 0.2)
    return Drawn(rgb, points)


def yellow_height(rgb, points):
    """How tall, of the crop, the yellow is in the middle of a mouth."""
    column = round((points[13, 0]) * SIDE)
    seen = rgb[:, column - 2 : column + 3].astype(int).mean(1)
    return (seen[:, 0] - seen[:, 2] > 60).sum() / SIDE


def test_teeth_keep_their_size_in_a_taller_mouth():
    points = opened(REST, 0.04)
    face = toothed(points, 0.015)
    same, taller = (
        yellow_height(composed(grey(), goal, face, options=PLAIN).rgb, goal) for goal in (points, opened(REST, 0.08))
    )
    assert same == pytest.approx(0.015, abs=0.005)
    assert 0.8 * same < taller < 1.35 * same


def test_a_taller_mouth_is_dark_below_its_teeth_down_to_the_lip():
    goal = opened(REST, 0.08)
    rgb = composed(grey(), goal, toothed(opened(REST, 0.04), 0.015), options=PLAIN).rgb
    x = round(goal[14, 0] * SIDE)
    top, bottom = goal[13, 1], goal[14, 1]
    for depth in (0.5, 0.7, 0.85):
        assert rgb[round((top + depth * (bottom - top)) * SIDE), x].max() < 60


def test_lips_keep_the_photos_colour():
    photo = filled(grey(), REST[list(OUTER_LIPS)], (200, 40, 40))
    goal = opened(REST, 0.05)
    rgb = composed(photo, goal, inside_of(opened(REST, 0.05)), options=PLAIN).rgb
    for outer, inner in ((17, 14), (0, 13)):
        x, y = np.rint((goal[outer] + goal[inner]) / 2 * SIDE).astype(int)
        np.testing.assert_allclose(rgb[y, x].astype(int), (200, 40, 40), atol=12)


# ---- Folds


def creased(depth=0.3, size=512):
    """A drawn face with a dark crease across the cheek."""
    face = drawn(size=size)
    x, y = np.rint(REST[CHEEK] * size).astype(int)
    line = np.zeros((size, size), np.float32)
    cv2.line(line, (int(x) - 20, int(y)), (int(x) + 20, int(y)), 1.0, 6)
    face.picture[...] *= 1 - depth * cv2.GaussianBlur(line, (0, 0), 3)[:, :, None]
    return face


def darker(rgb):
    """How much darker than the grey it is on the cheek."""
    x, y = np.rint(REST[CHEEK] * SIDE).astype(int)
    return round(255 * GREY) - rgb[y - 2 : y + 3, x - 5 : x + 6].mean()


def test_a_crease_of_the_drawn_face_is_laid_on_the_photo_by_the_share_asked_for():
    none, half, full = (
        darker(composed(grey(), REST, creased(), options=ComposeOptions(folds=x)).rgb) for x in (0.0, 0.5, 1.0)
    )
    assert none == 0
    assert full > 6
    assert half == pytest.approx(full / 2, rel=0.2)


def test_a_crease_that_the_face_has_at_rest_too_adds_nothing():
    rgb = composed(grey(), REST, creased(), base=creased()).rgb
    np.testing.assert_array_equal(rgb, grey())


def test_another_light_on_the_whole_face_is_no_fold():
    rgb = composed(grey(), REST, drawn(rgb=(GREY * 0.8,) * 3)).rgb
    assert abs(darker(rgb)) <= 3


def test_a_fold_has_the_photos_colour():
    photo = np.full((SIDE, SIDE, 3), (180, 120, 60), np.uint8)
    x, y = np.rint(REST[CHEEK] * SIDE).astype(int)
    seen = composed(photo, REST, creased()).rgb[y, x].astype(float)
    assert seen[0] < 178
    np.testing.assert_allclose(seen / seen[0], np.array([180, 120, 60]) / 180, atol=0.02)


def test_eyes_and_lips_are_not_shaded():
    face = drawn()
    face.picture[...] *= np.random.default_rng(0).uniform(0.5, 1, face.picture.shape).astype(np.float32)
    result = composed(grey(), REST, face)
    assert result.matte.any()
    for ring in (eye_ring(0), eye_ring(1), list(OUTER_LIPS)):
        within = cv2.erode(inside(REST[ring]).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert not result.matte[within].any()


# ---- A look at the stages


def test_the_warped_face_lies_in_its_place_on_black():
    crop = place(200, 90, 60)
    maker = composer(grey(), crop=crop)
    rgb = maker.warped(REST, drawn(rgb=(1.0, 0.5, 0.25)))
    assert rgb.shape == (SIDE, SIDE, 3)
    assert rgb.dtype == np.uint8
    x, y = np.rint(crop[:, :2] @ REST[CHEEK] + crop[:, 2]).astype(int)
    np.testing.assert_allclose(rgb[y, x], (255, 128, 64), atol=1)
    assert not rgb[:40].any()
    assert not rgb[:, -40:].any()


def test_an_eye_turns_with_its_head():
    """A line from corner to corner of the eye lies there still when all of the face has rolled."""
    photo, ring = grey(), [33, 133]
    ends = np.rint(REST[ring] * SIDE - 0.5).astype(int)
    cv2.line(photo, tuple(map(int, ends[0])), tuple(map(int, ends[1])), (0, 0, 0), 2)
    angle = np.radians(15)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = REST.mean(0)

    def roll(points):
        return (points - middle) @ matrix + middle

    rgb = composer(photo, options=PLAIN).compose(REST, drawn(), 0, 0, 0.0, roll).rgb
    for share in (0.15, 0.5, 0.85):
        place = roll(REST[ring][:1] + share * (REST[ring][1:] - REST[ring][:1]))[0] * SIDE - 0.5
        x, y = np.rint(place).astype(int)
        assert rgb[y - 2 : y + 3, x - 1 : x + 2].min() < 90
