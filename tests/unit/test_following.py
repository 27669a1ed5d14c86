"""The output against the driver, face by face: expression, gaze, pose, identity, on series whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
from moments import FACELESS, clip, context, measured, samples, view

from reenact.metrics import View, expression, gaze, identity, pose
from reenact.metrics.expression import ExpressionMetric
from reenact.metrics.gaze import GazeMetric
from reenact.metrics.identity import IdentityMetric
from reenact.metrics.pose import PoseMetric

WAVE = 0.4 + 0.3 * np.sin(np.arange(20))
TALKER = [view(jawOpen=w, mouthSmileLeft=1 - w, cheekPuff=w / 100) for w in WAVE]
CONTEXT = context(clip(), clip())


def expressed(output, driver=TALKER):
    return measured(ExpressionMetric(), samples(output, driver))


def values(scores):
    return {name: score.value for name, score in scores.items()}


# --- expression


def test_the_driver_itself_scores_perfect():
    scores = values(expressed(TALKER))
    assert scores["expression"] == 0
    assert {n for n in scores if n.startswith("expression-r-")} == {
        "expression-r-jawOpen",
        "expression-r-mouthSmileLeft",
    }
    assert all(v == pytest.approx(1) for n, v in scores.items() if n != "expression")


def test_a_still_picture_fails():
    scores = values(expressed([TALKER[0]] * 20))
    assert scores.pop("expression") > 0
    assert set(scores.values()) == {0}
    assert "expression-r" in scores


def test_the_wobble_of_a_still_picture_is_no_movement():
    noise = np.random.default_rng(0).normal(size=20)
    noise /= noise.std()
    follower = noise + 3 * (WAVE - WAVE.mean()) / WAVE.std()
    for size, follows in ((0.005, False), (0.02, True)):
        output = [view(jawOpen=0.2 + size * x) for x in follower / follower.std()]
        assert (expressed(output)["expression-r-jawOpen"].value > 0.5) is follows


def test_gain_is_the_slope_and_r_does_not_see_it():
    scores = expressed([view(jawOpen=w / 2 + 0.1, mouthSmileLeft=w) for w in WAVE])
    assert scores["expression-gain-jawOpen"].value == pytest.approx(0.5)
    assert scores["expression-r-jawOpen"].value == pytest.approx(1)
    assert scores["expression-gain-mouthSmileLeft"].value == pytest.approx(-1)
    assert scores["expression-r-mouthSmileLeft"].value == pytest.approx(-1)
    assert scores["expression-gain"].value == pytest.approx(-0.25)
    assert scores["expression-r"].value == pytest.approx(0, abs=1e-6)


def test_delta_is_the_mean_over_51_by_frame():
    output = [view(jawOpen=w, mouthSmileLeft=1 - w, cheekPuff=w / 100) for w in WAVE]
    output[7] = view(jawOpen=WAVE[7] + 0.51, mouthSmileLeft=1 - WAVE[7], cheekPuff=WAVE[7] / 100)
    score = expressed(output)["expression"]
    assert score.worst == 7
    assert score.per_frame[7] == pytest.approx(0.01)
    assert score.value == pytest.approx(0.01 / 20)


def test_a_swapped_order_is_seen():
    scores = expressed(TALKER[10:] + TALKER[:10])
    assert scores["expression"].value > 0
    assert scores["expression-r"].value < 0.5


def test_what_hardly_moves_in_the_driver_has_no_r():
    amounts = (0.039, 0.041)
    driver = [view(jawOpen=0.2 + a, browInnerUp=0.2 + b) for a, b in np.outer([-1, 1] * 10, amounts)]
    scores = expressed(driver, driver)
    assert "expression-r-jawOpen" not in scores
    assert scores["expression-r-browInnerUp"].value == pytest.approx(1)


def test_only_listed_blendshapes_count_in_the_means():
    driver = [view(jawOpen=w, mouthLeft=w) for w in WAVE]
    scores = expressed([view(jawOpen=w, mouthLeft=1 - w) for w in WAVE], driver)
    assert scores["expression-r-mouthLeft"].value == pytest.approx(-1)
    assert scores["expression-r"].value == pytest.approx(1)
    scores = expressed(driver, [view(mouthLeft=w) for w in WAVE])
    assert scores["expression-r"].value is None
    assert "listed" in scores["expression-r"].note


def test_a_driver_that_does_not_move_is_not_measured():
    scores = expressed(TALKER, [TALKER[0]] * 20)
    assert scores["expression"].value > 0
    assert scores["expression-r"].value is scores["expression-gain"].value is None
    assert "moves" in scores["expression-r"].note


def test_missing_faces_are_left_out_and_counted():
    output, driver = list(TALKER), list(TALKER)
    output[3] = driver[5] = FACELESS
    scores = expressed(output, driver)
    assert scores["expression"].measured == 18
    assert np.isnan(scores["expression"].per_frame[[3, 5]]).all()
    assert scores["expression-r"].value == pytest.approx(1)
    for name in ("expression", "expression-r", "expression-gain-jawOpen"):
        assert "2 of 20 frames left out" in scores[name].note


def test_no_face_at_all_is_not_measured():
    for score in expressed([FACELESS] * 20).values():
        assert score.value is None
        assert "no face" in score.note


# --- gaze


def looker(aside, up=0.0):
    """Both eyes turned to the person's left, and up."""
    left, right = max(aside, 0), max(-aside, 0)
    return view(
        eyeLookOutLeft=left, eyeLookInLeft=right, eyeLookInRight=left, eyeLookOutRight=right,
        eyeLookUpLeft=up, eyeLookUpRight=up,
    )  # fmt: skip


def test_gaze_goes_aside_on_one_scale_for_both_eyes():
    driver = [looker(x) for x in np.sin(np.arange(20)) / 2]
    same = measured(GazeMetric(), samples(driver, driver))
    assert same["gaze"].value == 0
    assert same["gaze-r"].value == pytest.approx(1)
    assert "left eye aside, right eye aside" in same["gaze-r"].note
    mirrored = measured(GazeMetric(), samples([looker(-x) for x in np.sin(np.arange(20)) / 2], driver))
    assert mirrored["gaze-r"].value == pytest.approx(-1)


def test_a_gaze_that_is_off_by_a_known_amount():
    scores = measured(GazeMetric(), samples([looker(0.3, 0.1)] * 3, [looker(-0.1)] * 3))
    assert scores["gaze"].value == pytest.approx((0.4 + 0.1) / 2)
    assert scores["gaze-r"].value is None
    assert "moves" in scores["gaze-r"].note


def test_a_fixed_stare_does_not_follow():
    driver = [looker(x) for x in np.sin(np.arange(20)) / 2]
    assert measured(GazeMetric(), samples([looker(0.2)] * 20, driver))["gaze-r"].value == 0


# --- pose


def posed(*poses):
    return [view(pose=p) for p in poses]


def test_a_known_turn_is_that_many_degrees():
    output, driver = posed((12, -3, 0), (8, 3, 0)), posed((2, 0, 0), (-2, 0, 0))
    scores = measured(PoseMetric(has_target=True), samples(output, driver, target=view(pose=(10, 0, 0))))
    assert values(scores) == pytest.approx(
        {
            "pose-driver": 13 / 3, "pose-driver-yaw": 10, "pose-driver-pitch": 3, "pose-driver-roll": 0,
            "pose-target": 5 / 3, "pose-target-yaw": 2, "pose-target-pitch": 3, "pose-target-roll": 0,
        }
    )  # fmt: skip


def test_angles_go_the_short_way_round():
    scores = measured(PoseMetric(has_target=False), samples(posed((0, 0, 179)), posed((0, 0, -179))))
    assert scores["pose-driver-roll"].value == pytest.approx(2)


def test_without_a_target_its_pose_is_not_measured():
    scores = measured(PoseMetric(has_target=False), samples(posed((0, 0, 0)), posed((0, 0, 0))))
    assert scores["pose-driver"].value == 0
    assert scores["pose-target"].value is None
    assert "--target" in scores["pose-target"].note


# --- identity, with a network that sees a person in the angle at the first pixel


def person(degrees):
    return view(np.full((64, 64, 3), degrees, np.uint8))


class Angles:
    """A vector of length 2 at the view's angle; counts how often it looks."""

    looks = 0

    def __call__(self, view: View):
        self.looks += 1
        if view.face is None:
            return None
        angle = np.radians(float(view.rgb[0, 0, 0]))
        return np.array([2 * np.cos(angle), 2 * np.sin(angle), *[0] * 126], np.float32)


def identified(output, driver=None, target=None, truth=None):
    return measured(IdentityMetric(Angles()), samples(output, driver or output, target, truth))


def test_the_same_person_is_at_no_distance():
    scores = identified([person(20)] * 3, target=person(20), truth=[person(20)] * 3)
    assert values(scores) == pytest.approx(
        {"identity-target": 0, "csim-target": 1, "identity-truth": 0, "csim-truth": 1, "tl-id": 1, "tg-id": 1}
    )


def test_distance_is_euclidean_and_csim_the_cosine():
    scores = identified([person(60), person(0)], target=person(0), truth=[person(0), person(90)])
    assert scores["identity-target"].per_frame == pytest.approx([2, 0])
    assert scores["csim-target"].per_frame == pytest.approx([0.5, 1])
    assert scores["identity-truth"].per_frame == pytest.approx([2, 8**0.5], rel=1e-6)
    assert scores["identity-truth"].worst == 1


def test_steadiness_is_the_ratio_of_mean_cosines():
    output, driver = [person(a) for a in (0, 60, 120)], [person(a) for a in (0, 0, 60)]
    scores = identified(output, driver)
    assert scores["tl-id"].value == pytest.approx(0.5 / 0.75)  # adjacent: 60, 60; 0, 60 degrees
    assert scores["tg-id"].value == pytest.approx((0.5 + 0.5 - 0.5) / (1 + 0.5 + 0.5))


def test_swapped_frames_change_the_local_steadiness_alone():
    driver = [person(a) for a in (0, 10, 50, 60)]
    scores = identified([driver[i] for i in (0, 2, 1, 3)], driver)
    assert scores["tl-id"].value < 0.95
    assert scores["tg-id"].value == pytest.approx(1)


def test_a_frame_without_a_face_has_no_neighbours():
    driver = [person(a) for a in (0, 60, 60)]
    scores = identified([person(0), FACELESS, person(60)], driver, target=person(0))
    assert scores["identity-target"].measured == 2
    assert "1 of 3 frames left out" in scores["identity-target"].note
    assert scores["tl-id"].value is None
    assert scores["tg-id"].value == pytest.approx(1)


def test_the_target_is_looked_at_once():
    network = Angles()
    measured(IdentityMetric(network), samples([person(1)] * 5, [person(2)] * 5, target=person(3)))
    assert network.looks == 5 + 5 + 1


def test_each_frame_of_a_clip_as_target_is_looked_at_and_none_twice():
    first, last = person(0), person(60)
    shown = [FACELESS, first, first, last]
    moments = samples([person(0)] * 4, [person(2)] * 4)
    network = Angles()
    scores = measured(IdentityMetric(network), [replace(m, target=t) for m, t in zip(moments, shown, strict=True)])
    assert scores["identity-target"].per_frame == pytest.approx([np.nan, 0, 0, 2], nan_ok=True)
    assert network.looks == 4 + 4 + 3


def test_without_target_and_truth_it_says_what_to_give():
    scores = identified([person(1)] * 2)
    assert scores["identity-target"].value is scores["csim-truth"].value is None
    assert "--target" in scores["identity-target"].note
    assert "--truth" in scores["csim-truth"].note


def test_a_target_without_a_face_is_another_thing_than_no_target():
    assert "no face" in identified([person(1)], target=FACELESS)["identity-target"].note


def test_without_dlib_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    assert "pip install 'reenact[dlib]'" in identity.create(CONTEXT)


def test_the_others_need_nothing():
    for module in (expression, gaze, pose):
        assert not isinstance(module.create(CONTEXT), str)
