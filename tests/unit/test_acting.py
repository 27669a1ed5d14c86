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


def acting(shapes, found=None, cuts=(), missing="hold", asked=None, rest=None, **fuse) -> Acting:
    """Of a driver that shows these blendshapes, without smoothing, whose anchors are found."""
    there = np.ones(len(shapes), bool) if found is None else np.array(found)
    mesh = np.stack([mesh_of(each) for each in shapes])
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


def test_lips_that_are_parted_throughout_are_brought_together_for_a_rest():
    part = acting([OPEN] * 3)
    change = moved(part, 2)
    open_by, asked = (
        (points[motion.LOWER_LIP, 1] - points[motion.UPPER_LIP, 1]).mean()
        for points in (change, (mesh_of(OPEN) - FACE) @ TO_REST.T)
    )
    assert open_by == pytest.approx(asked, rel=0.1)
    assert asked > 0.01
    shown = part.expressions(expressed(REST_SHAPES))[2, LIPS].item()
    assert shown == pytest.approx(expressed(OPEN)[LIPS].item(), abs=0.02)


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
    assert gone == pytest.approx((FACE - mesh_of(SMILE))[CORNERS] @ TO_REST.T, abs=1e-3)
    assert np.abs(gone).max() > 0.01


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
