"""Google's Face Landmarker: needs nothing but its 4 MB of weights, knows blendshapes and head pose.

Faces are searched with BlazeFace at several scales, then followed: the landmarks of one picture say where to look
in the next, as mediapipe does it. The networks and their geometry: `face_landmarker`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from torch import Tensor

from ..expression import light_inside
from ..face_landmarker import (
    DETECTOR_SIZE,
    LANDMARKS_SIZE,
    FaceLandmarkerNets,
    facing,
    head_pose,
    roi_of_detection,
    roi_of_points,
    to_68,
    transform,
)
from ..geometry import apply, inverse
from ..images import to_tensor
from ..types import Floats, Landmarks, Rgb
from ..weights import WeightStore

MIN_DETECTION = 0.5  # score of a box that is worth a look
MIN_PRESENCE = 0.5  # what the landmark network must say of a face that is followed ...
MIN_PRESENCE_NEW = 0.9  # ... and of a new one
MAX_FACES = 8  # the largest
SAME_FACE = 0.3  # two boxes that overlap more (intersection over union) hold the same face
STEADY = 0.8  # a face whose box overlaps more with the one that its crop was made for has a good crop
SEARCH_EVERY = 10  # pictures between searches for further faces, and between thorough ones while there is none
COMMON_SCALE = 1  # always searched down to this; see `_detect`
FINEST_SCALE = 4  # the whole picture at 128 * 2**4 pixels: a face of 20 in 2048 is found, smaller ones are not
_TILE_STEP = 80  # tiles of 128 overlap by more than the largest face that only they can find
_BATCH = 32  # tiles at a time


class _Faces(NamedTuple):
    """K faces of one picture, on the CPU."""

    points: Tensor  # [K,478,3] in pixels of the picture
    presence: Tensor  # [K] in 0..1


def create(store: WeightStore, device: torch.device) -> LandmarkerDetector:
    """The detector, its weights fetched if need be.

    Raises:
        WeightsError: the weights can't be had.
    """
    return LandmarkerDetector(FaceLandmarkerNets.load(store.path("face_landmarker.task")).to(device), device)


class LandmarkerDetector:
    """See `detectors.Detector`. Score is the probability of a face; all the rest is always there."""

    def __init__(self, nets: FaceLandmarkerNets, device: torch.device) -> None:
        """`nets` must be on `device`."""
        self._nets, self._device = nets, device

    def track(self, frames: Iterable[Rgb], known: Sequence[Landmarks] = ()) -> Iterator[list[Landmarks]]:
        """See `detectors.Detector.track`."""
        faces, lost = _remembered(known), 0  # lost: pictures since the last face
        for index, rgb in enumerate(frames):
            with torch.inference_mode(), _one_thread():
                faces = self._faces(rgb, faces, index, lost)
                answer = self._describe(rgb, faces)
            lost = 0 if answer else lost + 1
            yield answer

    def _faces(self, rgb: Rgb, before: _Faces, index: int, lost: int) -> _Faces:
        faces = self._follow(rgb, before)
        if not len(faces.points):
            # Thorough where faces have just gone (a cut?), and now and then in a stretch without any.
            return self._search(rgb, COMMON_SCALE, FINEST_SCALE if lost % SEARCH_EVERY == 0 else COMMON_SCALE)
        if index % SEARCH_EVERY == 0:
            return _distinct(faces, self._search(rgb, 0, 0, faces))
        return faces

    def _follow(self, rgb: Rgb, before: _Faces) -> _Faces:
        """The faces that are still near where they were."""
        if not len(before.points):
            return before
        points, presence = self._landmarks(rgb, roi_of_points(before.points))
        if (moved := _moved(before.points, points)).any():
            points[moved], presence[moved] = self._landmarks(rgb, roi_of_points(points[moved]))
        return _distinct(_Faces(points, presence))

    def _search(self, rgb: Rgb, enough: int, finest: int, known: _Faces | None = None) -> _Faces:
        """The picture's faces other than the known: down to scale `enough`, on to `finest` while there is none."""
        found = _no_faces()
        for scale in range(finest + 1):
            if scale > enough and len(found.points):
                break
            boxes = self._detect(rgb, scale)
            for others in (known, found):
                if others is not None:
                    boxes = boxes[~(_overlap(_boxes(boxes[:, :2]), _boxes(others.points)) > SAME_FACE).any(1)]
            found = _distinct(found, self._confirmed(rgb, boxes))
        return found

    def _confirmed(self, rgb: Rgb, boxes: Tensor) -> _Faces:
        """The faces among the candidates [K,8,2]: what also the landmark network takes for one, twice the same."""
        if len(boxes):
            rough, presence = self._landmarks(rgb, roi_of_detection(boxes))
            rough = rough[presence > MIN_PRESENCE]
            if len(rough):
                points, presence = self._landmarks(rgb, roi_of_points(rough))
                sure = (presence > MIN_PRESENCE_NEW) & ~_moved(rough, points)
                return _Faces(points[sure], presence[sure])
        return _no_faces()

    def _detect(self, rgb: Rgb, scale: int) -> Tensor:
        """Candidates [K,8,2] in a picture shrunk to 128 * 2**scale, seen through tiles of 128."""
        height, width = rgb.shape[:2]
        shrink = max(height, width) / (DETECTOR_SIZE << scale)
        if shrink < 0.5:  # enlarging shows nothing new
            return torch.zeros(0, 8, 2)
        small = _resized(rgb, shrink)
        corners = _tile_corners(small.shape[1], small.shape[0])
        found, scores = [], []
        for start in range(0, len(corners), _BATCH):
            batch = corners[start : start + _BATCH]
            points, score = self._nets.detector(self._tensor(np.stack([_tile(small, *c) for c in batch])))
            shifted = points.cpu() + torch.tensor(batch, dtype=torch.float32)[:, None, None]
            score = score.cpu()
            found.append(shifted[score > MIN_DETECTION])
            scores.append(score[score > MIN_DETECTION])
        factors = torch.tensor([width / small.shape[1], height / small.shape[0]])
        return _blended((torch.cat(found) + 0.5) * factors - 0.5, torch.cat(scores))

    def _landmarks(self, rgb: Rgb, to_image: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks [K,478,3] in the picture, and presence [K], of what the [K,2,3] crops show."""
        crops = np.stack([_cut(rgb, m.numpy()) for m in to_image.double()])
        points, presence = self._nets.landmarks(self._tensor(crops))
        return transform(to_image, points.cpu()), presence.cpu()

    def _describe(self, rgb: Rgb, faces: _Faces) -> list[Landmarks]:
        if not len(faces.points):
            return []
        shapes = self._nets.blendshapes(faces.points.to(self._device)).cpu().numpy()
        points, poses = to_68(faces.points).numpy(), head_pose(faces.points).numpy()
        meshes = facing(faces.points).numpy()
        scores = faces.presence.tolist()
        insides = [_inside(rgb, *each) for each in zip(points, roi_of_points(faces.points), strict=True)]
        dense = faces.points.numpy()
        return [Landmarks(*each) for each in zip(points, scores, shapes, poses, meshes, insides, dense, strict=True)]

    def _tensor(self, images: Rgb) -> Tensor:
        """[N,H,W,3] of 0..255 as [N,3,H,W] of 0..1."""
        return torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float() / 255


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in this thread alone.

    The networks are so small that a second thread saves little; and where the processor is busy with other work,
    threads that wait for each other at every layer make them twenty times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _no_faces() -> _Faces:
    return _Faces(torch.zeros(0, 478, 3), torch.zeros(0))


def _remembered(faces: Sequence[Landmarks]) -> _Faces:
    known = [(face.dense, face.score) for face in faces if face.dense is not None]
    if not known:
        return _no_faces()
    points, scores = zip(*known, strict=True)
    return _Faces(torch.from_numpy(np.stack(points)), torch.tensor(scores))


# ---- Cutting -----------------------------------------------------------------------------------------------------


def _resized(rgb: Rgb, shrink: float) -> Rgb:
    size = [max(1, round(n / shrink)) for n in rgb.shape[1::-1]]
    return _rgb(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrink > 1 else cv2.INTER_LINEAR))


def _rgb(image: cv2.typing.MatLike) -> Rgb:
    return cast(Rgb, image)  # OpenCV's stubs don't say that the type of the pixels stays


def _tile_corners(width: int, height: int) -> list[tuple[int, int]]:
    """Top-left corners of the tiles that cover a picture; one that is smaller than a tile stands in its middle."""

    def starts(length: int) -> list[int]:
        spare = length - DETECTOR_SIZE
        count = max(0, -(-spare // _TILE_STEP))
        return [round(spare * i / count) for i in range(count + 1)] if count else [spare // 2]

    return [(x, y) for y in starts(height) for x in starts(width)]


def _tile(rgb: Rgb, x: int, y: int) -> Rgb:
    """The 128x128 at that corner; black outside."""
    tile = np.zeros((DETECTOR_SIZE, DETECTOR_SIZE, 3), np.uint8)
    inside = rgb[max(y, 0) : y + DETECTOR_SIZE, max(x, 0) : x + DETECTOR_SIZE]
    top, left = max(-y, 0), max(-x, 0)
    tile[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return tile


def _cut(rgb: Rgb, to_image: Floats) -> Rgb:
    """The 256x256 crop; beyond the picture's edge the edge is repeated."""
    # A large face is cut larger and then averaged down: skipped pixels would make the landmarks tremble.
    k = int(np.clip(np.hypot(*to_image[:, 0]), 1, 8))
    enlarged = to_image @ np.array([[1 / k, 0, 0.5 / k - 0.5], [0, 1 / k, 0.5 / k - 0.5], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = LANDMARKS_SIZE * k
    crop = cv2.warpAffine(rgb, enlarged, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return _rgb(cv2.resize(crop, (LANDMARKS_SIZE, LANDMARKS_SIZE), interpolation=cv2.INTER_AREA))


def _inside(rgb: Rgb, points: Floats, to_image: Tensor) -> float:
    """How light the face with points [68,2] is between its lips; `to_image` [2,3] is its crop."""
    matrix = to_image.double().numpy()
    places = (apply(inverse(matrix), points.astype(np.float64)) + 0.5) / LANDMARKS_SIZE
    picture = to_tensor(_cut(rgb, matrix), torch.device("cpu"))
    return light_inside(picture, torch.from_numpy(places).float()[None]).item()


# ---- Telling faces apart -----------------------------------------------------------------------------------------


def _boxes(points: Tensor) -> Tensor:
    """[K,4] left, top, right, bottom of [K,N,2 or more] points."""
    return torch.cat([points[..., :2].amin(1), points[..., :2].amax(1)], 1)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of [K,4] and [M,4] boxes: [K,M]."""
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(2)
    return common / ((a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1) - common)


def _blended(points: Tensor, scores: Tensor) -> Tensor:
    """Candidates [M,8,2] of the same face averaged by score, [K,8,2] (mediapipe's weighted suppression)."""
    boxes, faces = points[:, :2].flatten(1), []
    while len(scores):
        same = _overlap(boxes[scores.argmax()][None], boxes)[0] > SAME_FACE
        same[scores.argmax()] = True  # also when its box is degenerate
        faces.append((points[same] * scores[same, None, None]).sum(0) / scores[same].sum())
        points, boxes, scores = points[~same], boxes[~same], scores[~same]
    return torch.stack(faces) if faces else points


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """Which faces [K] have left the middle of their crop so far that it had better be cut again."""
    return _overlap(_boxes(before), _boxes(after)).diagonal() < STEADY


def _distinct(*groups: _Faces) -> _Faces:
    """Without what is no face, and of doubles only the first; the largest first, at most `MAX_FACES`."""
    points, presence = (torch.cat(parts) for parts in zip(*groups, strict=True))
    boxes = _boxes(points)
    overlaps = _overlap(boxes, boxes)
    kept: list[int] = []
    for i in torch.nonzero(presence > MIN_PRESENCE).flatten().tolist():
        if all(overlaps[i, k] < SAME_FACE for k in kept):
            kept.append(i)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept = sorted(kept, key=lambda i: -area[i].item())[:MAX_FACES]
    return _Faces(points[kept], presence[kept])
