"""What every detector must do, whichever there are; then what is special to those with weights of their own."""

import hashlib
import io
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reenact import plugins
from reenact.detectors import Detector, face_alignment
from reenact.errors import WeightsError
from reenact.images import read_image
from reenact.types import Landmarks
from reenact.weights import WeightStore

CPU = torch.device("cpu")
FACE = read_image(Path(__file__).parents[1] / "data" / "face.png")  # 256x256
BLANK = np.full((360, 480, 3), 90, np.uint8)


def pasted(*faces: tuple[int, int, int], height: int = 400, width: int = 640) -> np.ndarray:
    """Grey with the face at each (left, top, side)."""
    rgb = np.full((height, width, 3), 128, np.uint8)
    for left, top, side in faces:
        rgb[top : top + side, left : left + side] = cv2.resize(FACE, (side, side), interpolation=cv2.INTER_AREA)
    return rgb


@pytest.fixture(scope="module", params=plugins.names("detectors"))
def detector(request, store) -> Detector:
    try:
        return plugins.module("detectors", request.param).create(store, CPU)
    except WeightsError as error:
        if request.param == "landmarker":
            raise  # the default: never without
        pytest.skip(str(error))


def shape_of(face: Landmarks) -> tuple[float, float, float]:
    """Centre x and y, width."""
    (left, top), (right, bottom) = face.points.min(0), face.points.max(0)
    return (left + right) / 2, (top + bottom) / 2, right - left


@pytest.mark.pretrained
def test_one_face_gives_68_points_in_their_places(detector):
    (face,) = next(detector.track([pasted((200, 80, 256))]))
    p = face.points
    left_eye, right_eye, mouth = p[36:42].mean(0), p[42:48].mean(0), p[48:60].mean(0)
    np.testing.assert_allclose(left_eye, (295, 201), atol=6)  # measured on face.png by eye
    np.testing.assert_allclose(right_eye, (360, 200), atol=6)
    assert left_eye[1] < p[30, 1] < mouth[1] < p[8, 1]
    assert p[0, 0] < p[36, 0] < p[39, 0] < p[42, 0] < p[45, 0] < p[16, 0]
    assert p[48, 0] < mouth[0] < p[54, 0]
    assert 0 < face.score <= 1


@pytest.mark.pretrained
def test_a_blank_picture_has_no_face(detector):
    assert next(detector.track([BLANK])) == []


@pytest.mark.pretrained
def test_the_largest_face_comes_first(detector):
    small, large = (20, 40, 160), (300, 60, 300)
    first, second = next(detector.track([pasted(small, large)]))
    assert shape_of(first)[0] > 300 > shape_of(second)[0]
    assert shape_of(first)[2] == pytest.approx(300 / 160 * shape_of(second)[2], rel=0.1)


@pytest.mark.pretrained
def test_a_stream_gives_one_answer_per_picture_before_the_next_is_asked_for(detector):
    pictures = [BLANK, pasted((100, 50, 256)), pasted((110, 55, 256)), BLANK, pasted((300, 100, 200))]
    asked = []

    def frames():
        for i, rgb in enumerate(pictures):
            asked.append(i)
            yield rgb

    counts = []
    for i, faces in enumerate(detector.track(frames())):
        assert asked == list(range(i + 1))
        counts.append(len(faces))
    assert counts == [0, 1, 1, 0, 1]


@pytest.mark.pretrained
def test_no_pictures_no_answers(detector):
    assert list(detector.track([])) == []


@pytest.mark.pretrained
def test_a_moving_face_is_followed(detector):
    lefts = [60 + 12 * i for i in range(12)]
    found = [shape_of(faces[0])[0] for faces in detector.track(pasted((x, 70, 256)) for x in lefts)]
    np.testing.assert_allclose(np.array(found) - lefts, found[0] - lefts[0], atol=6)


@pytest.mark.pretrained
def test_pictures_of_any_size_and_look(detector):
    grey = np.repeat(cv2.cvtColor(FACE, cv2.COLOR_RGB2GRAY)[:, :, None], 3, 2)
    counts = [len(next(detector.track([rgb]))) for rgb in (FACE, grey, FACE[:1, :1], FACE[:16, :16], BLANK[:, :5])]
    assert counts == [1, 1, 0, 0, 0]


# ---- landmarker


@pytest.fixture(scope="module")
def landmarker(store) -> Detector:
    return plugins.module("detectors", "landmarker").create(store, CPU)


@pytest.mark.pretrained
@pytest.mark.parametrize(("height", "width", "side"), [(720, 1280, 110), (720, 1280, 75), (1080, 1920, 110)])
def test_small_faces_in_large_frames(landmarker, height, width, side):
    # The face takes 0.55 of the side: 60 and 41 pixels.
    (face,) = next(landmarker.track([pasted((width // 3, height // 2, side), height=height, width=width)]))
    x, y, across = shape_of(face)
    assert across == pytest.approx(0.555 * side, rel=0.05)
    assert (x, y) == pytest.approx((width // 3 + 0.54 * side, height // 2 + 0.68 * side), abs=0.08 * side)


@pytest.mark.pretrained
@pytest.mark.parametrize("roll", [-60, -45, 30, 45])
def test_a_face_that_leans(landmarker, roll):
    upright = next(landmarker.track([FACE]))[0].points
    padded = cv2.copyMakeBorder(FACE, 64, 64, 64, 64, cv2.BORDER_REPLICATE)
    matrix = cv2.getRotationMatrix2D((192, 192), -roll, 1.0)  # OpenCV counts against the clock
    (face,) = next(landmarker.track([cv2.warpAffine(padded, matrix, (384, 384), borderMode=cv2.BORDER_REPLICATE)]))
    expected = np.c_[upright + 64, np.ones(68)] @ matrix.T
    assert np.linalg.norm(face.points - expected, axis=1).mean() < 1.5
    assert face.pose[2] == pytest.approx(roll, abs=5)


@pytest.mark.pretrained
def test_a_face_cut_by_the_edge_keeps_its_points(landmarker):
    whole = next(landmarker.track([FACE]))[0].points
    for cut, shift in ((np.s_[:, 85:], (85, 0)), (np.s_[:, :190], (0, 0)), (np.s_[:215], (0, 0))):
        (face,) = next(landmarker.track([np.ascontiguousarray(FACE[cut])]))
        assert np.linalg.norm(face.points - (whole - shift), axis=1).mean() < 4


@pytest.mark.pretrained
def test_a_clip_at_rest_gives_steady_points(landmarker):
    rng = np.random.default_rng(0)
    grain = (np.clip(FACE + rng.normal(0, 3, FACE.shape), 0, 255).astype(np.uint8) for _ in range(12))
    points = np.stack([faces[0].points for faces in landmarker.track(grain)])
    assert points[2:].std(0).mean() < 0.25


@pytest.mark.pretrained
def test_landmarker_knows_the_expression_and_the_pose(landmarker):
    face, mirrored = (next(landmarker.track([rgb]))[0] for rgb in (FACE, np.ascontiguousarray(FACE[:, ::-1])))
    assert face.blendshapes.min() >= 0
    assert face.blendshapes.max() <= 1
    np.testing.assert_allclose(face.pose * (-1, 1, -1), mirrored.pose, atol=3)
    assert face.pose[0] < -5  # looks a little to the left of the image


@pytest.mark.pretrained
def test_landmarker_knows_the_mesh_as_it_would_face_the_camera_in_centimetres(landmarker):
    large = cv2.resize(FACE, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    matrix = cv2.getRotationMatrix2D((256, 256), 25, 1.0)
    leaning = cv2.warpAffine(large, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    face, other = (next(landmarker.track([rgb]))[0].mesh for rgb in (FACE, leaning))
    assert face.shape == (478, 3)
    across = np.linalg.norm(face[33] - face[263])
    assert 8 < across < 10  # the outer corners of the eyes
    assert face[10, 1] > face[4, 1] > face[152, 1]  # y is up
    assert face[4, 2] > face[[234, 454], 2].max()  # the nose is nearest
    assert np.linalg.norm(face - other, axis=1).mean() < 0.25


@pytest.mark.pretrained
def test_landmarker_knows_how_light_it_is_between_the_lips(landmarker):
    known = next(landmarker.track([FACE]))[0]
    lips = np.rint(known.points[60:68]).astype(np.int32)
    light = []
    for level in (0, 255):
        rgb = FACE.copy()
        cv2.fillPoly(rgb, [lips], (level,) * 3)
        light.append(next(landmarker.track([np.pad(rgb, ((40, 0), (300, 0), (0, 0)))]))[0].inside)
    assert light[0] < known.inside < light[1]
    assert light[0] < 0.4 < 1.0 < light[1]


# ---- face-alignment


FAN, SFD = (url.rsplit("/", 1)[1] for url in (face_alignment.FAN_URL, face_alignment.SFD_URL))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch's hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def served(monkeypatch):
    """What a web server would answer, by file name; anything else has no connection."""
    files: dict[str, bytes] = {}

    def urlopen(request, timeout):
        url = request if isinstance(request, str) else request.full_url
        if (name := url.rsplit("/", 1)[1]) not in files:
            raise urllib.request.URLError("no route to host")
        answer = io.BytesIO(files[name])
        answer.headers = {"Content-Length": str(len(files[name]))}
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return files


class Aligner:
    """Answers as `face_alignment.FaceAlignment` does, in the forms it may take."""

    def __init__(self, boxes, answer) -> None:
        self.face_detector, self._boxes, self._answer = self, boxes, answer

    def detect_from_image(self, image):
        self.seen = image.shape
        return self._boxes

    def get_landmarks_from_image(self, image, detected_faces):
        self.given = detected_faces
        return self._answer


SMALL, LARGE = np.eye(68, 2, dtype=np.float32) * 10, np.eye(68, 2, dtype=np.float32) * 50
BOXES = [np.array([1, 2, 11, 12, 0.75]), np.array([20, 20, 80, 80, 0.5])]


@pytest.mark.parametrize("answer", [[SMALL, LARGE], ([SMALL, LARGE], None, BOXES), ([np.c_[SMALL, SMALL], LARGE],) * 3])
def test_any_form_of_answer_gives_faces_by_size(answer):
    faces = next(face_alignment.FaceAlignmentDetector(Aligner(BOXES, answer)).track([BLANK]))
    assert [f.score for f in faces] == [0.5, 0.75]
    np.testing.assert_array_equal(faces[0].points, LARGE)
    np.testing.assert_array_equal(faces[1].points, SMALL)


@pytest.mark.parametrize("boxes", [[], np.array([]), np.zeros((0, 5))])
def test_no_boxes_no_faces(boxes):
    assert next(face_alignment.FaceAlignmentDetector(Aligner(boxes, None)).track([BLANK])) == []


def test_a_huge_picture_is_searched_shrunk_and_its_boxes_grow_back():
    aligner = Aligner([np.array([10, 20, 30, 40, 1.0])], [LARGE])
    next(face_alignment.FaceAlignmentDetector(aligner).track([np.zeros((2000, 3840, 3), np.uint8)]))
    assert aligner.seen == (1000, 1920, 3)
    np.testing.assert_array_equal(aligner.given[0], (20, 40, 60, 80, 1))


def test_without_a_connection_it_says_what_to_do(hub, served, store, tmp_path):
    with pytest.raises(WeightsError, match="no route to host") as caught:
        face_alignment.create(store, CPU)
    message = str(caught.value)
    assert face_alignment.FAN_URL in message
    assert str(hub) in message
    assert "--detector landmarker" in message
    assert "\n" not in message
    assert not face_alignment.available(store)


def test_offline_it_does_not_even_try(hub, served, tmp_path):
    served[FAN] = served[SFD] = b"weights"
    offline = WeightStore(tmp_path, offline=True)
    assert face_alignment.available(WeightStore(tmp_path))
    assert not face_alignment.available(offline)
    with pytest.raises(WeightsError, match="offline"):
        face_alignment.create(offline, CPU)


def test_a_wrong_file_is_not_kept(hub, served, store):
    served[FAN] = b"<html>moved</html>"
    with pytest.raises(WeightsError, match="wrong sha256"):
        face_alignment.create(store, CPU)
    assert list(hub.iterdir()) == []


def test_a_right_file_is_kept_and_its_coming_reported(hub, served, monkeypatch, tmp_path):
    content, reports = b"x" * 3_000_000, []
    url = f"https://example.org/net-{hashlib.sha256(content).hexdigest()[:10]}.pth.tar"
    served[url.rsplit("/", 1)[1]] = content
    monkeypatch.setattr(face_alignment, "FAN_URL", url)
    with pytest.raises(WeightsError, match=SFD):  # the second is not served
        face_alignment.create(WeightStore(tmp_path, on_progress=lambda *report: reports.append(report)), CPU)
    assert [p.read_bytes() for p in hub.iterdir()] == [content]
    assert reports[-1][1:] == (3_000_000, 3_000_000)


def test_a_pickle_that_would_run_code_is_refused(hub, store, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    hub.mkdir(parents=True)
    for name in (FAN, SFD):
        torch.save({"weight": Trap()}, hub / name)
    with pytest.raises(WeightsError, match="can't be read"):
        face_alignment.create(store, CPU)
    assert not (tmp_path / "sprung").exists()


def test_with_weights_in_the_cache_the_real_networks_run(hub, served, store, monkeypatch):
    from face_alignment import models
    from face_alignment.detection.sfd.net_s3fd import s3fd

    hub.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(models.FAN(4).state_dict(), hub / FAN)
    torch.save(s3fd().state_dict(), hub / SFD)
    assert face_alignment.available(store)
    detector = face_alignment.create(store, CPU)
    assert detector._boxes(FACE[:64, :64].copy()).shape[1] == 5  # random weights see anything
    box = [np.array([60, 60, 200, 220, 0.9])]
    monkeypatch.setattr(detector._aligner.face_detector, "detect_from_image", lambda _: box)
    (face,) = next(detector.track([FACE]))
    assert face.score == pytest.approx(0.9)
    assert np.isfinite(face.points).all()


# ---- dlib


def test_without_dlib_it_says_how_to_get_it(store, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    with pytest.raises(WeightsError, match=r"pip install 'reenact\[dlib\]'"):
        plugins.module("detectors", "dlib").create(store, CPU)


@pytest.mark.pretrained
def test_it_goes_on_where_another_call_left_off(detector):
    clip = [pasted((200 + 6 * i, 80, 256)) for i in range(4)]
    whole = list(detector.track(clip))
    rest = list(detector.track(clip[2:], whole[1]))
    for (face,), (again,) in zip(whole[2:], rest, strict=True):
        np.testing.assert_allclose(again.points, face.points, atol=1)
