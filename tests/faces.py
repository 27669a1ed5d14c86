"""A drawn face of 68 points, so that what it does is known."""

import numpy as np

LOWER_LIP = (*range(55, 60), *range(65, 68))
CHIN = tuple(range(4, 13))


def ring(centre: tuple[float, float], radii: tuple[float, float], degrees: tuple[float, ...]) -> np.ndarray:
    """Points of an ellipse; 0 degrees is at the left, 90 at the top, 180 at the right."""
    turn = np.radians(degrees)
    return np.stack([centre[0] - radii[0] * np.cos(turn), centre[1] - radii[1] * np.sin(turn)], 1)


def face(mouth: float = 0.0) -> np.ndarray:
    """[68,2], upright and symmetric, as an FFHQ crop of side 1 shows it.

    Args:
        mouth: how far the jaw and the lower lip drop; the corners and the upper lip go half as far.
    """
    lids = (0.0, 60.0, 120.0, 180.0, 240.0, 300.0)
    points = np.concatenate(
        [
            ring((0.5, 0.5), (0.28, 0.36), tuple(np.linspace(0, -180, 17))),  # 0-16 jaw line
            ring((0.37, 0.42), (0.08, 0.04), (0, 45, 90, 135, 180)),  # 17-21 left brow
            ring((0.63, 0.42), (0.08, 0.04), (0, 45, 90, 135, 180)),  # 22-26 right brow
            np.stack([np.full(4, 0.5), np.linspace(0.46, 0.6, 4)], 1),  # 27-30 bridge of the nose
            np.stack([np.linspace(0.45, 0.55, 5), np.full(5, 0.64)], 1),  # 31-35 nostrils
            ring((0.37, 0.47), (0.05, 0.02), lids),  # 36-41 left eye
            ring((0.63, 0.47), (0.05, 0.02), lids),  # 42-47 right eye
            ring((0.5, 0.74), (0.1, 0.03), tuple(range(0, 360, 30))),  # 48-59 outer lips
            ring((0.5, 0.74), (0.08, 0.01), tuple(range(0, 360, 45))),  # 60-67 inner lips
        ]
    )
    points[48:68, 1] += mouth / 2
    points[list(LOWER_LIP), 1] += mouth / 2
    points[list(CHIN), 1] += mouth
    return points


def similarity(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """[2,3]: turn clockwise as seen in a picture (y down), scale, then shift."""
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])
