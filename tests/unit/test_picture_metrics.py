"""Metrics of pixels and of time, on inputs whose value can be worked out, and against second implementations."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from faces import face, similarity
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from reenact.geometry import apply
from reenact.images import read_image
from reenact.metrics import Clip, Context, Sample, View, akd, flow, jitter, pixels, ssim
from reenact.types import FaceTrack, Landmarks, Score
from reenact.weights import WeightStore

FACE = read_image(Path(__file__).parents[1] / "data" / "face.png")  # 256x256
RNG = np.random.default_rng(7)
NOISE = RNG.normal(0, 1, FACE.shape)


def landmarks(points: np.ndarray) -> Landmarks:
    return Landmarks(points.astype(np.float32), 1.0)


WHERE = landmarks(face() * 256)


def view(rgb: np.ndarray, where: Landmarks | None = WHERE) -> View:
    rgb = rgb.copy()
    rgb.setflags(write=False)
    return View(rgb, where)


def clip(frames: int, cuts: Sequence[int] = (), size=(256, 256)) -> Clip:
    track = FaceTrack(
        np.zeros((frames, 68, 2), np.float32), np.ones(frames, np.float32), np.ones(frames, bool), tuple(cuts)
    )
    return Clip(Path("x.mp4"), frames, *size, track)


def measured(
    module,
    output: Sequence[View],
    truth: Sequence[View] | None = None,
    driver: Sequence[View] | None = None,
    output_cuts: Sequence[int] = (),
    truth_cuts: Sequence[int] = (),
) -> dict[str, Score]:
    """A metric's scores by name."""
    count = len(output)
    context = Context(
        output=clip(count, output_cuts), driver=clip(count), target=None,
        truth=clip(count, truth_cuts) if truth else None, matte=None, frames=count,
        store=WeightStore(Path("none"), offline=True), device=torch.device("cpu"),
    )  # fmt: skip
    metric = module.create(context)
    for i in range(count):
        metric.update(Sample(i, i / 25, output[i], (driver or output)[i], None, truth[i] if truth else None, None))
    return {score.name: score for score in metric.score()}


def noisy(rgb: np.ndarray, sigma: float) -> np.ndarray:
    return (rgb + sigma * NOISE).round().clip(0, 255).astype(np.uint8)


def shifted(rgb: np.ndarray, x: int, y: int = 0) -> np.ndarray:
    return np.roll(rgb, (y, x), (0, 1))


# ---- Pixels


def test_identical_frames_have_no_pixel_difference():
    scores = measured(pixels, [view(FACE)] * 2, [view(FACE)] * 2)
    assert {name: s.value for name, s in scores.items()} == {
        "l1": 0, "l2": 0, "psnr": 100, "l1-face": 0, "l2-face": 0, "psnr-face": 100
    }  # fmt: skip


def test_a_known_difference_has_its_l1_l2_and_psnr():
    grey = np.full((64, 64, 3), 100, np.uint8)
    other = grey.copy()
    other[:16, :, 0] += 40  # a quarter of the pixels, one channel of three
    scores = measured(pixels, [view(other, None)], [view(grey, None)])
    assert scores["l1"].value == pytest.approx(40 / 12)
    assert scores["l2"].value == pytest.approx(40 / np.sqrt(12))
    assert scores["psnr"].value == pytest.approx(20 * np.log10(255 * np.sqrt(12) / 40))


def test_noise_of_a_known_strength_is_found_again():
    grey = np.full(FACE.shape, 128, np.uint8)
    scores = measured(pixels, [view(noisy(grey, 10))], [view(grey)])
    assert scores["l2"].value == pytest.approx(10, rel=0.02)
    assert scores["l1"].value == pytest.approx(10 * np.sqrt(2 / np.pi), rel=0.02)


def test_psnr_is_that_of_scikit_image():
    output = noisy(FACE, 6)
    score = measured(pixels, [view(output)], [view(FACE)])["psnr"]
    assert score.value == pytest.approx(peak_signal_noise_ratio(FACE, output), abs=1e-4)


def test_the_face_is_what_the_truths_landmarks_enclose():
    inside = np.zeros(FACE.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull((face() * 256).round().astype(np.int32)), 1)
    kernel = np.ones((5, 5), np.uint8)
    for region, wrong in ((cv2.erode(inside, kernel), "l1-face"), (1 - cv2.dilate(inside, kernel), None)):
        spoilt = np.where(region[:, :, None] > 0, 255 - FACE, FACE)
        scores = measured(pixels, [view(spoilt, None)], [view(FACE)])
        assert scores["l1"].value > 1
        assert (scores["l1-face"].value > 1) == (wrong == "l1-face")


def test_a_face_beyond_the_edge_counts_as_far_as_it_is_seen():
    half = landmarks(face() * 256 - np.array([128, 0]))
    scores = measured(pixels, [view(255 - FACE)], [view(FACE, half)])
    seen = np.abs(255 - 2 * FACE.astype(float))[40:230, :60].mean()
    assert scores["l1-face"].value == pytest.approx(seen, rel=0.5)


def test_frames_whose_truth_shows_no_face_are_counted_out():
    truth = [view(FACE), view(FACE, None), view(FACE)]
    scores = measured(pixels, [view(noisy(FACE, 5))] * 3, truth)
    assert (scores["l1"].measured, scores["l1-face"].measured) == (3, 2)
    assert "1 of 3 frames left out" in scores["l1-face"].note
    assert scores["l1-face"].per_frame[0] == pytest.approx(scores["l1-face"].value)


# ---- SSIM


@pytest.mark.parametrize("spoil", [lambda x: noisy(x, 12), lambda x: cv2.GaussianBlur(x, (9, 9), 3), lambda x: 255 - x])
def test_ssim_is_that_of_scikit_image(spoil):
    output = spoil(FACE)[:200]
    expected, whole = structural_similarity(
        output, FACE[:200], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2,
        data_range=255, full=True,
    )  # fmt: skip
    score = measured(ssim, [view(output)], [view(FACE[:200])])["ssim"]
    assert score.value == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(ssim.ssim_map(output, FACE[:200]), whole.mean(2), atol=1e-6)


def test_identical_frames_are_wholly_alike():
    scores = measured(ssim, [view(FACE)], [view(FACE)])
    assert [s.value for s in scores.values()] == pytest.approx([1, 1])


def test_of_two_flat_greys_only_the_means_count():
    a, b = (np.full((64, 64, 3), grey, np.uint8) for grey in (100, 140))
    score = measured(ssim, [view(a, None)], [view(b, None)])
    c1 = (0.01 * 255) ** 2
    assert score["ssim"].value == pytest.approx((2 * 100 * 140 + c1) / (100**2 + 140**2 + c1))
    assert score["ssim-face"].value is None


def test_noise_outside_the_face_does_not_lower_its_ssim():
    spoilt = FACE.copy()
    spoilt[:, :20] = noisy(FACE, 60)[:, :20]
    scores = measured(ssim, [view(spoilt)], [view(FACE)])
    assert scores["ssim"].value < 0.97
    assert scores["ssim-face"].value == pytest.approx(1)


def test_ssim_of_frames_smaller_than_its_window_is_not_measured():
    tiny = SimpleNamespace(truth=True, output=clip(1, size=(10, 64)))
    assert "11x11" in ssim.create(tiny)


# ---- Keypoints


@pytest.mark.parametrize(("height", "width"), [(256, 256), (512, 512), (360, 640)])
def test_a_known_shift_is_the_keypoint_distance_in_256ths_of_the_longer_side(height, width):
    rgb, points = np.zeros((height, width, 3), np.uint8), face() * 200
    moved = landmarks(points + np.array([3, 4]))
    score = measured(akd, [view(rgb, moved)], [view(rgb, landmarks(points))])["akd"]
    assert score.value == pytest.approx(5 * 256 / max(height, width), rel=1e-4)
    assert score.unit == "px"


def test_keypoints_need_both_faces():
    output, truth = [view(FACE), view(FACE, None), view(FACE)], [view(FACE), view(FACE), view(FACE, None)]
    score = measured(akd, output, truth)["akd"]
    assert np.isfinite(score.per_frame).tolist() == [True, False, False]
    assert score.value == 0


# ---- Optical flow


def textured(width: int = 256) -> np.ndarray:
    """Blots of full contrast: without texture there is no flow to be found."""
    blurred = gaussian_filter(RNG.normal(0, 1, (256, width, 3)), (4, 4, 0), mode="wrap")
    return (128 + 45 * blurred / blurred.std()).clip(0, 255).astype(np.uint8)


TEXTURE = textured()


def drifting(count: int, x: int, y: int = 0) -> list[View]:
    """Frames of 256 px whose content moves by x, y pixels a frame."""
    return [view(shifted(TEXTURE, i * x, i * y)) for i in range(count)]


def test_equal_motion_has_no_flow_difference():
    assert measured(flow, drifting(3, 2), drifting(3, 2))["tof"].value == 0


def test_a_shift_that_the_truth_does_not_make_is_the_flow_difference():
    score = measured(flow, drifting(3, 3), drifting(3, 0))["tof"]
    assert score.value == pytest.approx(3, rel=0.15)  # Farnebäck loses some at the edge


def test_flow_is_in_256ths_of_the_longer_side():
    large = [view(cv2.resize(v.rgb, (512, 512))) for v in drifting(2, 3)]
    still = [view(cv2.resize(v.rgb, (512, 512))) for v in drifting(2, 0)]
    assert measured(flow, large, still)["tof"].value == pytest.approx(3, rel=0.15)


def test_the_first_frame_of_a_scene_has_no_flow():
    for cuts in ({"output_cuts": (2,)}, {"truth_cuts": (2,)}):
        scores = measured(flow, drifting(4, 1), drifting(4, 1), **cuts)
        assert np.isfinite(scores["tof"].per_frame).tolist() == [False, True, False, True]
        assert np.isfinite(scores["warping-error"].per_frame).tolist() == [False, True, False, True]


def test_a_still_and_a_steady_motion_warp_without_error_and_flicker_does_not():
    still = measured(flow, drifting(3, 0))["warping-error"].value
    steady = measured(flow, drifting(3, 2))["warping-error"].value
    flicker = [view(np.clip(v.rgb.astype(int) + 20 * (i % 2), 0, 255).astype(np.uint8)) for i, v in
               enumerate(drifting(3, 2))]  # fmt: skip
    assert still < 1e-7
    assert steady < 1e-4
    assert measured(flow, flicker)["warping-error"].value > 20 * steady


def test_the_warping_error_of_flicker_is_its_square():
    grey = [view(np.full((64, 64, 3), 100 + 51 * (i % 2), np.uint8)) for i in range(3)]
    assert measured(flow, grey)["warping-error"].value == pytest.approx(0.2**2)


def test_frames_in_disorder_warp_worse():
    steady = drifting(6, 2)
    swapped = [steady[i] for i in (0, 3, 1, 4, 2, 5)]
    in_order, out_of_order = (measured(flow, views, steady) for views in (steady, swapped))
    assert out_of_order["tof"].value > in_order["tof"].value + 1


def test_what_comes_into_the_frame_is_not_counted():
    ground = textured(260)
    ground[:, 256:] = 255  # comes in at the right
    before, now = np.ascontiguousarray(ground[:, :256]), np.ascontiguousarray(ground[:, 4:])
    assert flow.warping_error(before, now, flow.flow(before, now)) < 0.001
    assert np.square((now.astype(float) - before)[:, 252:] / 255).mean() * 4 / 256 > 0.003  # what it would add


def test_without_a_truth_tof_alone_is_not_measured():
    scores = measured(flow, drifting(2, 1))
    assert scores["tof"].value is None
    assert "--truth" in scores["tof"].note
    assert scores["warping-error"].value is not None


# ---- Jitter


def points_view(points: np.ndarray | None) -> View:
    return view(np.zeros((8, 8, 3), np.uint8), None if points is None else landmarks(points))


def trembling(count: int, amount: float, seed: int = 0) -> list[View]:
    """The drawn face, each point moved by noise of `amount` eye distances along x and along y."""
    eyes = 0.26 * 256
    noise = np.random.default_rng(seed).normal(0, amount * eyes, (count, 68, 2))
    return [points_view(face() * 256 + n) for n in noise]


def test_points_at_rest_have_no_jitter():
    scores = measured(jitter, trembling(5, 0), driver=trembling(5, 0.01))
    assert scores["jitter"].value == pytest.approx(0, abs=1e-6)
    assert scores["jitter-ratio"].value == pytest.approx(0, abs=1e-4)


def test_noise_of_a_known_strength_is_the_jitter():
    """The second difference of white noise has six times its variance, and there are two axes."""
    score = measured(jitter, trembling(60, 0.01))["jitter"]
    assert score.value == pytest.approx(0.01 * np.sqrt(6 * 2), rel=0.05)
    assert score.unit == "eye distances"


def test_jitter_does_not_depend_on_the_size_of_the_picture():
    small = measured(jitter, trembling(20, 0.02))["jitter"].value
    views = [points_view(4 * v.face.points) for v in trembling(20, 0.02)]
    assert measured(jitter, views)["jitter"].value == pytest.approx(small, rel=1e-4)


def test_a_head_that_moves_turns_and_grows_does_not_tremble():
    rng = np.random.default_rng(1)
    moves = [similarity(rng.uniform(-40, 40), rng.uniform(0.5, 2), tuple(rng.uniform(-50, 50, 2))) for _ in range(8)]
    scores = measured(jitter, [points_view(apply(m, face() * 256)) for m in moves])
    assert scores["jitter"].value == pytest.approx(0, abs=1e-5)


def test_a_mouth_that_opens_steadily_hardly_trembles_and_one_that_snaps_does():
    steady = measured(jitter, [points_view(face(0.01 * i) * 256) for i in range(8)])["jitter"].value
    snapping = measured(jitter, [points_view(face(0.08 * (i % 2)) * 256) for i in range(8)])["jitter"].value
    assert steady < snapping / 50


def test_the_ratio_compares_with_the_driver():
    scores = measured(jitter, trembling(40, 0.02, 1), driver=trembling(40, 0.01, 2))
    assert scores["jitter-ratio"].value == pytest.approx(2, rel=0.1)
    assert scores["jitter-ratio"].value == scores["jitter"].value / scores["jitter-driver"].value
    assert measured(jitter, trembling(5, 0.02))["jitter-ratio"].value == 1


def test_a_driver_that_does_not_move_gives_no_ratio():
    ratio = measured(jitter, trembling(5, 0.02), driver=[points_view(face() * 256)] * 5)["jitter-ratio"]
    assert ratio.value is None
    assert "does not move" in ratio.note


def test_a_frame_counts_if_both_neighbours_show_the_face_in_its_scene():
    views = trembling(10, 0.01)
    views[4] = points_view(None)
    score = measured(jitter, views, output_cuts=(8,))["jitter"]
    assert np.flatnonzero(np.isfinite(score.per_frame)).tolist() == [1, 2, 6]
    assert "7 of 10 frames left out" in score.note


def test_the_score_is_the_rms_of_the_curve():
    score = measured(jitter, trembling(12, 0.01))["jitter"]
    assert score.value == pytest.approx(np.sqrt(np.nanmean(np.square(score.per_frame, dtype=float))))


def test_frames_in_disorder_tremble_more():
    steady = [points_view(face(0.01 * i) * 256) for i in range(9)]
    swapped = [steady[i] for i in (0, 2, 1, 4, 3, 6, 5, 8, 7)]
    assert measured(jitter, swapped, driver=steady)["jitter-ratio"].value > 10
