"""The way through: a target picture and a driver in, frames out.

Two passes over the driver, so that no frames pile up: the first keeps only where the face is and what it
expresses, which is then smoothed as a whole; the second makes the frames, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import expression, landmarks, plugins
from .align import AlignOptions, cut_out, ffhq_crop, steady_crops
from .blend import BlendOptions, Blender, Face
from .errors import UsageError
from .face_landmarker import FaceLandmarkerNets
from .fuse import FuseOptions, from_driver, parse_layers, splice
from .generators import Generator
from .images import is_image, read_image, to_rgb, to_tensor
from .invert import DRIVER, PAPER, TARGET, InvertOptions, invert
from .perceptual import Vgg16, load_vgg
from .smooth import delay_line, segments, zero_phase
from .solve import SolveOptions, Solver
from .types import Affine, FaceTrack, Floats, Frame, Inversion, Rgb
from .video import read_frames
from .weights import WeightStore, default_root


@dataclass(frozen=True)
class Options:
    """Everything that changes the result."""

    generator: str = "mobile"
    detector: str = "auto"
    device: str = "auto"
    align: AlignOptions = field(default_factory=AlignOptions)
    target: InvertOptions = TARGET
    driver: InvertOptions = DRIVER
    fuse: FuseOptions = field(default_factory=FuseOptions)
    solve: SolveOptions = field(default_factory=SolveOptions)
    blend: BlendOptions = field(default_factory=BlendOptions)
    smooth: float = 0.7  # sigma in frames, of expressions and latents in time; 0: none
    anchor: int | None = None  # the driver's frame that relative motion starts from; None: chosen
    size: int | None = None  # of generated pictures; None: what the face needs
    start: float | None = None  # seconds
    end: float | None = None
    max_frames: int | None = None
    seed: int = 0


PRESETS: dict[str, Options] = {
    "paper": Options(
        detector="dlib",
        target=PAPER,
        driver=replace(PAPER, steps=100),
        fuse=FuseOptions(method="splice", motion="absolute"),
        blend=BlendOptions(carry=False),
        smooth=0.0,
    ),
    "quality": Options(target=replace(TARGET, steps=160), solve=SolveOptions(rounds=4), driver=replace(DRIVER, steps=16)),
    "balanced": Options(),
    "fast": Options(
        target=replace(TARGET, steps=80), solve=SolveOptions(size=128, rounds=1), driver=replace(DRIVER, steps=3), size=256
    ),
}


@dataclass(frozen=True)
class Hooks:
    """What a caller may want to hear of. Stages: 'track', 'invert', 'calibrate', 'frames'."""

    progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None
    note: Callable[[str], None] = lambda line: None
    warn: Callable[[str], None] = lambda line: None
    picture: Callable[[str, int, Rgb], None] | None = None  # (stage, frame, picture), for a trace
    losses: Callable[[str, tuple[float, ...]], None] = lambda name, losses: None


def choose_device(name: str) -> torch.device:
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps' -> a device that is there.

    Raises:
        UsageError: it is not there, or no such name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: not available here; use auto, cpu, cuda, cuda:N or mps") from error
    return device


def reenact(
    target: Path | str,
    driver: Path | str,
    options: Options | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
) -> Iterator[Frame]:
    """Yield the target making the driver's expressions, one frame for each of the driver's.

    Args:
        target: a picture of a person.
        driver: a video of a person, or a picture, which gives a single frame.
        options: `PRESETS` has good ones.
        store: where third-party weights are kept and how they are fetched.
        hooks: progress, warnings, intermediate pictures.

    Yields:
        Frames of the target's size with the driver's `pts` and `seconds`, and a matte.

    Raises:
        ReenactError: an input that can't be used, weights that can't be had. `NoFaceError` where there is no face.
    """
    run = Run(Path(target), Path(driver), options or Options(), store or WeightStore(default_root()), hooks or Hooks())
    yield from run.frames()


class Run:
    """One reenactment under way: networks loaded, driver tracked, target inverted and calibrated."""

    def __init__(self, target: Path, driver: Path, options: Options, store: WeightStore, hooks: Hooks) -> None:
        """Do all that comes before the first frame."""
        torch.manual_seed(options.seed)
        self.options, self.hooks, self.driver = options, hooks, driver
        self.target = read_image(target)
        self.still = is_image(driver)
        if not self.still:
            next(iter(read_frames(driver, options.start, options.end, 1)))  # fail on a bad file before the long work
        self.device = choose_device(options.device)
        self.detector_name, self.detector = landmarks.choose_detector(options.detector, store, self.device)
        hooks.note(f"detector: {self.detector_name}")
        self.face = landmarks.find_face(self.target, self.detector, str(target))
        self.crop = ffhq_crop(self.face.points)
        self.track = self._track_driver()
        self.generator: Generator = plugins.module("generators", options.generator).create(store, self.device)
        self.layers = parse_layers(options.fuse.layers or self._default_layers(), self.generator)
        self.size = options.size or self._fitting_size()
        self.vgg = load_vgg(store, self.device, self._vgg_dtype())
        self.nets = FaceLandmarkerNets.load(store.path("face_landmarker.task")).to(self.device)
        self.inversion = self._invert_target()
        self.w = torch.from_numpy(self.inversion.latent.w).to(self.device)

    # ---- before the frames

    def _default_layers(self) -> str:
        return "paper" if self.options.fuse.method == "splice" else "expression"

    def _vgg_dtype(self) -> torch.dtype:
        # The paper's recipe is followed in full precision; elsewhere half the bits are as good and twice as fast.
        return torch.float32 if self.options.target.distance == "conv9" else torch.bfloat16

    def _fitting_size(self) -> int:
        """The smallest picture that is no coarser than the target's face."""
        side = float(np.hypot(*self.crop[:, 0]))
        sizes = [s for s in self.generator.sizes if s >= 256] or list(self.generator.sizes)
        return next((s for s in sizes if s >= side * 0.9), sizes[-1])

    def _driver_frames(self) -> Iterator[Frame]:
        if self.still:
            yield Frame(read_image(self.driver), 0, 0, 0.0)
        else:
            o = self.options
            yield from read_frames(self.driver, o.start, o.end, o.max_frames, self._warn_once)

    def _warn_once(self, line: str) -> None:
        # The driver is read twice; what is wrong with it is said once.
        said = self.__dict__.setdefault("_said", set())
        if line not in said:
            said.add(line)
            self.hooks.warn(line)

    def _track_driver(self) -> FaceTrack:
        def counted() -> Iterator[Rgb]:
            for frame in self._driver_frames():
                yield frame.rgb
                self.hooks.progress("track", frame.index + 1, self.options.max_frames)

        track = landmarks.track_face(counted(), self.detector)
        landmarks.require_face(track, str(self.driver))
        missing = int((~track.found).sum())
        if missing:
            self.hooks.warn(f"{self.driver}: no face in {missing} of {len(track)} frames; the face nearest in time stands in")
        return track

    def _invert_target(self) -> Inversion:
        cut = cut_out(self.target, self.crop, self.generator.sizes[-1])
        total = self.options.target.steps
        found = invert(
            self.generator, self.vgg, to_tensor(cut.rgb, self.device), self.options.target,
            on_step=lambda step, loss: self.hooks.progress("invert", step, total),
        )  # fmt: skip
        self.hooks.losses("target", found.losses)
        self._show("target crop", 0, cut.rgb)
        return found

    # ---- the frames

    @torch.inference_mode()
    def _drawn(self, w: Tensor, probe: expression.Probe) -> Face:
        picture = self.generator.synthesize(w[None], self.size)
        points, _ = probe.points(picture)
        rgb = (picture[0].float().permute(1, 2, 0).clamp(-1, 1) * 0.5 + 0.5).cpu().numpy()
        return Face(np.ascontiguousarray(rgb, np.float32), points[0].float().cpu().numpy())

    def _show(self, stage: str, index: int, rgb: Rgb) -> None:
        if self.hooks.picture:
            self.hooks.picture(stage, index, rgb)

    def frames(self) -> Iterator[Frame]:
        """The result, one frame for each of the driver's."""
        with torch.inference_mode():
            picture = self.generator.synthesize(self.w[None], 256)
        probe = expression.Probe(self.nets, picture)
        blender = Blender(self.target, self.crop, self._drawn(self.w, probe), self.options.blend)
        make = self._spliced if self.options.fuse.method == "splice" else self._solved
        for frame, w in make(probe):
            face = self._drawn(w, probe)
            result = blender.blend(face, frame.index, frame.pts, frame.seconds)
            if self.hooks.picture:
                self._show("driver", frame.index, frame.rgb)
                self._show("fused", frame.index, np.rint(face.picture * 255).astype(np.uint8))
                assert result.matte is not None  # a blender always gives one
                self._show("mask", frame.index, np.repeat(result.matte[:, :, None], 3, 2))
                self._show("composite", frame.index, result.rgb)
            yield result
            self.hooks.progress("frames", frame.index + 1, len(self.track))

    def _solved(self, probe: expression.Probe) -> Iterator[tuple[Frame, Tensor]]:
        """Each frame and the latent that shows its expression: equation 2 of the paper."""
        solver = Solver(
            self.generator, probe, self.w, self.layers, self.options.solve,
            on_progress=lambda done, total: self.hooks.progress("calibrate", done, total),
        )  # fmt: skip
        goals = self._goals(solver.rest)
        amounts = torch.zeros(solver.count, device=self.device)
        starts = {part.start for part in segments(len(goals), self.track.cuts)}
        for frame in self._driver_frames():
            if frame.index >= len(goals):
                break
            if frame.index in starts:
                amounts = torch.zeros_like(amounts)
            amounts, _ = solver.solve(goals[frame.index], amounts)
            yield frame, solver.latent(amounts)

    def _goals(self, rest: Tensor) -> Tensor:
        """The expressions [T,M] that the target should show."""
        seen = expression.of_track(self.track)
        smoothed = zero_phase(landmarks.fill_gaps(seen.numpy(), self.track), self.options.smooth, self.track.cuts)
        wanted = torch.from_numpy(smoothed).float().to(self.device)
        anchor = self._anchor(wanted, rest)
        self.hooks.note(f"anchor frame: {anchor}")
        return expression.goals(wanted, wanted[anchor], rest, self.options.fuse.strength)

    def _anchor(self, seen: Tensor, rest: Tensor) -> int:
        """The frame whose expression is most like the target's own."""
        if self.options.anchor is not None:
            return min(self.options.anchor, len(seen) - 1)
        return int(expression.distance(seen, rest).argmin())

    def _spliced(self, probe: expression.Probe) -> Iterator[tuple[Frame, Tensor]]:
        """Each frame and the target's latent with the driver's layers: the paper's way."""
        chosen = from_driver(self.layers, self.generator.num_layers)
        target = self.inversion.latent.w
        relative = self.options.fuse.motion == "relative" and len(self.track) > 1
        anchor: Floats | None = None
        for frame, w in self._smoothed(self._inverted_driver()):
            if relative and anchor is None:
                anchor = w
            fused = splice(target, w, chosen, anchor, self.options.fuse.strength)
            yield frame, torch.from_numpy(fused).to(self.device)

    def _inverted_driver(self) -> Iterator[tuple[Frame, Floats, int]]:
        """Each driver frame, its latent and the number of its scene."""
        points = landmarks.fill_missing(self.track)
        crops = steady_crops(points, self.track.cuts, self.options.align)
        parts = segments(len(points), self.track.cuts)
        scene = np.searchsorted([p.start for p in parts], np.arange(len(points)), side="right") - 1
        before: Tensor | None = None
        last = -1
        for frame in self._driver_frames():
            if frame.index >= len(points):
                break
            fresh = scene[frame.index] != last
            w = self._invert_frame(frame, crops[frame.index], points[frame.index], None if fresh else before)
            before, last = torch.from_numpy(w), int(scene[frame.index])
            yield frame, w, last

    def _invert_frame(self, frame: Frame, crop: Affine, points: NDArray[np.floating], start: Tensor | None) -> Floats:
        options = self.options.driver
        if start is None:
            options = replace(options, steps=max(options.steps, self.options.target.steps // 2))
        cut = cut_out(frame.rgb, crop, max(size for size, _ in options.sizes))
        weight = None if options.distance == "conv9" else face_weight(points, crop, cut.rgb.shape[0]).to(self.device)
        found = invert(self.generator, self.vgg, to_tensor(cut.rgb, self.device), options, start, weight)
        self.hooks.losses(f"driver {frame.index}", found.losses)
        self._show("driver crop", frame.index, cut.rgb)
        return found.latent.w

    def _smoothed(self, latents: Iterable[tuple[Frame, Floats, int]]) -> Iterator[tuple[Frame, Floats]]:
        if self.options.smooth > 0:
            return delay_line(latents)
        return ((frame, w) for frame, w, _ in latents)


def face_weight(points: NDArray[np.floating], crop: Affine, size: int) -> Tensor:
    """Where a driver's crop counts, [1,1,size,size]: its face, not its hair, clothes and background."""
    import cv2

    from .blend import with_forehead
    from .geometry import apply

    linear = np.linalg.inv(crop[:, :2])
    unit = (with_forehead(points.astype(np.float64)) - crop[:, 2]) @ linear.T
    mask = np.zeros((size, size), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(unit * size).astype(np.int32)), 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), size * 0.03)
    return torch.from_numpy(mask)[None, None]
