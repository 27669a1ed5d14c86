"""The paper's figures of its own parts, as pictures and numbers.

`layers` is figure 14: which layers of the driver's latent in the target's bring the expression, and at what price.
`loss` is figure 15: what a face looks like that was found by a single convolution of VGG-16. `steps` is figures 4 and
5: how the loss falls, and the face on the way.

Numbers are those of `evaluate` on the pictures that are shown, so that they mean what they mean elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from . import generators, landmarks
from .align import cut_out, ffhq_crop
from .devices import choose_device
from .errors import UsageError
from .evaluate import evaluate
from .files import write_text
from .fuse import from_driver, splice
from .generators import Generator
from .images import read_image, to_rgb, to_tensor, write_image
from .invert import TARGET, InvertOptions, OnStep, Whitening, invert
from .options import Hooks, Options
from .perceptual import Vgg16, load_vgg
from .trace import plot_losses
from .types import Floats, Inversion, Rgb
from .weights import WeightStore, default_root

COUNTS, STARTS = (2, 4, 6, 8), (1, 2, 4, -1)
"""Figure 14's: so many layers, from which on; layers count from 1, and -1 stands for the last ones."""

CONVS = (1, 3, 5, 9, 13)
"""Figure 15's convolutions of VGG-16, counted from 1."""

ITERATIONS = (0, 10, 50, 100, 1000)
"""Figure 5's: so many steps have been taken."""

# Adam's steps are as long whatever the scale of the loss, and in white coordinates as long in every direction of W:
# so each convolution gets the same way to go, and none is favoured by its features' size.
SINGLE_CONV = replace(TARGET, steps=100, distance="conv", pixel_weight=0.0, prior=0.0, tolerance=0.0)
"""How a face is found by one convolution; `convs` and `sizes` are still to be set."""

_RECONSTRUCTION = {"l2": "0-255", "psnr": "dB", "st-lpips-vgg": "", "identity-target": ""}  # scores and their units
_FUSION = {"identity-target": "", "expression": "", "st-lpips-vgg": ""}
_METRICS = {"l2": "pixels", "psnr": "pixels", "st-lpips-vgg": "st-lpips", "identity-target": "identity"}


@dataclass(frozen=True)
class Settings:
    """What all experiments have in common."""

    options: Options = field(default_factory=Options)  # generator, detector, device, seed, and `target`: the recipe
    size: int = 256  # pixels of the pictures that are drawn and measured; the losses see no more than 256


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a figure."""

    row: str
    column: str
    rgb: Rgb
    scores: Mapping[str, float | None] = field(default_factory=dict)  # None: not measured; empty: an input


@dataclass(frozen=True, eq=False)
class Figure:
    """Pictures in rows, and their numbers."""

    name: str  # of its files
    rows: tuple[tuple[Cell, ...], ...]
    units: Mapping[str, str]  # of the scores
    notes: tuple[str, ...]
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # losses by step

    @property
    def measured(self) -> list[Cell]:
        """The cells that have numbers, row by row."""
        return [cell for row in self.rows for cell in row if cell.scores]


# ---- Figure 14 -----------------------------------------------------------------------------------------------------


def replaced_slots(generator: Generator, count: int, start: int) -> tuple[int, ...]:
    """The generator's live slots that stand for `count` layers of the paper's generator, from the `start`-th on.

    The paper counts from 1; `paper_layers` stand for its 4 and 5, and the other live slots follow in order on both
    sides. Layers that the generator lacks are left out. A negative start counts live slots from the end, so that -1
    stands for the last `count` of them.

    Raises:
        UsageError: fewer than one layer, a start of 0, or no slot for any of them.
    """
    live = generator.live_layers
    from_front, from_end = live.index(generator.paper_layers[0]) + start - 4, len(live) + start + 1 - count
    first = from_front if start > 0 else from_end
    slots = live[max(first, 0) : max(first + count, 0)]
    if count < 1 or start == 0 or not slots:
        raise UsageError(f"{count} layers from {start}: no slot of {generator.name} stands for them")
    return slots


def ablate_layers(
    target: Path,
    driver: Path,
    folder: Path,
    settings: Settings | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
) -> Figure:
    """Figure 14: the target's latent with the driver's in some layers, absolutely, as in the paper.

    Args:
        target, driver: pictures of faces.
        folder: where pictures go, in `pictures/`.
        settings: the recipe that both latents are found by, and the size of pictures.
        store: where third-party weights are kept and how they are fetched.
        hooks: progress.

    Raises:
        ReenactError: a picture that can't be read or shows no face, weights that can't be had.
    """
    studio = _Studio(folder, settings, store, hooks)
    both = (studio.subject("target", target), studio.subject("driver", driver))
    person, actor = (studio.found(s.name, s, studio.recipe).latent.w for s in both)
    rows = [[*(Cell("", s.name, s.rgb) for s in both)]]
    rows[0] += [studio.fusion(f"{s.name}, found", "", w, *both) for s, w in zip(both, (person, actor), strict=True)]
    cases = [(count, start) for count in COUNTS for start in STARTS]
    for number, (count, start) in enumerate(cases, 1):
        slots = replaced_slots(studio.generator, count, start)
        fused = splice(person, actor, from_driver(slots, studio.generator.num_layers))
        if start == STARTS[0]:
            rows.append([])
        rows[-1].append(studio.fusion(f"{count} layers from {start}", f"slots {_list(slots)}", fused, *both))
        studio.hooks.progress("measuring pictures", number, len(cases))
    notes = (
        "Layers are replaced as they are. identity-target and st-lpips-vgg: distance to the target; expression: "
        "mean |d| of 51 blendshapes to the driver.",
        studio.note(),
    )
    return Figure("layers", tuple(map(tuple, rows)), _FUSION, notes)


def _list(slots: Sequence[int]) -> str:
    return ",".join(map(str, slots))


# ---- Figure 15 -----------------------------------------------------------------------------------------------------


def ablate_loss(
    pictures: Mapping[str, Path],
    folder: Path,
    steps: int = SINGLE_CONV.steps,
    settings: Settings | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
) -> Figure:
    """Figure 15: faces found by one convolution of VGG-16 alone, in the same number of steps each.

    Adam in whitened coordinates, whose steps are as long for each convolution; see `SINGLE_CONV`.

    Args:
        pictures: by what they are called; a row each.
        folder, settings, store, hooks: as for `ablate_layers`; of the settings' recipe nothing is used.
        steps: of each search.

    Raises:
        ReenactError: a picture that can't be read or shows no face, weights that can't be had.
    """
    studio = _Studio(folder, settings, store, hooks)
    rows, curves = [], dict[str, tuple[float, ...]]()
    for name, path in pictures.items():
        subject = studio.subject(name, path)
        row = [Cell(name, "picture", subject.rgb)]
        for conv in CONVS:
            label = f"{name} conv {conv}"
            recipe = replace(SINGLE_CONV, steps=steps, patience=steps, convs=(conv,), sizes=((studio.size, 1.0),))
            found = studio.found(label, subject, recipe)
            # Scales differ by decades: what can be compared is how far each has fallen.
            curves[label] = tuple(loss / found.losses[0] for loss in found.losses)
            row.append(studio.reconstruction(name, f"convolution {conv}", found.latent.w, subject))
        rows.append(tuple(row))
    notes = (
        f"{steps} steps each of Adam in whitened coordinates; losses as shares of their first.",
        "VGG-16 with anti-aliased pooling, as ST-LPIPS ships it.",
        studio.note(),
    )
    return Figure("loss", tuple(rows), _RECONSTRUCTION, notes, curves)


# ---- Figures 4 and 5 -----------------------------------------------------------------------------------------------


def ablate_steps(
    pictures: Mapping[str, Path],
    folder: Path,
    iterations: Sequence[int] = ITERATIONS,
    settings: Settings | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
) -> Figure:
    """Figures 4 and 5: the loss, and the face after so many steps of one search.

    Args:
        pictures: by what they are called; a row each.
        folder, settings, store, hooks: as for `ablate_layers`; the search does not end before its last step.
        iterations: when to look; 0 is the start.

    Raises:
        UsageError: no iterations, or a negative one.
        ReenactError: a picture that can't be read or shows no face, weights that can't be had.
    """
    wanted = sorted(set(iterations))
    if not wanted or wanted[0] < 0:
        raise UsageError(f"iterations {', '.join(map(str, iterations)) or 'none'}: expected numbers from 0")
    studio = _Studio(folder, settings, store, hooks)
    last = wanted[-1] + 1  # the loss after the last step is known when the next begins
    recipe = replace(studio.recipe, steps=last, patience=last, tolerance=0.0, sizes=((studio.size, 1.0),))
    rows, curves = [], dict[str, tuple[float, ...]]()
    for name, path in pictures.items():
        subject, latents = studio.subject(name, path), dict[int, Floats]()

        def keep(step: int, loss: float, w: torch.Tensor, latents: dict[int, Floats] = latents) -> None:
            if step - 1 in wanted:
                latents[step - 1] = w.float().cpu().numpy()

        curves[name] = studio.found(name, subject, recipe, keep).losses
        row = [Cell(name, "picture", subject.rgb)]
        for n, w in latents.items():
            cell = studio.reconstruction(name, f"iteration {n}", w, subject)
            row.append(replace(cell, scores={"loss": curves[name][n], **cell.scores}))
        rows.append(tuple(row))
    how = f"{recipe.optimiser}, rate {recipe.rate:g}, from {recipe.start}, distance {recipe.distance}"
    notes = (f"The recipe: {how}.", *_ran_away(curves), studio.note())
    return Figure("steps", tuple(rows), {"loss": "", **_RECONSTRUCTION}, notes, curves)


def _ran_away(curves: Mapping[str, Sequence[float]]) -> list[str]:
    """What is to be said of searches whose loss becomes no number."""
    known = {name: len(_finite(losses)) for name, losses in curves.items()}
    return [
        f"{name}: runs away; from iteration {count} on the loss is no number."
        for name, count in known.items()
        if count < len(curves[name])
    ]


def _finite(losses: Sequence[float]) -> tuple[float, ...]:
    """The losses before the first that is no number."""
    return tuple(takewhile(math.isfinite, losses))


# ---- What they share -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Subject:
    """A face cut out."""

    name: str
    rgb: Rgb  # [S,S,3], S of the settings
    picture: torch.Tensor  # [1,3,S',S'] at the generator's own size
    path: Path  # of `rgb`, as a file


class _Studio:
    """The networks, the faces, and a folder of pictures."""

    def __init__(self, folder: Path, settings: Settings | None, store: WeightStore | None, hooks: Hooks | None) -> None:
        settings = settings or Settings()
        options, self.size = settings.options, settings.size
        self.store, self.hooks = store or WeightStore(default_root()), hooks or Hooks()
        self.recipe, self.device = options.target, choose_device(options.device)
        torch.manual_seed(options.seed)
        self.generator = generators.load(options.generator, self.store, self.device, noise=options.noise)
        if self.size not in self.generator.sizes:
            known = ", ".join(map(str, self.generator.sizes))
            raise UsageError(f"--size {self.size}: {self.generator.name} makes pictures of {known}")
        self.whitening = Whitening(self.generator)
        _, self.detector = landmarks.choose_detector(options.detector, self.store, self.device)
        self._networks: dict[torch.dtype, Vgg16] = {}
        self._pictures = folder / "pictures"
        try:
            self._pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: can't be a folder for results ({error.strerror}); name another") from error

    def subject(self, name: str, path: Path) -> _Subject:
        """A picture's face, cut out as the generator draws faces."""
        rgb = read_image(path)
        crop = ffhq_crop(landmarks.find_face(rgb, self.detector, str(path)).points)
        small = cut_out(rgb, crop, self.size).rgb
        whole = to_tensor(cut_out(rgb, crop, self.generator.sizes[-1]).rgb, self.device)
        return _Subject(name, small, whole, self._saved(name, small))

    def found(self, label: str, subject: _Subject, recipe: InvertOptions, on_step: OnStep | None = None) -> Inversion:
        """The latent that draws a face."""

        def told(step: int, loss: float, w: torch.Tensor) -> None:
            self.hooks.progress(f"finding {label}", step, recipe.steps)
            if on_step:
                on_step(step, loss, w)

        return invert(
            self.generator, self._network(recipe), subject.picture, recipe, on_step=told, whitening=self.whitening
        )

    def _network(self, recipe: InvertOptions) -> Vgg16:
        # As the pipeline chooses: features that are compared as they are in full, others in half precision.
        dtype = torch.float32 if recipe.distance == "conv" else torch.bfloat16
        if dtype not in self._networks:
            self._networks[dtype] = load_vgg(self.store, self.device, dtype)
        return self._networks[dtype]

    @torch.inference_mode()
    def drawn(self, w: Floats) -> Rgb:
        """What a latent [L,512] shows, uint8 [S,S,3]."""
        return to_rgb(self.generator.synthesize(torch.from_numpy(w)[None].to(self.device), self.size)[0])

    def reconstruction(self, row: str, column: str, w: Floats, subject: _Subject) -> Cell:
        """What a latent shows, measured against the face that it was found from."""
        rgb = self.drawn(w)
        return Cell(row, column, rgb, self.measured(f"{row} {column}", rgb, subject, subject, tuple(_RECONSTRUCTION)))

    def fusion(self, row: str, column: str, w: Floats, target: _Subject, driver: _Subject) -> Cell:
        """What a latent shows, measured against the person that it should be and the expression it should have."""
        rgb = self.drawn(w)
        return Cell(row, column, rgb, self.measured(row, rgb, target, driver, tuple(_FUSION)))

    def measured(
        self, name: str, rgb: Rgb, truth: _Subject, driver: _Subject, scores: Sequence[str]
    ) -> dict[str, float | None]:
        """Scores of a picture, which is kept; the truth is the target, too."""
        output = self._saved(name, rgb)
        metrics = list(dict.fromkeys(_METRICS.get(score, score) for score in scores))
        found = evaluate(
            output, driver.path, truth.path, truth.path, metrics=metrics, device=str(self.device), store=self.store
        )  # fmt: skip
        values = {score.name: score.value for score in found.scores}
        return {score: values.get(score) for score in scores}

    def _saved(self, name: str, rgb: Rgb) -> Path:
        path = self._pictures / f"{name.replace(',', '').replace(' ', '-')}.png"
        write_image(path, rgb)
        return path

    def note(self) -> str:
        """What a reader should know of every figure."""
        return f"Drawn by {self.generator.name} and measured at {self.size}x{self.size} pixels."


# ---- Files ---------------------------------------------------------------------------------------------------------


def write_figure(folder: Path, figure: Figure) -> list[Path]:
    """Write NAME.png, NAME.json and NAME.csv, and of curves NAME-curve.png and NAME-curve.csv; returns their paths.

    Raises:
        ReenactError: they can't be written there.
    """
    paths = {suffix: folder / f"{figure.name}{suffix}" for suffix in (".png", ".json", ".csv")}
    write_image(paths[".png"], np.asarray(sheet(figure)))
    write_text(paths[".json"], to_json(figure))
    write_text(paths[".csv"], to_csv(figure))
    if figure.curves:
        curve, numbers = (folder / f"{figure.name}-curve{suffix}" for suffix in (".png", ".csv"))
        write_image(curve, np.asarray(plot_losses({name: _finite(losses) for name, losses in figure.curves.items()})))
        write_text(numbers, _curves_csv(figure))
        return [*paths.values(), curve, numbers]
    return [*paths.values()]


def to_json(figure: Figure) -> str:
    """All of a figure but its pictures."""
    content = {
        "figure": figure.name,
        "notes": list(figure.notes),
        "units": dict(figure.units),
        "cells": [
            {"row": cell.row, "column": cell.column, "scores": {k: _rounded(v) for k, v in cell.scores.items()}}
            for cell in figure.measured
        ],
        "curves": {name: [_rounded(v) for v in losses] for name, losses in figure.curves.items()},
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(figure: Figure) -> str:
    """A row a picture, a column a score; empty where it was not measured."""
    return _csv(["row", "column", *figure.units], [
        [cell.row, cell.column, *("" if v is None else v for v in map(_rounded, cell.scores.values()))]
        for cell in figure.measured
    ])  # fmt: skip


def _curves_csv(figure: Figure) -> str:
    """A row a step: the loss before it was taken."""
    rows = [[name, n, _rounded(loss)] for name, losses in figure.curves.items() for n, loss in enumerate(losses)]
    return _csv(["search", "iteration", "loss"], rows)


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


_GAP, _LINE, _INK, _PAPER = 10, 17, (30, 30, 30), (255, 255, 255)


def sheet(figure: Figure) -> Image.Image:
    """A figure's pictures in rows, each with its names above it and its numbers below."""
    font = ImageFont.load_default(14)
    side = max(len(cell.rgb) for row in figure.rows for cell in row)
    tall = [side + _LINE * (2 + max(len(cell.scores) for cell in row)) + _GAP for row in figure.rows]
    page = Image.new("RGB", ((side + _GAP) * max(map(len, figure.rows)) + _GAP, sum(tall) + _GAP), _PAPER)
    draw, top = ImageDraw.Draw(page), _GAP
    for row, height in zip(figure.rows, tall, strict=True):
        for index, cell in enumerate(row):
            left = _GAP + index * (side + _GAP)
            lines = [cell.row, cell.column]
            for n, line in enumerate(lines):
                draw.text((left, top + n * _LINE), line, _INK, font)
            page.paste(Image.fromarray(cell.rgb), (left, top + 2 * _LINE))
            for n, (name, value) in enumerate(cell.scores.items()):
                shown = "-" if value is None else f"{value:.4g}"
                draw.text((left, top + side + (2 + n) * _LINE), f"{name} {shown}", _INK, font)
        top += height
    return page
