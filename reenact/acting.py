"""What the driver does in each frame, smoothed, and what a target's face should do then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import expression, landmarks, motion
from .compose import Turn
from .errors import UsageError
from .fuse import FuseOptions, parse_regions
from .mesh import Points
from .smooth import segments, zero_phase
from .spool import Spool
from .template import Motion
from .types import Floats


@dataclass(frozen=True, eq=False)
class Stance:
    """How a target's face stands in one frame, in units of its crop."""

    own: Points  # [478,2]: where its points are
    rest: Points  # [478,2]: where they would be if it were at rest; in a photo the same
    to_rest: NDArray[np.float64]  # [2,3]: what a step in centimetres of a face that looks into the camera is
    blendshapes: Floats  # [51], at rest: what absolute motion is counted from, and whose smile gives way

    def freed(self, strength: Mapping[str, float]) -> Points:
        """Where the points [478,2] are without its own expression, as far as another's takes its place, by region."""
        whole = {part: min(max(value, 0.0), 1.0) for part, value in strength.items()}
        return self.own + motion.taken(self.rest - self.own, self.rest, whole, motion.centimetre(self.to_rest))


class Acting:
    """One driver's part.

    Attributes:
        track: its face [T], the mesh apart.
        mesh: its points [T,478,3]; None with --fuse splice, which moves none.
        presence: how much of its expression is shown [T].
        scenes: the number of the scene that each frame belongs to [T].
        anchors: for each frame the one that its relative motion starts from [T]; see `begin_at`.
    """

    def __init__(self, known: Motion, fuse: FuseOptions, smooth: float, missing: str, device: torch.device) -> None:
        """Take over what is known of it, whose points are smoothed in place.

        Args:
            known: its motion.
            fuse: how much of it is wanted.
            smooth: sigma in frames.
            missing: one of `driver.MISSING`.
            device: where expressions lie.
        """
        self.track, self.fuse, self.smooth, self.device = known.track, fuse, smooth, device
        regions = parse_regions(fuse.regions)
        self.by_region = {name: fuse.strength * share for name, share in regions.items()}
        self.strength = fuse.strength * expression.by_region(regions)  # [M]
        self.mesh = self._spooled_mesh() if fuse.method != "splice" else None
        self.track = replace(self.track, mesh=None)  # memory has to let it go, where it is not needed too
        fades = missing == "fade"
        self.presence = landmarks.presence(self.track) if fades else np.ones(len(self.track), np.float32)
        starts = [part.start for part in segments(len(self.track), self.track.cuts)]
        self.scenes = np.searchsorted(starts, np.arange(len(self.track)), side="right") - 1
        self.anchors = np.zeros(len(self.track), np.intp)
        self._rests: Tensor | None = None  # the target's expressions [T,M], where points start from their likeness
        self._starts: dict[tuple[int, bytes], Floats] = {}

    @property
    def absolute(self) -> bool:
        """Whether the target is to show its expression as it is."""
        # A single picture has no change to follow: of its latent, layers are taken as they are.
        return self.fuse.motion == "absolute" or (self.fuse.method == "splice" and len(self.track) == 1)

    def _spooled_mesh(self) -> Spool:
        """The points [T,478,3], smoothed in place, with gaps filled."""
        return Spool(landmarks.smoothed_mesh(self.track, self.smooth))

    def begin_at(self, rest: Tensor, asked: int | None) -> None:
        """Find the anchors: the frame asked for, or of each scene the one at rest that is most like the target.

        Where a scene has none at rest, motion is counted from what that frame would show at rest.

        Args:
            rest: the target's expression [M]; or of a clip, whose scenes differ in it, [T,M].
            asked: a frame; None: to be chosen.

        Raises:
            UsageError: there is no such frame.
        """
        total = len(self.track)
        if asked is not None and asked >= total:
            raise UsageError(f"--anchor-frame {asked}: the driver has frames 0 to {total - 1}")
        if asked is not None or self.track.inside is None:
            self.anchors = np.full(total, asked or 0)
            return
        seen, rests = self.seen, rest.expand(total, -1)
        self._rests = rests if self.mesh is not None else None  # a splice counts latents from the frame as it is
        others = 1 + np.flatnonzero((rests[1:] != rests[:-1]).any(1).cpu().numpy())
        scenes = segments(total, self.track.cuts)
        for part in segments(total, (*self.track.cuts, *others.tolist())):
            scene = scenes[int(self.scenes[part.start])]
            nearest = expression.nearest_rest(seen[scene], rests[part.start], self.strength, _neutral())
            self.anchors[part] = scene.start + nearest

    @cached_property
    def seen(self) -> Tensor:
        """Its expressions [T,M]."""
        seen = landmarks.fill_gaps(expression.of_track(self.track).numpy(), self.track)
        return torch.from_numpy(zero_phase(seen, self.smooth, self.track.cuts)).float().to(self.device)

    # ---- what the target should do

    def expressions(self, rest: Tensor, own: Tensor | None = None) -> Tensor:
        """The expressions [T,M] that the target's drawn face should show.

        Args:
            rest: what the change is added to, [M] or [T,M].
            own: what is shown where nothing of the driver's is; None: the same.
        """
        own = rest if own is None else own
        rest = expression.less_smiling(rest, _neutral(), torch.from_numpy(self._rounded()).to(self.device))
        wanted = expression.goals(self.seen, self._since(), rest, self.strength.to(self.device))
        return own + torch.from_numpy(self.presence).to(self.device)[:, None] * (wanted - own)

    def points(self) -> Callable[[int, Stance], Points]:
        """Where the target's points [478,2] should be in a frame, in units of its crop."""
        driver = self.mesh
        assert driver is not None  # where faces are composed
        at_rest = self._mesh_at_rest(driver) if self.absolute or len(driver) == 1 else None
        basis, rounded = motion.Basis.load(), self._rounded()

        def goal(index: int, stance: Stance) -> Points:
            start = at_rest(index, stance) if at_rest else self.mesh_at_start(index)
            smile = basis.smile(stance.blendshapes)
            freed = motion.less_smiling(stance.freed(self.by_region), smile, float(rounded[index]), stance.to_rest)
            goals = motion.goals(driver[index][None], start, freed, stance.to_rest, self.by_region)
            return np.asarray(stance.own + self.presence[index] * (goals[0] - stance.own))

        return goal

    def _mesh_at_rest(self, driver: Spool) -> Callable[[int, Stance], Floats]:
        """Where the driver's points [478,3] would be in a frame without its expression, by the learnt basis.

        For want of a frame that has none: a single picture's motion is counted from a face at rest, absolute motion
        from the target's expression.
        """
        basis = motion.Basis.load()
        assert self.track.blendshapes is not None  # as the mesh
        seen = zero_phase(landmarks.fill_gaps(self.track.blendshapes, self.track), self.smooth, self.track.cuts)

        def at_rest(index: int, stance: Stance) -> Floats:
            wanted = stance.blendshapes if self.absolute else basis.neutral
            return basis.without(driver[index], seen[index].astype(np.float32), wanted)

        return at_rest

    def mesh_at_start(self, index: int) -> Floats:
        """The driver's points [478,3] where a frame's relative motion starts: its anchor's, made to rest."""
        assert self.mesh is not None  # where faces are composed
        anchor, since = int(self.anchors[index]), self.since[index]
        if torch.equal(since, self.seen[anchor]):
            return self.mesh[anchor]
        if (key := (anchor, since.cpu().numpy().tobytes())) not in self._starts:
            self._starts[key] = self._made_to_rest(self.mesh[anchor], self.seen[anchor], since)
        return self._starts[key]

    def _made_to_rest(self, mesh: Floats, seen: Tensor, wanted: Tensor) -> Floats:
        """The points [478,3] of a face that shows `seen` [M], were it `wanted` by its mouth and its brows."""
        basis, lips = motion.Basis.load(), expression.NAMES.index("lips open")
        change = expression.blendshapes(wanted) - expression.blendshapes(seen)
        out = mesh
        for region in expression.ACTED:
            own = np.where(motion.OF_REGION[region], change.cpu().numpy(), 0)
            # What a blendshape goes along with elsewhere in the face is no part of it.
            near = motion.share_of(region, mesh)
            out = out + (near[:, None] * np.tensordot(own, basis.moves, 1)).astype(np.float32)
        closed = float((wanted[lips] / seen[lips].clamp(min=1e-3)).clamp(0, 1))
        return basis.lips_together(out, closed * max(motion.between_lips(mesh), 0.0))

    @property
    def restless(self) -> NDArray[np.intp]:
        """Those of the anchors that are no frames of rest: see `expression.rested`."""
        if self.mesh is None or self.absolute or len(self.seen) == 1:
            return np.array([], np.intp)
        changed = (self.since != self.seen[torch.from_numpy(self.anchors)]).any(1).cpu().numpy()
        return np.unique(self.anchors[changed])

    @cached_property
    def since(self) -> Tensor:
        """The expressions [T,M] that relative motion is counted from."""
        seen = self.seen
        if len(seen) == 1:
            return expression.at_rest(seen, _neutral())
        since = seen[torch.from_numpy(self.anchors)]
        if self._rests is None:
            return since
        return torch.where(self.strength.to(since) != 0, expression.rested(since, self._rests, _neutral()), since)

    def _since(self) -> Tensor | None:
        """`since`; None: motion is counted from the target's own expression."""
        return None if self.absolute else self.since

    def _rounded(self) -> Floats:
        """How far its mouth has become round since then [T], as far as it counts."""
        since = self._since()
        if since is None:
            return np.zeros(len(self.track), np.float32)
        rounded: Floats = self.rounded(self.seen, since).cpu().numpy()
        return rounded

    def rounded(self, seen: Tensor, since: Tensor) -> Tensor:
        """`expression.rounded`, as far as the mouth's strength has it count."""
        return expression.rounded(seen, since) * min(max(self.by_region["mouth"], 0.0), 1.0)

    def turns(self, mesh: Points, own: Floats) -> Callable[[int], Turn]:
        """Where a frame's turn of the driver's head takes the target's points.

        Args:
            mesh: the target's [478,3] in units of its crop.
            own: its yaw, pitch and roll [3] in degrees.
        """
        assert self.track.pose is not None  # as the mesh
        poses = zero_phase(landmarks.fill_gaps(self.track.pose, self.track), self.smooth, self.track.cuts)
        # A single picture has no turn to follow: its pose itself is taken.
        since = poses[self.anchors] if len(poses) > 1 else own
        poses = since + self.presence[:, None] * (poses - since)
        return lambda index: lambda points: motion.turned(points, mesh, poses[index], since[index])


def _neutral() -> Tensor:
    """The blendshapes [51] of a face at rest."""
    return torch.from_numpy(motion.Basis.load().neutral)
