"""Reenactment while the driver is being filmed: one pass, nothing that comes later is known.

A moment of the camera is recorded and prepared for as a clip would be: it has the face at rest that motion is counted
from. A generator without a mapper learns how to show expressions from that and from `TYPICAL` ones, since the driver's
are still to come. Then each picture is followed, filtered causally, and shown; what there is no time for is dropped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import expression, landmarks, motion
from .cuts import CutFinder
from .detectors import Detector
from .dub import is_clip
from .errors import NoFaceError, UsageError, VideoError
from .face_landmarker import BLENDSHAPES, canonical_axes, to_68
from .follow import Choice, Followed, follow
from .options import Hooks, Options
from .run import Run
from .smooth import causal
from .solve import Solver
from .types import Floats, Frame, Rgb
from .video import VideoWriter
from .video.camera import Camera, Feed
from .weights import WeightStore, default_root

MOMENT = 1.5
"""Seconds of the camera that are prepared for; whoever is before it had better be at rest."""

RATE = 25.0
"""Frames a second that filters are meant for, however many there is time for."""

_BOTH = ("Left", "Right")
# fmt: off
TYPICAL: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.7},
    {"jawOpen": 0.3},
    {f"mouthSmile{side}": 0.8 for side in _BOTH},
    {"jawOpen": 0.4, **{f"mouthSmile{side}": 0.7 for side in _BOTH}},
    {"mouthPucker": 0.8},
    {"mouthFunnel": 0.6, "jawOpen": 0.25},
    {f"mouthFrown{side}": 0.6 for side in _BOTH},
    {f"mouthPress{side}": 0.6 for side in _BOTH},
    {"browInnerUp": 0.7, **{f"browOuterUp{side}": 0.7 for side in _BOTH}},
    {f"browDown{side}": 0.7 for side in _BOTH},
    {**{f"eyeSquint{side}": 0.7 for side in _BOTH}, **{f"mouthSmile{side}": 0.5 for side in _BOTH}},
)
# fmt: on
"""Blendshapes of what faces do, each more than at rest."""


def live(
    target: Path | str,
    camera: Camera,
    options: Options | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
) -> Iterator[Frame]:
    """Yield the target making the expressions of who is before the camera, as fast as they can be made.

    Args:
        target: a picture of a person.
        camera: it is opened twice: for a moment, and, when all is prepared, for good.
        options: of the part of the driver only its end counts, seconds or frames after the first that is yielded.
        store: where third-party weights are kept and how they are fetched.
        hooks: progress, warnings, notes.

    Yields:
        Frames of the target's size; `pts` in ticks of `video.camera.TICKS`.

    Raises:
        ReenactError: an input that can't be used, weights that can't be had. `NoFaceError` where there is no face.
    """
    options = options or Options()
    if is_clip(Path(target)):
        raise UsageError(f"{target}: is a clip, and a camera moves a picture; record a video, and take it as driver")
    if options.fuse.method == "splice":
        raise UsageError("--fuse splice: takes too long for a camera; use --fuse expression")
    if options.fuse.motion == "absolute":
        raise UsageError("--motion absolute: a camera's motion is counted from its first moment; leave it out")
    run = _prepared(Path(target), camera, options, store or WeightStore(default_root()), hooks or Hooks())
    for frame in run.shown(camera):
        if options.end is not None and frame.seconds >= options.end:
            return
        yield frame
        run.hooks.progress("live", frame.index + 1, options.max_frames)
        if frame.index + 1 == options.max_frames:
            return


def _prepared(target: Path, camera: Camera, options: Options, store: WeightStore, hooks: Hooks) -> LiveRun:
    """A run for a moment of the camera."""
    whole = replace(options, start=None, end=None, max_frames=None)
    with tempfile.TemporaryDirectory(prefix="reenact-", ignore_cleanup_errors=True) as folder:
        clip = Path(folder) / "moment.mkv"
        hooks.note(f"{camera.name}: look at it for a moment, with a face at rest")
        _record(camera, clip)
        try:
            return LiveRun(target, clip, whole, store, hooks)
        except NoFaceError as error:
            raise NoFaceError(str(error).replace(str(clip), camera.name)) from error


def _record(camera: Camera, clip: Path) -> None:
    """The camera's first `MOMENT`."""
    with Feed(camera) as feed:
        frames = iter(feed)
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{camera.name}: gives no pictures")
        height, width = first.rgb.shape[:2]
        with VideoWriter(clip, width, height, camera.info(first), crf=8) as writer:
            writer.write(first)
            for frame in frames:
                if frame.seconds > MOMENT:
                    break
                writer.write(frame)


@dataclass(frozen=True, eq=False)
class _Seen:
    """One moment of the driver."""

    mesh: Floats  # [478,3]
    pose: Floats  # [3]
    expression: Floats  # [M]

    def flat(self) -> Floats:
        """All as one row, for a filter."""
        return np.concatenate([self.mesh.ravel(), self.pose, self.expression])

    @classmethod
    def of_flat(cls, row: Floats) -> _Seen:
        """The other way."""
        mesh, pose, seen = np.split(row, [478 * 3, 478 * 3 + 3])
        return cls(mesh.reshape(478, 3), pose, seen)


class LiveRun(Run):
    """A run whose driver goes on where the clip that it was prepared for ends."""

    def shown(self, camera: Camera) -> Iterator[Frame]:
        """The target in the camera's pictures, as many of them as there is time for."""
        with torch.inference_mode():
            probe = expression.Probe(self.nets, self.generator.synthesize(self.w[None], self.size))
        base = self._drawn(self.w, probe)
        composer = self._composer(base)
        to_rest = canonical_axes(self.rest.mesh.cpu())[0].double().numpy()
        anchor = self._anchor()
        showing = self._learnt(probe, anchor)
        strength = self.acting.by_region
        mesh, turns = self.rest.mesh[0].cpu().double().numpy(), self.options.pose == "driver"
        smile = motion.Basis.load().smile(self.nets.blendshapes(self.rest.mesh)[0].cpu().numpy())
        self.hooks.note(f"{camera.name}: on")
        with Feed(camera) as feed:
            followed = _followed(feed, self.detector, anchor, self.wanted)
            seen = ((frame, now.flat(), RATE * frame.seconds, scene) for frame, now, scene in followed)
            for frame, row in causal(seen, self.options.smooth):
                now = _Seen.of_flat(row)
                expressed = torch.from_numpy(now.expression)
                rest = motion.less_smiling(composer.rest, smile, float(self._rounded(expressed, anchor)), to_rest)
                goal = motion.goals(now.mesh[None], anchor.mesh, rest, to_rest, strength)[0]
                face = self._drawn(showing(expressed.to(self.device)), probe)
                turn = partial(motion.turned, mesh=mesh, pose=now.pose, since=anchor.pose) if turns else None
                yield composer.compose(goal, face, frame.index, frame.pts, frame.seconds, turn)

    def _learnt(self, probe: expression.Probe, anchor: _Seen) -> Callable[[Tensor], Tensor]:
        """What gives the latent [L,512] that shows what the driver does [M]."""
        if self.mapper:
            rest = self.rest.expression
            return lambda seen: self._showing(self.w, self._live_goals(seen, anchor, rest))
        solver = Solver(self.generator, probe, self.w, self.layers, self.options.solve, self.size, self.whitening)
        goals = self._live_goals(torch.cat([self.acting.seen, self._typical(anchor)]), anchor, solver.rest)
        response = solver.respond(goals, lambda done, total: self.hooks.progress("solve", done, total))
        return lambda seen: solver.latent(response(self._live_goals(seen, anchor, solver.rest)))

    def _anchor(self) -> _Seen:
        """What motion is counted from."""
        acting, pose = self.acting, self.track.pose
        assert pose is not None  # as the mesh
        anchor = int(acting.anchors[0])
        turned = landmarks.fill_gaps(pose, self.track)[anchor]
        if acting.mesh is not None and len(acting.mesh) == 1:  # a slow camera's: who was asked to be at rest is
            return _Seen(acting.mesh[0], turned, acting.seen[0].cpu().numpy())
        return _Seen(acting.mesh_at_start(0), turned, acting.since[0].cpu().numpy())

    def _live_goals(self, seen: Tensor, anchor: _Seen, rest: Tensor) -> Tensor:
        """What the drawn face should show, for what the driver shows [...,M]."""
        start = torch.from_numpy(anchor.expression).to(seen)
        neutral = torch.from_numpy(motion.Basis.load().neutral)
        rest = expression.less_smiling(rest, neutral, self._rounded(seen, anchor))
        return expression.goals(seen, start, rest, self.acting.strength.to(self.device))

    def _rounded(self, seen: Tensor, anchor: _Seen) -> Tensor:
        """How far the driver's mouth has become round [...], by expressions [...,M], as far as it counts."""
        return self.acting.rounded(seen, torch.from_numpy(anchor.expression).to(seen))

    def _typical(self, anchor: _Seen) -> Tensor:
        """The expressions [N,M] that the driver would show by `TYPICAL`, as far as faces are alike."""
        moves = motion.Basis.load().moves
        amounts = np.array([[each.get(name, 0.0) for name in BLENDSHAPES] for each in ({}, *TYPICAL)], np.float32)
        meshes = anchor.mesh + np.tensordot(amounts, moves, 1)  # [1+N,478,3]
        points = torch.from_numpy(np.ascontiguousarray(meshes * np.array([1, -1, -1], np.float32))).to(self.device)
        with torch.inference_mode():
            shapes = self.nets.blendshapes(points)
        inside = torch.full((len(points),), 0.6, device=self.device)  # some teeth, some dark
        measured = expression.measure(to_68(points), shapes, inside)
        return torch.from_numpy(anchor.expression).to(measured) + measured[1:] - measured[0]


def _followed(frames: Feed, detector: Detector, before: _Seen, wanted: Choice) -> Iterator[tuple[Frame, _Seen, int]]:
    """Each frame, what its face shows (where none can be trusted, what it showed before), and its scene's number."""
    held: list[Frame] = []
    cuts, scene = CutFinder(), 0

    def pictures() -> Iterator[Rgb]:
        for frame in frames:
            held.append(frame)
            yield frame.rgb

    known, lately = Followed(), 0.0
    for faces in detector.track(pictures()):
        frame = held.pop(0)
        if cuts.is_cut(frame.rgb):
            known, scene = Followed(), scene + 1
        # How far a face may have gone is told by frames of a clip; some of the camera's may have been dropped.
        dropped = max(0, round(RATE * (frame.seconds - lately)) - 1)
        known, face = follow(replace(known, gap=known.gap + dropped), frame.rgb, faces, wanted)
        lately = frame.seconds
        if face is not None and face.mesh is not None and face.pose is not None:
            before = _Seen(face.mesh, face.pose, expression.of_landmarks(face).numpy())
        yield frame, before, scene
