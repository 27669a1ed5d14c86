"""The torch networks against what mediapipe recorded (tools/record_mediapipe.py), and the geometry around them."""

import math
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reenact.errors import WeightsError
from reenact.face_landmarker import (
    _RIGID,
    BLENDSHAPE_POINTS,
    BLENDSHAPES,
    IBUG_68,
    FaceLandmarkerNets,
    Graph,
    canonical_axes,
    crop,
    facing,
    head_pose,
    read_triangles,
    roi_of_detection,
    roi_of_points,
    to_68,
    transform,
)
from reenact.images import read_image
from reenact.weights import WeightStore

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(DATA / "face_mediapipe.npz") as recorded:
        return {name: torch.from_numpy(recorded[name]) for name in recorded.files}


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    """[1,3,256,256] in [0,1]."""
    return torch.from_numpy(read_image(DATA / "face.png")).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def nets(store: WeightStore) -> FaceLandmarkerNets:
    return FaceLandmarkerNets.load(store.path("face_landmarker.task"))


# ---- The networks


@pytest.mark.pretrained
def test_landmarks_are_those_of_the_original_network(nets, golden, face):
    points, presence = nets.landmarks(face)
    torch.testing.assert_close(points[0], golden["raw_points"], atol=3e-4, rtol=0)
    torch.testing.assert_close(presence[0], golden["raw_presence"].sigmoid(), atol=1e-6, rtol=0)


@pytest.mark.pretrained
def test_face_candidates_are_those_of_the_original_network(nets, golden, face):
    points, score = nets.detector(torch.nn.functional.avg_pool2d(face, 2))
    torch.testing.assert_close(score[0], golden["raw_scores"].sigmoid(), atol=1e-5, rtol=0)
    corners = points[0, :, :2]
    torch.testing.assert_close(corners[:, 1] - corners[:, 0], golden["raw_boxes"][:, 2:4], atol=3e-4, rtol=0)
    anchor = torch.tensor([60.0, 68.0])  # of cell 7, 8 in the 16x16 grid of 8 pixels each
    index = 2 * (8 * 16 + 7)
    torch.testing.assert_close(points[0, index, 2], anchor + golden["raw_boxes"][index, 4:6], atol=3e-4, rtol=0)


@pytest.mark.pretrained
def test_blendshapes_are_mediapipes_of_the_same_points(nets, golden):
    points = golden["points"][None]
    torch.testing.assert_close(nets.blendshapes(points)[0], golden["blendshapes"], atol=2e-5, rtol=0)
    few = points[:, list(BLENDSHAPE_POINTS), :2]
    assert torch.equal(nets.blendshapes(few), nets.blendshapes(points))


@pytest.mark.pretrained
def test_one_pass_from_detection_to_points_is_mediapipes(nets, golden, face):
    boxes, score = nets.detector(torch.nn.functional.avg_pool2d(face, 2))
    best = boxes[:, int(score.argmax())] * 2 + 0.5  # in pixels of the 256x256 picture
    found, _ = nets.landmarks(crop(face, roi_of_detection(best)))
    again = transform(roi_of_detection(best), found)[0]
    assert (again - golden["points"])[:, :2].norm(dim=1).mean() < 0.7


@pytest.mark.pretrained
def test_a_batch_gives_what_each_picture_gives(nets, face):
    pictures = torch.cat([face, face.flip(3), face * 0.5])
    for network in (nets.landmarks, lambda x: nets.detector(x[:, :, ::2, ::2])):
        together = network(pictures)
        for i in range(3):
            alone = network(pictures[i : i + 1])
            torch.testing.assert_close(together[0][i], alone[0][0], atol=1e-3, rtol=0)
    points = nets.landmarks(pictures)[0]
    torch.testing.assert_close(nets.blendshapes(points)[1], nets.blendshapes(points[1:2])[0], atol=1e-5, rtol=0)


@pytest.mark.pretrained
def test_an_open_mouth_pulls_at_the_pixels_of_the_mouth(nets, face):
    picture = face.clone().requires_grad_()
    points, _ = nets.landmarks(picture)
    nets.blendshapes(points)[0, BLENDSHAPES.index("jawOpen")].backward()
    strength = picture.grad.abs().sum(1)[0]
    lips = to_68(points.detach())[0, 48:].long()
    left, top, right, bottom = *lips.amin(0).tolist(), *lips.amax(0).tolist()
    assert strength[top - 10 : bottom + 20, left:right].mean() > 3 * strength.mean() > 0


@pytest.mark.pretrained
def test_half_precision_moves_points_by_less_than_a_pixel(store, face, golden):
    half = FaceLandmarkerNets.load(store.path("face_landmarker.task")).to(torch.bfloat16)
    points, _ = half.landmarks(face.bfloat16())
    assert (points[0].float() - golden["raw_points"]).abs().mean() < 1


def test_a_file_that_is_no_bundle_is_named(tmp_path):
    file = tmp_path / "face_landmarker.task"
    for content in (b"", b"<html>quota exceeded</html>"):
        file.write_bytes(content)
        for read in (FaceLandmarkerNets.load, read_triangles):
            with pytest.raises(WeightsError, match=r"face_landmarker\.task: not a readable"):
                read(file)
    for read in (FaceLandmarkerNets.load, read_triangles):
        with pytest.raises(WeightsError, match="missing"):
            read(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"not a \.tflite"):
        Graph(b"nonsense, but long enough")


@pytest.mark.parametrize("metadata", [b"", b"\x0a\x7f", b"\x0a", b"\x0b\x00", b"\xff" * 20])
def test_a_bundle_whose_mesh_is_spoilt_is_named(tmp_path, metadata):
    file = tmp_path / "face_landmarker.task"
    with zipfile.ZipFile(file, "w") as bundle:
        bundle.writestr("geometry_pipeline_metadata_landmarks.binarypb", metadata)
    with pytest.raises(WeightsError, match=r"face_landmarker\.task: not a readable"):
        read_triangles(file)


# ---- A face that looks into the camera


TURNS = [(0, 0, 0, 1), (30, 0, 0, 40), (-20, 15, 10, 7)]


def whole(yaw: float, pitch: float, roll: float, scale: float, step: tuple[float, ...] = (0, 0, 0)) -> torch.Tensor:
    """[1,478,3] points of a turned picture of a face in centimetres, moved by a step of its own before."""
    points = np.random.default_rng(0).uniform(-8, 8, (478, 3))
    points[list(_RIGID)] = list(_RIGID.values())
    y, p, r = np.radians([yaw, pitch, roll])
    aside = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    up = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    lean = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    seen = scale * (points + step) @ (aside @ up @ lean).T + [30, -20, 5]
    return torch.from_numpy(seen * [1, -1, -1])[None]  # y down, z away


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_face_faces_the_camera_as_it_did(turn):
    torch.testing.assert_close(facing(whole(*turn)), facing(whole(0, 0, 0, 1)))


@pytest.mark.parametrize("turn", TURNS)
def test_axes_say_where_a_centimetre_goes_in_the_picture(turn):
    step = (0.5, -1.0, 2.0)
    before, after = whole(*turn), whole(*turn, step)
    moved = canonical_axes(before)[0] @ torch.tensor(step, dtype=torch.float64)
    torch.testing.assert_close(moved, (after - before)[0, 0, :2])


# ---- The table of 68


def test_68_points_lie_where_the_scheme_has_them(golden):
    p = to_68(golden["points"])
    assert p.shape == (68, 2)
    assert p[:8, 0].max() < p[8, 0] < p[9:17, 0].min()  # the jaw runs from the left of the image to the right,
    assert (p[1:9, 1] > p[:8, 1]).all()  # down to the chin
    assert (p[9:17, 1] < p[8:16, 1]).all()  # and up again
    left_eye, right_eye, mouth = p[36:42].mean(0), p[42:48].mean(0), p[48:60].mean(0)
    assert left_eye[0] < right_eye[0]
    assert p[17:22, 1].mean() < left_eye[1] < p[30, 1] < mouth[1] < p[8, 1]
    assert p[36, 0] < p[39, 0] < p[27, 0] < p[42, 0] < p[45, 0]  # corners of the eyes, outer and inner
    assert p[48, 0] < p[60, 0] < p[62, 0] < p[64, 0] < p[54, 0]  # outer lips enclose the inner
    assert p[51, 1] < p[62, 1] <= p[66, 1] < p[57, 1]


def test_arrays_and_tensors_go_through_the_same_table(golden):
    as_array = to_68(golden["points"].numpy())
    assert isinstance(as_array, np.ndarray)
    np.testing.assert_array_equal(as_array, golden["points"].numpy()[list(IBUG_68), :2])


# ---- Head pose


def posed(yaw: float, pitch: float, roll: float) -> torch.Tensor:
    """Points of the canonical face after turning: clockwise in the image, then up, then to the image's right."""
    y, p, r = (math.radians(v) for v in (yaw, pitch, roll))
    lean = torch.tensor([[math.cos(r), math.sin(r), 0], [-math.sin(r), math.cos(r), 0], [0, 0, 1]])
    nod = torch.tensor([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    turn = torch.tensor([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    points = torch.zeros(478, 3)
    points[list(_RIGID)] = torch.tensor(list(_RIGID.values())) @ (turn @ nod @ lean).mT
    return (points * torch.tensor([10.0, -10.0, -10.0]) + torch.tensor([300.0, 200.0, 5.0]))[None]


@pytest.mark.parametrize("pose", [(0, 0, 0), (40, 0, 0), (0, -25, 0), (0, 0, 30), (-60, 20, -45), (15, 10, 5)])
def test_head_pose_is_recovered_at_any_size_and_place(pose):
    torch.testing.assert_close(head_pose(posed(*pose))[0], torch.tensor(pose).float(), atol=1e-2, rtol=0)


def test_signs_of_the_head_pose():
    nose, forehead = 4, 10
    middle = torch.tensor(list(_RIGID))
    upright = posed(0, 0, 0)[0]
    assert posed(30, 0, 0)[0, nose, 0] > upright[nose, 0]  # yaw: the nose goes to the image's right
    assert posed(0, 20, 0)[0, nose, 1] < upright[nose, 1]  # pitch: up
    assert posed(0, 0, 20)[0, forehead, 0] > posed(0, 0, 20)[0, middle, 0].mean()  # roll: the forehead to the right


# ---- Geometry


def test_roi_is_the_square_round_the_points_one_and_a_half_times_their_extent():
    points = torch.full((1, 478, 2), 60.0)
    points[0, 0], points[0, 1] = torch.tensor([20.0, 30.0]), torch.tensor([100.0, 70.0])  # 80 wide
    points[0, 33], points[0, 263] = torch.tensor([40.0, 50.0]), torch.tensor([80.0, 50.0])
    roi = roi_of_points(points, 240)  # 120 pixels on 240: half a pixel a pixel
    torch.testing.assert_close(roi, torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, -10.0]]]))


def test_roi_turns_with_the_eyes():
    points = torch.full((1, 478, 3), 50.0)
    points[0, 33, :2], points[0, 263, :2] = torch.tensor([40.0, 40.0]), torch.tensor([60.0, 60.0])  # 45 degrees
    roi = roi_of_points(points)
    right, down = roi[0, :, 0], roi[0, :, 1]
    torch.testing.assert_close(right / right.norm(), torch.tensor([0.5, 0.5]).sqrt())
    torch.testing.assert_close(down, torch.stack([-right[1], right[0]]))
    torch.testing.assert_close(transform(roi, torch.tensor([[[128.0, 128.0]]])), torch.tensor([[[50.0, 50.0]]]))


def test_depth_takes_the_scale_of_a_transform():
    matrix = torch.tensor([[[0.0, -2.0, 5.0], [2.0, 0.0, 7.0]]])  # twice as large, a quarter turn
    torch.testing.assert_close(transform(matrix, torch.tensor([[[1.0, 3.0, 4.0]]])), torch.tensor([[[-1.0, 9.0, 8.0]]]))


def test_crop_by_whole_pixels_copies_and_repeats_the_edge(face):
    shifted = crop(face, torch.tensor([[[1.0, 0.0, 200.0], [0.0, 1.0, -10.0]]]), 100)
    torch.testing.assert_close(shifted[:, :, 10:, :56], face[:, :, :90, 200:], atol=1e-5, rtol=0)
    torch.testing.assert_close(shifted[:, :, 0], shifted[:, :, 10], atol=1e-5, rtol=0)
    torch.testing.assert_close(shifted[:, :, 50, 60], face[:, :, 40, 255], atol=1e-5, rtol=0)


def test_crop_agrees_with_opencv(face):
    matrix = np.array([[0.7, -0.3, 60.0], [0.3, 0.7, 20.0]])
    rgb = face[0].permute(1, 2, 0).numpy()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpAffine(rgb, matrix, (128, 128), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    ours = crop(face, torch.from_numpy(matrix).float()[None], 128)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).mean() < 2e-3  # OpenCV rounds places to 1/32 of a pixel


def test_crop_passes_gradients_to_picture_and_matrix(face):
    picture = face.clone().requires_grad_()
    matrix = torch.tensor([[[1.0, 0.0, 10.5], [0.0, 1.0, 20.5]]], requires_grad=True)
    crop(picture, matrix, 32).square().sum().backward()
    assert picture.grad[:, :, 21:50, 11:40].abs().min() > 0
    assert picture.grad[:, :, 60:, :].abs().max() == 0
    assert matrix.grad.abs().min() > 0


# ---- mediapipe itself, where it runs


@pytest.mark.pretrained
@pytest.mark.parametrize("turn", [0, 25, -40])
def test_the_detector_agrees_with_mediapipe_live(store, turn):
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        base = BaseOptions(str(store.path("face_landmarker.task")))
        options = vision.FaceLandmarkerOptions(base, running_mode=vision.RunningMode.VIDEO)
        landmarker = vision.FaceLandmarker.create_from_options(options)
    except (ImportError, OSError) as error:
        pytest.skip(f"mediapipe can't run here: {error}")
    from reenact.detectors.landmarker import create

    matrix = cv2.getRotationMatrix2D((128, 128), turn, 1.0) + np.array([[0, 0, 200], [0, 0, 80]])
    rgb = cv2.warpAffine(read_image(DATA / "face.png"), matrix, (640, 400), borderMode=cv2.BORDER_CONSTANT)
    # In one picture mediapipe leaves the first, rough crop as it is. In a still clip it comes to rest, as we do.
    with landmarker:
        for i in range(10):
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, rgb)
            (theirs,) = landmarker.detect_for_video(image, 40 * i).face_landmarks
    *_, (ours,) = create(store, torch.device("cpu")).track([rgb] * 10)
    expected = np.array([(p.x * 640, p.y * 400) for p in theirs], np.float32)
    assert np.linalg.norm(ours.points - to_68(expected), axis=1).mean() < 0.5
