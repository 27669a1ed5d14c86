"""How good a result is, in numbers: every metric, frame by frame and over the clip.

Two passes, so that no frames pile up: the first counts each clip's frames and follows its face; the second reads all
clips in step and shows each moment to every metric. Frames are paired by their index. What can't be measured is said,
with the reason, and a frame without a face is counted, not averaged away.
"""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import landmarks, plugins
from .detectors import Detector
from .devices import choose_device
from .dub import in_time
from .errors import UsageError, WeightsError
from .images import is_image, read_image
from .metrics import Clip, Context, Metric, Sample, View
from .types import Box, Floats, Frame, Landmarks, Rgb, Score
from .versions import version_of
from .video import probe, read_frames
from .video.stamps import picture_times
from .weights import WeightStore, default_root

DETECTOR = "landmarker"
"""Follows the faces: the one that knows blendshapes and head pose."""

SCHEMA = "reenact-evaluation/1"
"""What `to_json` writes; the number rises when a reader of the last could go wrong."""

Progress = Callable[[str, int, int | None], None]

_PACKAGES = ("reenact", "torch", "numpy", "opencv-python", "av", "dlib-bin")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of one result of T frames."""

    scores: tuple[Score, ...]
    seconds: NDArray[np.float64]  # [T], of the output's frames
    missing: Mapping[str, int]  # by clip ("output", "driver", "target", "truth"): frames of it without a face
    skipped: Mapping[str, str]  # by metric that was not measured: why, and what would help
    notes: tuple[str, ...]  # lines that a reader of the numbers should know
    settings: Mapping[str, str]  # versions, paths, sizes, metrics
    faces: Mapping[str, Box] = field(default_factory=dict)  # by clip that shows one: what its face keeps within

    @property
    def frames(self) -> int:
        """How many frames were measured."""
        return len(self.seconds)

    def score(self, name: str) -> Score | None:
        """The score of that name; None: there is none."""
        return next((s for s in self.scores if s.name == name), None)


def evaluate(
    output: Path | str,
    driver: Path | str,
    target: Path | str | None = None,
    truth: Path | str | None = None,
    matte: Path | str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    device: str = "auto",
    store: WeightStore | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> Evaluation:
    """Measure one result.

    Args:
        output: the result, a video or a picture.
        driver: whose expressions it should show; a picture stands for all frames.
        target: the picture of the person it should show; or the clip that it was made from, whose frames at its times
            are looked at.
        truth: what the result should have been, frame by frame and of its size: for the paired metrics.
        matte: of the output, as `reenact --matte` writes it.
        metrics: names of those wanted, in the order of the scores; None: all that there are.
        device: where the networks run, as `devices.choose_device` takes it.
        store: where third-party weights are kept and how they are fetched.
        on_progress: called with a stage ("track output", "track driver", ..., "measure"), frames done, and how many
            there will be if that is known.

    Raises:
        UsageError: no such metric or device; lengths that differ by more than a frame; truth or matte of another size.
        NoFaceError: the driver shows none.
        ReenactError: a file that can't be read; the face detector's weights can't be had.
    """
    wanted = list(plugins.names("metrics") if metrics is None else metrics)
    modules = {name: plugins.module("metrics", name) for name in wanted}
    given = {"output": output, "driver": driver, "target": target, "truth": truth, "matte": matte}
    sources = {role: _Source.opened(role, Path(path), Path(output)) for role, path in given.items() if path is not None}
    _check_sizes(sources)
    where, store, notes = choose_device(device), store or WeightStore(default_root()), _Notes()
    _, detector = landmarks.choose_detector(DETECTOR, store, where)
    clips = _first_pass(sources, detector, notes, on_progress)
    frames = _common_length(sources, clips, notes)
    context = _context(sources, clips, frames, store, where)
    chosen, skipped = _created({name: module.create for name, module in modules.items()}, context)
    seconds = _shown(chosen, _samples(sources, clips, frames, notes), lambda n: on_progress("measure", n, frames))
    missing = {role: _missing(clip, frames) for role, clip in clips.items()}
    notes.of_missing(missing, clips, frames)
    return Evaluation(
        scores=tuple(score for metric in chosen for score in metric.score()),
        seconds=np.array(seconds, np.float64),
        missing=missing,
        skipped=skipped,
        notes=tuple(notes.lines),
        settings=_settings(sources, clips, wanted, where),
        faces={role: _box(clip, frames) for role, clip in clips.items() if clip.track.found[:frames].any()},
    )


class _Notes:
    """Lines, each said once: the files are read twice."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)

    def of_missing(self, missing: Mapping[str, int], clips: Mapping[str, Clip], frames: int) -> None:
        for role, count in missing.items():
            if count:
                where = "" if clips[role].still else f" in {count} of {frames} frames"
                self.add(f"{role}: no face{where}; what needs it is not measured there")


# ---- The files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A file that can be read again and again."""

    role: str
    path: Path
    still: bool  # a picture
    width: int
    height: int
    claimed: int | None  # frames, as the file says
    times: tuple[float, ...] | None = None  # seconds at which its frames are taken; None: each of them as it comes

    @classmethod
    def opened(cls, role: str, path: Path, output: Path) -> _Source:
        if is_image(path):
            height, width = read_image(path).shape[:2]
            return cls(role, path, True, width, height, 1)
        info, times = probe(path), None
        if role == "target":  # a clip, whose frames at the output's times were dubbed
            shown = [0.0] if is_image(output) else picture_times(output)
            times = tuple(float(time - shown[0]) for time in shown)
        return cls(role, path, False, info.width, info.height, len(times) if times else info.frame_count, times)

    @property
    def stream(self) -> tuple[Path, tuple[float, ...] | None]:
        """What tells its frames from another's: a file taken at other times gives others."""
        return self.path.resolve(), self.times

    def frames(self, warn: Callable[[str], None]) -> Iterator[Frame]:
        if self.still:
            return iter([Frame(read_image(self.path), 0, 0, 0.0)])
        frames = read_frames(self.path, on_warning=warn)
        return frames if self.times is None else in_time(frames, self.times)

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def _is_size_of(source: _Source, output: _Source) -> bool:
    """Whether it has the output's size, or had it before the output was padded to even sides, as video needs it."""
    return (source.width, source.height) == (output.width, output.height) or (
        (source.width + source.width % 2, source.height + source.height % 2) == (output.width, output.height)
    )


def _check_sizes(sources: Mapping[str, _Source]) -> None:
    output = sources["output"]
    for role in ("truth", "matte"):
        if role in sources and not _is_size_of(sources[role], output):
            other = sources[role]
            raise UsageError(
                f"{other.path}: is {other.size}, and {output.path} is {output.size}; give a {role} of the output's size"
            )


def _common_length(sources: Mapping[str, _Source], clips: Mapping[str, Clip], notes: _Notes) -> int:
    """How many frames all have; pictures have as many as it takes, but for the output.

    Raises:
        UsageError: lengths differ by more than one frame.
    """
    lengths = {role: clip.frames for role, clip in clips.items() if role == "output" or not clip.still}
    if "matte" in sources and not sources["matte"].still:
        lengths["matte"] = sum(1 for _ in sources["matte"].frames(notes.add))
    short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
    fewer, more = lengths[short], lengths[long]
    said = f"{sources[long].path} has {more} frames and {sources[short].path} has {fewer}"
    if more > fewer + 1:
        raise UsageError(
            f"{said}; they are compared frame by frame, so cut the {long} to the part that the {short} shows"
        )
    if more > fewer:
        notes.add(f"{said}; the {fewer} that all have in common were measured")
    return fewer


# ---- First pass: faces -------------------------------------------------------------------------------------------


def _first_pass(
    sources: Mapping[str, _Source], detector: Detector, notes: _Notes, on_progress: Progress
) -> dict[str, Clip]:
    """The clips with their faces; where two are one stream, as driver and truth often are, it is followed once.

    Raises:
        NoFaceError: there is none in the driver.
    """
    known, clips = dict[Any, Clip](), dict[str, Clip]()
    for role, source in sources.items():
        if role != "matte":
            stream = source.stream
            clips[role] = known[stream] = known.get(stream) or _followed(source, detector, notes, on_progress)
    landmarks.require_face(clips["driver"].track, str(sources["driver"].path))
    return clips


def _followed(source: _Source, detector: Detector, notes: _Notes, on_progress: Progress) -> Clip:
    """A clip's length, and its face throughout."""
    stage = f"track {source.role}"
    track = landmarks.track_face(
        (frame.rgb for frame in source.frames(notes.add)),
        detector,
        on_progress=lambda done: on_progress(stage, done, source.claimed),
    )
    return Clip(source.path, len(track), source.width, source.height, track, source.still)


def _missing(clip: Clip, frames: int) -> int:
    return int((~clip.track.found[: 1 if clip.still else frames]).sum())


def _box(clip: Clip, frames: int) -> Box:
    """Round all of its face's points, wherever they go."""
    points = clip.track.points[:frames].reshape(-1, 2)
    left, top, right, bottom = (round(float(v), 1) for v in (*np.nanmin(points, 0), *np.nanmax(points, 0)))
    return left, top, right, bottom


# ---- Second pass: metrics ----------------------------------------------------------------------------------------


def _context(
    sources: Mapping[str, _Source], clips: Mapping[str, Clip], frames: int, store: WeightStore, device: torch.device
) -> Context:
    return Context(
        output=clips["output"],
        driver=clips["driver"],
        target=clips.get("target"),
        truth=clips.get("truth"),
        matte=sources["matte"].path if "matte" in sources else None,
        frames=frames,
        store=store,
        device=device,
    )


def _created(
    makers: Mapping[str, Callable[[Context], Metric | str]], context: Context
) -> tuple[list[Metric], dict[str, str]]:
    """The metrics that can be measured here, and why the others can't."""
    made, skipped = list[Metric](), dict[str, str]()
    for name, create in makers.items():
        try:
            metric = create(context)
        except WeightsError as error:
            metric = str(error)
        if isinstance(metric, str):
            skipped[name] = metric
        else:
            made.append(metric)
    return made, skipped


def _shown(metrics: Sequence[Metric], samples: Iterator[Sample], on_progress: Callable[[int], None]) -> list[float]:
    """Show every sample to every metric; returns the samples' seconds."""
    seconds = []
    for sample in samples:
        for metric in metrics:
            metric.update(sample)
        seconds.append(sample.seconds)
        on_progress(len(seconds))
    return seconds


def _samples(sources: Mapping[str, _Source], clips: Mapping[str, Clip], frames: int, notes: _Notes) -> Iterator[Sample]:
    """The moments that all clips have in common. A stream is read once: what it is twice is one view."""
    numbers = _numbered(sources)
    streams = {numbers[role]: _endless(source, sources["output"], notes) for role, source in sources.items()}
    clips_of = {numbers[role]: clip for role, clip in clips.items()}
    for index in range(frames):
        now = {number: next(stream) for number, stream in streams.items()}
        views = {number: View(now[number].rgb, _face(clip, index)) for number, clip in clips_of.items()}
        seen = {role: views[numbers[role]] for role in clips}
        yield Sample(
            index=index,
            seconds=now[numbers["output"]].seconds,
            output=seen["output"],
            driver=seen["driver"],
            target=seen.get("target"),
            truth=seen.get("truth"),
            matte=np.ascontiguousarray(now[numbers["matte"]].rgb[:, :, 0]) if "matte" in numbers else None,
        )


def _numbered(sources: Mapping[str, _Source]) -> dict[str, int]:
    """The number of each one's stream; the same where two are one."""
    streams = [source.stream for source in sources.values()]
    return {role: streams.index(source.stream) for role, source in sources.items()}


def _endless(source: _Source, output: _Source, notes: _Notes) -> Iterator[Frame]:
    """Its frames, padded as the output was, see `_is_size_of`; a picture again and again, the same object."""
    frames = source.frames(notes.add)
    if _is_size_of(source, output) and source.size != output.size:
        frames = (replace(frame, rgb=_padded(frame.rgb, output.height, output.width)) for frame in frames)
    return repeat(next(frames)) if source.still else frames


def _padded(rgb: Rgb, height: int, width: int) -> Rgb:
    """[height,width,3], the last row and column repeated."""
    return np.pad(rgb, ((0, height - rgb.shape[0]), (0, width - rgb.shape[1]), (0, 0)), mode="edge")


def _face(clip: Clip, index: int) -> Landmarks | None:
    track, row = clip.track, 0 if clip.still else index
    if not track.found[row]:
        return None
    shapes = None if track.blendshapes is None else track.blendshapes[row]
    pose = None if track.pose is None else track.pose[row]
    return Landmarks(track.points[row], float(track.score[row]), shapes, pose)


def _settings(
    sources: Mapping[str, _Source], clips: Mapping[str, Clip], metrics: Sequence[str], device: torch.device
) -> dict[str, str]:
    """Everything that the numbers depend on, by name."""
    versions = {name: version for name in _PACKAGES if (version := version_of(name))}
    files = {role: str(source.path) for role, source in sources.items()}
    sizes = {f"{role} size": source.size for role, source in sources.items()}
    frames = {f"{role} frames": "a picture" if clip.still else str(clip.frames) for role, clip in clips.items()}
    return {
        **files, **sizes, **frames, "metrics": ", ".join(metrics), "detector": DETECTOR, "device": str(device),
        "python": platform.python_version(), **versions,
    }  # fmt: skip


# ---- Files of numbers --------------------------------------------------------------------------------------------


def to_json(evaluation: Evaluation) -> str:
    """All of it, every frame: an object of schema `SCHEMA`; what was not measured is null.

    Keys: schema, frames, seconds [T], missing, skipped, faces, notes, settings, scores; of a score: name, unit, better,
    value, worst (index of a frame), measured (frames that count), note, per_frame [T] or null.
    """
    e = evaluation
    content = {
        "schema": SCHEMA,
        "frames": e.frames,
        "settings": dict(e.settings),
        "notes": list(e.notes),
        "missing": dict(e.missing),
        "skipped": dict(e.skipped),
        "faces": {role: list(box) for role, box in e.faces.items()},
        "seconds": [round(s, 6) for s in e.seconds.tolist()],
        "scores": [_score_object(score) for score in e.scores],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _score_object(score: Score) -> dict[str, Any]:
    return {
        "name": score.name,
        "unit": score.unit,
        "better": score.better,
        "value": _number(score.value),
        "worst": score.worst,
        "measured": score.measured,
        "note": score.note,
        "per_frame": None if score.per_frame is None else [_number(v) for v in score.per_frame.tolist()],
    }


def _number(value: float | None) -> float | None:
    """As few figures as tell one float32 from the next; None for what is no number."""
    return None if value is None or not math.isfinite(value) else float(str(np.float32(value)))


def from_json(text: str) -> Evaluation:
    """What `to_json` wrote.

    Raises:
        UsageError: it is something else.
    """
    try:
        content = json.loads(text)
        if content["schema"] != SCHEMA:
            raise UsageError(f"an evaluation of schema {content['schema']}; this version reads {SCHEMA}")
        return Evaluation(
            scores=tuple(_score_of(item) for item in content["scores"]),
            seconds=np.array(content["seconds"], np.float64),
            **{key: content[key] for key in ("missing", "skipped", "settings")},
            notes=tuple(content["notes"]),
            faces={role: (left, top, right, bottom) for role, (left, top, right, bottom) in content["faces"].items()},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("not an evaluation as `reenact evaluate --json` writes it") from error


def _score_of(item: Mapping[str, Any]) -> Score:
    values = item["per_frame"]
    rows: Floats | None = None if values is None else np.array(values, np.float32)  # None becomes NaN
    return Score(item["name"], item["unit"], item["better"], item["value"], rows, item["note"])


def to_csv(evaluation: Evaluation) -> str:
    """A row a frame: its index, its seconds, then a column a score; what was not measured is empty.

    The last row, whose frame is "clip", holds the scores of the whole clip.
    """
    e, text = evaluation, io.StringIO()
    columns = [s.per_frame.tolist() if s.per_frame is not None else [None] * e.frames for s in e.scores]
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["frame", "seconds", *(s.name for s in e.scores)])
    for index, seconds in enumerate(e.seconds.tolist()):
        rows.writerow([index, round(seconds, 6), *(_number(column[index]) for column in columns)])
    rows.writerow(["clip", None, *(_number(s.value) for s in e.scores)])
    return text.getvalue()
