"""What the measure of an expression sees, and what it must not see."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from faces import LOWER_LIP, face, similarity
from PIL import Image

from reenact.expression import (
    ALL_ROUND,
    DARK,
    NAMES,
    USED,
    WEIGHTS,
    Probe,
    at_rest,
    blendshapes,
    by_region,
    distance,
    goals,
    less_smiling,
    light_inside,
    limited,
    measure,
    nearest_rest,
    of_landmarks,
    of_track,
    region_of,
    rested,
    rounded,
    unsquashed,
)
from reenact.face_landmarker import BLENDSHAPES, FaceLandmarkerNets
from reenact.geometry import apply
from reenact.images import to_tensor
from reenact.types import FaceTrack, Landmarks

PICTURE = "tests/data/face.png"
MOTIONS = [similarity(*m) for m in ((0, 300, (0, 0)), (0, 1, (50, -20)), (35, 1, (0, 0)), (-80, 9, (4, 4)))]


def column(measures, name):
    return measures[..., NAMES.index(name)].item()


def measured(*faces, blendshapes=None, inside=0.4):
    """[N,M] of 68-point faces."""
    shapes = torch.full((len(faces), len(BLENDSHAPES)), 0.3) if blendshapes is None else blendshapes
    return measure(torch.from_numpy(np.stack(faces)).float(), shapes, torch.full((len(faces),), inside))


def crooked(seed):
    """A face like nobody else's."""
    return face(0.03) + np.random.default_rng(seed).normal(scale=0.01, size=(68, 2))


# --- The measure --------------------------------------------------------------------------------


def test_it_has_a_named_and_weighted_number_for_everything():
    assert measured(face()).shape == (1, len(NAMES))
    assert len(set(NAMES)) == len(NAMES) == len(WEIGHTS)
    assert (WEIGHTS > 0).all()


@pytest.mark.parametrize("motion", MOTIONS)
def test_size_place_and_roll_do_not_count(motion):
    faces = [crooked(seed) for seed in range(3)]
    assert measured(*(apply(motion, f) for f in faces)) == pytest.approx(measured(*faces), abs=1e-4)


@pytest.mark.parametrize("squeeze", [(0.8, 1), (1, 0.8)])
def test_turning_and_nodding_of_a_straight_face_cancel_out(squeeze):
    assert measured(face(0.04) * squeeze) == pytest.approx(measured(face(0.04)), abs=1e-5)


def test_faces_of_a_batch_are_measured_apart():
    both = measured(face(), face(0.06))
    assert both == pytest.approx(torch.cat([measured(face()), measured(face(0.06))]))


def test_distances_are_in_units_of_eyes_and_nose():
    points = face()
    eyes, nose = 0.26, np.hypot(0, 0.64 - 0.46)  # as they are drawn
    assert column(measured(points), "mouth width") == pytest.approx(0.2 / eyes)
    assert column(measured(points), "jaw") == pytest.approx((0.86 - 0.64) / nose, rel=1e-4)


def test_a_dropping_jaw_opens_lips_and_leaves_lids_and_brows():
    change = measured(face(0.06)) - measured(face())
    moved = {name for name in NAMES if abs(column(change, name)) > 1e-5}
    assert column(change, "lips open") > 0.1
    assert {region_of(name) for name in moved} == {"mouth"}


def test_closed_lips_are_zero_open():
    points = face()
    points[list(range(60, 68)), 1] = 0.74
    assert column(measured(points), "lips open") == pytest.approx(0, abs=1e-6)


def test_dark_is_the_part_of_the_opening_that_is_darker_than_skin():
    opening = column(measured(face(0.06)), "lips open")
    for inside, share in ((1.0, 0), (0.25, 0.75), (0.0, 1)):
        assert column(measured(face(0.06), inside=inside), DARK) == pytest.approx(share * opening, abs=1e-6)
    assert column(measured(face(0.06)), DARK) > column(measured(face(0.03)), DARK) > 0


@pytest.mark.parametrize(("side", "upper", "lower"), [("left", (37, 38), (41, 40)), ("right", (43, 44), (47, 46))])
def test_a_wink_is_seen_in_its_own_eye_alone(side, upper, lower):
    points = face()
    points[list(upper)] = points[list(lower)]
    winking, other = measured(points), {"left": "right", "right": "left"}[side]
    assert column(winking, f"lid {side}") == pytest.approx(0, abs=1e-6)
    assert column(winking, f"lid {other}") == pytest.approx(column(measured(face()), f"lid {other}"), abs=0.002)


def test_raised_brows_are_further_from_the_eyes():
    points = face()
    points[17:27, 1] -= 0.03
    change = measured(points) - measured(face())
    assert min(column(change, "brow left"), column(change, "brow right")) > 0.1


@pytest.mark.parametrize("name", [name for name in BLENDSHAPES if name in NAMES])
def test_a_blendshape_moves_its_own_number(name):
    shapes = torch.full((1, len(BLENDSHAPES)), 0.3)
    shapes[0, BLENDSHAPES.index(name)] = 0.6
    change = measured(face(), blendshapes=shapes) - measured(face())
    assert change[0].nonzero().flatten().tolist() == [NAMES.index(name)]
    assert column(change, name) > 0


def test_a_gradient_reaches_points_and_blendshapes():
    points = torch.from_numpy(crooked(0)).float()[None].requires_grad_()
    shapes = torch.full((1, len(BLENDSHAPES)), 0.001).requires_grad_()  # nearly at rest, where sigmoids are flat
    measure(points, shapes, torch.ones(1)).sum().backward()
    assert points.grad.isfinite().all()
    assert points.grad[0, list(LOWER_LIP)].abs().max() > 0
    assert (shapes.grad[0, [BLENDSHAPES.index(n) for n in NAMES if n in BLENDSHAPES]] > 1e-3).all()


# --- Between the lips ---------------------------------------------------------------------------


def painted(skin, mouth, size=256):
    """A picture [1,3,S,S] of one level, and of another between the lips of face(0.06), and its points."""
    rgb, points = np.full((size, size, 3), skin, np.uint8), face(0.06)
    cv2.fillPoly(rgb, [np.rint(points[60:68] * size).astype(np.int32)], (mouth,) * 3)
    return to_tensor(rgb), torch.from_numpy(points).float()[None]


@pytest.mark.parametrize(
    ("skin", "mouth", "expected"), [(200, 50, 0.25), (100, 100, 1.0), (60, 90, 1.5), (10, 250, 2.0)]
)
def test_light_inside_is_in_units_of_the_skins(skin, mouth, expected):
    assert light_inside(*painted(skin, mouth)).item() == pytest.approx(expected, abs=0.03)


def test_light_inside_does_not_depend_on_the_pictures_size():
    large, small = (light_inside(*painted(200, 50, size)).item() for size in (512, 128))
    assert large == pytest.approx(small, abs=0.06)


def test_light_between_the_lips_counts_for_and_light_on_the_cheeks_against():
    picture, points = painted(200, 120)
    light_inside(picture.requires_grad_(), points).sum().backward()
    mouth, gradient = painted(0, 255)[0][0, 0] > 0, picture.grad[0, 0]
    assert (gradient[mouth] >= 0).all()
    assert (gradient[mouth] > 0).sum() > 20
    assert (gradient[~mouth] <= 0).all()  # lighter skin makes the mouth darker


# --- Regions ------------------------------------------------------------------------------------


def test_every_number_belongs_somewhere():
    assert {region_of(name) for name in NAMES} == {"mouth", "eyes", "brows"}


@pytest.mark.parametrize(
    ("name", "region"),
    [
        *(("jawOpen", "mouth"), ("lips open", "mouth"), ("corner left", "mouth"), ("mouthSmileLeft", "mouth")),
        *(("eyeBlinkLeft", "eyes"), ("lid right", "eyes"), ("browInnerUp", "brows"), ("brow left", "brows")),
    ],
)
def test_regions_are_what_they_are_called(name, region):
    assert region_of(name) == region


def test_a_share_for_each_region_is_one_for_each_of_its_numbers():
    given = {"mouth": 0.5, "eyes": 0.0, "brows": 2.0}
    assert by_region(given).tolist() == [given[region_of(name)] for name in NAMES]


def test_a_region_without_strength_stays_at_rest():
    rest, anchor, seen = expressed(0), expressed(1), expressed(2)
    goal = goals(seen[None], anchor, rest, by_region({"mouth": 1.0, "eyes": 0.0, "brows": 0.0}))[0]
    eyes = torch.tensor([region_of(name) != "mouth" for name in NAMES])
    assert torch.equal(goal[eyes], limited(rest)[eyes])
    assert torch.equal(goal[~eyes], goals(seen[None], anchor, rest)[0][~eyes])


def test_regions_without_strength_do_not_tell_expressions_apart():
    a, b = expressed(0), expressed(1)
    b[torch.tensor([region_of(name) == "mouth" for name in NAMES])] = a[[region_of(name) == "mouth" for name in NAMES]]
    mouth = by_region({"mouth": 1.0, "eyes": 0.0, "brows": 0.0})
    assert distance(a, b, mouth) == 0
    assert distance(a, b, torch.zeros(len(NAMES))) == distance(a, b) > 0


# --- Goals --------------------------------------------------------------------------------------


def expressed(seed):
    """[M], of a face none of whose blendshapes is near its end."""
    shapes = 0.2 + 0.6 * torch.rand(1, len(BLENDSHAPES), generator=torch.Generator().manual_seed(seed))
    return measured(crooked(seed), blendshapes=shapes)[0]


DRIVER, ANCHOR, TARGET = expressed(1), expressed(2), expressed(3)


def test_a_driver_at_its_anchor_asks_for_the_targets_own_expression():
    assert goals(ANCHOR[None], ANCHOR, TARGET) == pytest.approx(TARGET[None], abs=1e-6)


def test_the_drivers_change_is_added():
    asked = goals(torch.stack([DRIVER, ANCHOR]), ANCHOR, TARGET)
    assert asked[0] - asked[1] == pytest.approx(DRIVER - ANCHOR, abs=1e-6)


def test_without_an_anchor_the_drivers_own_expression_is_asked_for():
    assert goals(DRIVER[None], None, TARGET)[0] == pytest.approx(DRIVER, abs=1e-6)
    assert goals(DRIVER[None], None, TARGET, 0.0)[0] == pytest.approx(TARGET, abs=1e-6)


def test_strength_scales_the_change():
    half, whole = (goals(DRIVER[None], ANCHOR, TARGET, strength) - TARGET for strength in (0.5, 1.0))
    assert half == pytest.approx(whole / 2, abs=1e-6)


def test_distance_is_nought_to_itself_and_grows_with_the_change():
    opened = torch.cat([measured(face(mouth)) for mouth in (0, 0.02, 0.06)])
    assert distance(opened, opened[0])[0] == 0
    assert (distance(opened, opened[0]).diff() > 0).all()


def mouths(*openings):
    return torch.cat([measured(face(opening)) for opening in openings])


def test_motion_starts_where_the_face_rests_and_is_most_like_the_target():
    clip = mouths(0.05, 0.05, 0.01, 0.01, 0.01, 0.05, 0.08, 0.08)
    assert nearest_rest(clip, mouths(0.0)[0]) == 3
    assert nearest_rest(clip, mouths(0.09)[0]) == 7


def test_a_moment_on_the_way_is_no_rest_however_like_the_target():
    assert nearest_rest(mouths(0.0, 0.0, 0.0, 0.03, 0.07, 0.08), mouths(0.02)[0]) in (0, 1)


def test_lips_as_far_apart_count_more_than_all_else():
    """A mouth taken for shut while it is open could not open."""
    rest = mouths(0.0)[0]
    frowning, parted = rest.clone(), rest.clone()
    frowning[[i for i, name in enumerate(NAMES) if name.startswith("brow")]] += 0.1
    parted[NAMES.index("lips open")] += 0.05
    clip = torch.stack([parted, parted, parted, frowning, frowning, frowning])
    assert distance(parted, rest) < distance(frowning, rest)
    assert nearest_rest(clip, rest) == 4


def test_a_frame_that_rests_is_preferred_to_one_that_would_have_to_be_made_to():
    rest, neutral = blendshaped(), torch.full((len(BLENDSHAPES),), 0.05)
    pout, frown = blendshaped(mouthPucker=0.5), blendshaped(browDownLeft=0.5, browDownRight=0.5)
    clip = torch.stack([pout] * 3 + [frown] * 3)
    assert distance(pout, rest) < distance(frown, rest)
    assert nearest_rest(clip, rest) == 0
    assert nearest_rest(clip, rest, neutral=neutral) == 4


def test_a_clip_of_one_frame_rests():
    assert nearest_rest(mouths(0.05), mouths(0.0)[0]) == 0


def test_a_face_at_rest_has_shut_lips_and_the_neutral_blendshapes():
    seen, neutral = mouths(0.08)[0], torch.full((len(BLENDSHAPES),), 0.2)
    rest = at_rest(seen, neutral)
    assert rest[NAMES.index("lips open")] == rest[NAMES.index(DARK)] == 0
    assert torch.allclose(rest[: len(USED)], unsquashed(neutral[None, list(USED)])[0])
    assert rest[NAMES.index("brow left")] == seen[NAMES.index("brow left")]
    assert torch.equal(at_rest(rest, neutral), rest)


def blendshaped(**amounts):
    """[M]: the expression of a face with these blendshapes, and 0.05 of every other."""
    shapes = torch.tensor([[amounts.get(name, 0.05) for name in BLENDSHAPES]])
    return measured(face(0.0), blendshapes=shapes)[0]


def test_a_mouth_is_as_round_as_it_has_become_since():
    rest, pout = blendshaped(), blendshaped(mouthPucker=0.3)
    assert rounded(rest, rest) == 0
    assert rounded(pout, rest) == pytest.approx(0.25 / ALL_ROUND, abs=1e-5)
    assert rounded(rest, pout) == 0
    assert rounded(blendshaped(mouthPucker=0.9, mouthFunnel=0.9), rest) == 1
    assert rounded(blendshaped(jawOpen=0.9), rest) == pytest.approx(0, abs=1e-6)


def test_a_smile_given_up_is_a_face_at_rests_and_all_else_stays():
    smiling, neutral = blendshaped(mouthSmileLeft=0.8, jawOpen=0.4), torch.full((len(BLENDSHAPES),), 0.1)
    none, half, all_of_it = less_smiling(smiling, neutral, torch.tensor([0.0, 0.5, 1.0]))
    smile, jaw, dimple = (NAMES.index(name) for name in ("mouthSmileLeft", "jawOpen", "mouthDimpleLeft"))
    assert torch.equal(none, smiling)
    assert half[smile].item() == pytest.approx((none[smile] + all_of_it[smile]).item() / 2, abs=1e-6)
    assert all_of_it[smile].item() == pytest.approx(unsquashed(torch.tensor(0.1)).item(), abs=1e-5)
    assert all_of_it[jaw] == smiling[jaw]
    assert all_of_it[dimple] == smiling[dimple]  # 0.05, which is less than a face at rest has


def test_what_only_an_expression_has_is_taken_from_a_rest():
    neutral, rest = torch.full((len(BLENDSHAPES),), 0.05), blendshaped()
    smile, brow, look = (NAMES.index(name) for name in ("mouthSmileLeft", "browDownLeft", "eyeLookInLeft"))
    for slight in (rest, blendshaped(mouthSmileLeft=0.24), blendshaped(browDownLeft=0.9), blendshaped(eyeBlinkLeft=1)):
        assert torch.equal(rested(slight, rest, neutral), slight)
    smiling = blendshaped(mouthSmileLeft=0.7, browDownLeft=0.6, eyeLookInLeft=0.6)
    still = rested(smiling, rest, neutral)
    assert still[smile].item() == pytest.approx(rest[smile].item(), abs=1e-5)
    assert torch.equal(still[[brow, look]], smiling[[brow, look]])
    half = rested(blendshaped(mouthSmileLeft=0.375), rest, neutral)[smile]
    assert rest[smile] < half < blendshaped(mouthSmileLeft=0.375)[smile]
    assert torch.equal(rested(smiling, blendshaped(mouthSmileLeft=0.7), neutral), smiling)


def test_lips_that_are_apart_are_together_in_a_rest():
    neutral, parted, rest = torch.full((len(BLENDSHAPES),), 0.05), blendshaped(), blendshaped()
    lips = [NAMES.index("lips open"), NAMES.index(DARK)]
    parted[lips] += torch.tensor([0.3, 0.1])
    assert rested(parted, rest, neutral)[lips] == pytest.approx(rest[lips])
    assert torch.equal(rested(parted, parted, neutral), parted)


def test_expressions_tell_blendshapes():
    shapes = torch.rand(3, len(BLENDSHAPES), generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    told = blendshapes(measured(*[face(0.0)] * 3, blendshapes=shapes))
    assert told[:, list(USED)] == pytest.approx(shapes[:, list(USED)], abs=1e-5)
    idle = [i for i in range(len(BLENDSHAPES)) if i not in USED]
    assert not told[:, idle].any()


# --- Detected faces -----------------------------------------------------------------------------


def landmarks(mouth, blendshapes=True):
    shapes = np.full(len(BLENDSHAPES), 0.3, np.float32) if blendshapes else None
    return Landmarks(face(mouth).astype(np.float32), 1.0, shapes, inside=0.5 if blendshapes else None)


def test_a_face_and_a_track_are_measured_alike():
    faces = [landmarks(m) for m in (0.0, 0.05)]
    points, shapes = (np.stack([getattr(f, kind) for f in faces]) for kind in ("points", "blendshapes"))
    track = FaceTrack(points, np.ones(2, np.float32), np.ones(2, bool), (), shapes, inside=np.full(2, 0.5, np.float32))
    assert of_track(track) == pytest.approx(torch.stack([of_landmarks(f) for f in faces]))


def test_frames_without_a_face_are_nan():
    points, shapes = np.stack([landmarks(0.0).points] * 3), np.full((3, len(BLENDSHAPES)), 0.3, np.float32)
    points[1], shapes[1] = np.nan, np.nan
    inside = np.array([0.5, np.nan, 0.5], np.float32)
    found = np.array([True, False, True])
    seen = of_track(FaceTrack(points, np.ones(3, np.float32), found, (), shapes, inside=inside))
    assert seen.isnan().all(1).tolist() == [False, True, False]
    assert seen[[0, 2]].isfinite().all()


def test_a_detector_without_expressions_is_refused():
    bare = landmarks(0.0, blendshapes=False)
    track = FaceTrack(bare.points[None], np.ones(1, np.float32), np.ones(1, bool), ())
    for refused in (lambda: of_landmarks(bare), lambda: of_track(track)):
        with pytest.raises(ValueError, match="no expressions"):
            refused()


# --- The probe ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nets(store):
    return FaceLandmarkerNets.load(store.path("face_landmarker.task"))


@pytest.fixture(scope="module")
def picture(request):
    """[1,3,512,512], a generated face, nobody real."""
    rgb = np.asarray(Image.open(request.config.rootpath / PICTURE).convert("RGB"))
    return F.interpolate(to_tensor(rgb), size=512, mode="bicubic").clamp(-1, 1)


@pytest.mark.pretrained
def test_points_do_not_depend_on_the_pictures_size(nets, picture):
    half = F.avg_pool2d(picture, 2)
    for first in (picture, half):
        probe = Probe(nets, first)
        large, small = (probe.look(p)[0] for p in (picture, half))
        assert large == pytest.approx(small, abs=0.01)


@pytest.mark.pretrained
def test_points_lie_on_the_face(nets, picture):
    points = Probe(nets, picture).look(picture)[0][0] * 256  # read off the picture at 256 pixels
    for index, place in {39: (107, 119), 42: (147, 119), 33: (127, 175), 48: (103, 193), 54: (154, 193)}.items():
        assert points[index] == pytest.approx(torch.tensor(place), abs=6)


@pytest.mark.pretrained
def test_a_batch_is_probed_as_its_pictures_are(nets, picture):
    probe, other = Probe(nets, picture), picture.roll(8, 3)
    together = probe(torch.cat([picture, other]))
    assert together == pytest.approx(torch.cat([probe(picture), probe(other)]), abs=1e-3)
    assert together.shape == (2, len(NAMES))


@pytest.mark.pretrained
def test_a_gradient_reaches_the_picture(nets, picture):
    free = F.avg_pool2d(picture, 4).requires_grad_()
    column = Probe(nets, picture)(free)[0, NAMES.index("lips open")]
    (gradient,) = torch.autograd.grad(column, free)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
