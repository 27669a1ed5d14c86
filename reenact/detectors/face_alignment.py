"""FAN, by the `face-alignment` package: exact on hard pictures, slow without a GPU.

Its detector (S3FD) and its 2D FAN come from their author's site at first use, into torch's hub cache
($TORCH_HOME). They are state dicts and read as such (`weights_only`), so that nothing in them is run; therefore the
detector's file is handed to the package, which would unpickle one that it fetches itself. Source: Bulat and
Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?" (2017).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import cv2
import face_alignment
import numpy as np
import torch
from face_alignment.api import models_urls as fan_urls
from face_alignment.detection.sfd.sfd_detector import models_urls as sfd_urls
from numpy.typing import NDArray

from ..errors import WeightsError
from ..types import Floats, Landmarks, Rgb
from ..weights import WeightStore

FAN_URL: str = fan_urls["2DFAN-4"]
SFD_URL: str = sfd_urls["s3fd"]
LONGER_SIDE = 1920  # larger pictures are searched shrunk to this; the landmarks come from the picture itself
TIMEOUT = 10.0  # seconds without a word from the server


def create(store: WeightStore, device: torch.device) -> FaceAlignmentDetector:
    """The detector, its weights fetched if need be.

    Raises:
        WeightsError: the weights can't be had or read.
    """
    _cached(FAN_URL, store)
    detector = _cached(SFD_URL, store)
    try:
        aligner = face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D,
            device=str(device),
            face_detector="sfd",
            face_detector_kwargs={"path_to_detector": str(detector)},
            compile=False,  # costs a minute, and keeps a cache of its own in the user's home
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        names = " or ".join(_place(url).name for url in (FAN_URL, SFD_URL))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{names} in {detector.parent} can't be read ({reason}); delete them to fetch anew"
        ) from error
    return FaceAlignmentDetector(aligner)


def available(store: WeightStore) -> bool:
    """Whether the weights are there, or could be fetched now. Asks the server; fetches nothing."""
    missing = [url for url in (FAN_URL, SFD_URL) if not _place(url).exists()]
    return not missing or (not store.offline and all(_answers(url) for url in missing))


class FaceAlignmentDetector:
    """See `detectors.Detector`. Each picture is searched anew; there are neither blendshapes nor pose."""

    def __init__(self, aligner: Any) -> None:
        """`aligner` is a `face_alignment.FaceAlignment` for 2D landmarks."""
        self._aligner = aligner

    def track(self, frames: Iterable[Rgb], known: Sequence[Landmarks] = ()) -> Iterator[list[Landmarks]]:
        """See `detectors.Detector.track`."""
        for rgb in frames:
            boxes = self._boxes(rgb)
            faces = [Landmarks(p, s) for p, s in zip(self._points(rgb, boxes), boxes[:, 4].tolist(), strict=True)]
            yield sorted(faces, key=lambda f: -float(np.ptp(f.points, axis=0).prod()))

    def _boxes(self, rgb: Rgb) -> NDArray[np.float64]:
        """[K,5]: left, top, right, bottom in pixels, score in 0..1."""
        zoom = min(1.0, LONGER_SIDE / max(rgb.shape[:2]))
        small = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else rgb
        found = self._aligner.face_detector.detect_from_image(small.copy())
        boxes = np.array(found, np.float64).reshape(-1, 5)  # a list, an array, or empty in several shapes
        boxes[:, :4] /= zoom
        return boxes

    def _points(self, rgb: Rgb, boxes: NDArray[np.float64]) -> list[Floats]:
        """The [68,2] points of each box. The package answers with None, a list, or a tuple that starts with one."""
        if not len(boxes):
            return []  # where it would warn
        answer = self._aligner.get_landmarks_from_image(rgb, detected_faces=list(boxes))
        points = answer[0] if isinstance(answer, tuple) else answer
        return [np.asarray(p, np.float32)[:, :2] for p in points or []]


# ---- Weights -----------------------------------------------------------------------------------------------------


def _place(url: str) -> Path:
    """Where torch's hub, and so the package, keeps the file."""
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return True
    except (OSError, http.client.HTTPException):
        return False


def _cached(url: str, store: WeightStore) -> Path:
    place = _place(url)
    if place.exists():
        return place
    remedy = f"fetch {url} elsewhere and put it into {place.parent}, or use --detector landmarker"
    if store.offline:
        raise WeightsError(f"{place.name} is not in the cache, and fetching is off (offline); {remedy}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, place, store)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(f"{place.name} can't be fetched ({reason}); {remedy}") from error
    return place


def _fetch(url: str, place: Path, store: WeightStore) -> None:
    """Into a temporary file beside its place, which it takes only when it is whole and right."""
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as answer,
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=place.parent) as folder,
    ):
        partial = Path(folder, place.name)
        with partial.open("wb") as out:
            digest = _copy(answer, out, place.name, int(answer.headers.get("Content-Length") or 0), store)
        # All that is published of the hash is its beginning, in the name, as torch's hub has it.
        if not digest.startswith(place.name.split(".")[0].rsplit("-", 1)[1]):
            raise OSError(f"wrong sha256 {digest[:12]}…")
        os.replace(partial, place)


def _copy(answer: IO[bytes], out: IO[bytes], name: str, total: int, store: WeightStore) -> str:
    """Copy in pieces, reporting; return the sha256."""
    digest, done = hashlib.sha256(), 0
    while piece := answer.read(1 << 20):
        out.write(piece)
        digest.update(piece)
        done += len(piece)
        if store.on_progress:
            store.on_progress(name, done, max(total, done))
    return digest.hexdigest()
