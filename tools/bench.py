"""Seconds a stage and a frame, and peak memory, of one reenactment.

    python tools/bench.py TARGET DRIVER --preset balanced --max-frames 40 --json bench.json

Runs the pipeline in this process, without encoding, and prints where the time went. On a machine that others share,
compare figures of one run only.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from reenact.pipeline import PRESETS, Hooks, reenact


class Stopwatch:
    """Sums up the seconds between reports, stage by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str, done: int, total: int | None = None) -> None:
        """Book the time since the last report on `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self.counts[stage] = done
        self._last = now


def peak_megabytes() -> float:
    """The largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """Run, print a table, write --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("driver", type=Path)
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument("--max-frames", type=int, default=40)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    watch = Stopwatch()
    options = replace(PRESETS[args.preset], max_frames=args.max_frames)
    frames = sum(1 for _ in reenact(args.target, args.driver, options, hooks=Hooks(progress=watch.lap)))
    print(f"{'stage':8} {'seconds':>8} {'count':>6} {'each':>8}")
    for stage, seconds in watch.seconds.items():
        print(f"{stage:8} {seconds:8.2f} {watch.counts[stage]:6} {seconds / watch.counts[stage]:8.3f}")
    print(f"peak memory {peak_megabytes():.0f} MB, {torch.get_num_threads()} threads")
    if args.json:
        report = {"preset": args.preset, "frames": frames, "seconds": watch.seconds, "peak_mb": peak_megabytes()}
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
