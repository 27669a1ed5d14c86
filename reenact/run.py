"""One reenactment under way: what is found before the first frame, and the frames.

Two passes over the driver, and over a target that is a clip, so that no frames pile up: the first keeps only where the
face is and what it expresses, which is then smoothed as a whole; the second makes the frames, a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import encoder, expression, generators, glasses, landmarks, mapper, mesh, motion, plugins
from .acting import Acting, Stance
from .ahead import MOST, ahead
from .align import cut_out, ffhq_crop
from .blend import with_forehead
from .check import hard_motion, hard_target
from .compose import Composer, Drawn, Turn
from .detectors import Detector
from .devices import choose_device, quick_dtype
from .driver import Driver, Moment
from .dub import Clip, is_clip
from .errors import UsageError, WeightsError
from .face_landmarker import FaceLandmarkerNets, canonical_axes, head_pose, read_triangles
from .follow import Choice, parse_choice
from .front import Mask, check_face, read_front
from .fuse import chooses_layers, parse_layers
from .geometry import apply, inverse, ramp, scale_of
from .images import read_image, to_rgb, to_tensor
from .invert import InvertOptions, Whitening, invert
from .layers import Slots
from .options import NO_FRONT, Hooks, Options, check_tuning
from .perceptual import load_features, load_vgg
from .portrait import Portrait
from .resume import Checkpoint, job
from .smooth import DELAY_LINE, SHORT_LINE, delay_line
from .solve import Solver
from .tune import Weights, tune
from .types import Affine, Floats, Frame, Inversion, Landmarks, Rgb
from .weights import WeightStore, all_shipped, shipped_for

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Rest:
    """The target's face, measured in the photo; of a clip, in its frame at rest."""

    probe: expression.Probe
    mesh: Tensor  # [1,478,3] in units of the crop
    expression: Tensor  # [M]


class Run:
    """A target and a driver: networks loaded, driver tracked, target inverted. The way of docs/method.md."""

    needs_pictures = False  # of the driver, not its motion alone

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
        self.options, self.store, self.hooks, self.checkpoint = options, store, hooks, checkpoint
        self._said: set[str] = set()
        self._check()
        wanted = parse_choice(options.target_face, "--target-face")
        self.wanted = parse_choice(options.driver_face, "--driver-face")
        self.clip = self._opened_clip(target) if is_clip(target) else None
        self.front: Mask | None = None
        if not self.clip:
            self.target = read_image(target)
            if options.mask is not None:
                self.front = read_front(options.mask, target, self.target)
        self.driver = Driver(driver, options.start, options.end, options.max_frames, self._warn_once)
        if self.driver.template and self.needs_pictures:
            raise UsageError(f"{driver}: holds no pictures, which --fuse splice needs; use --fuse expression")
        if self.clip and self.driver.still:
            raise UsageError(f"{driver}: is a picture; {target} is a clip, which takes a video as driver")
        self.device = choose_device(options.device)
        self.detector_name, self.detector = landmarks.choose_detector(options.detector, store, self.device)
        hooks.note(f"detector: {self.detector_name}")
        if checkpoint and checkpoint.begin(self._job(target)):
            hooks.note(f"going on with {checkpoint.folder}")
        if self.clip:
            self._read_expressions()
            self.acting = self._follow_driver()
            self.target, self.face = self._follow_clip(self.clip, wanted)
        else:
            self.face = landmarks.find_face(self.target, self.detector, str(target), wanted)
            if self._compares_expressions() and self.face.inside is None:
                self._read_expressions()
        for line in hard_target(self.target, self.face, maskable=options.front is None and not self.clip):
            self._warn_once(f"{target}: {line}")
        if self.front is not None and not check_face(Path(str(options.front)), self.front, self.face.points):
            self._warn_once(f"--front {options.front}: marks nothing near the face of {target}")
        self.crop = ffhq_crop(self.face.points)
        quick = torch.float32 if options.target.distance == "conv" else quick_dtype(self.device)
        self.generator = generators.load(options.generator, store, self.device, quick, options.noise)
        hooks.note(generators.describe(self.generator))
        self.whitening = Whitening(self.generator)
        self.layers = self._asked_layers()
        self.mapper, self.encoder = self._mapper(), self._encoder()
        self.size = self._checked_size()
        distance = options.colours.distance if self.mapper else options.target.distance
        self.vgg, features = load_features(options.perceptual, distance, store, self.device, self._vgg_dtype())
        hooks.note(f"features: {features}")
        task = store.path("face_landmarker.task")
        self.nets = FaceLandmarkerNets.load(task).to(self.device)
        self.triangles = read_triangles(task)
        if not self.clip:
            self.acting = self._follow_driver()
        self.track = self.acting.track
        self.rest = self._measured_target()
        self._begin_acting()
        self.latent = self._kept("target", lambda: self._invert_target().latent.w)
        self.w = torch.from_numpy(self.latent).to(self.device)
        self.layers = self._settled_layers()
        # What draws the frames. The driver is looked for in the generator as it was: it knows all faces.
        self.tuned_to: Weights = self._tuned() if options.tune else {}
        self.artist = self._drawing(self.generator)

    # ---- before the frames

    def _job(self, target: Path) -> dict[str, str]:
        """All that the frames depend on, in words."""
        program = f"torch {torch.__version__}, {self.device}, {self.detector_name}"
        if self.options.noise == "random" and self.checkpoint and self.checkpoint.resume:
            raise UsageError("--resume: --noise random draws each frame otherwise every time; use const")
        named = {name: getattr(self.options, name) for name in ("generator", "perceptual")}
        files = {name: Path(path) for name, path in named.items() if path and Path(path).is_file()}
        files |= {"front": self.options.mask} if self.options.mask else {}
        inputs = {"target": target, "driver": self.driver.path, **files, **all_shipped()}
        return job(inputs, self.options, program)

    def _opened_clip(self, target: Path) -> Clip:
        """A target that moves, if what is asked for can be made of one."""
        fuse, generator = self.options.fuse, self.options.generator
        if fuse.method != "expression":
            raise UsageError(f"--fuse {fuse.method}: {target} is a clip, which takes --fuse expression")
        if self.options.mask:
            raise UsageError(f"--front {self.options.front}: {target} is a clip, in which nothing is masked")
        if self.options.pose == "driver":
            raise UsageError(f"--pose driver: {target} is a clip, whose head moves as it does; leave --pose out")
        if not shipped_for(generator, "mapper"):
            learnt = ", ".join(name for name in plugins.names("generators") if shipped_for(name, "mapper"))
            needed = f"which needs a generator whose expressions were learnt: {learnt}"
            raise UsageError(f"--generator {generator}: {target} is a clip, {needed}")
        if fuse.layers:
            needed = "which takes the layers that expressions were learnt for; leave --layers out"
            raise UsageError(f"--layers {fuse.layers}: {target} is a clip, {needed}")
        return Clip(target, self._warn_once)

    def _follow_clip(self, clip: Clip, wanted: Choice) -> tuple[Rgb, Landmarks]:
        """Follow a target that moves; its frame at rest, and the face there, are the photo."""
        motion = clip.follow(
            self.motion.seconds, self._landmarker, wanted, self.options.smooth, self.options.align,
            lambda done: self.hooks.progress("track target", done, None), self.checkpoint,
        )  # fmt: skip
        for line in hard_motion(motion, "target"):
            self._warn_once(f"{clip.path}: {line}")
        self.acting.presence *= clip.presence
        return clip.photo()

    @cached_property
    def _landmarker(self) -> Detector:
        """The detector that knows expressions: the chosen one, if it does."""
        if self.detector_name == "landmarker":
            return self.detector
        return landmarks.choose_detector("landmarker", self.store, self.device)[1]

    def _read_expressions(self) -> None:
        """Have the detector's faces told what it does not know of them."""
        if self.detector_name != "landmarker":
            self.detector = landmarks.WithExpressions(self.detector, self._landmarker)

    def _check(self) -> None:
        """Refuse options that don't go together."""
        check_tuning(self.options)
        chooses_layers(self.options.fuse)

    def _compares_expressions(self) -> bool:
        """Whether the target's expression is asked for."""
        return True

    def _asked_layers(self) -> Slots:
        """The slots that may change."""
        return parse_layers(self.options.fuse.layers or "expression", self.generator)

    def _settled_layers(self) -> Slots:
        """The slots that will change, once the target is found."""
        return self.layers

    def _vgg_dtype(self) -> torch.dtype:
        # The paper's recipe is followed in full precision; elsewhere half the bits are as good and twice as fast.
        return torch.float32 if self.options.target.distance == "conv" else torch.bfloat16

    def _mapper(self) -> mapper.LatentMapper | None:
        """What shows expressions at once; None: they are solved for, or spliced."""
        path = shipped_for(self.generator.name, "mapper")
        if self.options.fuse.method != "expression" or self.layers != self.generator.expression_layers or not path:
            return None
        return mapper.LatentMapper.load(path).to(self.device)

    def _encoder(self) -> encoder.Encoder | None:
        """What tells a picture's latent at a glance; None: there is none, and searches begin at the mean face."""
        path = shipped_for(self.generator.name, "encoder")
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
        """The smallest picture that is not much coarser than the photo."""
        sizes = self.generator.sizes
        return next((size for size in sizes if size >= max(0.6 * scale_of(self.crop), SMALLEST)), sizes[-1])

    def _warn_once(self, line: str) -> None:
        # The driver is read twice; what is wrong with it is said once.
        if line not in self._said:
            self._said.add(line)
            self.hooks.warn(line)

    def _follow_driver(self) -> Acting:
        """Follow the driver; its mesh, which takes memory, goes to disk before more is done."""

        def progress(done: int) -> None:
            self.hooks.progress("track", done, self.options.max_frames)

        options = self.options
        motion = self.driver.follow(self.detector, self.wanted, options.missing, progress, self.checkpoint)
        self.hooks.motion(motion)
        for line in hard_motion(motion, "driver"):
            self.hooks.warn(f"{self.driver.path}: {line}")
        acting = Acting(motion, options.fuse, options.smooth, options.missing, self.device)
        self.motion = replace(motion, track=acting.track)
        return acting

    def _invert_target(self) -> Inversion:
        cut = cut_out(self.target, self.crop, self.generator.sizes[-1])
        picture, weight = to_tensor(cut.rgb, self.device), None
        options = self.options.colours if self.mapper else self.options.target
        start = self._start(picture, options)
        if self.mapper:
            start = self._showing(self.generator.mean_latent if start is None else start, self.rest.expression)
            weight = self._weight(self.face.points, self.crop, cut.rgb.shape[0], options)
        options = replace(options, steps=self.options.steps or options.steps)
        found = invert(
            self.generator, self.vgg, picture, options, start, weight,
            on_step=lambda step, loss, w: self.hooks.progress("invert", step, options.steps), whitening=self.whitening,
            shape=self._shape_error if options.shape else None,
        )  # fmt: skip
        self._heed("target", found)
        self._show("target crop", 0, cut.rgb)
        return found

    def _tuned(self) -> Weights:
        """The weights with which the generator draws the target, from the checkpoint where they were found before."""
        if self.checkpoint and self.checkpoint.has("tuned"):
            with self.checkpoint.kept("tuned") as file:
                own = {name: weight for name, weight in self.generator.weights().items() if name in file}
                kept = {n: file.read(n, "f", tuple(w.shape), w.numel()) for n, w in own.items()}
            return {name: torch.from_numpy(array).to(self.device) for name, array in kept.items()}
        weights = self._tune()
        if self.checkpoint:
            self.checkpoint.keep("tuned", {name: weight.cpu().numpy() for name, weight in weights.items()})
        return weights

    def _tune(self) -> Weights:
        options, size = self.options.tuning, self.size
        paper = self.options.target.distance == "conv"  # whose network may have no heads for another distance
        network = load_vgg(self.store, self.device, self._vgg_dtype()) if paper else self.vgg
        picture = to_tensor(cut_out(self.target, self.crop, size).rgb, self.device)
        weight = face_weight(self.face.points, self.crop, size).to(self.device)
        steps = options.all_steps(self.generator)
        found = tune(
            self.generator, network, picture, self.w, size, options, weight,
            on_step=lambda step, loss: self.hooks.progress("tune", step, steps), whitening=self.whitening,
        )  # fmt: skip
        self.hooks.losses("tune", found.losses)
        if found.ran_away:
            self.hooks.warn("--tune: the search ran away; the generator stays as it is")
        return found.weights

    @torch.no_grad()
    def _measured_target(self) -> _Rest:
        size = 512 if scale_of(self.crop) > 256 else 256
        picture = to_tensor(cut_out(self.target, self.crop, size).rgb, self.device)
        probe = expression.Probe(self.nets, picture)
        return _Rest(probe, probe.mesh(picture), probe(picture)[0])

    def _shape_error(self, picture: Tensor) -> Tensor:
        """How far the points of a drawn face [1,3,S,S] are from the target's: mean square, in units of the picture."""
        shift = (self.rest.probe.mesh(picture) - self.rest.mesh)[..., :2].square()
        weights = torch.ones_like(shift)
        weights[:, list(motion.INNER_LIPS)] = 2  # a mouth that is shut had better be drawn shut
        return (weights * shift).mean()

    def _begin_acting(self) -> None:
        """Choose the frames that relative motion starts from."""
        asked, acting = self.options.anchor, self.acting
        acting.begin_at(self.clip.rest.to(self.device) if self.clip else self.rest.expression, asked)
        if asked is None and self.track.inside is not None and len(self.track) > 1 and not acting.absolute:
            self.hooks.note(f"anchor frame: {', '.join(map(str, dict.fromkeys(acting.anchors.tolist())))}")
            for seconds in self.motion.seconds[acting.restless]:
                self.hooks.note(
                    f"the driver is not at rest at {seconds:.1f} s, nor around: what that would be is made up"
                )

    def _heed(self, name: str, found: Inversion) -> None:
        """Tell of a search, and warn of one that ended in no number."""
        self.hooks.losses(name, found.losses)
        if found.ran_away:
            who = "the target" if name == "target" else "frames of the driver"
            self._warn_once(f"finding {who}: a search ran away; the best before is used")

    # ---- the frames

    @torch.inference_mode()
    def _picture(self, w: Tensor) -> Tensor:
        picture = self.artist.synthesize(w[None], self.size)
        if picture.isfinite().all():
            return picture
        name = self.options.generator
        self._warn_once(f"--generator {name}: what it draws is beyond half precision; faces are drawn anew in float32")
        picture = self._precise_artist.synthesize(w[None], self.size)
        if not picture.isfinite().all():
            raise WeightsError(f"--generator {name}: what it draws is no picture but infinite; is its file damaged?")
        return picture

    @cached_property
    def _precise_artist(self) -> generators.Generator | Portrait:
        """What draws the frames, in full precision."""
        options = self.options
        whole = generators.load(options.generator, self.store, self.device, torch.float32, options.noise)
        return self._drawing(whole)

    def _drawing(self, generator: generators.Generator) -> generators.Generator | Portrait:
        """What draws the frames with a generator; tuned, by one thread alone, which splices are drawn by."""
        return Portrait(generator, self.tuned_to, self.w) if self.tuned_to else generator

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
        shown = self.clip.pictures() if self.clip else lambda index: self.target
        for frame in self.checkpoint.frames(shown) if self.checkpoint else ():
            yield frame
            done = frame.index + 1
            self.hooks.progress("frames", done, len(self.track))
        if done < len(self.track):
            yield from self._made(done)

    def _made(self, first: int) -> Iterator[Frame]:
        """The result from the frame `first` on."""
        with torch.inference_mode():
            probe = expression.Probe(self.nets, self._picture(self.w))
            if self.hooks.picture:
                self._show("reconstruction", 0, to_rgb(self.generator.synthesize(self.w[None], self.size))[0])
        base = self._drawn(self.w, probe)
        if self.options.tune:
            self._show("tuned", 0, _as_rgb(base.picture))
        # What is smoothed needs the frames before.
        before = [moment.index for moment in self._moments() if moment.index < first]
        for target, result in self._results(probe, base, before[-REACH:][0] if before else first):
            if result.index < first:
                continue
            if self.checkpoint:
                self.checkpoint.add(result, target)
            self._show_result(result)
            yield result
            self.hooks.progress("frames", result.index + 1, len(self.track))

    def _results(self, probe: expression.Probe, base: Drawn, first: int) -> Iterator[tuple[Rgb, Frame]]:
        """Each frame of the result from `first` on, and what of the target it was made of."""
        return (self._dubbed if self.clip else self._composed)(probe, base, first)

    def _composed(self, probe: expression.Probe, base: Drawn, first: int) -> Iterator[tuple[Rgb, Frame]]:
        """The photo moved as the driver moves, with the inside of the mouth and the folds of a generated face."""
        composer = self._composer(base)
        to_rest = canonical_axes(self.rest.mesh.cpu())[0].double().numpy()
        blendshapes = self.nets.blendshapes(self.rest.mesh)[0].cpu().numpy()
        stance = Stance(composer.rest, composer.rest, to_rest, blendshapes)
        goal_of, turn_of, scenes = self.acting.points(), self._turn_of(), self.acting.scenes

        def drawn() -> Iterator[tuple[tuple[Moment | Frame, Drawn], Floats, int]]:
            latents = (self._mapped if self.mapper else self._solved)(probe, first)
            jobs = ((frame, partial(self._drawn, w, probe)) for frame, w in latents)
            for frame, face in ahead(jobs, self._threads):
                yield (frame, face), face.points.astype(np.float32), int(scenes[frame.index])

        for (frame, face), points in self._smoothed(drawn(), SHORT_LINE):
            face = replace(face, points=points.astype(np.float64))
            goal = goal_of(frame.index, stance)
            if self.hooks.picture:
                self._show_stages(frame, face.picture, composer.warped(goal, face))
            turn = turn_of(frame.index)
            yield self.target, composer.compose(goal, face, frame.index, frame.pts, frame.seconds, turn)

    def _dubbed(self, probe: expression.Probe, base: Drawn, first: int) -> Iterator[tuple[Rgb, Frame]]:
        """Each of the clip's frames, moved likewise from its own expression: all of it stands for the photo."""
        assert self.clip
        clip, goal_of, scenes = self.clip, self.acting.points(), self.acting.scenes + self.clip.scenes
        own, rest = clip.own.to(self.device), clip.rest.to(self.device)
        freed = own + self.acting.strength.to(self.device).clamp(0, 1) * (rest - own)
        wanted = self.acting.expressions(freed, own)
        # All of its own mouth gives way, unless hardly anything is asked of the mouth.
        inside = self.acting.presence * ramp(self.acting.by_region["mouth"], 0, 0.3)

        def drawn() -> Iterator[tuple[tuple[Moment | Frame, tuple[Drawn, ...]], Floats, int]]:
            def both(index: int) -> tuple[Drawn, ...]:
                return tuple(self._drawn(self._showing(self.w, each[index]), probe) for each in (own, wanted))

            jobs = ((frame, partial(both, frame.index)) for frame in self._result_frames(first))
            for frame, faces in ahead(jobs, self._threads):
                points = np.stack([face.points for face in faces]).astype(np.float32)
                yield (frame, faces), points, int(scenes[frame.index])

        shots = clip.shots(moment.index for moment in self._moments(first))
        for ((frame, faces), points), shot in zip(self._smoothed(drawn(), SHORT_LINE), shots, strict=True):
            before, face = (replace(f, points=p.astype(np.float64)) for f, p in zip(faces, points, strict=True))
            stance = shot.stance
            composer = Composer(
                shot.rgb, shot.crop, stance.own, before, self.triangles, self.options.compose,
                inside=float(inside[frame.index]), at_rest=stance.rest,
            )  # fmt: skip
            goal = motion.openable(goal_of(frame.index, stance), stance.own)
            if self.hooks.picture:
                self._show_stages(frame, face.picture, composer.warped(goal, face))
            yield shot.rgb, composer.compose(goal, face, frame.index, frame.pts, frame.seconds)

    @property
    def _threads(self) -> int:
        """In how many threads faces are drawn ahead, at most: none on a GPU, which is filled by one, nor at random."""
        return 0 if self.device.type != "cpu" or self.options.noise == "random" else MOST

    def _turn_of(self) -> Callable[[int], Turn | None]:
        """Where a frame's turn of the driver's head takes the target's points; None: it stays."""
        if self.options.pose != "driver":
            return lambda index: None
        mesh = self.rest.mesh.cpu()
        return self.acting.turns(mesh[0].double().numpy(), head_pose(mesh).numpy())

    def _composer(self, base: Drawn) -> Composer:
        rest = self.rest.mesh[0, :, :2].cpu().double().numpy()
        reach = mesh.REACH_OF_HEADS if self.options.pose == "driver" else mesh.REACH
        return Composer(
            self.target, self.crop, rest, base, self.triangles, self.options.compose, reach,
            front=self.front, rims=self._rims(rest),
        )  # fmt: skip

    def _rims(self, rest: mesh.Points) -> Mask | None:
        """The rims of the target's glasses, whose points are at `rest` [478,2] of its crop, if they are to stay."""
        # They turn with a head.
        if self.options.front == NO_FRONT or self.options.pose == "driver":
            return None
        found = glasses.rims(self.target, self.crop, rest)
        if found is not None:
            self.hooks.note("glasses: their rims stay where they are (--front none: they move with the skin)")
        return found

    def _show_stages(self, frame: Moment | Frame, picture: Floats, warped: Rgb) -> None:
        if isinstance(frame, Frame):
            self._show("driver", frame.index, frame.rgb)
        self._show("fused", frame.index, _as_rgb(picture))
        self._show("warped", frame.index, warped)

    def _show_result(self, result: Frame) -> None:
        assert result.matte is not None  # both ways make one
        self._show("mask", result.index, np.repeat(result.matte[:, :, None], 3, 2))
        self._show("composite", result.index, result.rgb)

    def _mapped(self, probe: expression.Probe, first: int) -> Iterator[tuple[Moment | Frame, Tensor]]:
        """Each frame from `first` on and the latent of its expression, the photo's own and the driver's change."""
        goals = self.acting.expressions(self.rest.expression)
        for frame in self._result_frames(first):
            yield frame, self._showing(self.w, goals[frame.index])

    def _solved(self, probe: expression.Probe, first: int) -> Iterator[tuple[Moment | Frame, Tensor]]:
        """Each frame from `first` on and the latent that shows its expression: equation 2 of the paper."""
        solver = Solver(self.generator, probe, self.w, self.layers, self.options.solve, self.size, self.whitening)
        goals = self.acting.expressions(solver.rest)
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

    def _weight(self, points: NDArray[np.floating], crop: Affine, size: int, options: InvertOptions) -> Tensor | None:
        """Where a crop counts; None: everywhere, as in the paper."""
        return None if options.distance == "conv" else face_weight(points, crop, size).to(self.device)

    def _kept(self, name: str, make: Callable[[], Floats]) -> Floats:
        """A latent [L,512], from the checkpoint where it was found before."""
        if self.checkpoint and self.checkpoint.has(name):
            with self.checkpoint.kept(name) as file:
                return file.read("w", "f", (None, 512), 1 << 16)
        w = make()
        if self.checkpoint:
            self.checkpoint.keep(name, {"w": w})
        return w

    def _smoothed(
        self, items: Iterable[tuple[T, Floats, int]], weights: Sequence[float] = DELAY_LINE
    ) -> Iterator[tuple[T, Floats]]:
        """(passenger, value, scene) -> (passenger, the value smoothed in time)."""
        if self.options.smooth > 0:
            return delay_line(items, weights)
        return ((passenger, value) for passenger, value, _ in items)


def _as_rgb(picture: Floats) -> Rgb:
    return np.rint(picture * 255).astype(np.uint8)


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
