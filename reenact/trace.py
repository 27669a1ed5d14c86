"""A look inside: intermediate pictures of a few frames, a contact sheet of each, and the loss curves.

The sheets show what figure 2 of the paper shows, the curves what its figures 4 and 5 show.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import ReenactError, UsageError
from .files import write_text
from .layers import LayerChoice, to_json
from .types import Rgb

FRAMES = 8
"""How many frames are shown, evenly spaced."""

_ONCE = ("target crop", "reconstruction", "tuned")  # stages of the target, not of a frame
_OF_TARGET = ("warped", "mask", "composite")  # as large as the target; the sheets show what is round the face
_LAST = "composite"  # the stage that ends a frame
_SHEET = (
    "target crop", "reconstruction", "tuned", "driver", "driver crop", "fused", "warped", "mask", "composite",
)  # fmt: skip
_SHEET_HEIGHT = 256
_LOSSES = "losses.csv"
_INK, _PALE, _PAPER = (30, 30, 30), (225, 225, 225), (255, 255, 255)
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")


class Trace:
    """Writes what `options.Hooks` shows into a folder, as it comes.

    Attributes:
        total: number of frames that are to come, as soon as it is known; the frames shown are spread over it.
    """

    def __init__(self, folder: Path, total: int | None = None, overwrite: bool = False, going_on: bool = False) -> None:
        """Make the folder.

        Args:
            folder: its place.
            total: see above.
            overwrite: write there though there is something in it; an earlier trace is removed.
            going_on: with an earlier run, whose trace, where there is one, is added to.

        Raises:
            UsageError: it can't be made or written to, or holds something that it was not said to hold.
        """
        self.folder, self.total = folder, total
        self._once: dict[str, Rgb] = {}  # pictures of the sheets, small
        self._frames: dict[int, dict[str, Rgb]] = {}
        self._face = (slice(None), slice(None))  # rows and columns of the target that the sheets show
        self._curves: dict[str, dict[str, tuple[float, ...]]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if going_on and (folder / _LOSSES).is_file():
                return
            if any(folder.iterdir()) and not overwrite:
                raise UsageError(f"{folder}: there is something in it; -y writes there all the same")
            _remove(folder, ("frame-*.png", "sheet-*.png", "loss-*.png", "layers.*", "notes.txt", *map(_file, _ONCE)))
            self._write_losses([("picture", "step", "loss")], "w")
        except OSError as error:
            raise UsageError(f"{folder}: can't be the trace's folder ({error.strerror}); name another") from error

    def picture(self, stage: str, index: int, rgb: Rgb) -> None:
        """Keep one picture, uint8 [H,W,3], if it belongs to a frame that is shown; ReenactError if it can't be."""
        if stage in _ONCE or self._is_shown(index):
            with self._writing():
                self._keep(stage, index, rgb)

    def _keep(self, stage: str, index: int, rgb: Rgb) -> None:
        once = stage in _ONCE
        Image.fromarray(rgb).save(self.folder / (_file(stage) if once else f"frame-{index:06d}-{_file(stage)}"))
        if stage == "mask":
            self._face = _surroundings(rgb)
        near = rgb[self._face] if stage in _OF_TARGET else rgb
        (self._once if once else self._frames.setdefault(index, {}))[stage] = row([near], _SHEET_HEIGHT)
        if stage == _LAST:
            shown = {**self._once, **self._frames.pop(index)}
            contact_sheet({s: shown[s] for s in _SHEET if s in shown}).save(self.folder / f"sheet-{index:06d}.png")

    def note(self, line: str) -> None:
        """Keep a line on what was chosen: the detector, the generator, the features."""
        with (self.folder / "notes.txt").open("a", encoding="utf-8") as out:
            out.write(line + "\n")

    def losses(self, name: str, losses: tuple[float, ...]) -> None:
        """Keep the losses of one search, "target", "tune" or "driver INDEX": all as numbers, some as a curve."""
        with self._writing():
            self._write_losses([(name, step, f"{loss:.6g}") for step, loss in enumerate(losses, 1)], "a")
            group, _, index = name.partition(" ")
            if not index or self._is_shown(int(index)):
                curves = self._curves.setdefault(group, {})
                curves[name] = tuple(filter(math.isfinite, losses))
                plot_losses(curves).save(self.folder / f"loss-{group}.png")

    def layers(self, choice: LayerChoice) -> None:
        """Keep how layers were chosen, as layers.json and as a picture."""
        with self._writing():
            write_text(self.folder / "layers.json", to_json(choice))
            plot_choice(choice).save(self.folder / "layers.png")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReenactError(f"{self.folder}: the trace can't be written ({error.strerror or error})") from error

    def _is_shown(self, index: int) -> bool:
        if self.total is None:
            return index % 25 == 0 and index < 25 * FRAMES
        last = max(self.total - 1, 0)
        return index in {round(i * last / (FRAMES - 1)) for i in range(FRAMES)}

    def _write_losses(self, rows: Iterable[Sequence[object]], mode: str) -> None:
        with (self.folder / _LOSSES).open(mode, newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(rows)


def _file(stage: str) -> str:
    return stage.replace(" ", "-") + ".png"


def _remove(folder: Path, patterns: Sequence[str]) -> None:
    """Remove an earlier trace, whose frames may be others."""
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()


def _surroundings(mask: Rgb) -> tuple[slice, slice]:
    """Rows and columns of a square about twice as large as what is white in a mask; of all, if nothing is."""
    rows, columns = np.nonzero(mask[:, :, 0])
    if not len(rows):
        return slice(None), slice(None)
    reach = int(max(np.ptp(rows), np.ptp(columns))) + 1
    middles = ((int(rows.min()) + int(rows.max())) // 2, (int(columns.min()) + int(columns.max())) // 2)
    across_rows, across_columns = (slice(max(0, m - reach), m + reach) for m in middles)
    return across_rows, across_columns


# --- Drawing ------------------------------------------------------------------------------------


def row(pictures: Sequence[Rgb], height: int) -> Rgb:
    """Pictures uint8 [H,W,3] of any size, side by side at one height: uint8 [height,W,3]."""
    return np.concatenate([rgb if len(rgb) == height else _scaled(rgb, height) for rgb in pictures], 1)


def _scaled(rgb: Rgb, height: int) -> Rgb:
    width = max(1, round(rgb.shape[1] * height / rgb.shape[0]))
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))


def contact_sheet(pictures: dict[str, Rgb]) -> Image.Image:
    """Pictures of one height in a row, the name of each above it."""
    gap, top = 8, 28
    sheet = Image.new(
        "RGB",
        (sum(p.shape[1] + gap for p in pictures.values()) + gap, max(len(p) for p in pictures.values()) + top + gap),
        _PAPER,
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    left = gap
    for name, picture in pictures.items():
        width = picture.shape[1]
        draw.text((left + width / 2, top / 2), name, _INK, font, "mm")
        sheet.paste(Image.fromarray(picture), (left, top))
        left += width + gap
    return sheet


@dataclass(frozen=True)
class Axis:
    """One side of a plot."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`."""
        value, low, high = (math.log(max(v, self.low)) if self.logarithmic else v for v in (value, self.low, self.high))
        return (value - low) / (high - low)


def plot(curves: Mapping[str, Sequence[tuple[float, float]]], across: Axis, up: Axis) -> Image.Image:
    """Curves of (x, y), each in its colour with its name beside; a single point is a dot."""
    picture = Image.new("RGB", (900, 540), _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    left, top, right, bottom = 80, 24, 740, 480

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * across.share(x), bottom - (bottom - top) * up.share(y)

    for level in up.ticks:
        _, y = place(across.low, level)
        draw.line([(left, y), (right, y)], _PALE)
        draw.text((left - 8, y), f"{level:g}", _INK, font, "rm")
    for tick in across.ticks:
        x, _ = place(tick, up.low)
        draw.line([(x, bottom), (x, bottom + 5)], _INK)
        draw.text((x, bottom + 10), f"{tick:g}", _INK, font, "ma")
    draw.line([(left, top), (left, bottom), (right, bottom)], _INK)
    draw.text(((left + right) / 2, bottom + 32), across.name, _INK, font, "ma")
    draw.text((left + 8, top), up.name, _INK, font, "la")
    for i, (name, points) in enumerate(curves.items()):
        colour, height, places = _COLOURS[i % len(_COLOURS)], top + 24 * i + 8, [place(*point) for point in points]
        if len(places) == 1:
            x, y = places[0]
            draw.ellipse([(x - 5, y - 5), (x + 5, y + 5)], colour)
        draw.line(places, colour, 2)
        draw.line([(right + 16, height), (right + 40, height)], colour, 3)
        draw.text((right + 48, height), name, _INK, font, "lm")
    return picture


def plot_losses(curves: dict[str, tuple[float, ...]]) -> Image.Image:
    """Loss over steps, one curve each, the losses on a logarithmic scale."""
    levels = _log_ticks([loss for losses in curves.values() for loss in losses if loss > 0])
    steps = max(2, *map(len, curves.values()))
    points = {name: tuple((float(step), loss) for step, loss in enumerate(each, 1)) for name, each in curves.items()}
    return plot(points, Axis("step", 1, steps, _ticks(steps)), Axis("loss", levels[0], levels[-1], levels, True))


def even_axis(name: str, values: Sequence[float]) -> Axis:
    """From 0 to a round number not below the values, with up to ten round numbers between."""
    unit = next(u * 10.0**e for e in range(-9, 12) for u in (1, 2, 5) if max(values) <= 10 * u * 10.0**e)
    count = max(1, math.ceil(max(values) / unit - 1e-9))
    return Axis(name, 0.0, count * unit, [i * unit for i in range(count + 1)])


def _log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10, ... from just below the values to just above; at least two."""
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1
    all_ticks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
    below = max(t for t in all_ticks if t <= low * (1 + 1e-9))
    above = min(t for t in all_ticks if t >= high * (1 - 1e-9) and t > below)
    return [t for t in all_ticks if below <= t <= above]


def _ticks(steps: int) -> list[int]:
    """1 and up to eight round numbers to `steps`."""
    unit = next(u * 10**e for e in range(12) for u in (1, 2, 5) if steps <= 8 * u * 10**e)
    return sorted({1, *range(unit, steps + 1, unit)})


# --- Layers -------------------------------------------------------------------------------------

_CELL, _MARGIN, _LINE = 46, 24, 22
_LEFT = _MARGIN + 90
_COLUMNS = (_LEFT, *range(_LEFT + 270, _LEFT + 670, 100))
_FONT = ImageFont.load_default(14)
_WORSE, _BETTER = (214, 39, 40), (44, 160, 44)


def plot_choice(choice: LayerChoice) -> Image.Image:
    """What each slot and each two add to the objective, and the sets that were tried.

    Red is worse, green better. On the diagonal is a slot alone, above it what two add beyond their sum; nothing where
    they were not measured together.
    """
    count = len(choice.slots)
    table = _MARGIN + 2 * _LINE
    heat = table + 5 * _LINE
    tried = heat + _CELL * count + 2 * _LINE
    width = max(_LEFT + _CELL * count, _COLUMNS[-1] + 100) + _MARGIN
    page = Image.new("RGB", (width, tried + _LINE * (len(choice.tried) + 3)), _PAPER)
    draw = ImageDraw.Draw(page)
    title = "What a slot of the driver's adds to D1 (person), to D2 (expression), to the objective; below: what two add"
    draw.text((_MARGIN, _MARGIN), title, _INK, _FONT)
    _draw_singles(draw, choice, table)
    _draw_pairs(draw, choice, heat)
    _draw_tried(draw, choice, tried)
    return page


def _draw_singles(draw: ImageDraw.ImageDraw, choice: LayerChoice, top: int) -> None:
    for n, name in enumerate(("person", "expression", "objective"), 1):
        draw.text((_MARGIN, top + _LINE * n), name, _INK, _FONT)
    for i, slot in enumerate(choice.slots):
        x = _LEFT + _CELL * (i + 0.5)
        draw.text((x, top), str(slot), _ink(slot in choice.chosen.slots), _FONT, "ma")
        for n, value in enumerate((*choice.model.linear[:, i], choice.gains[i, i]), 1):
            draw.text((x, top + _LINE * n), f"{value:+.2f}", _INK, _FONT, "ma")


def _draw_pairs(draw: ImageDraw.ImageDraw, choice: LayerChoice, top: int) -> None:
    gains = choice.gains
    most = max(float(np.abs(gains).max()), 1e-9)
    for i, slot in enumerate(choice.slots):
        y = top + _CELL * (i + 0.5)
        draw.text((_LEFT - 8, y), str(slot), _ink(slot in choice.chosen.slots), _FONT, "rm")
    alone = ((slot, slot) for slot in choice.slots)
    for i, j in (map(choice.slots.index, pair) for pair in (*alone, *choice.pairs)):
        x, y, value = _LEFT + _CELL * j, top + _CELL * i, float(gains[i, j])
        draw.rectangle([(x, y), (x + _CELL - 2, y + _CELL - 2)], _heat(value / most))
        draw.text((x + _CELL / 2, y + _CELL / 2), f"{value:+.2f}", _INK, _FONT, "mm")


def _draw_tried(draw: ImageDraw.ImageDraw, choice: LayerChoice, top: int) -> None:
    for x, head in zip(_COLUMNS, ("slots", "predicted", "as drawn", "person", "expression"), strict=True):
        draw.text((x, top), head, _INK, _FONT)
    for n, tried in enumerate((choice.fixed, *choice.tried), 1):
        y, ink = top + _LINE * n, _ink(tried is choice.chosen)
        draw.text((_MARGIN, y), "tried" if n > 1 else "the paper's", ink, _FONT)
        numbers = (f"{v:.3f}" for v in (tried.predicted, tried.objective, tried.person, tried.expression))
        for x, text in zip(_COLUMNS, (",".join(map(str, tried.slots)), *numbers), strict=True):
            draw.text((x, y), text, ink, _FONT)


def _ink(chosen: bool) -> tuple[int, int, int]:
    return _BETTER if chosen else _INK


def _heat(share: float) -> tuple[int, int, int]:
    """White at 0, red at 1, green at -1."""
    colour, amount = (_WORSE if share > 0 else _BETTER), min(abs(share), 1.0) * 0.8
    red, green, blue = (round(255 + amount * (c - 255)) for c in colour)
    return red, green, blue
