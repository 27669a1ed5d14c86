"""What a reenactment must beat: simpler ways from the same picture and driver to frames.

All take what `pipeline.reenact` takes and yield what it yields, by the same detector, crops, smoothing in time, choice
of the anchor frame and blending, so that what differs is the way alone.

`direct` is the paper's direct transfer, `warp` the 2D warping of Averbuch-Elor et al., "Bringing Portraits to Life"
(2017), without its fine details and its inner mouth, which it takes from the driver: here the mouth's line is
stretched. Neither paper's code is published; these follow the descriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from . import expression, landmarks
from .align import cut_out, ffhq_crop, steady_crops
from .blend import Blender, Face, with_forehead
from .detectors import Detector
from .devices import choose_device
from .errors import UsageError
from .geometry import Points, apply, inverse, scale_of
from .images import is_image, read_image
from .mesh import doubled_area
from .options import Hooks, Options
from .smooth import zero_phase
from .types import Affine, FaceTrack, Floats, Frame, Landmarks, Rgb
from .video import read_frames
from .weights import WeightStore, default_root

Method = Callable[[Path, Path, Options, WeightStore | None, Hooks | None], Iterator[Frame]]
"""A way to reenact: called as `pipeline.reenact` is."""


def still(
    target: Path, driver: Path, options: Options, store: WeightStore | None = None, hooks: Hooks | None = None
) -> Iterator[Frame]:
    """Yield the target itself for each of the driver's frames; the matte is 0 everywhere.

    Args and errors are those of `pipeline.reenact`, but that no face is looked for.
    """
    rgb, hooks = read_image(target), hooks or Hooks()
    for frame in _driver_frames(driver, options, hooks):
        yield replace(frame, rgb=rgb, matte=np.zeros(rgb.shape[:2], np.uint8))
        hooks.progress("frames", frame.index + 1, options.max_frames)


def direct(
    target: Path, driver: Path, options: Options, store: WeightStore | None = None, hooks: Hooks | None = None
) -> Iterator[Frame]:
    """Yield the target wearing the driver's face.

    The driver's texture inside the hull of its landmarks is warped, triangle by triangle, to where the target's
    landmarks are after the driver's motion, each of its channels scaled so that its skin is as bright as the target's
    (von Kries), and pasted as the paper does.

    Args and errors are those of `pipeline.reenact`.
    """
    match = _Match(target, driver, options, store or WeightStore(default_root()), hooks or Hooks())
    return match.frames(match.worn, carry=False)


def warp(
    target: Path, driver: Path, options: Options, store: WeightStore | None = None, hooks: Hooks | None = None
) -> Iterator[Frame]:
    """Yield the target bent, triangle by triangle: its landmarks move as the driver's have since the anchor frame.

    The photo's own grain is carried along as for generated faces, so a driver that does not move gives the target.

    Args and errors are those of `pipeline.reenact`.
    """
    match = _Match(target, driver, options, store or WeightStore(default_root()), hooks or Hooks())
    return match.frames(match.bent, carry=True)


METHODS: dict[str, Method] = {"direct": direct, "warp": warp, "still": still}


# ---- Target and driver, matched ------------------------------------------------------------------------------------


def _driver_frames(driver: Path, options: Options, hooks: Hooks) -> Iterator[Frame]:
    if is_image(driver):
        yield Frame(read_image(driver), 0, 0, 0.0)
    else:
        yield from read_frames(driver, options.start, options.end, options.max_frames, hooks.warn)


@dataclass(frozen=True, eq=False)
class _Driver:
    """One driver frame as the target's crop sees it."""

    frame: Frame
    crop: Affine
    points: NDArray[np.float64]  # [68,2] in its own crop's units
    goal: NDArray[np.float64]  # [68,2] where the target's landmarks should be, in the target's crop's units


_LARGEST = 1024
"""Pixels of the crop's side; what generators give, too."""


class _Match:
    """The target's face, the driver's track, and where the one goes by the other."""

    def __init__(self, target: Path, driver: Path, options: Options, store: WeightStore, hooks: Hooks) -> None:
        self.options, self.hooks, self.driver = options, hooks, driver
        self.target = read_image(target)
        # As the pipeline chooses where it solves for expressions, so that methods differ in nothing else.
        name = "landmarker" if options.detector == "auto" else options.detector
        _, detector = landmarks.choose_detector(name, store, choose_device(options.device))
        face = landmarks.find_face(self.target, detector, str(target))
        self.crop = ffhq_crop(face.points)
        self.size = min(max(64, round(scale_of(self.crop))), _LARGEST)  # a pixel of the crop is one of the photo
        self.picture = _unit(cut_out(self.target, self.crop, self.size).rgb)
        self.points = apply(inverse(self.crop), face.points)
        self.triangles = mesh(self.points)
        track = self._tracked(detector)
        points = zero_phase(landmarks.fill_missing(track), options.smooth, track.cuts)
        self.crops = steady_crops(points, track.cuts, options.align)
        self.driven = np.stack([apply(inverse(crop), p) for crop, p in zip(self.crops, points, strict=True)])
        self.goals = self._goals(track, face)

    def _tracked(self, detector: Detector) -> FaceTrack:
        def counted() -> Iterator[Rgb]:
            for frame in _driver_frames(self.driver, self.options, self.hooks):
                yield frame.rgb
                self.hooks.progress("track", frame.index + 1, self.options.max_frames)

        track = landmarks.track_face(counted(), detector)
        landmarks.require_face(track, str(self.driver))
        return track

    def _goals(self, track: FaceTrack, face: Landmarks) -> NDArray[np.float64]:
        """[T,68,2]: the target's landmarks, moved, in its crop's units.

        Crops take place, scale and tilt out of both faces, so that what is left of the driver's motion is added.
        """
        if self.options.fuse.motion == "absolute" or len(track) == 1:
            rest = self.points  # a single picture has no change to follow
        else:
            rest = self.driven[_anchor(track, face, self.options)]
        return self.points + self.options.fuse.strength * (self.driven - rest)

    def _drivers(self) -> Iterator[_Driver]:
        for frame in _driver_frames(self.driver, self.options, Hooks()):
            if (i := frame.index) < len(self.goals):
                yield _Driver(frame, self.crops[i], self.driven[i], self.goals[i])

    def frames(self, draw: Callable[[_Driver], Floats], carry: bool) -> Iterator[Frame]:
        """Each frame, its face drawn by `draw` in the target's crop and blended."""
        base = Face(self.picture, self.points.astype(np.float32))
        blender = Blender(self.target, self.crop, base, replace(self.options.blend, carry=carry))
        for driver in self._drivers():
            face = Face(draw(driver), driver.goal.astype(np.float32))
            frame = driver.frame
            yield blender.blend(face, frame.index, frame.pts, frame.seconds)
            self.hooks.progress("frames", frame.index + 1, len(self.goals))

    def bent(self, driver: _Driver) -> Floats:
        """The target's crop [S,S,3] with its landmarks where they should be."""
        return bend(self.picture, self.points, driver.goal, self.triangles)

    def worn(self, driver: _Driver) -> Floats:
        """The target's crop [S,S,3] with the driver's face cut out and laid on it, in the target's colours."""
        texture = _unit(cut_out(driver.frame.rgb, driver.crop, self.size).rgb)
        texture = bend(texture, driver.points, driver.goal, self.triangles)
        texture = recoloured(texture, _skin(driver.goal, self.size), self.picture, _skin(self.points, self.size))
        inside = self._cut_out(driver.goal)
        return np.asarray(self.picture + inside * (texture - self.picture), np.float32)

    def _cut_out(self, points: NDArray[np.float64]) -> Floats:
        """[S,S,1]: 1 inside a face, 0 outside its outline, whose feather lies within: no background comes along."""
        hull = _hull(with_forehead(points), self.size)
        sigma = max(0.5, self.options.blend.feather * self.size / 2)
        inside = cv2.erode(hull, np.ones((3, 3)), iterations=round(1.5 * sigma), borderValue=0.0)
        return np.asarray(cv2.GaussianBlur(inside, (0, 0), sigma), np.float32)[:, :, None]


def _anchor(track: FaceTrack, face: Landmarks, options: Options) -> int:
    """The driver's frame that motion is counted from: the asked, or one at rest like the target, or the first."""
    if options.anchor is not None:
        if options.anchor >= len(track):
            raise UsageError(f"--anchor-frame {options.anchor}: the driver has frames 0 to {len(track) - 1}")
        return options.anchor
    if face.inside is None or track.inside is None:
        return int(np.flatnonzero(track.found)[0])
    seen = zero_phase(landmarks.fill_gaps(expression.of_track(track).numpy(), track), options.smooth, track.cuts)
    return expression.nearest_rest(torch.from_numpy(seen).float(), expression.of_landmarks(face))


# ---- Pictures ------------------------------------------------------------------------------------------------------


def _unit(rgb: Rgb) -> Floats:
    return np.asarray(rgb.astype(np.float32) / 255, np.float32)


_EDGE = np.array([[x, y] for x in np.linspace(0, 1, 5) for y in np.linspace(0, 1, 5) if {x, y} & {0.0, 1.0}])
"""Points round the unit square that stay where they are."""
_UPPER, _LOWER = (37, 38, 43, 44, 61, 62, 63), (40, 41, 46, 47, 65, 66, 67)
"""Lids and inner lips, which may touch or cross where a face shuts them."""
_THIN = 1e-3  # twice the pixels of a triangle that need not be drawn


def mesh(points: Points) -> NDArray[np.int32]:
    """Delaunay triangles [N,3] over a face's landmarks [68,2] in units of its crop, upright, and the crop's edge.

    Made as if eyes and mouth were open, so that they can open in a picture where they are shut.
    """
    parted = points.astype(np.float64)
    parted[list(_UPPER), 1] -= 0.01
    parted[list(_LOWER), 1] += 0.01
    corners = np.vstack([parted, _EDGE])
    triangles = np.array(Delaunay(corners).simplices, np.int32)
    turned = doubled_area(corners[triangles]) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    return triangles


def bend(picture: Floats, points: Points, moved: Points, triangles: NDArray[np.int32]) -> Floats:
    """A picture bent triangle by triangle so that what was at `points` comes to `moved`, its edge held.

    Points that do not move give the picture itself, bit by bit. Triangles that the motion turns over, as between lids
    that meet, are left out; their neighbours lie over them.

    Args:
        picture: [S,S,3].
        points, moved: [68,2] in units of the picture.
        triangles: of `mesh`.
    """
    size = len(picture)
    corners = (np.vstack([moved, _EDGE]) * size - 0.5)[triangles]  # [N,3,2], in pixels
    back = (np.vstack([points - moved, np.zeros_like(_EDGE)]) * size)[triangles]  # to where they come from
    area = doubled_area(corners)
    # Along its edges a thin triangle's motion is the least to be trusted: what is larger is drawn over it.
    order = [i for i in np.argsort(area) if area[i] > _THIN]
    labels = np.zeros((size, size), np.int32)
    for label, i in enumerate(order):
        cv2.fillConvexPoly(labels, np.rint(corners[i] * 16).astype(np.int32), label, shift=4)
    ones = np.ones((len(order), 3, 1))
    motion = np.linalg.solve(np.concatenate([corners[order], ones], 2), back[order])[labels]  # [S,S,3,2]
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    source = np.stack([x, y], 2) + x[..., None] * motion[:, :, 0] + y[..., None] * motion[:, :, 1] + motion[:, :, 2]
    across, down = (np.ascontiguousarray(source[:, :, i], np.float32) for i in (0, 1))
    bent = cv2.remap(picture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(bent, np.float32)


def recoloured(picture: Floats, where: NDArray[np.bool_], like: Floats, there: NDArray[np.bool_]) -> Floats:
    """A picture [S,S,3] with each channel scaled so that its mean `where` is another's `there`, both [S,S]."""
    if not where.any() or not there.any():
        return picture
    gain = like[there].mean(0) / np.maximum(picture[where].mean(0), 1e-3)
    return np.asarray(picture * gain, np.float32)


def _skin(points: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """[S,S]: inside the landmarks' hull, without eyes and mouth, whose opening must not change the skin's colour."""
    skin = _hull(points, size)
    for part in (slice(36, 42), slice(42, 48), slice(48, 60)):
        skin *= 1 - _polygon(points[part], size)
    return skin > 0.5


def _hull(points: NDArray[np.float64], size: int) -> Floats:
    return _polygon(np.asarray(cv2.convexHull(points.astype(np.float32)), np.float32)[:, 0], size)


def _polygon(points: Points, size: int) -> Floats:
    """float32 [S,S]: 1 inside a polygon [N,2] in units of the picture."""
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [np.rint((points * size - 0.5) * 16).astype(np.int32)], 1.0, shift=4)
    return mask
