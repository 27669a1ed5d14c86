"""A driver's part: made-up tracks in which it is known what the face does, and a target of the same shape."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from meshes import REST

from reenact import expression, motion
from reenact.acting import Acting, Stance
from reenact.errors import UsageError
from reenact.face_landmarker import BLENDSHAPES, to_68
from reenact.fuse import FuseOptions
from reenact.template import Motion
from reenact.types import FaceTrack

BASIS = motion.Basis.load()
FACE = np.c_[REST * [10, -10], np.zeros(478)].astype(np.float32)  # in centimetres, y up
TO_REST = np.array([[0.1, 0, 0], [0, -0.1, 0]])
CHIN, FOREHEAD, CORNERS = 152, 10, [61, 291]
LIPS = expression.NAMES.index("lips open")


def showing(**more: float) -> np.ndarray:
    """The blendshapes [51] of a face at rest, and more of some."""
    shapes = BASIS.neutral.copy()
    for name, value in more.items():
        shapes[BLENDSHAPES.index(name)] += value
    return shapes


REST_SHAPES, OPEN = showing(), showing(jawOpen=0.5)
SMILE = showing(mouthSmileLeft=0.5, mouthSmileRight=0.5)
ROUND = showing(mouthPucker=0.4, mouthFunnel=0.4)


def mesh_of(shapes) -> np.ndarray:
    return BASIS.without(FACE, BASIS.neutral, shapes)


def acting(shapes, found=None, cuts=(), missing="hold", asked=None, rest=None, meshes=None, **fuse) -> Acting:
    """Of a driver that shows these blendshapes, without smoothing, whose anchors are found."""
    there = np.ones(len(shapes), bool) if found is None else np.array(found)
    mesh = np.stack([mesh_of(each) for each in shapes] if meshes is None else meshes)
    points = np.ascontiguousarray(to_68(mesh) * np.float32([100, -100]))
    inside = np.full(len(shapes), 0.5, np.float32)
    rows = [points, there.astype(np.float32), np.stack(shapes).astype(np.float32), mesh, inside]
    for row in rows:
        row[~there] = np.nan
    points, score, blendshapes, mesh, inside = rows
    pose = np.zeros((len(shapes), 3), np.float32)
    track = FaceTrack(points, score, there, cuts, blendshapes, pose, mesh, inside)
    times = np.arange(len(shapes))
    known = Motion(track, times, times / 25, Fraction(1, 25))
    made = Acting(known, FuseOptions(**fuse), 0.0, missing, torch.device("cpu"))
    made.begin_at(expressed(REST_SHAPES) if rest is None else rest, asked)
    return made


def expressed(shapes) -> torch.Tensor:
    """The expression [M] of the target showing these."""
    points = torch.from_numpy(to_68(mesh_of(shapes)) * np.float32([100, -100]))[None]
    return expression.measure(points, torch.from_numpy(shapes)[None], torch.tensor([0.5]))[0]


def stance(own=REST, shapes=REST_SHAPES) -> Stance:
    return Stance(own, REST, TO_REST, shapes)


def moved(part, index, here=None) -> np.ndarray:
    here = here or stance()
    return part.points()(index, here) - here.own


def drop(shapes=OPEN) -> np.ndarray:
    """How far a chin moves with them [2], by the basis."""
    return (mesh_of(shapes) - FACE)[CHIN] @ TO_REST.T


# ---- What motion is counted from


def test_a_single_frame_is_counted_from_a_face_at_rest():
    change = moved(acting([OPEN]), 0)
    assert change[CHIN] == pytest.approx(drop(), abs=1e-4)
    assert change[CHIN, 1] > 0.01
    assert change[FOREHEAD] == pytest.approx(0, abs=1e-4)
    assert moved(acting([REST_SHAPES]), 0)[CHIN] == pytest.approx(0, abs=1e-5)


def test_relative_motion_is_counted_from_the_anchor_and_absolute_from_the_targets_expression():
    always_open = [OPEN] * 3
    assert moved(acting(always_open, asked=0), 2)[CHIN] == pytest.approx(0, abs=1e-5)
    assert moved(acting(always_open, motion="absolute"), 2)[CHIN] == pytest.approx(drop(), abs=1e-4)
    as_open = stance(shapes=OPEN)
    assert moved(acting(always_open, motion="absolute"), 2, as_open)[CHIN] == pytest.approx(0, abs=1e-4)


def test_a_scene_without_a_rest_is_counted_from_the_rest_that_it_would_have():
    """A driver who smiles throughout smiles; what a face may be like at rest is no expression."""
    part = acting([SMILE] * 3)
    assert part.restless.tolist() == [part.anchors[0]]
    assert moved(part, 2)[CORNERS] == pytest.approx((mesh_of(SMILE) - FACE)[CORNERS] @ TO_REST.T, abs=2e-4)
    slightly = acting([showing(mouthSmileLeft=0.15, mouthSmileRight=0.15)] * 3)
    assert not slightly.restless.size
    assert not moved(slightly, 2).any()
    frowning = acting([showing(browDownLeft=0.7, browDownRight=0.7)] * 3)
    assert not frowning.restless.size
    raised = showing(browInnerUp=0.8)
    brow = motion.PARTS["brows"]
    there = moved(acting([raised] * 3), 2)[list(brow), 1].mean()
    assert there == pytest.approx(moved(acting([REST_SHAPES, REST_SHAPES, raised]), 2)[list(brow), 1].mean(), rel=0.05)


def test_a_scene_with_a_rest_begins_there():
    part = acting([REST_SHAPES, REST_SHAPES, SMILE])
    assert not part.restless.size
    assert not moved(part, 0).any()


def test_a_smile_that_the_target_has_too_is_none_of_the_drivers():
    smiling = stance(shapes=SMILE)
    part = acting([SMILE] * 3, rest=expressed(SMILE))
    assert not part.restless.size
    assert not moved(part, 2, smiling).any()


def parted(mesh, by):
    """A mesh whose lips are so many centimetres farther apart."""
    out = mesh.copy()
    out[list(motion.LOWER_LIP), 1] -= by
    return out


def test_lips_that_are_parted_throughout_are_brought_together_for_a_rest():
    """Whatever the blendshapes say of them."""
    part = acting([REST_SHAPES] * 3, meshes=[parted(FACE, 1.0)] * 3)
    assert part.restless.size
    change = moved(part, 2)
    opened = (change[motion.LOWER_LIP, 1] - change[motion.UPPER_LIP, 1]).mean()
    assert opened == pytest.approx(-TO_REST[1, 1], rel=0.1)
    assert part.expressions(expressed(REST_SHAPES))[2, LIPS].item() == pytest.approx(
        part.seen[2, LIPS].item(), abs=0.02
    )


def test_shut_lips_stay_shut_in_a_rest_that_is_made_up():
    """Of a driver who smiles with lips that are pressed, and a photo whose lips are apart."""
    pressed = [parted(mesh_of(SMILE), -0.05)] * 3
    part = acting([SMILE] * 3, meshes=pressed)
    assert part.restless.size
    assert abs(motion.between_lips(part.mesh_at_start(2)) - motion.between_lips(pressed[0])) < 0.1
    ajar = expressed(REST_SHAPES)
    ajar[LIPS] += 0.2
    part = acting([SMILE] * 3, rest=ajar)
    assert part.restless.size
    assert part.since[2, LIPS] == part.seen[2, LIPS]


def test_what_is_taken_from_a_mouth_leaves_brows_and_eyes_alone():
    part = acting([SMILE] * 3)
    taken = np.linalg.norm(part.mesh_at_start(2) - part.mesh[2], axis=1)
    assert taken[CORNERS].min() > 0.05
    others = [*motion.PARTS["brows"], *motion.PARTS["eyes"], *range(motion.SKIN, 478)]
    assert taken[others].max() < 0.02 * taken.max()
    part = acting([showing(browInnerUp=0.8)] * 3)
    taken = np.linalg.norm(part.mesh_at_start(2) - part.mesh[2], axis=1)
    assert taken[list(motion.PARTS["mouth"])].max() < 0.02 * taken.max()


def test_regions_that_are_not_asked_for_need_no_rest():
    part = acting([SMILE] * 3, regions="eyes")
    assert not part.restless.size
    assert not moved(part, 2).any()


def test_a_splice_is_counted_from_the_frame_as_it_is():
    part = acting([SMILE] * 3, method="splice")
    assert not part.restless.size
    assert torch.equal(part.since, part.seen[torch.from_numpy(part.anchors)])


def test_a_frame_that_rests_is_the_anchor_though_one_that_does_not_is_more_like_the_photo():
    astonished, frowning = showing(browInnerUp=0.6), showing(browDownLeft=0.6, browDownRight=0.6)
    part = acting([astonished] * 3 + [frowning] * 3)
    assert expression.distance(part.seen, expressed(REST_SHAPES)).argmin() < 3
    assert part.anchors[0] >= 3


def test_strength_is_how_much_of_it_is_done():
    frames = [REST_SHAPES, REST_SHAPES, OPEN]
    assert moved(acting(frames, strength=0.5), 2)[CHIN] == pytest.approx(drop() / 2, abs=1e-4)
    assert moved(acting(frames, regions="eyes"), 2)[CHIN] == pytest.approx(0, abs=1e-4)


def test_a_layers_run_needs_no_points_and_keeps_none():
    part = acting([REST_SHAPES, OPEN], method="splice")
    assert part.mesh is None
    assert part.track.mesh is None
    assert acting([REST_SHAPES, OPEN]).track.mesh is None


# ---- Where the driver is not seen


def test_what_is_not_seen_is_held_or_fades_to_the_targets_own():
    frames, found = [REST_SHAPES] * 2 + [OPEN] * 40, [True] * 5 + [False] * 37
    held, fading = (acting(frames, found, missing=how) for how in ("hold", "fade"))
    assert moved(held, 41)[CHIN] == pytest.approx(drop(), abs=1e-4)
    assert moved(fading, 4)[CHIN] == pytest.approx(drop(), abs=1e-4)
    assert moved(fading, 41) == pytest.approx(0, abs=1e-9)
    own = expressed(SMILE)
    jaw = expression.NAMES.index("jawOpen")
    assert torch.equal(fading.expressions(own)[41], own)
    assert held.expressions(own)[41, jaw] > own[jaw] + 0.1


# ---- A smile that gives way


def test_a_smile_gives_way_to_a_mouth_that_rounds():
    part = acting([REST_SHAPES, REST_SHAPES, ROUND])
    still, smiling = stance(), stance(shapes=SMILE)
    assert moved(part, 0, smiling) == pytest.approx(moved(part, 0, still))
    gone = (moved(part, 2, smiling) - moved(part, 2, still))[CORNERS]
    smile = (FACE - mesh_of(SMILE))[CORNERS] @ TO_REST.T
    assert gone[:, 1] == pytest.approx(smile[:, 1], abs=1e-3)
    assert np.abs(gone).max() > 0.01
    # A mouth without its smile is narrower, and rounds by less.
    assert (gone[:, 0] / smile[:, 0] > 0.6).all()
    assert (gone[:, 0] / smile[:, 0] < 1).all()


def test_in_a_clip_with_a_cut_the_smile_of_each_scene_is_its_own():
    """As frames of two scenes stand: the first rests with a smile, the second without one."""
    goal_of = acting([REST_SHAPES, REST_SHAPES, ROUND, ROUND]).points()
    first, second = goal_of(2, stance(shapes=SMILE)), goal_of(3, stance())
    assert np.abs(first - second)[CORNERS].max() > 0.01
    assert second == pytest.approx(goal_of(2, stance()), abs=1e-6)


# ---- Anchors


def test_each_scene_has_an_anchor_that_is_at_rest():
    part = acting([OPEN] * 4 + [REST_SHAPES] * 4 + [REST_SHAPES] * 4 + [OPEN] * 4, cuts=(8,))
    assert part.scenes.tolist() == [0] * 8 + [1] * 8
    assert 4 <= part.anchors[0] < 8 <= part.anchors[8] < 12
    assert len(set(part.anchors[:8])) == len(set(part.anchors[8:])) == 1


def test_where_the_targets_scenes_differ_the_anchor_is_like_each():
    rest = torch.stack([expressed(REST_SHAPES)] * 3 + [expressed(OPEN)] * 7)
    part = acting([REST_SHAPES] * 5 + [OPEN] * 5, rest=rest)
    assert all(part.anchors[:3] < 5)
    assert all(part.anchors[3:] >= 5)


def test_a_frame_that_is_asked_for_is_the_anchor_of_all():
    part = acting([REST_SHAPES, OPEN, OPEN], cuts=(2,), asked=1)
    assert part.anchors.tolist() == [1, 1, 1]
    with pytest.raises(UsageError, match="--anchor-frame 3: the driver has frames 0 to 2"):
        acting([REST_SHAPES, OPEN, OPEN], asked=3)
