"""A run the paper's way: each of the driver's frames found in the generator, its layers spliced, drawn faces pasted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import expression, landmarks
from .align import cut_out, steady_crops
from .blend import Blender, Face, settling
from .compose import Drawn
from .errors import UsageError
from .face_landmarker import to_68
from .fuse import FuseOptions, chooses_layers, from_driver, parse_layers, splice
from .images import to_tensor
from .invert import invert, nearest_size
from .layers import COMPARED, DRAWN, Slots, Swaps, choose_layers, shaping, telling, unlike
from .run import Run
from .types import Affine, Floats, Frame, Rgb


class SplicedRun(Run):
    """A run with `--fuse splice`."""

    needs_pictures = True

    def _check(self) -> None:
        super()._check()
        fuse = self.options.fuse
        if fuse.regions != FuseOptions().regions:
            raise UsageError(f"--regions {fuse.regions}: layers hold all of a face; --fuse expression parts it")
        if self.options.pose == "driver":
            raise UsageError("--pose driver: with --fuse splice heads stay; --fuse expression turns them")

    def _compares_expressions(self) -> bool:
        return chooses_layers(self.options.fuse)

    def _asked_layers(self) -> Slots:
        """Those of the paper where they are yet to be chosen."""
        layers = "" if chooses_layers(self.options.fuse) else self.options.fuse.layers
        return parse_layers(layers or "paper", self.generator)

    def _settled_layers(self) -> Slots:
        return self._best_layers() if chooses_layers(self.options.fuse) else self.layers

    def _needed_size(self) -> int:
        """The whole, as in the paper, unless the generator is tuned: each step would draw it."""
        return super()._needed_size() if self.options.tune else self.generator.sizes[-1]

    def _results(self, probe: expression.Probe, base: Drawn, first: int) -> Iterator[tuple[Rgb, Frame]]:
        """Generated faces laid over the photo, as in the paper."""
        blender = Blender(self.target, self.crop, _face(base), self.options.blend, self.front)
        faces = ((frame, _face(self._drawn(w, probe))) for frame, w in self._spliced(first))
        for frame, face, move in self._settled(faces, _face(base)):
            if self.hooks.picture:
                self._show_stages(frame, face.picture, blender.warped(face, move))
            yield self.target, blender.blend(face, frame.index, frame.pts, frame.seconds, move)

    def _settled(self, faces: Iterator[tuple[Frame, Face]], base: Face) -> Iterator[tuple[Frame, Face, Affine]]:
        """Each face and what moves it onto the target's; that, and the landmarks that the mask follows, smoothed."""
        scenes = self.acting.scenes

        def place(face: Face) -> Floats:
            return np.vstack([settling(face, base).T, face.points]).astype(np.float32)  # [3+68,2]

        places = (((frame, face), place(face), int(scenes[frame.index])) for frame, face in faces)
        for (frame, face), smooth in self._smoothed(places):
            yield frame, replace(face, points=smooth[3:]), smooth[:3].T.astype(np.float64)

    def _spliced(self, first: int) -> Iterator[tuple[Frame, Tensor]]:
        """Each frame from `first` on and the target's latent with the driver's layers: the paper's way."""
        chosen = from_driver(self.layers, self.generator.num_layers)
        target = self.latent
        anchor = None if self.acting.absolute else self._inverted_anchor()
        presence = self.acting.presence
        for frame, w in self._smoothed(self._inverted_driver(anchor, first)):
            fused = splice(target, w, chosen, anchor, self.options.fuse.strength * float(presence[frame.index]))
            yield frame, torch.from_numpy(fused).to(self.device)

    def _best_layers(self) -> Slots:
        """The slots that are best taken from the driver, the fixed ones where none are better; chosen once a run."""
        if self.checkpoint and self.checkpoint.has("layers"):
            with self.checkpoint.kept("layers") as file:
                slots: Slots = tuple(file.read("slots", "iu", (None,), 64).tolist())
            self.hooks.note(f"layers: {','.join(map(str, slots))}, as chosen before")
            return slots
        progress = partial(self.hooks.progress, "layers")
        generator = self.generator
        choice = choose_layers(generator.live_layers, self.layers, self._swaps(), shaping(generator), progress)
        self.hooks.layers(choice)
        (self.hooks.note if choice.is_better else self.hooks.warn)(f"layers: {choice}")
        if self.checkpoint:
            self.checkpoint.keep("layers", {"slots": np.array(choice.chosen.slots)})
        return choice.chosen.slots

    def _swaps(self) -> Swaps:
        """What layers are chosen by: the driver's most telling frames, found as the first of a scene are."""
        anchor = None if self.acting.absolute else self._inverted_anchor()
        size = nearest_size(self.generator, DRAWN)
        with torch.inference_mode():
            picture = self.generator.synthesize(self.w[None], size)
            probe = expression.Probe(self.nets, picture)
            rest = probe(picture)[0]
        goals, shown = self.acting.expressions(rest), self._comparable()
        frames = shown[telling(goals[shown], rest)].tolist()
        weight = self._weight(self.face.points, self.crop, COMPARED, self.options.target)
        return Swaps(
            self.generator, size, self.latent, self._inverted_frames(frames, anchor), anchor,
            unlike(self.vgg, picture, self.options.target, weight), probe, goals[frames], self.options.fuse.strength,
        )  # fmt: skip

    def _comparable(self) -> NDArray[np.intp]:
        """The frames with a face whose expression and latent change from the same anchor; all, where none does."""
        # A latent's change is counted from the first scene's anchor, an expression's from that of its own scene.
        same = self.track.found & (self.acting.absolute | (self.acting.anchors == self.acting.anchors[0]))
        return np.flatnonzero(same if same.any() else self.track.found)

    def _inverted_frames(self, frames: list[int], start: Floats | None) -> Floats:
        """The latents [F,L,512] of some of the driver's frames, each found from `start`."""
        points, crops = self._driver_crops()
        before, found = None if start is None else torch.from_numpy(start), dict[int, Floats]()
        for frame in self.driver.frames():
            i = frame.index
            if i in frames:
                make = partial(self._invert_frame, frame, crops[i], points[i], before, "telling")
                found[i] = self._kept(f"telling-{i:06d}", make)
                if len(found) == len(frames):
                    break
        return np.stack([found[i] for i in frames])

    def _inverted_anchor(self) -> Floats:
        """The latent of the first scene's anchor frame, which the others' changes are measured from."""

        def found() -> Floats:
            index = int(self.acting.anchors[0])
            points, crops = self._driver_crops()
            frame = next(f for f in self.driver.frames() if f.index == index)
            return self._invert_frame(frame, crops[index], points[index], None, "anchor")

        return self._kept("anchor", found)

    def _driver_crops(self) -> tuple[Floats, NDArray[np.float64]]:
        points = landmarks.fill_missing(self.track)
        return points, steady_crops(points, self.track.cuts, self.options.align)

    def _inverted_driver(self, start: Floats | None, first: int) -> Iterator[tuple[Frame, Floats, int]]:
        """Each driver frame from `first` on, its latent and the number of its scene.

        `start`: where the first scene's search begins.
        """
        points, crops = self._driver_crops()
        scene = self.acting.scenes
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

    def _invert_frame(
        self, frame: Frame, crop: Affine, points: NDArray[np.floating], start: Tensor | None, role: str = "driver"
    ) -> Floats:
        """A frame's latent; by more and longer steps where there is no `start`, and where its `role` is another."""
        options, target = self.options.driver, self.options.target
        if role != "driver" or start is None:
            steps = max(options.steps, (self.options.steps or target.steps) // 2)
            options = replace(options, steps=steps, rate=target.rate)
        cut = cut_out(frame.rgb, crop, max(size for size, _ in options.sizes))
        weight = self._weight(points, crop, cut.rgb.shape[0], options)
        picture = to_tensor(cut.rgb, self.device)
        start = self._start(picture, options) if start is None else start
        found = invert(self.generator, self.vgg, picture, options, start, weight, whitening=self.whitening)
        self._heed(f"{role} {frame.index}", found)
        self._show("driver crop", frame.index, cut.rgb)
        return found.latent.w


def _face(drawn: Drawn) -> Face:
    return Face(drawn.picture, to_68(drawn.points.astype(np.float32)))
