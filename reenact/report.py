"""The pages that people look at: one result measured, and many runs compared. Each is one file without network."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .evaluate import Evaluation
from .files import write_text
from .miniatures import Miniature, jpeg, miniature, thumb_indices
from .types import Rgb, Score

BETTER = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better"), "one": ("→ 1", "1 is ideal")}
"""What `Score.better` looks like, and what it means."""

STRIPS = ("expression", "identity-target", "ssim-face", "akd", "pose-target", "warping-error")
"""Scores whose worst, median and best frames are shown; the first `MAX_STRIPS` that were measured and vary."""

MAX_STRIPS = 4

_MOMENTS = ("worst", "median", "best")


# ---- One result --------------------------------------------------------------------------------------------------


def write_report(
    path: Path,
    evaluation: Evaluation,
    clips: Mapping[str, Path],
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write one result's page: its clips in step, its scores, their course in time, its worst and best frames.

    Args:
        path: the .html file; it appears when it is whole, and replaces an earlier one.
        evaluation: what was measured.
        clips: the videos and pictures by what they are called ("target", "driver", "output", "truth"), in the order
            in which they are shown; frames are paired by their index.
        on_progress: called with frames done and how many there will be.

    Raises:
        VideoError, ImageError: a clip can't be read.
        ReenactError: the page can't be written.
    """
    strips = _strip_scores(evaluation)
    small = _miniatures(evaluation, clips, {f for s in strips for f in _moments(s).values()}, on_progress)
    curves = [score for score in evaluation.scores if score.measured]
    title = f"Evaluation of {clips['output'].name}"
    body = [
        _heading(title, evaluation, clips),
        _player(small, evaluation.frames),
        _scores(evaluation, curves),
        _curves(curves, evaluation),
        _strips(strips, _moving(small), evaluation),
        _unmeasured(evaluation),
        _settings(evaluation),
    ]
    write_text(path, _page(title, body, _data(evaluation, curves, _moving(small))))


def _miniatures(
    evaluation: Evaluation,
    clips: Mapping[str, Path],
    wanted: set[int],
    on_progress: Callable[[int, int], None] | None,
) -> list[Miniature]:
    seconds, small = evaluation.seconds.tolist(), list[Miniature]()
    for index, (label, path) in enumerate(clips.items()):

        def progress(done: int, before: int = index * len(seconds)) -> None:
            if on_progress:
                on_progress(before + done, len(clips) * len(seconds))

        small.append(miniature(label, path, seconds, wanted, evaluation.faces.get(label), progress))
    return small


def _moving(small: Sequence[Miniature]) -> list[Miniature]:
    """The clips that differ from moment to moment; all, if none does."""
    return [clip for clip in small if clip.video] or list(small)


def _strip_scores(evaluation: Evaluation) -> list[Score]:
    found = (evaluation.score(name) for name in STRIPS)
    return [score for score in found if score and _varies(score)][:MAX_STRIPS]


def _varies(score: Score) -> bool:
    """Whether some frames are worse than others."""
    return score.per_frame is not None and len(np.unique(score.per_frame[np.isfinite(score.per_frame)])) > 1


def _moments(score: Score) -> dict[str, int]:
    """The frames with the worst, the median and the best value."""
    assert score.per_frame is not None
    order = np.argsort(_badness(score.per_frame, score.better), kind="stable")[: score.measured]  # NaN comes last
    assert score.worst is not None
    return dict(zip(_MOMENTS, (score.worst, int(order[len(order) // 2]), int(order[0])), strict=True))


def _badness(values: NDArray[np.floating], better: str) -> NDArray[np.floating]:
    """Larger is worse."""
    badness: dict[str, NDArray[np.floating]] = {"higher": -values, "lower": values, "one": np.abs(values - 1)}
    return badness[better]


# ---- Its parts


def _heading(title: str, evaluation: Evaluation, clips: Mapping[str, Path]) -> str:
    length = f"{_plural(evaluation.frames, 'frame')}, {evaluation.seconds[-1]:.2f} s"
    facts = [("Length", length), *((label.capitalize(), path.name) for label, path in clips.items())]
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<header><h1>{escape(title)}</h1><dl class="facts">{shown}</dl>{_notes(evaluation.notes)}</header>'


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _player(small: Sequence[Miniature], frames: int) -> str:
    controls = (
        '<div class="controls" hidden><button type="button">Play</button>'
        f'<input type="range" min="0" max="{frames - 1}" value="0" aria-label="frame">'
        '<output aria-live="off">frame 0</output>'
        '<select aria-label="speed"><option value="1">full speed</option><option value="0.5">half</option>'
        '<option value="0.25">a quarter</option></select></div>'
    )
    clips = "".join(map(_clip, small))
    shown = controls if any(clip.video for clip in small) else ""
    return f'<section class="card" aria-label="Clips"><div class="clips">{clips}</div>{shown}</section>'


def _clip(clip: Miniature) -> str:
    label, size = escape(clip.label), f'width="{clip.width}" height="{clip.height}"'
    if clip.video:
        picture = (
            f'<video src="{clip.video}" poster="{clip.poster}" {size} muted playsinline preload="auto" '
            f'aria-label="{label}"></video>'
        )
    else:
        picture = f'<img src="{clip.poster}" {size} alt="{label}">'
    ratio = clip.width / clip.height
    return f'<figure style="--ratio:{ratio:.3f}">{picture}<figcaption>{label}</figcaption></figure>'


_COLUMNS = (
    '<th scope="col">Score</th><th scope="col" class="number">Value</th><th scope="col" class="number">Worst</th>'
    '<th scope="col">at frame</th>'
    '<th scope="col" class="number">Frames not<br>measured</th><th scope="col">Course</th>'
)


def _scores(evaluation: Evaluation, curves: Sequence[Score]) -> str:
    """The table; what is a part of another score folds away."""
    known = {score.name: score for score in evaluation.scores if score.value is not None}
    whole = [score for name, score in known.items() if not is_part(name, known)]
    parts = [score for name, score in known.items() if is_part(name, known)]

    def table(scores: Sequence[Score]) -> str:
        rows = "".join(_row(score, curves, evaluation.frames) for score in scores)
        if not rows:
            return ""
        return f'<div class="card scroll"><table><thead><tr>{_COLUMNS}</tr></thead><tbody>{rows}</tbody></table></div>'

    return f"<section><h2>Scores</h2>{_SCORES_HINT}{table(whole)}{_folded(table(parts))}</section>"


def is_part(name: str, names: Container[str]) -> bool:
    """Whether another score sums it up among others, as "pose-target" does "pose-target-yaw"."""
    whole = name.rpartition("-")[0]
    return "-" in whole and whole in names


_SCORES_HINT = (
    '<p class="soft">Over the whole clip. ↑: higher is better, ↓: lower is better, → 1: ideally 1. Frames that could '
    "not be measured are counted, not averaged.</p>"
)


def _row(score: Score, curves: Sequence[Score], frames: int) -> str:
    note = f'<span class="note">{escape(score.note)}</span>' if score.note else ""
    index = curves.index(score) if score in curves else None
    name = escape(score.name) if index is None else f'<a href="#curve-{index}">{escape(score.name)}</a>'
    worst = "<td></td><td></td><td></td><td></td>"
    if score.worst is not None:
        assert score.per_frame is not None
        worst = (
            f'<td class="number">{number(score.per_frame[score.worst])}</td>'
            f'<td><button type="button" class="frame" data-frame="{score.worst}">{score.worst}</button></td>'
            f'<td class="number">{frames - score.measured or ""}</td><td data-curve="{index}"></td>'
        )
    return (
        f'<tr><th scope="row">{name}{note}</th><td class="number value">{_value(score)}{_arrow(score)}</td>{worst}</tr>'
    )


def _arrow(score: Score) -> str:
    arrow, meaning = BETTER[score.better]
    return (
        f'<span class="arrow" title="{meaning}" aria-hidden="true">{arrow}</span><span class="unseen">{meaning}</span>'
    )


def number(value: float) -> str:
    """Four digits: 0.01235, 1.235, 1235."""
    return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _value(score: Score) -> str:
    return "" if score.value is None else _with_unit(score.value, score.unit)


def _with_unit(value: float, unit: str) -> str:
    return number(value) + (f' <span class="unit">{escape(unit)}</span>' if unit else "")


def _curves(curves: Sequence[Score], evaluation: Evaluation) -> str:
    if not curves:
        return ""
    hint = (
        '<p class="soft">Point at a curve to see its frame, click to take the clips there; with the keyboard, the '
        "arrow keys. A diamond marks the worst frame; shaded frames were not measured.</p>"
    )

    names = {score.name for score in evaluation.scores}

    def grid(parts: bool) -> str:
        chosen = ((index, score) for index, score in enumerate(curves) if is_part(score.name, names) == parts)
        cards = "".join(_curve(index, score, evaluation) for index, score in chosen)
        return f'<div class="curves">{cards}</div>' if cards else ""

    return f"<section><h2>Frame by frame</h2>{hint}{grid(parts=False)}{_folded(grid(parts=True))}</section>"


def _folded(content: str) -> str:
    return f"<details><summary>More, part by part</summary>{content}</details>" if content else ""


def _curve(index: int, score: Score, evaluation: Evaluation) -> str:
    meaning = BETTER[score.better][1]
    unit = f' <span class="unit">{escape(score.unit)}</span>' if score.unit else ""
    last = evaluation.frames - 1
    return (
        f'<article class="card curve" id="curve-{index}" data-curve="{index}"><header><h3>{escape(score.name)}{unit}'
        f'{_arrow(score)}</h3><span class="now"></span></header>'
        f'<div class="plot" role="slider" tabindex="0" aria-label="{escape(score.name)}, {meaning}" aria-valuemin="0" '
        f'aria-valuemax="{last}" aria-valuenow="{score.worst}"></div>'
        f'<div class="axis"><span>0</span><span>frame {last}</span></div></article>'
    )


def _strips(scores: Sequence[Score], clips: Sequence[Miniature], evaluation: Evaluation) -> str:
    if not scores:
        return ""
    strips = "".join(_strip(score, clips, evaluation) for score in scores)
    hint = '<p class="soft">The frames in which a score is worst, in the middle, and best.</p>'
    return f"<section><h2>Worst, median, best</h2>{hint}{strips}</section>"


def _strip(score: Score, clips: Sequence[Miniature], evaluation: Evaluation) -> str:
    moments = "".join(_moment(name, score, frame, clips, evaluation) for name, frame in _moments(score).items())
    return f'<article class="card strip"><h3>{escape(score.name)}</h3><div class="moments">{moments}</div></article>'


def _moment(name: str, score: Score, frame: int, clips: Sequence[Miniature], evaluation: Evaluation) -> str:
    assert score.per_frame is not None
    shots = "".join(
        f'<figure style="flex:{clip.width / clip.height:.3f}">'
        f'<img src="{clip.frames[frame]}" alt="{escape(clip.label)}, frame {frame}" loading="lazy">'
        f"<figcaption>{escape(clip.label)}</figcaption></figure>"
        for clip in clips
        if frame in clip.frames
    )
    value = _with_unit(float(score.per_frame[frame]), score.unit)
    where = f'<button type="button" class="frame" data-frame="{frame}">frame {frame}</button>'
    return (
        f'<div class="moment"><p class="what"><span class="tag {name}">{name}</span> '
        f"<b>{value}</b> at {where}, {evaluation.seconds[frame]:.2f} s</p>"
        f'<div class="shots">{shots}</div></div>'
    )


def _unmeasured(evaluation: Evaluation) -> str:
    if not (reasons := unmeasured(evaluation)):
        return ""
    return f'<section><h2>Not measured</h2><div class="card">{_settings_list(reasons)}</div></section>'


def unmeasured(evaluation: Evaluation) -> dict[str, str]:
    """Metrics and single scores that have no value, and why."""
    empty = {score.name: score.note for score in evaluation.scores if score.value is None}
    return {**evaluation.skipped, **empty}


def _settings(evaluation: Evaluation) -> str:
    rows = _settings_list(evaluation.settings)
    return f'<section><h2>Settings and versions</h2><div class="card">{rows}</div></section>'


def _settings_list(rows: Mapping[str, str]) -> str:
    shown = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in rows.items())
    return f'<dl class="settings">{"".join(shown)}</dl>'


def _data(evaluation: Evaluation, curves: Sequence[Score], clips: Sequence[Miniature]) -> dict[str, Any]:
    """What the page's script draws."""
    return {
        "frames": evaluation.frames,
        "seconds": [round(s, 4) for s in evaluation.seconds.tolist()],
        "every": thumb_indices(evaluation.frames).step,
        "curves": [
            {"name": s.name, "unit": s.unit, "worst": s.worst, "values": _rounded(s.per_frame)}
            for s in curves
            if s.per_frame is not None
        ],
        "clips": [{"label": c.label, "still": c.video is None, **vars(c.sheet)} for c in clips],
    }


def _rounded(values: NDArray[np.floating]) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]


# ---- Any page ----------------------------------------------------------------------------------------------------


def _page(title: str, body: Iterable[str], data: Mapping[str, Any]) -> str:
    """The whole file; `title` and `data` are escaped here, `body` is HTML."""
    return Template(_resource("html")).substitute(
        title=escape(title),
        style=_resource("css"),
        body="\n".join(part for part in body if part),
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        script=_resource("js"),
    )


def _resource(suffix: str) -> str:
    return (resources.files(__package__) / f"report.{suffix}").read_text(encoding="utf-8")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# ---- Many runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """One measured result of a benchmark, as its page shows it."""

    pair: str  # what was reenacted: a name of target and driver
    method: str
    scores: Mapping[str, Score]  # by name, as far as measured; none: the run is only shown, as the driver may be
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

    Raises:
        ReenactError: the page can't be written.
    """
    body = [f"<header><h1>{escape(title)}</h1>{_notes(notes)}</header>"]
    for name, runs in groups.items():
        body += [f"<section><h2>{escape(name)}</h2>{_summary(runs)}{_pairs(runs, path.parent)}</section>"]
    write_text(path, _page(title, body, {}))


def _summary(runs: Sequence[Run]) -> str:
    methods = list(dict.fromkeys(run.method for run in runs if run.scores))
    names = dict.fromkeys(name for run in runs for name in run.scores)

    def table(parts: bool) -> str:
        rows = "".join(_summary_row(name, methods, runs) for name in names if is_part(name, names) == parts)
        heads = "".join(f'<th scope="col" class="number">{escape(method)}</th>' for method in methods)
        return rows and (
            f'<div class="card scroll"><table><thead><tr><th scope="col">Score</th>{heads}'
            f'<th scope="col" class="number">Pairs</th></tr></thead><tbody>{rows}</tbody></table></div>'
        )

    return f"{_SUMMARY_HINT}{table(parts=False)}{_folded(table(parts=True))}"


_SUMMARY_HINT = (
    '<p class="soft">Means over the pairs for which all methods were measured. ↑: higher is better, ↓: lower is '
    "better, → 1: ideally 1. The best of a row is marked.</p>"
)


def _summary_row(name: str, methods: Sequence[str], runs: Sequence[Run]) -> str:
    score = next(run.scores[name] for run in runs if name in run.scores)
    means, pairs = mean_scores(name, methods, runs)
    badness = {method: float(_badness(np.array(mean), score.better)) for method, mean in means.items()}

    def cell(method: str) -> str:
        if method not in means:
            return '<td class="number"></td>'
        is_best = badness[method] == min(badness.values()) < max(badness.values())
        mark = ' best" title="best' if is_best else ""
        return f'<td class="number{mark}">{number(means[method])}</td>'

    unit = f' <span class="unit">{escape(score.unit)}</span>' if score.unit else ""
    return (
        f'<tr><th scope="row">{escape(name)}{unit}{_arrow(score)}</th>{"".join(map(cell, methods))}'
        f'<td class="number">{pairs}</td></tr>'
    )


def mean_scores(name: str, methods: Sequence[str], runs: Sequence[Run]) -> tuple[dict[str, float], int]:
    """A score's mean for each method, over the pairs for which all of them have it; and how many pairs that are."""
    values: dict[str, dict[str, float]] = {}
    for run in runs:
        score = run.scores.get(name)
        if score is not None and score.value is not None and math.isfinite(score.value):
            values.setdefault(run.pair, {})[run.method] = score.value
    shared = [found for found in values.values() if found.keys() >= set(methods)]
    if not shared:
        return {}, 0
    return {method: float(np.mean([found[method] for found in shared])) for method in methods}, len(shared)


def _pairs(runs: Sequence[Run], folder: Path) -> str:
    by_pair: dict[str, list[Run]] = {}
    for run in runs:
        by_pair.setdefault(run.pair, []).append(run)
    cards = (
        f'<article class="card"><h3>{escape(pair)}</h3>{"".join(_run(run, folder) for run in its)}</article>'
        for pair, its in by_pair.items()
    )
    return f'<div class="runs">{"".join(cards)}</div>'


def _run(run: Run, folder: Path) -> str:
    name = escape(run.method)
    if run.report:
        link = quote(Path(os.path.relpath(run.report, folder)).as_posix())
        name = f'<a href="{escape(link)}">{name}</a>'
    alt = f"frames of {run.pair} by {run.method}"
    strip = "" if run.strip is None else f'<img src="{jpeg(run.strip)}" alt="{escape(alt)}" loading="lazy">'
    shown = [run.scores[name] for name in STRIPS if name in run.scores and run.scores[name].value is not None]
    values = ", ".join(f"{escape(score.name)} {_value(score)}" for score in shown)
    return f'<div class="run"><div>{name}</div><div>{strip}</div><p class="note">{values}</p></div>'
