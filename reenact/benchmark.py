"""Many results, made by several methods and measured alike; what is done already is not done again.

    FOLDER/                       index.html  results.csv  results.json
    FOLDER/PAIR/                  target.png, driver.mp4, truth.mp4: what is no file of the pair's own
    FOLDER/PAIR/METHOD/           out.mp4  matte.mkv  report.html  evaluation.json

`evaluation.json` is written last and holds a digest of inputs and settings: a run that has the same digest is whole.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from . import baselines, plugins
from .errors import ReenactError, UsageError
from .evaluate import SCHEMA, Evaluation, evaluate, from_json, to_json
from .files import write_text
from .images import is_image, write_image
from .manifest import Pair
from .miniatures import film_strip
from .options import Hooks, Options
from .pipeline import reenact
from .report import Run, benchmark_page, mean_scores, write_report
from .types import Frame, Rgb, Score
from .versions import version_of
from .video import MatteWriter, VideoWriter, probe, read_frames
from .weights import WeightStore, default_root

METHODS: dict[str, baselines.Method] = {"reenact": reenact, **baselines.METHODS}
"""By their names on the command line."""

GROUPS = {
    "self": "Self-reenactment: the first frame is the target, the clip is the truth",
    "paired": "Two people, with a truth: the one with the expressions of the other",
    "cross": "Two people, without a truth",
}
"""What pairs have in common, and what their part of the page is called."""

_DIGEST = "benchmark digest"  # its name in `Evaluation.settings`


@dataclass(frozen=True)
class Settings:
    """What all runs have in common."""

    methods: tuple[str, ...] = tuple(METHODS)
    options: Options = field(default_factory=Options)  # `max_frames` cuts drivers and truths before all else
    metrics: tuple[str, ...] | None = None  # None: all


@dataclass(frozen=True)
class Files:
    """What a pair's runs read: the pair's own files, or what is made of them."""

    target: Path
    driver: Path
    truth: Path | None

    @classmethod
    def of(cls, pair: Pair, folder: Path, options: Options) -> Files:
        """Where they are, or will be in the pair's folder."""

        def clip(path: Path, copy: str) -> Path:
            return path if options.max_frames is None or is_image(path) else folder / copy

        driver = clip(pair.driver, "driver.mp4")
        if pair.target is None:
            return cls(folder / "target.png", driver, driver)
        return cls(pair.target, driver, pair.truth and clip(pair.truth, "truth.mp4"))

    def clips(self) -> dict[str, Path]:
        """In the order in which pages show them; a driver that is its own truth once."""
        clips = {"target": self.target, "driver": self.driver}
        return {**clips, "truth": self.truth} if self.truth and self.truth != self.driver else clips


@dataclass(frozen=True, eq=False)
class Outcome:
    """How one pair went by one method."""

    pair: Pair
    method: str
    files: Files
    folder: Path
    evaluation: Evaluation | None  # None: it failed, and `error` says why
    error: str = ""
    again: bool = False  # it had been done before

    @property
    def group(self) -> str:
        """Of `GROUPS`."""
        return group_of(self.pair)

    @property
    def scores(self) -> Mapping[str, Score]:
        """By name; none where it failed."""
        return {score.name: score for score in self.evaluation.scores} if self.evaluation else {}


def group_of(pair: Pair) -> str:
    """Of `GROUPS`."""
    return "self" if pair.kind == "self" else "paired" if pair.truth else "cross"


def run_benchmark(
    pairs: Sequence[Pair],
    folder: Path,
    settings: Settings | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
) -> list[Outcome]:
    """Make and measure every pair by every method, then write the page and the tables over all.

    A run that fails for a reason that its user can mend is warned of, and the others go on.

    Args:
        pairs: of `manifest.read_manifest`.
        folder: where everything goes; what is there from before is used if it is of the same inputs and settings.
        settings: methods, options, metrics.
        store: where third-party weights are kept and how they are fetched.
        hooks: progress; a note of every run as it begins; warnings, with the pair and the method.

    Raises:
        UsageError: no such method or metric, or the folder can't be made.
    """
    settings, hooks = settings or Settings(), hooks or Hooks()
    store = store or WeightStore(default_root())
    check_settings(settings)
    _make_folder(folder)
    outcomes = list[Outcome]()
    for number, pair in enumerate(pairs, 1):
        note = _prefixed(hooks.note, f"pair {number} of {len(pairs)}, {pair.name}")
        own = Hooks(progress=hooks.progress, note=note, warn=_prefixed(hooks.warn, pair.name))
        outcomes += _outcomes(pair, folder / pair.name, settings, store, own)
    write_text(folder / "results.json", to_results_json(outcomes, settings))
    write_text(folder / "results.csv", to_results_csv(outcomes))
    write_page(folder / "index.html", outcomes, settings)
    return outcomes


def check_settings(settings: Settings) -> None:
    """Do nothing if there are such methods and metrics.

    Raises:
        UsageError: there are not.
    """
    for what, names, known in (
        ("method", settings.methods, list(METHODS)),
        ("metric", settings.metrics or (), plugins.names("metrics")),
    ):
        for name in names:
            if name not in known:
                raise UsageError(f"no {what} named {name!r}; there are: {', '.join(known)}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: can't be a folder for results ({error.strerror}); name another") from error


def _prefixed(say: Callable[[str], None], whose: str) -> Callable[[str], None]:
    return lambda line: say(f"{whose} {line}")


# ---- One pair ------------------------------------------------------------------------------------------------------


def _outcomes(pair: Pair, folder: Path, settings: Settings, store: WeightStore, hooks: Hooks) -> Iterator[Outcome]:
    """A pair by every method."""
    files = Files.of(pair, folder, settings.options)
    inputs, prepared = cache(lambda: _inputs(pair)), cache(lambda: _prepare(pair, folder, files, settings.options))
    for method in settings.methods:
        place, whose = folder / method, f"by {method}:"
        own = Hooks(progress=hooks.progress, warn=_prefixed(hooks.warn, whose))  # the pipeline's notes are left out
        try:
            digest = _digest(inputs(), method, settings)
            evaluation = _finished(place, digest)
            again = evaluation is not None
            hooks.note(f"by {method}" + ": done before" * again)
            if evaluation is None:
                prepared()
                evaluation = _run(files, method, place, digest, settings, store, own)
            yield Outcome(pair, method, files, place, evaluation, again=again)
        except ReenactError as error:
            hooks.warn(f"{whose} {error}")
            yield Outcome(pair, method, files, place, None, str(error))


def _inputs(pair: Pair) -> tuple[str, ...]:
    """What a pair is made from, whatever its files are called."""
    files = {role: path for role in ("target", "driver", "truth") if (path := getattr(pair, role))}
    return (pair.kind, *(f"{role} {_sha256(path)}" for role, path in files.items()))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ReenactError(f"{path}: can't be read ({error.strerror})") from error
    return digest.hexdigest()


def _digest(inputs: tuple[str, ...], method: str, settings: Settings) -> str:
    """Sixteen hexadecimal digits for all that a run's numbers depend on, but for the machine."""
    metrics = settings.metrics or tuple(plugins.names("metrics"))
    parts = (str(version_of("reenact")), SCHEMA, method, repr(settings.options), repr(metrics), *inputs)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _finished(place: Path, digest: str) -> Evaluation | None:
    """What was measured before, if it is of the same inputs and settings and its files are there."""
    if not all((place / name).exists() for name in ("out.mp4", "matte.mkv", "report.html")):
        return None
    with suppress(OSError, UnicodeDecodeError, UsageError):
        evaluation = from_json((place / "evaluation.json").read_text(encoding="utf-8"))
        if evaluation.settings.get(_DIGEST) == digest:
            return evaluation
    return None


def _prepare(pair: Pair, folder: Path, files: Files, options: Options) -> None:
    """Make what is no file of the pair's own."""
    _make_folder(folder)
    for clip, copy in ((pair.driver, files.driver), (pair.truth, files.truth)):
        if clip and copy and clip != copy and options.max_frames:
            _shorten(clip, copy, options.max_frames)
    if files.target != pair.target:
        write_image(files.target, next(iter(read_frames(files.driver, max_frames=1))).rgb)


def _shorten(clip: Path, copy: Path, frames: int) -> None:
    """Copy a clip's first frames without loss, and their sound: metrics compare whole files."""
    info = probe(clip)
    cut = VideoWriter(copy, info.width, info.height, info, audio_from=clip, cut=True, overwrite=True, crf=0)
    with cut as video:
        for frame in read_frames(clip, max_frames=frames):
            video.write(frame)


# ---- One run -------------------------------------------------------------------------------------------------------


def _run(
    files: Files, method: str, place: Path, digest: str, settings: Settings, store: WeightStore, hooks: Hooks
) -> Evaluation:
    """Make, measure, show; the evaluation is the last file to be written."""
    _make_folder(place)
    output, matte = place / "out.mp4", place / "matte.mkv"
    (place / "evaluation.json").unlink(missing_ok=True)  # of other inputs or settings, and no longer true
    _save(METHODS[method](files.target, files.driver, settings.options, store, hooks), output, matte, files, hooks)
    found = evaluate(
        output, files.driver, files.target, files.truth, matte,
        metrics=settings.metrics, device=settings.options.device, store=store, on_progress=hooks.progress,
    )  # fmt: skip
    own = {"method": method, "options": repr(settings.options), _DIGEST: digest}
    found = replace(found, settings={**found.settings, **own})
    write_report(
        place / "report.html", found, {**files.clips(), "output": output},
        lambda done, total: hooks.progress("report", done, total),
    )  # fmt: skip
    write_text(place / "evaluation.json", to_json(found))
    return found


def _save(frames: Iterator[Frame], output: Path, matte: Path, files: Files, hooks: Hooks) -> None:
    """Write all frames, and their mattes."""
    info = None if is_image(files.driver) else probe(files.driver)
    sound = files.driver if info else None
    first = next(frames)
    height, width = first.rgb.shape[:2]
    with (
        VideoWriter(output, width, height, info, audio_from=sound, overwrite=True, on_warning=hooks.warn) as video,
        MatteWriter(matte, width, height, info, audio_from=sound, overwrite=True) as mask,
    ):
        for frame in chain([first], frames):
            video.write(frame)
            mask.write(frame)


# ---- All of them ---------------------------------------------------------------------------------------------------


def in_groups(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by group, in the order of `GROUPS`, without empty ones."""
    everything = list(outcomes)
    grouped = {group: [o for o in everything if o.group == group] for group in GROUPS}
    return {group: found for group, found in grouped.items() if found}


def to_results_json(outcomes: Sequence[Outcome], settings: Settings) -> str:
    """All runs' scores over their clips, and their means by group over the pairs that every method has."""
    content = {
        "schema": "reenact-benchmark/1",
        "reenact": version_of("reenact"),
        "methods": list(settings.methods),
        "options": repr(settings.options),
        "runs": [_run_object(outcome) for outcome in outcomes],
        "means": {
            group: {name: _mean_object(mean) for name, mean in means(found).items()}
            for group, found in in_groups(outcomes).items()
        },
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _run_object(outcome: Outcome) -> dict[str, Any]:
    return {
        "pair": outcome.pair.name,
        "group": outcome.group,
        "method": outcome.method,
        "error": outcome.error or None,
        "frames": outcome.evaluation.frames if outcome.evaluation else 0,
        "scores": {
            name: {"value": _rounded(s.value), "unit": s.unit, "better": s.better, "note": s.note}
            for name, s in outcome.scores.items()
        },
    }


@dataclass(frozen=True)
class Mean:
    """A score's mean over pairs, by method."""

    pairs: int
    by_method: Mapping[str, float]


def means(outcomes: Sequence[Outcome]) -> dict[str, Mean]:
    """Of one group's outcomes, by score, over the pairs for which every method has it; scores without any left out."""
    runs = [_page_run(outcome) for outcome in outcomes]
    methods = list(dict.fromkeys(run.method for run in runs))
    names = dict.fromkeys(name for run in runs for name in run.scores)
    found = {name: mean_scores(name, methods, runs) for name in names}
    return {name: Mean(pairs, by_method) for name, (by_method, pairs) in found.items() if pairs}


def _mean_object(mean: Mean) -> dict[str, Any]:
    return {"pairs": mean.pairs, "methods": {method: _rounded(value) for method, value in mean.by_method.items()}}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")


def to_results_csv(outcomes: Sequence[Outcome]) -> str:
    """A row a run, a column a score; empty where it was not measured."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.scores))
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["pair", "group", "method", "error", *names])
    for o in outcomes:
        values = [_rounded(o.scores[name].value) if name in o.scores else None for name in names]
        out.writerow([o.pair.name, o.group, o.method, o.error, *("" if v is None else v for v in values)])
    return text.getvalue()


def write_page(path: Path, outcomes: Sequence[Outcome], settings: Settings) -> None:
    """Write the page over all runs; what failed is said under its heading."""
    groups = {GROUPS[group]: list(_page_runs(found)) for group, found in in_groups(outcomes).items()}
    length = settings.options.max_frames
    notes = [
        f"reenact {version_of('reenact') or 'not installed'}; methods: {', '.join(settings.methods)}",
        *([f"The first {length} frames of each driver"] if length else []),
        *(f"{o.pair.name} by {o.method}: {o.error}" for o in outcomes if o.error),
    ]
    benchmark_page(path, "Benchmark", groups, notes)


def _page_runs(outcomes: Sequence[Outcome]) -> Iterator[Run]:
    """The runs that went well, driver and truth of a pair before the first of them."""
    shown = set[str]()
    for outcome in outcomes:
        if outcome.evaluation is None:
            continue
        if outcome.pair.name not in shown:
            shown.add(outcome.pair.name)
            yield from _source_runs(outcome, outcome.evaluation)
        strip = _strip(outcome.evaluation, "output", outcome.folder / "out.mp4")
        yield replace(_page_run(outcome), report=outcome.folder / "report.html", strip=strip)


def _source_runs(outcome: Outcome, evaluation: Evaluation) -> Iterator[Run]:
    """A pair's driver and truth, which are only shown."""
    clips = outcome.files.clips()
    for role in ("driver", "truth"):
        if role in clips:
            yield Run(outcome.pair.name, role, {}, None, _strip(evaluation, role, clips[role]))


def _page_run(outcome: Outcome) -> Run:
    return Run(outcome.pair.name, outcome.method, outcome.scores)


def _strip(evaluation: Evaluation, role: str, path: Path) -> Rgb:
    return film_strip(path, evaluation.frames, evaluation.faces.get(role))


# ---- The paper's table 1 -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableRow:
    """A row of the paper's table 1, and how it compares with direct transfer in the same table."""

    name: str
    l1: float
    l2: float
    ssim: float
    l1_ratio: float | None = None  # None: direct transfer was not measured, or has no error
    l2_ratio: float | None = None
    ssim_gain: float | None = None

    def against(self, direct: TableRow | None) -> TableRow:
        """The same row, compared."""
        if direct is None:
            return self
        ratios = (self.l1 / direct.l1 if direct.l1 else None, self.l2 / direct.l2 if direct.l2 else None)
        return TableRow(self.name, self.l1, self.l2, self.ssim, *ratios, self.ssim - direct.ssim)


_PAPER = (
    TableRow("direct transfer", 1790, 211, 0.815),
    TableRow("cGAN", 1360, 152, 0.873),
    TableRow("the paper's method", 1024, 136, 0.901),
)
PAPER_TABLE = tuple(row.against(_PAPER[0]) for row in _PAPER)
"""What the paper says (Yang & Lim, table 1). It does not name the unit of its L1 and L2."""

_TABLE_NAMES = {"direct": "direct transfer"}  # what the paper calls it


def table1(outcomes: Sequence[Outcome], where: str = "") -> tuple[list[TableRow], int]:
    """The paper's table 1 of a group's outcomes, a row a method, and over how many pairs it is.

    Means over frames, then over the pairs for which all methods were measured. L1 and L2 are those of
    `metrics.pixels`, of RGB values 0..255.

    Args:
        outcomes: of one group.
        where: "" for whole frames, "-face" for what is inside the face.
    """
    found = means(outcomes)
    columns = [found[name] for name in (f"l1{where}", f"l2{where}", f"ssim{where}") if name in found]
    if len(columns) < 3:
        return [], 0
    rows = {m: TableRow(_TABLE_NAMES.get(m, m), *(c.by_method[m] for c in columns)) for m in columns[0].by_method}
    return [row.against(rows.get("direct")) for row in rows.values()], min(c.pairs for c in columns)
