"""Where the face is in a picture, for metrics that look at it alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Landmarks, Rgb

NO_TRUE_FACE = "no face in the truth, whose 68 points say where to look"


def inside_face(rgb: Rgb, face: Landmarks | None) -> NDArray[np.bool_]:
    """The pixels [H,W] of a picture within the convex hull of the face's 68 points; none without a face."""
    mask = np.zeros(rgb.shape[:2], np.uint8)
    if face:
        hull = cv2.convexHull(face.points)
        cv2.fillConvexPoly(mask, np.rint(hull * 16).astype(np.int32), 1, shift=4)
    return mask > 0
