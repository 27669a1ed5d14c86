"""Make and measure a list of pairs by several methods, and compare the methods.

MANIFEST is a .toml or .csv file; its paths are relative to it:

  [[pair]]                      name,kind,target,driver,truth
  target = "faces/anna.jpg"     ,,faces/anna.jpg,clips/ben.mp4,
  driver = "clips/ben.mp4"      ,self,,clips/ben.mp4,

  [[pair]]
  kind = "self"
  driver = "clips/ben.mp4"

Of kind "self" the driver's first frame is the target, and the driver the truth.
Results go to DIR, with a page over all: index.html, results.csv, results.json.
What was done before, from the same files with the same settings, is not done
again; after a change of the program itself, name another DIR.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import weights
from ..console import Console
from ..errors import ReenactError, UsageError
from ..manifest import Pair, read_manifest

# What imports torch is imported where it is used: it takes seconds, and a typing error should not.
if TYPE_CHECKING:
    from ..benchmark import Mean, Outcome, Settings, TableRow

_METHODS = "reenact,direct,warp,still"
_COLUMNS = ("", "L1", "L2", "SSIM", "L1 / direct", "L2 / direct", "SSIM - direct")
_UNITS = (
    "L1: mean of |d|, L2: root of the mean of d^2, d the differences of RGB values 0..255; SSIM of greys, 1 at best. "
    "Means over frames, then over pairs.",
    "The paper's own L1 and L2 have a unit that it does not name, and its pictures are others: only what is relative "
    "to direct transfer can be compared.",
)

_HEADLINES = (
    "expression", "expression-r", "expression-gain", "identity-target", "pose-driver", "jitter-ratio",
    "akd", "l1", "l2", "psnr", "ssim-face", "st-lpips-vgg",
)  # fmt: skip
_SELF = "Of one person direct transfer pastes the truth's own pixels, so that here it is no measure for the others."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words."""
    add = parser.add_argument_group("what is done").add_argument
    add("manifest", metavar="MANIFEST", type=Path, help="the list of pairs")
    add("--out", metavar="DIR", type=Path, help="where results go (default: benchmark, beside MANIFEST)")
    methods = "reenact; direct: the driver's face pasted; warp: TARGET bent; still: TARGET repeated"
    add("--methods", metavar="LIST", type=_names, default=_METHODS, help=f"{methods} (default: {_METHODS})")
    add("--metrics", metavar="LIST", type=_names, help="only these: expression,ssim (default: all)")
    add("--preset", metavar="NAME", default="balanced", help="fast, balanced, quality or paper (default: balanced)")
    add("--max-frames", metavar="N", type=_count, help="the first so many of each driver (default: all)")
    add("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    table = "print the paper's table 1 of the pairs that have a truth: L1, L2, SSIM, beside the paper's numbers"
    add("--table1", action="store_true", help=table)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of names; write {_METHODS}")
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of frames; at least 1")
    return int(text)


def run(args: argparse.Namespace, console: Console) -> None:
    """Check, run, print."""
    pairs = read_manifest(args.manifest)
    from ..benchmark import run_benchmark
    from ..options import Hooks

    settings = _settings(args, pairs)
    folder = args.out or args.manifest.parent / "benchmark"
    outcomes = run_benchmark(
        pairs, folder, settings,
        store=weights.WeightStore(
            weights.default_root(), offline=args.offline, on_progress=console.download, on_licence=console.licence
        ),
        hooks=Hooks(progress=console.progress, note=console.say, warn=console.warn),
    )  # fmt: skip
    console.close()
    (_print_table1 if args.table1 else _print)(outcomes, console)
    done_before = sum(outcome.again for outcome in outcomes)
    console.say(f"{folder / 'index.html'}: {len(outcomes)} runs, {done_before} of them done before")
    if failed := sum(bool(outcome.error) for outcome in outcomes):
        raise ReenactError(f"{failed} of {len(outcomes)} runs failed; {folder / 'index.html'} says why")


def _settings(args: argparse.Namespace, pairs: Sequence[Pair]) -> Settings:
    """What was asked for.

    Raises:
        UsageError: no such method, metric, preset or device, or a table 1 of pairs or metrics that can't give it.
    """
    from ..benchmark import Settings, check_settings, group_of
    from ..devices import choose_device
    from ..options import PRESETS

    if args.preset not in PRESETS:
        raise UsageError(f"--preset {args.preset}: there is no such; choose from {', '.join(PRESETS)}")
    if args.table1 and all(group_of(pair) == "cross" for pair in pairs):
        raise UsageError(f"--table1: no pair of {args.manifest} has a truth, or is of kind self")
    if args.table1 and args.metrics and not {"pixels", "ssim"} <= set(args.metrics):
        raise UsageError("--table1: is of the metrics pixels and ssim; add them to --metrics")
    choose_device(args.device)
    options = replace(PRESETS[args.preset], device=args.device, max_frames=args.max_frames)
    settings = Settings(args.methods, options, args.metrics)
    check_settings(settings)
    return settings


# ---- Tables --------------------------------------------------------------------------------------------------------


def _print(outcomes: Sequence[Outcome], console: Console) -> None:
    """The means of the scores that count most; the page has all."""
    from ..benchmark import GROUPS, in_groups, means

    for group, found in in_groups(outcomes).items():
        rows = [_mean_row(name, mean, found) for name, mean in means(found).items() if name in _HEADLINES]
        heads = ("score", *dict.fromkeys(outcome.method for outcome in found), "pairs")
        print(GROUPS[group])
        console.table(heads, rows, _lines(heads, rows))


def _mean_row(name: str, mean: Mean, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    from ..report import BETTER, number

    score = next(outcome.scores[name] for outcome in outcomes if name in outcome.scores)
    values = (number(value) for value in mean.by_method.values())
    return (f"{name} {BETTER[score.better][0]}", *values, str(mean.pairs))


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table for files and pipes."""

    def line(row: Sequence[str]) -> str:
        cells = zip(heads[1:], row[1:], strict=True)
        return f"{row[0]}: " + ", ".join(f"{head} {cell}" for head, cell in cells if cell)

    return [line(row) for row in rows]


def _print_table1(outcomes: Sequence[Outcome], console: Console) -> None:
    from ..benchmark import GROUPS, PAPER_TABLE, in_groups, table1

    for group, found in in_groups(outcomes).items():
        if group == "cross":
            continue
        for where, what in (("", "whole frames"), ("-face", "inside the face")):
            rows, pairs = table1(found, where)
            count = f"pairs: {pairs}" if rows else "no pair was measured by every method"
            print(f"{GROUPS[group]}; {what}, {count}")
            _print_rows(rows, console)
        if group == "self":
            print(_SELF)
    print("The paper's table 1, of two people")
    _print_rows(PAPER_TABLE, console)
    print(*_UNITS, sep="\n")


def _print_rows(rows: Sequence[TableRow], console: Console) -> None:
    cells = [_cells(row) for row in rows]
    console.table(_COLUMNS, cells, _lines(_COLUMNS, cells))


def _cells(row: TableRow) -> tuple[str, ...]:
    from ..report import number

    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        row.name, number(row.l1), number(row.l2), f"{row.ssim:.3f}",
        shown(row.l1_ratio, ".2f"), shown(row.l2_ratio, ".2f"), shown(row.ssim_gain, "+.3f"),
    )  # fmt: skip
