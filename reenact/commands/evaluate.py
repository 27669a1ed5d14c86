"""Measure one result: expression, identity, motion, the picture itself.

Frames are compared with the driver's one by one. With --truth, what the result
should have been, the paired scores (SSIM, PSNR, ...) are measured too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import weights
from ..console import Console
from ..errors import UsageError

# What imports torch is imported where it is used: it takes seconds, and a typing error should not.
if TYPE_CHECKING:
    from ..evaluate import Evaluation
    from ..types import Score

_SUFFIXES = {"json": (".json",), "csv": (".csv",), "html": (".html", ".htm")}
_COLUMNS = ("score", "value", "unit", "better", "worst", "at frame", "not measured")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words."""
    add = parser.add_argument_group("what is measured").add_argument
    add("output", metavar="OUT", type=Path, help="the result: a video, or a picture")
    add("--driver", metavar="FILE", type=Path, required=True, help="video (or picture) of the person who acts")
    add("--target", metavar="FILE", type=Path, help="picture, or clip, of the person who was animated: for identity")
    add("--truth", metavar="FILE", type=Path, help="what OUT should have been, frame by frame: for paired scores")
    add("--matte", metavar="FILE", type=Path, help="of OUT, as `reenact --matte` writes it: for what lies outside")
    add("--metrics", metavar="LIST", type=_names, help="only these: expression,ssim (default: all)")
    add = parser.add_argument_group("where it goes, besides the table").add_argument
    add("--json", metavar="FILE", type=Path, help="everything, with every frame's values")
    add("--csv", metavar="FILE", type=Path, help="a row a frame, a column a score")
    add("--html", metavar="FILE", type=Path, help="a page to look at: clips, curves, worst frames; one file")
    add("-y", "--overwrite", action="store_true", help="replace what is there")
    add = parser.add_argument_group("with what").add_argument
    add("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of names; write expression,ssim")
    return names


def run(args: argparse.Namespace, console: Console) -> None:
    """Measure, then write what was asked for and print the table."""
    from ..evaluate import evaluate, to_csv, to_json
    from ..files import write_text
    from ..report import write_report

    _check_outputs(args)
    evaluation = evaluate(
        args.output, args.driver, args.target, args.truth, args.matte, metrics=args.metrics, device=args.device,
        store=weights.WeightStore(
            weights.default_root(), offline=args.offline, on_progress=console.download, on_licence=console.licence
        ),
        on_progress=console.progress,
    )  # fmt: skip
    if args.json:
        write_text(args.json, to_json(evaluation))
    if args.csv:
        write_text(args.csv, to_csv(evaluation))
    if args.html:
        write_report(args.html, evaluation, _clips(args), lambda done, total: console.progress("report", done, total))
    console.close()
    _print(evaluation, args.verbose, console)


def _clips(args: argparse.Namespace) -> dict[str, Path]:
    """In the order in which a page shows them."""
    clips = {"target": args.target, "driver": args.driver, "output": args.output, "truth": args.truth}
    return {name: path for name, path in clips.items() if path}


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse before the long work what would fail after it.

    Raises:
        UsageError: a file that can't be written, that is an input, that exists, or that is named twice.
    """
    from ..video import check_output

    inputs = [path for path in (*_clips(args).values(), args.matte) if path]
    seen: dict[Path, str] = {}
    for name, suffixes in _SUFFIXES.items():
        path: Path | None = getattr(args, name)
        if path is None:
            continue
        check_output(path, inputs, args.overwrite, suffixes)
        if (earlier := seen.setdefault(path.resolve(), name)) != name:
            raise UsageError(f"--{name} {path}: is --{earlier} too; name another file")


# ---- The table ---------------------------------------------------------------------------------------------------


def _print(evaluation: Evaluation, verbose: bool, console: Console) -> None:
    from ..report import is_part, unmeasured

    known = {score.name: score for score in evaluation.scores if score.value is not None}
    shown = [score for name, score in known.items() if verbose or not is_part(name, known)]
    frames = evaluation.frames
    console.table(_COLUMNS, [_row(s, frames) for s in shown], [_line(s, frames) for s in shown])
    if folded := len(known) - len(shown):
        print(f"{folded} more, part by part, with -v")
    for name, reason in unmeasured(evaluation).items():
        print(f"{name}: not measured: {reason}")
    for note in evaluation.notes:
        print(f"note: {note}")


def _row(score: Score, frames: int) -> Sequence[str]:
    from ..report import BETTER, number

    assert score.value is not None
    cells = [score.name, number(score.value), score.unit, BETTER[score.better][0]]
    if score.worst is None or score.per_frame is None:
        return [*cells, "", "", ""]
    return [*cells, number(score.per_frame[score.worst]), str(score.worst), str(frames - score.measured or "")]


def _line(score: Score, frames: int) -> str:
    """The same for files and pipes."""
    from ..report import BETTER, number

    assert score.value is not None
    line = f"{score.name}: {number(score.value)}{' ' * bool(score.unit)}{score.unit}, {BETTER[score.better][1]}"
    if score.worst is None or score.per_frame is None:
        return line
    line += f", worst {number(score.per_frame[score.worst])} at frame {score.worst}"
    missed = frames - score.measured
    return line + (f", not measured in {missed} of {frames} frames" if missed else "")
