"""Plane geometry on points [...,N,2] (x,y) and affine matrices [2,3] that act on columns [x,y,1]; soft steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .types import Affine

Points = NDArray[np.floating]


def apply(matrix: Affine, points: Points) -> NDArray[np.float64]:
    """The points moved by the matrix: [...,N,2] -> [...,N,2]."""
    return points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]


def compose(outer: Affine, inner: Affine) -> Affine:
    """The matrix that does `inner` first, then `outer`."""
    return np.hstack([outer[:, :2] @ inner[:, :2], (outer[:, :2] @ inner[:, 2] + outer[:, 2])[:, None]])


def inverse(matrix: Affine) -> Affine:
    """The matrix that undoes `matrix`."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -(linear @ matrix[:, 2])[:, None]])


def fit_similarity(source: Points, target: Points, weights: Points | None = None) -> Affine:
    """Rotation, uniform scale and shift that bring [N,2] `source` nearest to `target` in least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991),
    in the plane, where it has a closed form; no reflection.
    """
    weight = np.ones(len(source)) if weights is None else weights
    weight = weight / weight.sum()
    a, b = source.astype(np.float64), target.astype(np.float64)
    a_mean, b_mean = weight @ a, weight @ b
    u, v = a - a_mean, b - b_mean
    spread = float(weight @ (u**2).sum(1))
    cosine = float(weight @ (u * v).sum(1)) / spread
    sine = float(weight @ (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])) / spread
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack([linear, (b_mean - linear @ a_mean)[:, None]])


def scale_of(matrix: Affine) -> float:
    """How much longer lines become: the root of the determinant's size."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def soft_step(
    value: NDArray[np.floating], low: NDArray[np.floating] | float, high: NDArray[np.floating] | float
) -> NDArray[np.float64]:
    """0 up to `low`, 1 from `high` on, smoothly between."""
    t = np.clip((value - low) / np.maximum(np.subtract(high, low), 1e-6), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def ramp(value: float, low: float, high: float) -> float:
    """The same of a number."""
    return float(soft_step(np.array(value), low, high))
