"""A face's picture bent by its mesh: known motions give known fields."""

import cv2
import numpy as np
import pytest
from meshes import REST, TRIANGLES, opened, shut

from reenact import mesh
from reenact.motion import HOLES, INNER_LIPS, LIDS, SKIN, eye_ring

CELLS = 200
CHEEK, UNDER_LIP, CHIN = 205, 17, 152


@pytest.fixture(scope="module")
def surface():
    return mesh.over(REST, TRIANGLES)


def cell_of(point):
    """Row and column of the cell that a point of the crop lies in."""
    column, row = np.rint(mesh.in_cells(np.asarray(point), CELLS)).astype(int)
    return row, column


def inside(polygon):
    """bool [CELLS,CELLS]: the cells whose middles lie in a polygon of the crop."""
    return mesh.polygon(polygon, CELLS) > 0.5


def eroded(mask, by):
    return cv2.erode(mask.astype(np.uint8), np.ones((2 * by + 1,) * 2, np.uint8)) > 0


def doubled_areas(points, triangles):
    corners = points[triangles]
    return np.linalg.det(corners[:, 1:] - corners[:, :1])


# ---- The surface


def test_the_ring_goes_round_the_face(surface):
    face = REST[:SKIN]
    assert (surface.ring.min(0) < face.min(0)).all()
    assert (surface.ring.max(0) > face.max(0)).all()
    contour = surface.ring.astype(np.float32)
    assert all(cv2.pointPolygonTest(contour, point.tolist(), False) > 0 for point in face)


def test_triangles_cover_face_and_band_without_folds(surface):
    areas = doubled_areas(np.vstack([REST[:SKIN], surface.ring]), surface.triangles)
    assert (areas > 0).all()
    assert areas.sum() / 2 == pytest.approx(cv2.contourArea(surface.ring.astype(np.float32)), rel=1e-4)
    assert surface.triangles[surface.beyond :].max() < SKIN
    assert (surface.triangles[: surface.beyond].max(1) >= SKIN).all()


# ---- Fields


def test_no_motion_gives_no_field(surface):
    np.testing.assert_array_equal(surface.field(REST, REST, CELLS), np.zeros((CELLS, CELLS, 2), np.float32))


def test_a_shifted_face_comes_from_where_it_was(surface):
    shift = np.array([0.02, -0.01])
    field = surface.field(REST + shift, REST, CELLS)
    face = eroded(inside(cv2.convexHull((REST[:SKIN] + shift).astype(np.float32))[:, 0]), 2)
    np.testing.assert_allclose(field[face], np.broadcast_to(-shift, (face.sum(), 2)), atol=1e-5)
    assert not field[eroded(~inside(surface.ring), 2)].any()


def test_between_the_face_and_the_ring_motion_fades(surface):
    field = surface.field(REST + np.array([0.03, 0]), REST, CELLS)
    row, column = cell_of(REST[454])
    x = field[row, column - 3 :, 0]
    assert (np.diff(x) >= -1e-6).all()
    assert x[0] == pytest.approx(-0.03, abs=1e-4)
    assert x[-1] == 0


def test_an_affine_motion_is_followed_exactly(surface):
    turn = np.array([[1.02, -0.03], [0.03, 0.98]])
    goal = (REST - 0.5) @ turn.T + 0.5
    field = surface.field(goal, REST, CELLS)
    for index in (CHEEK, CHIN - 1, 4, 66):
        row, column = cell_of(goal[index])
        here = mesh.grid(CELLS)[row, column]
        np.testing.assert_allclose(here + field[row, column], np.linalg.inv(turn) @ (here - 0.5) + 0.5, atol=1e-4)


def test_one_points_motion_ends_at_its_neighbours(surface):
    goal = REST.copy()
    goal[CHEEK] += [0.004, 0]
    rows, columns = np.nonzero(surface.field(goal, REST, CELLS).any(2))
    around = REST[np.unique(TRIANGLES[(TRIANGLES == CHEEK).any(1)])]
    for cells, axis in ((columns, 0), (rows, 1)):
        within = mesh.in_cells(around, CELLS)[:, axis]
        assert cells.min() >= within.min() - 2
        assert cells.max() <= within.max() + 2


def test_a_field_may_lead_to_another_face_than_the_one_at_rest(surface):
    drawn = opened(REST, 0.05)
    field = surface.field(REST, drawn, CELLS)
    row, column = cell_of(REST[UNDER_LIP])
    np.testing.assert_allclose(field[row, column], (drawn - REST)[UNDER_LIP], atol=5e-3)


def test_fields_of_any_fineness_say_the_same(surface):
    goal = opened(REST, 0.05)
    coarse, fine = (surface.field(goal, REST, cells) for cells in (64, 256))
    apart = np.abs(cv2.resize(fine, (64, 64), interpolation=cv2.INTER_AREA) - coarse)
    assert apart.mean() < 5e-4


@pytest.mark.parametrize("eye", [0, 1])
def test_nothing_comes_from_between_shut_lids(surface, eye):
    """What was between them has no area any more."""
    goal = shut(REST, LIDS[eye])
    sources = mesh.grid(CELLS) + surface.field(goal, REST, CELLS)
    eyeball = REST[eye_ring(eye)]
    middle = eyeball.mean(0) + 0.8 * (eyeball - eyeball.mean(0))
    contour = middle.astype(np.float32)
    assert not any(cv2.pointPolygonTest(contour, place.tolist(), False) > 0 for place in sources.reshape(-1, 2))


def test_a_mesh_turned_inside_out_gives_numbers(surface):
    for goal in (
        REST * [-1, 1] + [1, 0],
        np.full_like(REST, 0.5),
        REST + np.random.default_rng(0).normal(0, 0.1, (478, 2)),
    ):
        field = surface.field(goal, REST, CELLS)
        assert field.shape == (CELLS, CELLS, 2)
        assert np.isfinite(field).all()


# ---- Folds


def skin_areas(goal):
    """Twice the areas of the triangles that are skin at rest."""
    skin = TRIANGLES[:, ::-1]
    skin = skin[~np.isin(skin, HOLES).all(1) & (doubled_areas(REST, skin) > 1e-6)]
    return doubled_areas(goal, skin)


def test_what_does_not_fold_is_left_as_it_is(surface):
    for goal in (REST, REST + np.array([0.02, -0.01]), opened(REST, 0.05)):
        assert (skin_areas(goal) > 0).all()
        np.testing.assert_allclose(surface.unfolded(goal, REST), goal, atol=1e-12)


def test_folded_skin_is_unfolded_and_the_rest_stays(surface):
    goal = REST.copy()
    goal[[UNDER_LIP, 84, 314]] += [0, 0.08]
    assert (skin_areas(goal) < 0).any()
    flat = surface.unfolded(goal, REST)
    assert (skin_areas(flat) > -1e-6).all()
    assert flat[UNDER_LIP, 1] > REST[UNDER_LIP, 1] + 0.02
    np.testing.assert_array_equal(flat[[4, 10, 159, 234]], goal[[4, 10, 159, 234]])


@pytest.mark.parametrize("lids", LIDS)
def test_lids_may_meet(surface, lids):
    upper, lower = lids
    flat = surface.unfolded(shut(REST, lids), REST)
    np.testing.assert_allclose(flat[upper], flat[lower], atol=1e-3)


def test_lips_may_meet(surface):
    wide = opened(REST, 0.05)
    np.testing.assert_allclose(surface.unfolded(REST, wide)[list(INNER_LIPS)], REST[list(INNER_LIPS)])


def test_inputs_are_left_alone(surface):
    goal, rest = opened(REST, 0.3), REST.copy()
    given = goal.copy()
    surface.unfolded(goal, rest)
    surface.field(goal, rest, CELLS)
    np.testing.assert_array_equal(goal, given)
    np.testing.assert_array_equal(rest, REST)


# ---- Polygons


def test_a_polygon_covers_what_it_holds():
    square = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    mask = mesh.polygon(square, CELLS)
    assert mask.dtype == np.float32
    assert mask.mean() * (1 + 2 * mesh.MARGIN) ** 2 == pytest.approx(0.25, abs=0.01)
    assert mask[cell_of((0.5, 0.27))] == 1
    assert mask[cell_of((0.5, 0.23))] == mask[cell_of((0.8, 0.5))] == 0


def test_a_polygon_may_reach_beyond_the_crop():
    mask = mesh.polygon(np.array([[-1.0, -1], [0.5, -1], [0.5, 2], [-1, 2]]), 64)
    assert mask[:, :30].min() == 1
    assert mask[:, 34:].max() == 0
