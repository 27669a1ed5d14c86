"""What travels between the rooms: frozen, shape-checked at birth, printed without pixels.

Pixels are RGB uint8 [H,W,3]; points are x,y in pixels, the centre of the top-left pixel at (0, 0);
affine matrices are 2x3 and act on column vectors [x, y, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float32]
Affine = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def _check(name: str, value: NDArray[Any], shape: tuple[int | None, ...], dtype: type) -> None:
    """Raise ValueError unless `value` has `dtype` and `shape` (None: any length)."""
    fits = value.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, value.shape, strict=True))
    if not fits or value.dtype != dtype:
        wanted = "x".join("?" if s is None else str(s) for s in shape)
        raise ValueError(f"{name}: {value.dtype} {value.shape}; expected {np.dtype(dtype)} {wanted}")


class _Printed:
    """Prints arrays as their shape, so that a log line stays a line."""

    def __repr__(self) -> str:
        values = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]  # a mixin of dataclasses only
        shown = (f"{n}={v.dtype}{list(v.shape)}" if isinstance(v, np.ndarray) else f"{n}={v!r}" for n, v in values)
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, eq=False, repr=False)
class VideoInfo(_Printed):
    """What a container says of its first video stream, as a person would see it."""

    path: Path
    width: int  # as displayed: rotation and pixel aspect applied
    height: int
    time_base: Fraction  # seconds per tick of `Frame.pts`
    frame_rate: Fraction | None  # None: variable
    duration: float | None  # seconds; None: unknown
    frame_count: int | None  # as the container claims; None: unknown
    rotation: int  # degrees clockwise that display applies: 0, 90, 180 or 270
    has_audio: bool


@dataclass(frozen=True, eq=False, repr=False)
class Frame(_Printed):
    """One picture of a video."""

    rgb: Rgb  # uint8 [H,W,3]
    index: int  # 0-based, counted over the decoded frames
    pts: int  # in ticks of the video's time base
    seconds: float
    matte: NDArray[np.uint8] | None = None  # [H,W]; 0 where the picture is the untouched target

    def __post_init__(self) -> None:
        _check("rgb", self.rgb, (None, None, 3), np.uint8)
        if self.matte is not None:
            _check("matte", self.matte, (*self.rgb.shape[:2],), np.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class Landmarks(_Printed):
    """One face: the 68 points of the iBUG scheme, and what else the detector knows."""

    points: Floats  # float32 [68,2], x,y in pixels of the whole picture
    score: float  # 0..1
    blendshapes: Floats | None = None  # float32 [51], `face_landmarker.BLENDSHAPES` names them
    pose: Floats | None = None  # float32 [3]: yaw, pitch, roll in degrees
    mesh: Floats | None = None  # float32 [478,3]: `face_landmarker.facing`
    inside: float | None = None  # how light it is between the lips, see `expression.light_inside`
    dense: Floats | None = None  # float32 [478,3] in pixels: what a detector that made it can go on from

    def __post_init__(self) -> None:
        _check("points", self.points, (68, 2), np.float32)
        if self.blendshapes is not None:
            _check("blendshapes", self.blendshapes, (51,), np.float32)
        if self.pose is not None:
            _check("pose", self.pose, (3,), np.float32)
        if self.mesh is not None:
            _check("mesh", self.mesh, (478, 3), np.float32)
        if self.dense is not None:
            _check("dense", self.dense, (478, 3), np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class FaceTrack(_Printed):
    """One face through a whole video of T frames. Rows without a face hold NaN."""

    points: Floats  # float32 [T,68,2]
    score: Floats  # float32 [T]
    found: NDArray[np.bool_]  # [T]
    cuts: tuple[int, ...]  # indices of the first frame after each scene cut
    blendshapes: Floats | None = None  # float32 [T,51]
    pose: Floats | None = None  # float32 [T,3]: yaw, pitch, roll in degrees
    mesh: Floats | None = None  # float32 [T,478,3]; see `Landmarks`
    inside: Floats | None = None  # float32 [T]; see `Landmarks`

    def __post_init__(self) -> None:
        frames = len(self.points)
        _check("points", self.points, (frames, 68, 2), np.float32)
        _check("score", self.score, (frames,), np.float32)
        _check("found", self.found, (frames,), np.bool_)
        if self.blendshapes is not None:
            _check("blendshapes", self.blendshapes, (frames, 51), np.float32)
        if self.pose is not None:
            _check("pose", self.pose, (frames, 3), np.float32)
        if self.mesh is not None:
            _check("mesh", self.mesh, (frames, 478, 3), np.float32)
        if self.inside is not None:
            _check("inside", self.inside, (frames,), np.float32)

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False, repr=False)
class Crop(_Printed):
    """A face cut out of a picture, upright and square."""

    rgb: Rgb  # uint8 [S,S,3]
    to_frame: Affine  # float64 [2,3]: crop pixels to picture pixels

    def __post_init__(self) -> None:
        _check("rgb", self.rgb, (self.rgb.shape[0], self.rgb.shape[0], 3), np.uint8)
        _check("to_frame", self.to_frame, (2, 3), np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Latent(_Printed):
    """A point of a generator's W+."""

    w: Floats  # float32 [L,512]
    generator: str

    def __post_init__(self) -> None:
        _check("w", self.w, (None, 512), np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class Inversion(_Printed):
    """The latent that regenerates a picture, and how the search went."""

    latent: Latent
    losses: tuple[float, ...]  # one a step

    @property
    def steps(self) -> int:
        """How many steps the search took."""
        return len(self.losses)

    @property
    def ran_away(self) -> bool:
        """Whether its steps were too long, so that the loss became no number and the search ended there."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])


@dataclass(frozen=True, eq=False, repr=False)
class Score(_Printed):
    """What one metric says of a clip of T frames."""

    name: str  # as in tables and files: "ssim-face", "expression-r-jawOpen"
    unit: str  # "px", "dB", "degrees", "ms"; "" for a plain number
    better: str  # "higher", "lower", or "one" (a ratio whose ideal is 1)
    value: float | None  # over the clip; None: not measured, and `note` says why
    per_frame: Floats | None = None  # float32 [T], NaN where not measured; None: a number of the whole clip only
    note: str = ""  # network, resolution, what was counted out

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower", "one"):
            raise ValueError(f"better: {self.better!r}; expected higher, lower or one")
        if self.per_frame is not None:
            _check("per_frame", self.per_frame, (None,), np.float32)

    @property
    def measured(self) -> int:
        """Frames that count; 0 for a number of the whole clip."""
        return 0 if self.per_frame is None else int(np.isfinite(self.per_frame).sum())

    @property
    def worst(self) -> int | None:
        """The frame with the worst value; None: there are no values by frame."""
        if not self.measured:
            return None
        assert self.per_frame is not None
        badness = {"higher": -self.per_frame, "lower": self.per_frame, "one": np.abs(self.per_frame - 1)}[self.better]
        return int(np.nanargmax(badness))
