"""The pages that people look at: one result measured, and many runs side by side. Each is one file without network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .types import Rgb, Score


@dataclass(frozen=True, eq=False)
class Run:
    """One measured result of a benchmark, as its page shows it."""

    pair: str  # what was reenacted: a name of target and driver
    method: str
    scores: Mapping[str, Score]  # by the score's name; a score that was not measured may be missing
    report: Path | None = None  # the run's own page, which is linked relative to the benchmark's
    strip: Rgb | None = None  # uint8 [H,W,3]: a few frames in a row, as `miniatures.film_strip` makes it


def benchmark_page(path: Path, title: str, groups: Mapping[str, Sequence[Run]], notes: Sequence[str] = ()) -> None:
    """Write one page over many runs, grouped ("self", "cross"): a summary of methods by score, then every pair.

    The summary's numbers are means over the pairs for which every method of the group was measured, so that methods
    are compared on the same pairs; their count is said.

    Args:
        path: the .html file; it appears when it is whole, and replaces an earlier one.
        title: heading of the page.
        groups: the runs of each group, in the order in which pairs, methods and scores are to be shown.
        notes: sentences that stand under the heading (settings, what was left out).
    """
    raise NotImplementedError("being written")
