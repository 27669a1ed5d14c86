"""Where the time of a reenactment goes, and how it compares with the paper's recipe.

    python tools/bench.py TARGET DRIVER --preset balanced --max-frames 40 --json bench.json
    python tools/bench.py TARGET DRIVER --lengths 25 50 100         # also time against length
    python tools/bench.py TARGET DRIVER --plot quality.png          # also quality against time, over the presets
    python tools/bench.py TARGET --paper --json tools/paper.json    # the paper's recipe in full; takes an hour or more

The first runs the pipeline in this process, without encoding: seconds, shares and the generator's pictures by stage,
start-up, peak memory; then it times a few steps of the paper's recipe, and how long the program's own searches for the
target take to be as near to the photo as the paper's (ST-LPIPS, VGG, 256 pixels, of the whole crop), which --paper
wrote down. A --paper run that was cut off goes on from its file. On a machine that others share, compare figures of one
run only.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reenact import generators, landmarks
from reenact import run as running
from reenact.align import cut_out, ffhq_crop
from reenact.devices import choose_device
from reenact.evaluate import Evaluation, evaluate
from reenact.files import write_arrays, write_text
from reenact.fuse import FuseOptions
from reenact.generators import Generator
from reenact.images import read_image, to_tensor, write_image
from reenact.invert import PAPER, OnStep, invert
from reenact.options import PRESETS, Hooks, Options
from reenact.perceptual import load_features, load_vgg, lpips_distance, lpips_features
from reenact.pipeline import reenact
from reenact.trace import even_axis, plot
from reenact.types import Frame, Inversion
from reenact.video import VideoWriter, probe, read_frames
from reenact.weights import WeightStore, default_root

SEEN = 256  # pixels: where ST-LPIPS compares
PAPER_RUN = Path(__file__).with_name("paper.json")
EVERY = 25  # steps of the paper's recipe between two measurements of ST-LPIPS
TIMED = 3  # of its steps, after one that warms up
ENOUGH = "10x steps"  # of balanced
Sync = Callable[[], None]


def sync_of(device: torch.device) -> Sync:
    """What waits until a device has done all that it was told to: before any look at the clock."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else lambda: None


# ---- Watching ------------------------------------------------------------------------------------------------------


class Passes:
    """Counts a generator's pictures: by size, and whether a gradient came back through them."""

    def __init__(self) -> None:
        self.forward: Counter[int] = Counter()
        self.backward: Counter[int] = Counter()
        self.counting = Lock()  # faces are drawn in several threads

    def watch(self, generator: Generator) -> Watched:
        """The generator, counted."""
        return Watched(generator, self)

    def take(self) -> dict[str, int]:
        """What was counted since the last call, as "256 forward and backward" -> 12."""
        with self.counting:
            both, forward = self.backward, self.forward - self.backward
            self.forward, self.backward = Counter(), Counter()
        return {
            f"{size} {how}": n
            for how, counts in (("forward and backward", both), ("forward", forward))
            for size, n in sorted(counts.items())
        }


class Watched:
    """A generator whose pictures are counted."""

    def __init__(self, generator: Generator, passes: Passes) -> None:
        self.__dict__.update(_generator=generator, _passes=passes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._generator, name, value)

    def synthesize(self, w: Tensor, size: int) -> Tensor:
        """See `Generator.synthesize`."""
        passes, pictures = self._passes, self._generator.synthesize(w, size)
        with passes.counting:
            passes.forward[size] += len(w)
        if pictures.requires_grad:
            pictures.register_hook(lambda _: passes.backward.update({size: len(w)}))
        return pictures  # type: ignore[no-any-return]  # `_generator` is set past mypy's eyes


class Stopwatch:
    """Sums up seconds and the generator's pictures between reports, stage by stage."""

    def __init__(self, passes: Passes, sync: Sync = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.passes: dict[str, Counter[str]] = {}
        self._passes, self._sync = passes, sync
        self._last = time.perf_counter()

    def lap(self, stage: str, done: int, total: int | None = None) -> None:
        """Book the time since the last report on `stage`."""
        self._sync()
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self.counts[stage] = done
        self.passes.setdefault(stage, Counter()).update(self._passes.take())
        self._last = now

    def note(self, line: str) -> None:
        """Book what comes before the first stage as "start": notes tell of each network that is loaded."""
        if self.seconds.keys() <= {"start"}:
            self.lap("start", 1)


class Search:
    """Stands in for `invert`, and keeps the way of the first search, the target's: seconds and latents by step."""

    def __init__(self, sync: Sync) -> None:
        self.seconds: list[float] = []
        self.latents: list[Tensor] = []
        self.losses: tuple[float, ...] = ()
        self._sync = sync

    def __call__(self, *args: Any, **more: Any) -> Inversion:
        """See `invert`."""
        if self.latents:
            return invert(*args, **more)
        self._sync()
        began = time.perf_counter()

        def told(step: int, loss: float, w: Tensor) -> None:
            self._sync()
            self.seconds.append(time.perf_counter() - began)
            self.latents.append(w.clone())

        found = invert(*args, **{**more, "on_step": told})
        self.losses = found.losses
        return found


# ---- One run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What one reenactment took."""

    frames: int
    seconds: dict[str, float]  # by stage
    counts: dict[str, int]
    passes: dict[str, dict[str, int]]
    peak_mb: float  # of this process so far
    gpu_peak_mb: float | None

    @property
    def running(self) -> float:
        """Seconds without the start."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage != "start")


def count(frames: Iterable[Frame]) -> int:
    """How many there are."""
    return sum(1 for _ in frames)


def measure(target: Path, driver: Path, options: Options, use: Callable[[Iterator[Frame]], int] = count) -> Measured:
    """Run the pipeline; `use` takes its frames and says how many they were."""
    device = choose_device(options.device)
    passes, load = Passes(), generators.load
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    watch = Stopwatch(passes, sync_of(device))
    with patch.object(generators, "load", lambda *args: passes.watch(load(*args))):
        frames = use(reenact(target, driver, options, hooks=Hooks(progress=watch.lap, note=watch.note)))
    booked = {stage: dict(counted) for stage, counted in watch.passes.items()}
    on_gpu = torch.cuda.max_memory_allocated(device) / (1 << 20) if device.type == "cuda" else None
    return Measured(frames, watch.seconds, watch.counts, booked, peak_megabytes(), on_gpu)


def peak_megabytes() -> float:
    """The largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def import_seconds() -> float:
    """What a new process takes until the program is imported."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import reenact.pipeline"], check=True)
    return time.perf_counter() - began


def print_stages(found: Measured) -> None:
    """A line a stage."""
    whole = sum(found.seconds.values())
    print(f"{'stage':8} {'seconds':>8} {'share':>6} {'count':>6} {'each':>8}  the generator's pictures")
    for stage, seconds in found.seconds.items():
        count = found.counts[stage]
        drawn = ", ".join(f"{n} of {what}" for what, n in found.passes[stage].items())
        print(f"{stage:8} {seconds:8.2f} {seconds / whole:6.0%} {count:6} {seconds / count:8.3f}  {drawn}")
    gpu = "" if found.gpu_peak_mb is None else f", {found.gpu_peak_mb:.0f} MB on the GPU"
    print(f"peak memory {found.peak_mb:.0f} MB{gpu}, {torch.get_num_threads()} threads")


def time_against_length(target: Path, driver: Path, options: Options, lengths: Sequence[int]) -> dict[str, Any]:
    """Runs of so many frames each, and the line through their seconds without the start."""
    runs = [measure(target, driver, replace(options, max_frames=n)) for n in sorted(lengths)]
    frames, seconds = np.array([r.frames for r in runs]), np.array([r.running for r in runs])
    slope, offset = np.polyfit(frames, seconds, 1)
    off = float(np.abs(slope * frames + offset - seconds).max() / seconds.max())
    for run in runs:
        print(f"{run.frames} frames: {run.running:.2f} s, peak memory so far {run.peak_mb:.0f} MB")
    print(f"{offset:.2f} s and {slope:.3f} s a frame; no run is further off this line than {off:.1%} of the longest")
    return {"runs": [asdict(r) for r in runs], "each": float(slope), "before": float(offset), "off": off}


# ---- The paper's recipe --------------------------------------------------------------------------------------------


class Paper:
    """The paper's recipe on one photo, and ST-LPIPS of what is drawn to the photo."""

    def __init__(self, target: Path, device: torch.device) -> None:
        store = WeightStore(default_root())
        self.generator = generators.load(PRESETS["paper"].generator, store, device)
        self.features, self.whose = load_features("auto", PAPER.distance, store, device)
        self._judge = load_vgg(store, device)
        rgb = read_image(target)
        _, detector = landmarks.choose_detector("auto", store, device)
        crop = ffhq_crop(landmarks.find_face(rgb, detector, str(target)).points)
        self.picture = to_tensor(cut_out(rgb, crop, self.generator.sizes[-1]).rgb, device)
        self._truth = self._seen(self.picture)

    @torch.inference_mode()
    def _seen(self, picture: Tensor) -> list[Tensor]:
        return lpips_features(self._judge, F.adaptive_avg_pool2d(picture.clamp(-1, 1), SEEN))

    @torch.inference_mode()
    def st_lpips(self, w: Tensor) -> float:
        """Of the whole picture of a latent [L,512] to the photo's crop."""
        drawn = self._seen(self.generator.synthesize(w[None].float(), self.generator.sizes[-1]))
        return lpips_distance(drawn, self._truth).item()

    @property
    def start(self) -> str:
        """Where the recipe begins: the paper's "zero", or the generator's "mean"."""
        return "mean" if self.generator.origin.any() else "zero"

    def invert(self, steps: int, start: Tensor | None, on_step: OnStep) -> None:
        """So many steps of the recipe; from `start`, they go on as if never interrupted: it has no memory but w."""
        recipe = replace(PAPER, steps=steps, patience=steps)
        invert(self.generator, self.features, self.picture, recipe, start, on_step=on_step)


def step_seconds(paper: Paper, sync: Sync) -> float:
    """Of one of the paper's steps, measured now: the mean of a few, after one that warms up."""
    times: list[float] = []

    def told(step: int, loss: float, w: Tensor) -> None:
        sync()
        times.append(time.perf_counter())

    paper.invert(TIMED + 1, None, told)
    return (times[-1] - times[0]) / TIMED


def run_paper(target: Path, steps: int, path: Path, device: torch.device) -> None:
    """The recipe in full: its losses, ST-LPIPS on the way and its own seconds, into `path`, again and again."""
    kept = path.with_suffix(".npz")  # the latent to go on from
    paper, sync = Paper(target, device), sync_of(device)
    run, start = _begun(path, kept, {"target": target.name, "steps": steps, "start": paper.start})
    before = len(run["losses"])
    clock = time.perf_counter()

    def told(step: int, loss: float, w: Tensor) -> None:
        nonlocal clock
        done = before + step
        sync()
        run["seconds"] += time.perf_counter() - clock
        run["losses"].append(loss)
        if done % EVERY == 1 or done == steps:
            run["st_lpips"][str(done)] = paper.st_lpips(w)
            print(f"step {done}: loss {loss:.5g}, ST-LPIPS {run['st_lpips'][str(done)]:.4f}", flush=True)
            write_arrays(kept, {"w": w.cpu().numpy(), "step": np.array(done)})
            write_text(path, json.dumps(run, indent=1) + "\n")
        clock = time.perf_counter()

    print(f"features: {paper.whose}")
    if before < steps:
        paper.invert(steps - before, start, told)
    kept.unlink(missing_ok=True)


def _begun(path: Path, kept: Path, asked: dict[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
    """An earlier run of what is asked for, but for the step that its latent will do again; or a new one."""
    other = "remove it, or name another file"
    if not path.exists():
        if kept.exists():
            sys.exit(f"{kept}: is of a run whose record, {path}, is missing; {other}")
        return {**asked, "seconds": 0.0, "losses": [], "st_lpips": {}}, None
    run = json.loads(path.read_text(encoding="utf-8"))
    done = len(run["losses"])
    if {name: _known(run)[name] for name in asked} != asked:
        sys.exit(f"{path}: is {_told(run)}; {other}")
    if not kept.exists():
        why = "is there already" if done == run["steps"] else f"can't be gone on with, {kept} is missing"
        sys.exit(f"{path}: {why}: {_told(run)}; {other}")
    with np.load(kept) as file:
        if file["step"] != done:  # it was cut off between the two
            sys.exit(f"{kept}: is of step {file['step']}, {path} of step {done}; remove both, or name another file")
        run["losses"].pop()
        return run, torch.from_numpy(file["w"])


def _known(run: dict[str, Any]) -> dict[str, Any]:
    """A record of the paper's recipe; those that do not say where it began are of when all began at zero."""
    return {"start": "zero", **run}


def _told(run: dict[str, Any]) -> str:
    return f"of {len(run['losses'])} of {run['steps']} steps on {run['target']} from {_known(run)['start']}"


def near_enough(
    paper: Paper, target: Path, driver: Path, options: Options, wanted: float | None, sync: Sync
) -> dict[str, Any]:
    """The pipeline's own search for the target: how near it comes, when, and when it is as near as `wanted`."""
    search = Search(sync)
    with patch.object(running, "invert", search):
        running.Run(target, driver, replace(options, max_frames=1), WeightStore(default_root()), Hooks())
    distances, there = {}, None
    for step, w in enumerate(search.latents, 1):  # each takes longer than a step of the search: no more than needed
        last = step == len(search.latents)
        if step == 1 or last or (wanted is not None and there is None):
            distances[step] = paper.st_lpips(w)
            if there is None and wanted is not None and distances[step] <= wanted:
                there = step
    return {"seconds": search.seconds, "st_lpips": distances, "losses": search.losses, "step_as_near": there}


def against_paper(target: Path, driver: Path, options: Options, device: torch.device, record: Path) -> dict[str, Any]:
    """A step of the paper's recipe measured now, and the program's searches against what it came to in full."""
    sync, paper = sync_of(device), Paper(target, device)
    step = step_seconds(paper, sync)
    whole = step * PAPER.steps
    print(f"the paper's recipe: {step:.2f} s a step; {PAPER.steps} steps, extrapolated: {whole:.0f} s")
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    wanted = None
    if known is None:
        print(f"{record}: there is none, so what the paper's recipe comes to is not known; --paper --json writes it")
    elif (known["target"], len(known["losses"]), _known(known)["start"]) != (target.name, known["steps"], paper.start):
        print(f"{record}: is {_told(known)}, not of all steps on {target.name} from {paper.start}; not compared")
    else:
        wanted = known["st_lpips"][str(known["steps"])]
        print(f"after {known['steps']} steps its ST-LPIPS was {wanted:.4f}")
    searches = {
        "colours": options,  # of a face that is drawn already
        "whole face": replace(options, fuse=FuseOptions(method="solve")),
        "nearer": replace(
            options, fuse=FuseOptions(method="solve"), target=replace(options.target, sizes=((256, 1.0),), near=0.1)
        ),
    }
    found = {}
    for name, each in searches.items():
        found[name] = one = near_enough(paper, target, driver, each, wanted, sync)
        first, last = one["st_lpips"][1], one["st_lpips"][len(one["seconds"])]
        line = f"{name}: ST-LPIPS {first:.4f} to {last:.4f} in {len(one['seconds'])} steps, {one['seconds'][-1]:.2f} s"
        if there := one["step_as_near"]:
            taken = one["seconds"][there - 1]
            line += f"; as near as the paper's at step {there}, {taken:.2f} s: {whole / taken:.0f} times less"
        elif wanted is not None:
            line += "; not as near as the paper's"
        print(line)
    return {"step": step, "extrapolated": whole, "st_lpips": wanted, "searches": found}


# ---- Quality against time ------------------------------------------------------------------------------------------


def quality_against_time(
    target: Path, driver: Path, options: dict[str, Options], picture: Path
) -> dict[str, dict[str, float]]:
    """Each of some options: seconds a frame, expression r, and ST-LPIPS to what ten times the steps come to."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip, truth = Path(folder, "driver.mp4"), Path(folder, "most.mp4")
        some = options[ENOUGH]
        save(read_frames(driver, some.start, some.end, some.max_frames), clip, driver)
        for name in sorted(options, key=lambda name: name != ENOUGH):  # first what the others are compared with
            output = truth if name == ENOUGH else Path(folder, "output.mp4")
            run = measure(target, driver, options[name], partial(save, path=output, like=clip))
            scores = evaluate(output, clip, target, truth, metrics=["expression", "st-lpips"], device=some.device)
            found[name] = one = {
                "seconds": run.running / run.frames,
                "r": _value(scores, "expression-r"),
                "st_lpips": _value(scores, "st-lpips-vgg"),
            }
            print(f"{name}: {one['seconds']:.3f} s a frame, r {one['r']:.3f}, ST-LPIPS {one['st_lpips']:.4f} away")
    write_plot(found, picture)
    return found


def _value(scores: Evaluation, name: str) -> float:
    score = scores.score(name)
    if score is None or score.value is None:
        sys.exit(f"{name} can't be measured: {score.note if score else scores.skipped}")
    return score.value


def save(frames: Iterable[Frame], path: Path, like: Path) -> int:
    """Write a clip with nearly nothing lost; how many frames it has."""
    stream = iter(frames)
    first = next(stream)
    height, width = first.rgb.shape[:2]
    done = 0
    with VideoWriter(path, width, height, probe(like), cut=True, overwrite=True, crf=4) as video:
        for frame in chain([first], stream):
            video.write(frame)
            done += 1
    return done


def write_plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """Two plots over seconds a frame, one below the other: expression r, ST-LPIPS."""
    across = even_axis("seconds a frame", [each["seconds"] for each in found.values()])
    both = []
    for name, title in (("r", "expression r"), ("st_lpips", f"ST-LPIPS to {ENOUGH}")):
        up = even_axis(title, [max(0.0, each[name]) for each in found.values()])
        both.append(np.asarray(plot({k: [(each["seconds"], each[name])] for k, each in found.items()}, across, up)))
    write_image(path, np.vstack(both))


# ---- The command ---------------------------------------------------------------------------------------------------


def arguments() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("driver", type=Path, nargs="?")
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument("--start", type=float, help="second of the driver to begin at")
    parser.add_argument("--max-frames", type=int, default=40)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--lengths", type=int, nargs="+", metavar="FRAMES", help="time runs of these lengths too")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw quality against time over the presets")
    parser.add_argument("--paper", action="store_true", help="only the paper's recipe on TARGET, in full")
    parser.add_argument("--steps", type=int, default=PAPER.steps, help="of that")
    parser.add_argument("--paper-run", type=Path, default=PAPER_RUN, help="what --paper wrote before")
    return parser


def main() -> None:
    """Measure, print, and write --json and --plot."""
    parser = arguments()
    args = parser.parse_args()
    device = choose_device(args.device)
    if args.paper:
        if args.json is None:
            parser.error("--paper writes its run: --json FILE")
        run_paper(args.target, args.steps, args.json, device)
        return
    if args.driver is None:
        parser.error("DRIVER is missing")
    if args.lengths and len(set(args.lengths)) < 2:
        parser.error(f"--lengths {args.lengths[0]}: a line needs two lengths or more")
    common = {"start": args.start, "max_frames": args.max_frames, "device": args.device}
    options = replace(PRESETS[args.preset], **common)
    found = measure(args.target, args.driver, options)
    imports = import_seconds()
    print_stages(found)
    print(f"start-up: {imports:.2f} s to be imported, {found.seconds['start']:.2f} s to load its networks")
    report: dict[str, Any] = {"preset": args.preset, "device": str(device), "threads": torch.get_num_threads()}
    report |= {"imports": imports, **asdict(found)}
    report["paper"] = against_paper(args.target, args.driver, options, device, args.paper_run)
    if args.lengths:
        report["lengths"] = time_against_length(args.target, args.driver, options, args.lengths)
    if args.plot:
        compared = {name: replace(PRESETS[name], **common) for name in ("fast", "balanced", "quality")}
        compared[ENOUGH] = replace(compared["balanced"], steps=10 * compared["balanced"].colours.steps)
        report["quality"] = quality_against_time(args.target, args.driver, compared, args.plot)
    if args.json:
        write_text(args.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
