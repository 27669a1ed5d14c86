"""Take the method apart, as the paper's figures do: pictures, and their numbers.

layers  figure 14: the driver's latent in some layers of the target's
loss    figure 15: faces found by one convolution of VGG-16 alone
steps   figures 4 and 5: the loss as it falls, and the face on the way

Writes into DIR what the experiment is called: layers.png, layers.csv,
layers.json; the pictures one by one in pictures/; losses as steps-curve.png
and steps-curve.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import weights
from ..console import Console
from ..errors import UsageError

# What imports torch is imported where it is used: it takes seconds, and a typing error should not.
if TYPE_CHECKING:
    from ..ablate import Cell, Figure, Settings

_EXPERIMENTS = ("layers", "loss", "steps")
_PRESETS = {"layers": "balanced", "loss": "balanced", "steps": "paper"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words."""
    add = parser.add_argument_group("what is done").add_argument
    add("experiment", metavar="layers|loss|steps", choices=_EXPERIMENTS, help="which figure")
    add("target", metavar="TARGET", type=Path, help="picture of a person")
    driver = "picture of another; loss and steps show it in a row of its own, and can do without"
    add("driver", metavar="DRIVER_IMAGE", type=Path, nargs="?", help=driver)
    add("--out", metavar="DIR", type=Path, required=True, help="where results go")
    add("-y", "--overwrite", action="store_true", help="replace what is there")
    add = parser.add_argument_group("how it is done").add_argument
    steps = "steps: the iterations to show (default: 0,10,50,100,1000); loss, layers: how many steps a search takes"
    add("--steps", metavar="LIST", type=_numbers, help=steps)
    add("--preset", metavar="NAME", help="whose search is used (default: balanced; for steps the paper's own)")
    add("--size", metavar="PIXELS", type=int, default=256, help="of the pictures that are drawn (default: 256)")
    add("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers; write 0,10,50,100")
    return tuple(int(part) for part in parts)


def run(args: argparse.Namespace, console: Console) -> None:
    """Check, do the experiment, write it and print its table."""
    from .. import ablate
    from ..options import Hooks

    _check(args)
    settings = _settings(args)
    pictures = {"target": args.target, "driver": args.driver} if args.driver else {"target": args.target}
    common: dict[str, Any] = {
        "settings": settings,
        "store": weights.WeightStore(
            weights.default_root(), offline=args.offline, on_progress=console.download, on_licence=console.licence
        ),
        "hooks": Hooks(progress=console.progress),
    }
    if args.experiment == "layers":
        figure = ablate.ablate_layers(args.target, args.driver, args.out, **common)
    elif args.experiment == "loss":
        steps = args.steps[0] if args.steps else ablate.SINGLE_CONV.steps
        figure = ablate.ablate_loss(pictures, args.out, steps, **common)
    else:
        figure = ablate.ablate_steps(pictures, args.out, args.steps or ablate.ITERATIONS, **common)
    paths = ablate.write_figure(args.out, figure)
    console.close()
    _print(figure, console)
    console.say(f"written: {', '.join(map(str, paths))}")


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before the long work.

    Raises:
        UsageError: a picture that is missing or not needed, a number that can't be, results that are there already.
    """
    if args.experiment == "layers" and args.driver is None:
        raise UsageError("layers: needs a DRIVER_IMAGE too, whose layers go into TARGET")
    if args.experiment != "steps" and args.steps and (len(args.steps) > 1 or args.steps[0] < 1):
        raise UsageError(f"--steps: {args.experiment} takes one number of steps, at least 1")
    for path in (args.target, args.driver):
        if path is not None and not path.is_file():
            raise UsageError(f"{path}: no such file")
    result = args.out / f"{args.experiment}.png"
    if result.exists() and not args.overwrite:
        raise UsageError(f"{result} exists; -y overwrites it")


def _settings(args: argparse.Namespace) -> Settings:
    from ..ablate import Settings
    from ..options import PRESETS

    preset = args.preset or _PRESETS[args.experiment]
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: there is no such; choose from {', '.join(PRESETS)}")
    # The paper's detector finds the face of any picture here as well; the one that needs no extra is the default.
    options = replace(PRESETS[preset], device=args.device, detector="auto")
    if args.experiment == "layers" and args.steps:
        options = replace(options, target=replace(options.target, steps=args.steps[0]))
    return Settings(options, args.size)


def _print(figure: Figure, console: Console) -> None:
    heads = ("picture", *(f"{name} {unit}".strip() for name, unit in figure.units.items()))
    rows = [_row(cell, figure) for cell in figure.measured]
    lines = [f"{row[0]}: " + ", ".join(f"{h} {c}" for h, c in zip(heads[1:], row[1:], strict=True)) for row in rows]
    console.table(heads, rows, lines)
    print(*figure.notes, sep="\n")


def _row(cell: Cell, figure: Figure) -> Sequence[str]:
    from ..report import number

    values = (cell.scores.get(name) for name in figure.units)
    return [
        ", ".join(filter(None, (cell.row, cell.column))),
        *("-" if value is None else number(value) for value in values),
    ]
