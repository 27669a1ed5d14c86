"""How much better are chosen layers than the paper's fixed ones, on generated and on real pairs?

    python tools/measure_layers.py OUT_DIR --generated 20
    python tools/measure_layers.py OUT_DIR --targets a.jpg b.jpg --moments clip.mp4:0:1.8 other.mp4:0.5:2

A moment is CLIP:REST:TIME, seconds of a frame at rest and of the one that tells. Each target takes each moment
relatively, counted from the rest, and absolutely. Generated pairs are drawn from W, so that their latents are known
exactly; they have no rest, and are absolute. What is measured goes into OUT_DIR/measured.jsonl, a line each, and what
is there is not measured again. Latents that had to be found are kept in OUT_DIR/latents, what each set of layers
measured in OUT_DIR/sets (so that, measured.jsonl removed, another objective is soon tried), and OUT_DIR/sheets shows
target, driver, the target as found, fixed and chosen layers. Then the table is printed, over all that is there.

Objective, D1 and D2 are those by which layers are chosen (layers.py). The judge of identity is another: dlib's ResNet,
Euclidean, to the target's picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import torch
from make_samples import person
from torch import Tensor

from reenact import landmarks
from reenact.align import cut_out, ffhq_crop
from reenact.detectors import Detector
from reenact.devices import quick_dtype
from reenact.expression import Probe, goals, of_landmarks
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.fuse import MOTIONS
from reenact.generators.mobile import create
from reenact.images import read_image, to_rgb, to_tensor
from reenact.invert import DRIVER, TARGET, InvertOptions, Whitening, invert
from reenact.layers import COMPARED, DRAWN, Candidate, LayerChoice, Slots, Swaps, choose_layers, shaping, unlike
from reenact.metrics import View
from reenact.metrics.identity import DlibIdentity
from reenact.perceptual import load_vgg
from reenact.run import face_weight
from reenact.trace import contact_sheet
from reenact.types import Affine, Floats, Landmarks, Rgb
from reenact.video import read_frames
from reenact.weights import WeightStore, default_root

SHOWN = 512  # pixels of the pictures that are judged
FIRST = replace(DRIVER, steps=TARGET.steps, rate=TARGET.rate)  # as a clip's first frame is found, in more steps


@dataclass(frozen=True, eq=False)
class Face:
    """A face, and the latent that draws it."""

    rgb: Rgb  # its crop [SHOWN,SHOWN,3]
    w: Floats  # [L,512]
    expression: Tensor  # [M]
    points: Floats  # [68,2] in units of the crop


@dataclass(frozen=True, eq=False)
class Pair:
    """A target, and a moment of a driver."""

    name: str
    target: Face
    driver: Face
    anchor: Face | None  # the driver at rest; None: absolute


class Studio:
    """The networks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "latents").mkdir(parents=True, exist_ok=True)
        for name in ("sheets", "sets"):
            (folder / name).mkdir(exist_ok=True)
        device, store = torch.device("cpu"), WeightStore(default_root())
        self.generator = create(store, device, quick_dtype(device))
        self.vgg = load_vgg(store, device, torch.bfloat16)
        self.nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
        self.detector: Detector = landmarks.choose_detector("landmarker", store, device)[1]
        self.identity = DlibIdentity(dlib, store)
        self.whitening = Whitening(self.generator)

    # ---- Faces

    def generated(self, seed: int) -> Face:
        """Somebody who does not exist."""
        w = person(self.generator, seed, 0.7)
        rgb = self.drawn(w.numpy())
        seen = landmarks.find_face(rgb, self.detector, f"seed {seed}")
        return Face(rgb, w.numpy(), of_landmarks(seen), np.asarray((seen.points + 0.5) / SHOWN, np.float32))

    def found(self, name: str, rgb: Rgb, recipe: InvertOptions, start: Floats | None = None) -> Face:
        """The face of a picture, its latent kept under a name."""
        seen = landmarks.find_face(rgb, self.detector, name)
        crop = ffhq_crop(seen.points)
        cut, kept = cut_out(rgb, crop, SHOWN), self.folder / "latents" / f"{name}.npy"
        if not kept.is_file():
            np.save(kept, self._inverted(cut.rgb, seen, crop, recipe, start))
        unit = (seen.points - crop[:, 2]) @ np.linalg.inv(crop[:, :2]).T
        return Face(cut.rgb, np.load(kept), of_landmarks(seen), np.asarray(unit, np.float32))

    def _inverted(self, rgb: Rgb, seen: Landmarks, crop: Affine, recipe: InvertOptions, start: Floats | None) -> Floats:
        picture, shape = to_tensor(rgb), None
        weight = None
        if recipe is TARGET:
            probe = Probe(self.nets, picture)
            with torch.no_grad():
                mesh = probe.mesh(picture)
            shape = lambda drawn: (probe.mesh(drawn) - mesh)[..., :2].square().mean()  # noqa: E731
        else:
            weight = face_weight(seen.points, crop, len(rgb))
        before = None if start is None else torch.from_numpy(start)
        found = invert(
            self.generator, self.vgg, picture, recipe, before, weight, whitening=self.whitening, shape=shape
        )  # fmt: skip
        return found.latent.w

    @torch.inference_mode()
    def drawn(self, w: Floats) -> Rgb:
        """What a latent [L,512] shows [SHOWN,SHOWN,3]."""
        return to_rgb(self.generator.synthesize(torch.from_numpy(w)[None], SHOWN)[0])

    # ---- A pair

    def measured(self, pair: Pair) -> dict[str, Any]:
        """Choose, and judge."""
        swaps, kept = self._swaps(pair), self.folder / "sets" / f"{pair.name}.json"
        known = {tuple(slots): tuple(found) for slots, found in json.loads(kept.read_text())} if kept.is_file() else {}

        def remembered(slots: Slots) -> tuple[float, float]:
            if slots not in known:
                known[slots] = swaps(slots)
                kept.write_text(json.dumps(list(known.items())))
            return known[slots]

        generator = self.generator
        choice = choose_layers(generator.live_layers, generator.paper_layers, remembered, shaping(generator))
        pictures = {"target": pair.target.rgb, "driver": pair.driver.rgb, "found": self.drawn(pair.target.w)}
        for name, candidate in {"fixed": choice.fixed, "chosen": choice.chosen}.items():
            pictures[f"{name} {','.join(map(str, candidate.slots))}"] = self.drawn(swaps.spliced(candidate.slots)[0])
        contact_sheet(pictures).save(self.folder / "sheets" / f"{pair.name}.png")
        distances = self._identities(pair.target.rgb, list(pictures.values())[2:])
        return {**self._told(pair, choice), **dict(zip(("id_found", "id_fixed", "id_chosen"), distances, strict=True))}

    def _told(self, pair: Pair, choice: LayerChoice) -> dict[str, Any]:
        def told(candidate: Candidate) -> dict[str, Any]:
            return {**asdict(candidate), "objective": candidate.objective}

        kind = "generated" if pair.name.startswith("generated") else "real"
        motion = "absolute" if pair.anchor is None else "relative"
        return {
            "pair": pair.name, "kind": kind, "motion": motion, "fixed": told(choice.fixed),
            "chosen": told(choice.chosen), "tried": [told(c) for c in choice.tried],
            "nothing": choice.model.constant.tolist(),
        }  # fmt: skip

    def _swaps(self, pair: Pair) -> Swaps:
        with torch.inference_mode():
            picture = self.generator.synthesize(torch.from_numpy(pair.target.w)[None], DRAWN)
            probe = Probe(self.nets, picture)
            rest = probe(picture)[0]
        weight = face_weight(pair.target.points, np.array([[1.0, 0, 0], [0, 1, 0]]), COMPARED)
        before, anchor = (pair.anchor.expression, pair.anchor.w) if pair.anchor else (None, None)
        return Swaps(
            self.generator, DRAWN, pair.target.w, pair.driver.w[None], anchor,
            unlike(self.vgg, picture, TARGET, weight), probe, goals(pair.driver.expression[None], before, rest),
        )  # fmt: skip

    def _identities(self, target: Rgb, others: list[Rgb]) -> list[float]:
        """How far dlib's numbers of each face are from the target's; NaN where no face is found."""
        first, *rest = [self._identity(rgb) for rgb in (target, *others)]
        return [float("nan") if a is None or first is None else float(np.linalg.norm(a - first)) for a in rest]

    def _identity(self, rgb: Rgb) -> Floats | None:
        faces = next(iter(self.detector.track([rgb])))
        return self.identity(View(rgb, faces[0])) if faces else None


# ---- Pairs -----------------------------------------------------------------------------------------------------------


def pairs(
    studio: Studio, generated: int, targets: list[Path], moments: list[str], motions: list[str], done: set[str]
) -> Iterator[Pair]:
    """All that were asked for and are not done."""
    for n in range(generated):
        if (name := f"generated-{n:02d}") not in done:
            yield Pair(name, studio.generated(1000 + 2 * n), studio.generated(1001 + 2 * n), None)
    for moment in moments:
        clip, rest, time = moment.rsplit(":", 2)
        for target in targets:
            names = {motion: f"{target.stem}-{Path(clip).stem}-{time}-{motion}" for motion in motions}
            if done.issuperset(names.values()):
                continue
            person_found = studio.found(f"target-{target.stem}", read_image(target), TARGET)
            anchor = studio.found(f"{Path(clip).stem}-{rest}", _frame(Path(clip), float(rest)), FIRST)
            driver = studio.found(f"{Path(clip).stem}-{time}", _frame(Path(clip), float(time)), FIRST, anchor.w)
            for motion, name in names.items():
                if name not in done:
                    yield Pair(name, person_found, driver, anchor if motion == "relative" else None)


def _frame(clip: Path, seconds: float) -> Rgb:
    return next(frame.rgb for frame in read_frames(clip) if frame.seconds >= seconds - 1e-3)


# ---- The table -------------------------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]]) -> str:
    """Means of each kind of pair: fixed, chosen; and of how many pairs the chosen layers are better."""
    heads = [
        "pairs", "n", "chosen better", "objective", "D1 person", "D2 expression", "D2 less in", "identity (found)",
        "identity less in", "layers", "model off by",
    ]  # fmt: skip
    lines = [" | ".join(heads)]
    kinds = dict.fromkeys((row["kind"], row["motion"]) for row in rows)
    for kind in [*kinds, None]:
        some = [row for row in rows if kind in (None, (row["kind"], row["motion"]))]
        lines.append(" | ".join((" ".join(kind) if kind else "all", *_summary(some))))
    return "\n".join(f"| {line} |" for line in lines)


def _summary(rows: list[dict[str, Any]]) -> Iterable[str]:
    def both(name: str) -> str:
        return f"{_mean(row['fixed'][name] for row in rows):.3f}, {_mean(row['chosen'][name] for row in rows):.3f}"

    better = sum(row["chosen"]["objective"] < row["fixed"]["objective"] for row in rows)
    expression = sum(row["chosen"]["expression"] < row["fixed"]["expression"] for row in rows)
    nearer = sum(row["id_chosen"] < row["id_fixed"] for row in rows)
    identity = f"{_mean(r['id_fixed'] for r in rows):.3f}, {_mean(r['id_chosen'] for r in rows):.3f}"
    off = _mean(abs(row["chosen"]["predicted"] - row["chosen"]["objective"]) for row in rows)
    sizes = _mean(len(row["chosen"]["slots"]) for row in rows)
    return (
        str(len(rows)), str(better), both("objective"), both("person"), both("expression"), str(expression),
        f"{identity} ({_mean(r['id_found'] for r in rows):.3f})", str(nearer), f"{sizes:.1f}", f"{off:.3f}",
    )  # fmt: skip


def _mean(values: Iterable[float]) -> float:
    return float(np.nanmean(list(values)))


def main() -> None:
    """Measure what is not there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--generated", type=int, default=0, metavar="N", help="so many pairs of generated people")
    parser.add_argument("--targets", type=Path, nargs="*", default=[], metavar="PICTURE")
    parser.add_argument("--moments", nargs="*", default=[], metavar="CLIP:REST:TIME")
    parser.add_argument("--motions", nargs="*", default=list(MOTIONS), choices=MOTIONS)
    args = parser.parse_args()
    studio, log = Studio(args.out), args.out / "measured.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    todo = pairs(studio, args.generated, args.targets, args.moments, args.motions, {row["pair"] for row in rows})
    for pair in todo:
        rows.append(studio.measured(pair))
        with log.open("a") as out:
            out.write(json.dumps(rows[-1]) + "\n")
        print(f"{pair.name}: {rows[-1]['chosen']['slots']}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
