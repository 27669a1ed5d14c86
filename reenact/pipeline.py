"""The way through: a target picture and a driver in, frames out.

Two passes over the driver, so that no frames pile up: the first keeps only where the face is and what it
expresses, which is then smoothed as a whole; the second makes the frames, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import encoder, expression, generators, landmarks, mapper, mesh, motion
from .align import AlignOptions, cut_out, ffhq_crop, steady_crops
from .blend import Blender, BlendOptions, Face, settling, with_forehead
from .check import hard_motion, hard_target
from .compose import ComposeOptions, Composer, Drawn, Turn
from .devices import choose_device, quick_dtype
from .driver import Driver, Moment
from .errors import NoFaceError, UsageError
from .face_landmarker import FaceLandmarkerNets, canonical_axes, head_pose, read_triangles, to_68
from .follow import parse_choice
from .fuse import FuseOptions, from_driver, parse_layers, parse_regions, splice
from .geometry import apply, inverse, scale_of
from .images import read_image, to_tensor
from .invert import COLOURS, DRIVER, PAPER, TARGET, InvertOptions, Whitening, invert
from .perceptual import load_features
from .resume import Checkpoint, job
from .smooth import DELAY_LINE, SHORT_LINE, delay_line, segments, zero_phase
from .solve import SolveOptions, Solver
from .spool import Spool
from .template import Motion
from .types import Affine, Floats, Frame, Inversion, Rgb
from .weights import WeightStore, default_root

T = TypeVar("T")
POSES = ("own", "driver")


@dataclass(frozen=True)
class Options:
    """Everything that changes the result."""

    generator: str = "mobile"  # or a file
    noise: str = "const"  # of a StyleGAN; or "none", "random"
    perceptual: str = "auto"  # whose features the paper's recipe compares: "packaged", "vgg16", a file
    detector: str = "auto"
    device: str = "auto"
    align: AlignOptions = field(default_factory=AlignOptions)
    steps: int | None = None  # to find the target, at most; None: what the recipe says
    colours: InvertOptions = COLOURS  # how the target is found where expressions are mapped ...
    target: InvertOptions = TARGET  # ... and where not
    driver: InvertOptions = DRIVER
    fuse: FuseOptions = field(default_factory=FuseOptions)
    solve: SolveOptions = field(default_factory=SolveOptions)
    blend: BlendOptions = field(default_factory=BlendOptions)
    compose: ComposeOptions = field(default_factory=ComposeOptions)
    smooth: float = 0.7  # sigma in frames, of expressions and of the face's place in time; 0: none
    pose: str = "own"  # the head stays as in the photo, or turns with the "driver"
    target_face: str = "largest"  # `follow.parse_choice` reads it
    driver_face: str = "largest"
    missing: str = "hold"  # one of `driver.MISSING`: what comes where the driver shows no face
    anchor: int | None = None  # the driver's frame that relative motion starts from; None: chosen
    size: int | None = None  # of generated pictures; None: what the target's face needs
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
    "quality": Options(
        colours=replace(COLOURS, steps=16),
        target=replace(TARGET, steps=60),
        solve=SolveOptions(keys=24, sweeps=((14, 0.05, 128), (12, 0.03, 256))),
        driver=replace(DRIVER, steps=16),
    ),
    "balanced": Options(),
    "fast": Options(
        colours=replace(COLOURS, steps=4),
        target=replace(TARGET, steps=20),
        solve=SolveOptions(keys=6, sweeps=((14, 0.05, 128),)),
        driver=replace(DRIVER, steps=3),
    ),
}


@dataclass(frozen=True)
class Hooks:
    """What a caller may want to hear of. Stages: 'track', 'invert', 'solve', 'frames'."""

    progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None
    note: Callable[[str], None] = lambda line: None
    warn: Callable[[str], None] = lambda line: None
    picture: Callable[[str, int, Rgb], None] | None = None  # (stage, frame, picture), for a trace
    losses: Callable[[str, tuple[float, ...]], None] = lambda name, losses: None
    # The driver's, as soon as it is known; to be used or copied at once, for its points are smoothed in place later.
    motion: Callable[[Motion], None] = lambda motion: None


def reenact(
    target: Path | str,
    driver: Path | str,
    options: Options | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Frame]:
    """Yield the target making the driver's expressions, one frame for each of the driver's.

    Args:
        target: a picture of a person.
        driver: a video of a person, or a picture, which gives a single frame, or a motion template.
        options: `PRESETS` has good ones.
        store: where third-party weights are kept and how they are fetched.
        hooks: progress, warnings, intermediate pictures.
        checkpoint: keeps what is done, so that a later call can go on; None: nothing is kept. It stays until the caller
            removes it, once the result is safe; where the inputs turn out not to do, it is removed here.

    Yields:
        Frames of the target's size with the driver's `pts` and `seconds`, and a matte.

    Raises:
        ReenactError: an input that can't be used, weights that can't be had. `NoFaceError` where there is no face.
    """
    store = store or WeightStore(default_root())
    try:
        run = Run(Path(target), Path(driver), options or Options(), store, hooks or Hooks(), checkpoint)
        yield from run.frames()
    except (NoFaceError, UsageError):
        if checkpoint and checkpoint.fresh:
            checkpoint.remove()  # the same would happen again
        raise
    finally:
        if checkpoint:
            checkpoint.close()


@dataclass(frozen=True, eq=False)
class _Rest:
    """The target's face, measured in the photo."""

    probe: expression.Probe
    mesh: Tensor  # [1,478,3] in units of the crop
    expression: Tensor  # [M]


class Run:
    """One reenactment under way: networks loaded, driver tracked, target inverted."""

    def __init__(
        self,
        target: Path,
        driver: Path,
        options: Options,
        store: WeightStore,
        hooks: Hooks,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Do all that comes before the first frame."""
        torch.manual_seed(options.seed)
        self.options, self.hooks, self.checkpoint = options, hooks, checkpoint
        self._said: set[str] = set()
        self.strength = self._strength()
        wanted = parse_choice(options.target_face, "--target-face")
        self.wanted = parse_choice(options.driver_face, "--driver-face")
        self.target = read_image(target)
        self.driver = Driver(driver, options.start, options.end, options.max_frames, self._warn_once)
        if self.driver.template and options.fuse.method == "splice":
            raise UsageError(f"{driver}: holds no pictures, which --fuse splice needs; use --fuse expression")
        self.device = choose_device(options.device)
        self.detector_name, self.detector = landmarks.choose_detector(options.detector, store, self.device)
        hooks.note(f"detector: {self.detector_name}")
        if checkpoint and checkpoint.begin(self._job(target)):
            hooks.note(f"going on with {checkpoint.folder}")
        self.face = landmarks.find_face(self.target, self.detector, str(target), wanted)
        for line in hard_target(self.target, self.face):
            hooks.warn(f"{target}: {line}")
        if options.fuse.method != "splice" and self.face.inside is None:
            _, reader = landmarks.choose_detector("landmarker", store, self.device)
            self.detector = landmarks.WithExpressions(self.detector, reader)
        self.crop = ffhq_crop(self.face.points)
        quick = torch.float32 if options.target.distance == "conv" else quick_dtype(self.device)
        self.generator = generators.load(options.generator, store, self.device, quick, options.noise)
        hooks.note(generators.describe(self.generator))
        self.whitening = Whitening(self.generator)
        self.layers = parse_layers(options.fuse.layers or self._default_layers(), self.generator)
        self.mapper, self.encoder = self._mapper(), self._encoder()
        self.size = self._checked_size()
        distance = options.colours.distance if self.mapper else options.target.distance
        self.vgg, features = load_features(options.perceptual, distance, store, self.device, self._vgg_dtype())
        hooks.note(f"features: {features}")
        task = store.path("face_landmarker.task")
        self.nets = FaceLandmarkerNets.load(task).to(self.device)
        self.triangles = read_triangles(task)
        self.motion = self._follow_driver()
        self.track = self.motion.track
        self.mesh = self._spooled_mesh() if options.fuse.method != "splice" else None
        self.rest = self._measured_target()
        self.anchors = self._find_anchors()
        self.latent = self._kept("target", lambda: self._invert_target().latent.w)
        self.w = torch.from_numpy(self.latent).to(self.device)

    # ---- before the frames

    def _job(self, target: Path) -> dict[str, str]:
        """All that the frames depend on, in words."""
        program = f"torch {torch.__version__}, {self.device}, {self.detector_name}"
        if self.options.noise == "random" and self.checkpoint and self.checkpoint.resume:
            raise UsageError("--resume: --noise random draws each frame otherwise every time; use const")
        files = {name: Path(getattr(self.options, name)) for name in ("generator", "perceptual")}
        files = {name: path for name, path in files.items() if path.is_file()}
        return job({"target": target, "driver": self.driver.path, **files}, self.options, program)

    def _default_layers(self) -> str:
        return "paper" if self.options.fuse.method == "splice" else "expression"

    def _strength(self) -> Tensor:
        """How much of the driver's change each number of the expression takes [M]."""
        fuse = self.options.fuse
        if fuse.method == "splice" and fuse.regions != FuseOptions().regions:
            raise UsageError(f"--regions {fuse.regions}: layers hold all of a face; --fuse expression parts it")
        if fuse.method == "splice" and self.options.pose == "driver":
            raise UsageError("--pose driver: with --fuse splice heads stay; --fuse expression turns them")
        return fuse.strength * expression.by_region(parse_regions(fuse.regions))

    def _vgg_dtype(self) -> torch.dtype:
        # The paper's recipe is followed in full precision; elsewhere half the bits are as good and twice as fast.
        return torch.float32 if self.options.target.distance == "conv" else torch.bfloat16

    def _mapper(self) -> mapper.LatentMapper | None:
        """What shows expressions at once; None: they are solved for, or spliced."""
        path = mapper.path_of(self.generator.name)
        if self.options.fuse.method != "expression" or self.layers != self.generator.expression_layers or not path:
            return None
        return mapper.LatentMapper.load(path).to(self.device)

    def _encoder(self) -> encoder.Encoder | None:
        """What tells a picture's latent at a glance; None: there is none, and searches begin at the mean face."""
        path = encoder.path_of(self.generator.name)
        return encoder.Encoder.load(path).to(self.device) if path else None

    @torch.no_grad()
    def _start(self, picture: Tensor, options: InvertOptions) -> Tensor | None:
        """Where the search for a picture [1,3,S,S] begins, [L,512]; None: where its recipe says."""
        if options.start != "encoder" or not self.encoder:
            return None
        return self.encoder.latent(self.generator, self.whitening, picture)

    @torch.no_grad()
    def _showing(self, w: Tensor, seen: Tensor) -> Tensor:
        """A latent [L,512] with the mean face's slots for an expression [M]."""
        assert self.mapper
        slots = torch.tensor(self.generator.expression_layers, device=w.device)
        white = self.whitening.white(self.generator.mean_latent[slots]) + self.mapper(seen)
        return w.index_copy(0, slots, self.whitening.colour(white))

    def _checked_size(self) -> int:
        size = self.options.size or self._needed_size()
        if size not in self.generator.sizes:
            known = ", ".join(map(str, self.generator.sizes))
            raise UsageError(f"--size {size}: {self.generator.name} makes pictures of {known}")
        return size

    def _needed_size(self) -> int:
        """The smallest picture that is not much coarser than the photo; the paper's recipe takes the whole."""
        sizes = self.generator.sizes
        if self.options.fuse.method == "splice":
            return sizes[-1]
        return next((size for size in sizes if size >= max(0.6 * scale_of(self.crop), SMALLEST)), sizes[-1])

    def _warn_once(self, line: str) -> None:
        # The driver is read twice; what is wrong with it is said once.
        if line not in self._said:
            self._said.add(line)
            self.hooks.warn(line)

    def _follow_driver(self) -> Motion:
        def progress(done: int) -> None:
            self.hooks.progress("track", done, self.options.max_frames)

        motion = self.driver.follow(self.detector, self.wanted, self.options.missing, progress, self.checkpoint)
        self.hooks.motion(motion)
        for line in hard_motion(motion):
            self.hooks.warn(f"{self.driver.path}: {line}")
        return motion

    def _invert_target(self) -> Inversion:
        cut = cut_out(self.target, self.crop, self.generator.sizes[-1])
        picture, weight = to_tensor(cut.rgb, self.device), None
        options = self.options.colours if self.mapper else self.options.target
        start = self._start(picture, options)
        if self.mapper:
            start = self._showing(self.generator.mean_latent if start is None else start, self.rest.expression)
            weight = face_weight(self.face.points, self.crop, cut.rgb.shape[0]).to(self.device)
        options = replace(options, steps=self.options.steps or options.steps)
        found = invert(
            self.generator, self.vgg, picture, options, start, weight,
            on_step=lambda step, loss, w: self.hooks.progress("invert", step, options.steps), whitening=self.whitening,
            shape=self._unlike if options.shape else None,
        )  # fmt: skip
        self._heed("target", found)
        self._show("target crop", 0, cut.rgb)
        return found

    @torch.no_grad()
    def _measured_target(self) -> _Rest:
        size = 512 if scale_of(self.crop) > 256 else 256
        picture = to_tensor(cut_out(self.target, self.crop, size).rgb, self.device)
        probe = expression.Probe(self.nets, picture)
        return _Rest(probe, probe.mesh(picture), probe(picture)[0])

    def _unlike(self, picture: Tensor) -> Tensor:
        """How far the points of a drawn face [1,3,S,S] are from the target's: mean square, in units of the picture."""
        shift = (self.rest.probe.mesh(picture) - self.rest.mesh)[..., :2].square()
        weights = torch.ones_like(shift)
        weights[:, list(motion.INNER_LIPS)] = 2  # a mouth that is shut had better be drawn shut
        return (weights * shift).mean()

    def _find_anchors(self) -> NDArray[np.intp]:
        """For each frame the one that its relative motion starts from [T].

        It is the one asked for, or the one of its scene that is at rest and most like the target.
        """
        total, asked = len(self.track), self.options.anchor
        if asked is not None and asked >= total:
            raise UsageError(f"--anchor-frame {asked}: the driver has frames 0 to {total - 1}")
        if asked is not None or self.track.inside is None:
            return np.full(total, asked or 0)
        seen, found = self._seen(), np.zeros(total, np.intp)
        for part in segments(total, self.track.cuts):
            found[part] = part.start + expression.nearest_rest(seen[part], self.rest.expression, self.strength)
        if not self._absolute() and total > 1:
            self.hooks.note(f"anchor frame: {', '.join(map(str, dict.fromkeys(found.tolist())))}")
        return found

    def _heed(self, name: str, found: Inversion) -> None:
        """Tell of a search, and warn of one that ended in no number."""
        self.hooks.losses(name, found.losses)
        if found.ran_away:
            who = "the target" if name == "target" else "frames of the driver"
            self._warn_once(f"finding {who}: a search ran away; the best before is used")

    # ---- the frames

    @torch.inference_mode()
    def _picture(self, w: Tensor) -> Tensor:
        return self.generator.synthesize(w[None], self.size)

    @torch.inference_mode()
    def _drawn(self, w: Tensor, probe: expression.Probe) -> Drawn:
        picture = self._picture(w)
        mesh = probe.mesh(picture)[0, :, :2]
        rgb = (picture[0].float().permute(1, 2, 0).clamp(-1, 1) * 0.5 + 0.5).cpu().numpy()
        return Drawn(np.ascontiguousarray(rgb, np.float32), mesh.cpu().double().numpy())

    def _show(self, stage: str, index: int, rgb: Rgb) -> None:
        if self.hooks.picture:
            self.hooks.picture(stage, index, rgb)

    def frames(self) -> Iterator[Frame]:
        """The result, one frame for each of the driver's; those that were finished before come first."""
        done = 0
        for frame in self.checkpoint.frames(self.target) if self.checkpoint else ():
            yield frame
            done = frame.index + 1
            self.hooks.progress("frames", done, len(self.track))
        if done < len(self.track):
            yield from self._made(done)

    def _made(self, first: int) -> Iterator[Frame]:
        """The result from the frame `first` on."""
        with torch.inference_mode():
            probe = expression.Probe(self.nets, self.generator.synthesize(self.w[None], self.size))
        base = self._drawn(self.w, probe)
        self._show("reconstruction", 0, _as_rgb(base.picture))
        results = self._pasted if self.options.fuse.method == "splice" else self._composed
        # What is smoothed needs the frames before.
        before = [moment.index for moment in self._moments() if moment.index < first]
        for result in results(probe, base, before[-REACH:][0] if before else first):
            if result.index < first:
                continue
            if self.checkpoint:
                self.checkpoint.add(result, self.target)
            self._show_result(result)
            yield result
            self.hooks.progress("frames", result.index + 1, len(self.track))

    def _composed(self, probe: expression.Probe, base: Drawn, first: int) -> Iterator[Frame]:
        """The photo moved as the driver moves, with the inside of the mouth and the folds of a generated face."""
        composer = self._composer(base)
        goal_of, turn_of, scenes = self._motion(composer.rest), self._turns(), self._scenes()

        def drawn() -> Iterator[tuple[tuple[Moment | Frame, Drawn], Floats, int]]:
            for frame, w in (self._mapped if self.mapper else self._solved)(probe, first):
                face = self._drawn(w, probe)
                yield (frame, face), face.points.astype(np.float32), int(scenes[frame.index])

        for (frame, face), points in self._smoothed(drawn(), SHORT_LINE):
            face = replace(face, points=points.astype(np.float64))
            goal = goal_of(frame.index)
            if self.hooks.picture:
                self._show_stages(frame, face.picture, composer.warped(goal, face))
            yield composer.compose(goal, face, frame.index, frame.pts, frame.seconds, turn_of(frame.index))

    def _composer(self, base: Drawn) -> Composer:
        rest = self.rest.mesh[0, :, :2].cpu().double().numpy()
        reach = mesh.REACH_OF_HEADS if self.options.pose == "driver" else mesh.REACH
        return Composer(self.target, self.crop, rest, base, self.triangles, self.options.compose, reach)

    def _motion(self, rest: NDArray[np.float64]) -> Callable[[int], NDArray[np.float64]]:
        """Where the target's points [478,2], at `rest`, should be in a frame, in units of its crop."""
        driver = self.mesh
        assert driver is not None  # where faces are composed
        to_rest = canonical_axes(self.rest.mesh.cpu())[0].double().numpy()
        fuse = self.options.fuse
        strength = {name: fuse.strength * share for name, share in parse_regions(fuse.regions).items()}
        presence = self._presence()
        at_rest = self._mesh_at_rest(driver) if self._absolute() or len(driver) == 1 else None

        def goal(index: int) -> NDArray[np.float64]:
            anchor = at_rest(index) if at_rest else driver[self.anchors[index]]
            goals = motion.goals(driver[index][None], anchor, rest, to_rest, strength)
            return np.asarray(rest + presence[index] * (goals[0] - rest))

        return goal

    def _turns(self) -> Callable[[int], Turn | None]:
        """Where a frame's turn of the driver's head takes the target's points; None: it stays."""
        if self.options.pose != "driver":
            return lambda index: None
        assert self.track.pose is not None  # as the mesh
        poses = zero_phase(landmarks.fill_gaps(self.track.pose, self.track), self.options.smooth, self.track.cuts)
        # A single picture has no turn to follow: its pose itself is taken.
        own = head_pose(self.rest.mesh.cpu()).numpy()
        since = poses[self.anchors] if len(poses) > 1 else own
        poses = since + self._presence()[:, None] * (poses - since)
        rest = self.rest.mesh[0].cpu().double().numpy()
        return lambda index: lambda points: motion.turned(points, rest, poses[index], since[index])

    def _spooled_mesh(self) -> Spool:
        """The driver's points [T,478,3], smoothed, with gaps filled; the track's own, which memory has to let go.

        In place and some points at a time: of a long clip they are what takes memory.
        """
        mesh = self.track.mesh
        assert mesh is not None  # every face has one, or `WithExpressions` gives it
        for first in range(0, mesh.shape[1], 16):
            some = landmarks.fill_gaps(mesh[:, first : first + 16], self.track)
            mesh[:, first : first + 16] = zero_phase(some, self.options.smooth, self.track.cuts)
        self.track = replace(self.track, mesh=None)
        self.motion = replace(self.motion, track=self.track)
        return Spool(mesh)

    def _mesh_at_rest(self, driver: Spool) -> Callable[[int], Floats]:
        """Where the driver's points [T,478,3] would be in a frame without its expression, by the learnt basis.

        For want of a frame that has none: a single picture's motion is counted from a face at rest, absolute motion
        from the target's expression.
        """
        basis = motion.Basis.load()
        assert self.track.blendshapes is not None  # as the mesh
        seen = zero_phase(landmarks.fill_gaps(self.track.blendshapes, self.track), self.options.smooth, self.track.cuts)
        wanted = self.nets.blendshapes(self.rest.mesh)[0].cpu().numpy() if self._absolute() else basis.neutral
        return lambda index: basis.without(driver[index], seen[index].astype(np.float32), wanted)

    def _pasted(self, probe: expression.Probe, base: Drawn, first: int) -> Iterator[Frame]:
        """Generated faces laid over the photo, as in the paper."""
        blender = Blender(self.target, self.crop, _face(base), self.options.blend)
        faces = ((frame, _face(self._drawn(w, probe))) for frame, w in self._spliced(first))
        for frame, face, move in self._settled(faces, _face(base)):
            if self.hooks.picture:
                self._show_stages(frame, face.picture, blender.warped(face, move))
            yield blender.blend(face, frame.index, frame.pts, frame.seconds, move)

    def _settled(self, faces: Iterator[tuple[Frame, Face]], base: Face) -> Iterator[tuple[Frame, Face, Affine]]:
        """Each face and what moves it onto the target's; that, and the landmarks that the mask follows, smoothed."""
        scenes = self._scenes()

        def place(face: Face) -> Floats:
            return np.vstack([settling(face, base).T, face.points]).astype(np.float32)  # [3+68,2]

        places = (((frame, face), place(face), int(scenes[frame.index])) for frame, face in faces)
        for (frame, face), smooth in self._smoothed(places):
            yield frame, replace(face, points=smooth[3:]), smooth[:3].T.astype(np.float64)

    def _show_stages(self, frame: Moment | Frame, picture: Floats, warped: Rgb) -> None:
        if isinstance(frame, Frame):
            self._show("driver", frame.index, frame.rgb)
        self._show("fused", frame.index, _as_rgb(picture))
        self._show("warped", frame.index, warped)

    def _show_result(self, result: Frame) -> None:
        assert result.matte is not None  # both ways make one
        self._show("mask", result.index, np.repeat(result.matte[:, :, None], 3, 2))
        self._show("composite", result.index, result.rgb)

    def _scenes(self) -> NDArray[np.intp]:
        """The number of the scene that each frame of the driver belongs to."""
        starts = [part.start for part in segments(len(self.track), self.track.cuts)]
        return np.searchsorted(starts, np.arange(len(self.track)), side="right") - 1

    def _mapped(self, probe: expression.Probe, first: int) -> Iterator[tuple[Moment | Frame, Tensor]]:
        """Each frame from `first` on and the latent of its expression, the photo's own and the driver's change."""
        goals = self._goals(self.rest.expression)
        for frame in self._result_frames(first):
            yield frame, self._showing(self.w, goals[frame.index])

    def _solved(self, probe: expression.Probe, first: int) -> Iterator[tuple[Moment | Frame, Tensor]]:
        """Each frame from `first` on and the latent that shows its expression: equation 2 of the paper."""
        solver = Solver(self.generator, probe, self.w, self.layers, self.options.solve, self.size, self.whitening)
        goals = self._goals(solver.rest)
        response = solver.respond(goals, lambda done, total: self.hooks.progress("solve", done, total))
        for frame in self._result_frames(first):
            yield frame, solver.latent(response(goals[frame.index]))

    def _moments(self, first: int = 0) -> Iterator[Moment]:
        """When the frames of the result are shown, from `first` on."""
        skipping = self.options.missing == "skip"
        for i in range(first, len(self.track)):
            if not skipping or self.track.found[i]:
                yield Moment(i, int(self.motion.pts[i]), float(self.motion.seconds[i]))

    def _result_frames(self, first: int) -> Iterator[Moment | Frame]:
        """These, with the driver's pictures only where somebody wants to see them."""
        yield from (self._tracked_frames if self.hooks.picture and not self.driver.template else self._moments)(first)

    def _tracked_frames(self, first: int = 0) -> Iterator[Frame]:
        """The driver's frames for these, once more."""
        wanted = {moment.index for moment in self._moments(first)}
        return (frame for frame in self.driver.frames() if frame.index in wanted)

    def _presence(self) -> Floats:
        """How much of the driver's expression is shown [T]: all of it, but where it fades."""
        if self.options.missing == "fade":
            return landmarks.presence(self.track)
        return np.ones(len(self.track), np.float32)

    def _goals(self, rest: Tensor) -> Tensor:
        """The expressions [T,M] that the drawn face, whose own is [M], should show."""
        seen = self._seen()
        if self._absolute():
            anchor = None
        elif len(seen) == 1:
            anchor = expression.at_rest(seen[0], torch.from_numpy(motion.Basis.load().neutral))
        else:
            anchor = seen[torch.from_numpy(self.anchors)]
        wanted = expression.goals(seen, anchor, rest, self.strength.to(self.device))
        return rest + torch.from_numpy(self._presence()).to(self.device)[:, None] * (wanted - rest)

    def _seen(self) -> Tensor:
        """The driver's expressions [T,M], smoothed."""
        seen = landmarks.fill_gaps(expression.of_track(self.track).numpy(), self.track)
        return torch.from_numpy(zero_phase(seen, self.options.smooth, self.track.cuts)).float().to(self.device)

    def _absolute(self) -> bool:
        return self.options.fuse.motion == "absolute"

    def _spliced(self, first: int) -> Iterator[tuple[Frame, Tensor]]:
        """Each frame from `first` on and the target's latent with the driver's layers: the paper's way."""
        chosen = from_driver(self.layers, self.generator.num_layers)
        target = self.latent
        # A single picture has no change to follow: all of it is taken.
        anchor = None if self._absolute() or len(self.track) == 1 else self._inverted_anchor()
        presence = self._presence()
        for frame, w in self._smoothed(self._inverted_driver(anchor, first)):
            fused = splice(target, w, chosen, anchor, self.options.fuse.strength * float(presence[frame.index]))
            yield frame, torch.from_numpy(fused).to(self.device)

    def _inverted_anchor(self) -> Floats:
        """The latent of the first scene's anchor frame, which the others' changes are measured from."""

        def found() -> Floats:
            index = int(self.anchors[0])
            points, crops = self._driver_crops()
            frame = next(f for f in self.driver.frames() if f.index == index)
            return self._invert_frame(frame, crops[index], points[index], None)

        return self._kept("anchor", found)

    def _driver_crops(self) -> tuple[Floats, NDArray[np.float64]]:
        points = landmarks.fill_missing(self.track)
        return points, steady_crops(points, self.track.cuts, self.options.align)

    def _inverted_driver(self, start: Floats | None, first: int) -> Iterator[tuple[Frame, Floats, int]]:
        """Each driver frame from `first` on, its latent and the number of its scene.

        `start`: where the first scene's search begins.
        """
        points, crops = self._driver_crops()
        scene = self._scenes()
        before, last = (None, -1) if start is None else (torch.from_numpy(start), 0)
        for frame in self._tracked_frames(first):
            i = frame.index
            known = before if scene[i] == last else None
            make: Callable[[], Floats] = partial(self._invert_frame, frame, crops[i], points[i], known)
            if known is not None and not self.track.found[i]:  # what covers the face, or a wall, is not looked for
                make = known.numpy
            w = self._kept(f"latent-{i:06d}", make)
            before, last = torch.from_numpy(w), int(scene[i])
            yield frame, w, last

    def _kept(self, name: str, make: Callable[[], Floats]) -> Floats:
        """A latent [L,512], from the checkpoint where it was found before."""
        if self.checkpoint and self.checkpoint.has(name):
            with self.checkpoint.kept(name) as file:
                return file.read("w", "f", (None, 512), 1 << 16)
        w = make()
        if self.checkpoint:
            self.checkpoint.keep(name, {"w": w})
        return w

    def _invert_frame(self, frame: Frame, crop: Affine, points: NDArray[np.floating], start: Tensor | None) -> Floats:
        options = self.options.driver
        if start is None:
            options = replace(options, steps=max(options.steps, (self.options.steps or self.options.target.steps) // 2))
        cut = cut_out(frame.rgb, crop, max(size for size, _ in options.sizes))
        weight = None if options.distance == "conv" else face_weight(points, crop, cut.rgb.shape[0]).to(self.device)
        picture = to_tensor(cut.rgb, self.device)
        start = self._start(picture, options) if start is None else start
        found = invert(self.generator, self.vgg, picture, options, start, weight, whitening=self.whitening)
        self._heed(f"driver {frame.index}", found)
        self._show("driver crop", frame.index, cut.rgb)
        return found.latent.w

    def _smoothed(
        self, items: Iterable[tuple[T, Floats, int]], weights: Sequence[float] = DELAY_LINE
    ) -> Iterator[tuple[T, Floats]]:
        """(passenger, value, scene) -> (passenger, the value smoothed in time)."""
        if self.options.smooth > 0:
            return delay_line(items, weights)
        return ((passenger, value) for passenger, value, _ in items)


def _as_rgb(picture: Floats) -> Rgb:
    return np.rint(picture * 255).astype(np.uint8)


def _face(drawn: Drawn) -> Face:
    return Face(drawn.picture, to_68(drawn.points.astype(np.float32)))


REACH = 4
"""Frames before one that can change it, by what is smoothed in time: two delay lines of five."""

SMALLEST = 512
"""Pixels of a generated face: in smaller ones teeth are a blur."""


def face_weight(points: NDArray[np.floating], crop: Affine, size: int) -> Tensor:
    """Where a driver's crop counts, [1,1,size,size]: its face, not its hair, clothes and background."""
    unit = apply(inverse(crop), with_forehead(points.astype(np.float64)))
    mask = np.zeros((size, size), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(unit * size).astype(np.int32)), 1.0)
    return torch.from_numpy(cv2.GaussianBlur(mask, (0, 0), size * 0.03))[None, None]
