"""Look at a picture and a video before the work: what will be hard, and what to do.

Takes seconds; makes nothing. Exit status 1 if a run would end in an error.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .. import weights
from ..console import Console
from ..errors import NoFaceError

# What imports torch is imported where it is used: it takes seconds, and a typing error should not.
if TYPE_CHECKING:
    from ..check import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words."""
    add = parser.add_argument_group("what is looked at").add_argument
    add("target", metavar="TARGET", type=Path, help="picture, or clip, of the person to be animated")
    add("driver", metavar="DRIVER", type=Path, help="video (or picture) of the person who acts")
    add("--target-face", metavar="WHICH", default="largest", help="as of reenact (default: largest)")
    add("--driver-face", metavar="WHICH", default="largest", help="as of reenact (default: largest)")
    add = parser.add_argument_group("how").add_argument
    add("--json", action="store_true", help="print all that was measured, as JSON")
    add("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")


def run(args: argparse.Namespace, console: Console) -> None:
    """Look, and print what was found."""
    from ..check import check, to_json
    from ..follow import parse_choice

    report = check(
        args.target, args.driver,
        parse_choice(args.target_face, "--target-face"), parse_choice(args.driver_face, "--driver-face"),
        weights.WeightStore(
            weights.default_root(), offline=args.offline, on_progress=console.download, on_licence=console.licence
        ),
        args.device, console.progress,
    )  # fmt: skip
    console.close()
    if args.json:
        print(to_json(report))
    else:
        _print(report, args)
    for finding in report.findings:
        if finding.fails:
            raise NoFaceError(f"{getattr(args, finding.about)}: {finding.says}")


def _print(report: Report, args: argparse.Namespace) -> None:
    for finding in report.findings:
        if not finding.fails:
            print(f"{getattr(args, finding.about)}: {finding.says}")
    if not report.findings:
        print("nothing speaks against it")
