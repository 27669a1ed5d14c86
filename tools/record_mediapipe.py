"""Record what mediapipe makes of a picture, for tests/unit/test_face_landmarker.py.

    pip install mediapipe ai-edge-litert
    python tools/record_mediapipe.py tests/data/face.png tests/data/face_mediapipe.npz

`face.png` is 256x256 and made by the default generator (seed 4, truncation 0.6): nobody real. The file gets

    points [478,3], blendshapes [51]        mediapipe's Face Landmarker on the picture; pixels, z in those of x
    raw_points [478,3], raw_presence        the landmark network alone on the whole picture; presence as a logit
    raw_boxes [896,16], raw_scores [896]    the face detector alone on the picture averaged down to 128x128

The single networks run in LiteRT, mediapipe's own engine.
"""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path

import cv2
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from numpy.typing import NDArray

from reenact.images import read_image
from reenact.types import Floats, Rgb
from reenact.weights import WeightStore, default_root


def run_task(task: Path, rgb: Rgb) -> tuple[Floats, Floats]:
    """Points [478,3] in pixels and blendshapes [51] of the only face."""
    options = vision.FaceLandmarkerOptions(BaseOptions(str(task)), output_face_blendshapes=True)
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        result = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb))
    height, width = rgb.shape[:2]
    points = [(p.x * width, p.y * height, p.z * width) for p in result.face_landmarks[0]]
    shapes = [c.score for c in result.face_blendshapes[0][1:]]
    return np.array(points, np.float32), np.array(shapes, np.float32)


def run_network(task: Path, name: str, image: Floats) -> list[Floats]:
    """The outputs of one network of the bundle for an [H,W,3] input."""
    litert = importlib.import_module("ai_edge_litert.interpreter")  # ships no types
    with zipfile.ZipFile(task) as bundle:
        interpreter = litert.Interpreter(model_content=bundle.read(name))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


def record(rgb: Rgb) -> dict[str, NDArray[np.float32]]:
    """All that the golden file holds."""
    task = WeightStore(default_root()).path("face_landmarker.task")
    points, blendshapes = run_task(task, rgb)
    raw_points, raw_presence, _ = run_network(task, "face_landmarks_detector.tflite", (rgb / 255).astype(np.float32))
    half = cv2.resize((rgb / 127.5 - 1).astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA)
    raw_boxes, raw_scores = run_network(task, "face_detector.tflite", np.asarray(half, np.float32))
    return {
        "points": points,
        "blendshapes": blendshapes,
        "raw_points": raw_points.reshape(478, 3),
        "raw_presence": raw_presence.reshape(()),
        "raw_boxes": raw_boxes[0],
        "raw_scores": raw_scores[0, :, 0],
    }


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], allow_pickle=False, **record(read_image(Path(sys.argv[1]))))
