"""The command line: what the words mean, what can be refused before the work begins, and where results go."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from . import plugins, weights
from .console import Console, short
from .errors import ReenactError, UsageError, VideoError
from .stopping import Terminated, heeded, held
from .versions import version_of
from .weights import WeightStore

# What imports torch is imported where it is used: it takes seconds, and a typing error should not.
if TYPE_CHECKING:
    from .options import Hooks, Options
    from .resume import Checkpoint
    from .template import Motion
    from .trace import Trace
    from .types import Frame, VideoInfo
    from .video import MatteWriter, VideoWriter

    _Group = argparse._ArgumentGroup
    _Run = Callable[[argparse.Namespace, Console], None]

T = TypeVar("T")
W = TypeVar("W", "MatteWriter", "VideoWriter")

DEFAULT_PRESET = "balanced"
AUDIO = ("copy", "encode", "none")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
INTERRUPTED = 130

_DESCRIPTION = """\
Make the person in a picture show the facial expressions of the person in a video.

TARGET is a picture of one person, or a clip, which keeps its own motion. DRIVER
is a video of another; its timing and its sound go into the result. A DRIVER that
is a picture gives a picture, and camera:0 is filmed until Ctrl-C.
Networks that are needed are fetched once, at first use.
"""

_EXAMPLES = """\
examples:
  reenact me.jpg actor.mp4 -o out.mp4
      the whole video
  reenact me.jpg actor.mp4 -o try.mp4 --preset fast --start 0:10 --end 0:12 --side-by-side
      a quick look at two seconds of it, beside target and driver
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 (failure), 2 (usage), 130 (Ctrl-C) or 143 (SIGTERM)."""
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    try:
        parser, run, words = _command(words)
        args = parser.parse_args(words)
        console = Console(args.quiet, args.verbose)
        console.accepts_licences = args.accept_licence
        with console, heeded():
            run(args, console)
        return 0
    except ReenactError as error:
        console.error(str(error))
        return error.exit_status
    except Terminated as stop:
        console.stopped(f"stopped by {stop}")
        return stop.exit_status
    except KeyboardInterrupt:
        console.stopped("stopped")
        return INTERRUPTED
    except MemoryError:
        console.error("out of memory; a smaller TARGET, --size or DRIVER takes less")
        return 1


def _command(words: list[str]) -> tuple[argparse.ArgumentParser, _Run, list[str]]:
    """How the words are read, what is run, and the words without the subcommand's."""
    if words and words[0] in plugins.names("commands"):
        module = plugins.module("commands", words[0])
        return _command_parser(words[0], module), module.run, words[1:]
    return _reenact_parser(), _reenact, words


# --- Words --------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, which `main` prints."""
        raise UsageError(f"{message} ({self.prog} --help lists the options)")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Adds to each setting its default, from the options' own classes."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        path = _setting(action.dest)
        if path is None or action.help is None or "default" in action.help:
            return action.help
        from .options import PRESETS

        return f"{action.help} (default: {attrgetter(path)(PRESETS[DEFAULT_PRESET])})"


_SETTING = "options."


def _setting(dest: str) -> str | None:
    """Where in `options.Options` an argument belongs ("fuse.layers"); None: nowhere."""
    return dest.removeprefix(_SETTING) if dest.startswith(_SETTING) else None


def _add(group: _Group, flag: str, setting: str, metavar: str, type: Callable[[str], Any], help: str) -> None:
    """Add a flag for one field of `options.Options`; it is None where it is not given."""
    group.add_argument(flag, dest=_SETTING + setting, metavar=metavar, type=type, help=help)


def _reenact_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reenact",
        usage="reenact TARGET DRIVER -o OUT [options]"
        + "".join(f"\n       reenact {name} --help" for name in plugins.names("commands")),
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=_Help,
        add_help=False,
        allow_abbrev=False,
    )
    _add_files(parser.add_argument_group("what goes in and out"))
    _add_part(parser.add_argument_group("which part of the driver"))
    _add_faces(parser.add_argument_group("which face"))
    _add_look(parser.add_argument_group("how it is done"))
    _add_tools(parser.add_argument_group("with what"))
    _add_common(parser.add_argument_group("this command"))
    return parser


def _add_files(group: _Group) -> None:
    add = group.add_argument
    add("target", metavar="TARGET", type=Path, help="picture, or clip, of the person to be animated")
    acts = "video (or picture) of the person who acts, or camera:0, camera:NAME"
    add("driver", metavar="DRIVER", type=Path, help=acts)
    result = "the result: .mp4 .mkv .mov .webm, or .png .jpg .webp where DRIVER is a picture"
    add("-o", "--output", metavar="OUT", type=Path, required=True, help=result)
    add("-y", "--overwrite", action="store_true", help="replace what is there")
    sound = "copy: DRIVER's, packet by packet where OUT can hold it; encode: cut to the sample; none (default: copy)"
    add("--audio", metavar="HOW", default="copy", help=sound)
    add("--preview", action="store_true", help="show the result in a window, where DRIVER is a camera; q ends it")
    add("--virtual-camera", action="store_true", help="show it to other programs as a camera's picture, likewise")
    add("--side-by-side", action="store_true", help="show target, driver and result in a row")
    add("--matte", metavar="FILE.mkv", type=Path, help="also save, losslessly, where the result differs from TARGET")
    add("--trace", metavar="DIR", type=Path, help="also save intermediate pictures and loss curves")
    motion = "also save DRIVER's motion, which may stand in for DRIVER another time"
    add("--latents", metavar="FILE.npz", type=Path, help=motion)
    add("--latents-sound", action="store_true", help="DRIVER's sound goes into that file too")
    csv = "also save DRIVER's blendshapes, head pose and times, a row a frame"
    add("--export-csv", metavar="FILE.csv", type=Path, help=csv)
    add("--resume", action="store_true", help="go on where an earlier run of the same command was ended")


def _add_part(group: _Group) -> None:
    _add(group, "--start", "start", "TIME", _seconds, "begin here: seconds or mm:ss (default: the beginning)")
    _add(group, "--end", "end", "TIME", _seconds, "end here (default: the end)")
    _add(group, "--max-frames", "max_frames", "N", _whole(1), "stop after so many frames (default: all)")


def _add_faces(group: _Group) -> None:
    rule = "largest, left, right, a number counted from the left from 0, or X,Y in pixels"
    _add(group, "--target-face", "target_face", "WHICH", str, f"whose face in TARGET: {rule}")
    _add(group, "--driver-face", "driver_face", "WHICH", str, f"whose face in DRIVER, in each scene: {rule}")
    missing = "where DRIVER shows no face: hold the last expression, fade to the photo's own, skip the frame, or fail"
    _add(group, "--on-missing", "missing", "HOW", str, missing)

    front = "a picture of TARGET's size, opaque or white where something is before its face and stays: a hand, a "
    front += "microphone, hair; none: not even glasses (default: glasses whose rims can be told from skin)"
    _add(group, "--front", "front", "MASK", str, front)


def _add_look(group: _Group) -> None:
    group.add_argument(
        "--preset",
        metavar="NAME",
        default=DEFAULT_PRESET,
        help="fast, balanced, quality, or paper (the published recipe): sets all that follows, unless you set it "
        f"yourself (default: {DEFAULT_PRESET}, and so are the defaults below)",
    )
    strength = "how much of the driver's expression: 1 is all of it"
    _add(group, "--strength", "fuse.strength", "X", _number, strength)
    regions = "what follows the driver: some of mouth, eyes, brows, each with its strength if you like: mouth=1.2,eyes"
    _add(group, "--regions", "fuse.regions", "LIST", str, regions)
    motion = "relative: what changes in the driver's face since the anchor frame; absolute: that face as it is"
    _add(group, "--motion", "fuse.motion", "HOW", str, motion)
    pose = "own: the head of TARGET stays as it is; driver: it turns as the driver's does, up to 20 degrees each way, "
    pose += "unless TARGET is a clip"
    _add(group, "--pose", "pose", "WHOSE", str, pose)
    anchor = "the driver's frame, counted from 0, that looks as TARGET does (default: the most alike)"
    _add(group, "--anchor-frame", "anchor", "N", _whole(0), anchor)
    _add(group, "--smooth", "smooth", "SIGMA", _not_negative, "smoothing of the motion in time, in frames; 0: none")
    size = "side of the generated face: 128, 256, 512 or 1024 (default: what the face in TARGET needs)"
    _add(group, "--size", "size", "PIXELS", _whole(1), size)
    fuse = "expression: as learnt for the generator; solve: search for the expressions of each clip, where nothing was "
    fuse += "learnt or --layers are others; splice: take layers of the driver's latent, as in the paper"
    _add(group, "--fuse", "fuse.method", "HOW", str, fuse)
    layers = (
        "slots of the latent that may change: 2,4,7-9, or by resolution 8x8,16x16, or by the paper's number p4,p5, or "
    )
    layers += "paper, expression or, with --fuse splice, auto: the best for this pair; not if TARGET is a clip "
    layers += "(default: what suits --fuse)"
    _add(group, "--layers", "fuse.layers", "LIST", str, layers)
    steps = "steps at most to find TARGET in the generator (default: what suits --preset and --fuse)"
    _add(group, "--steps", "steps", "N", _whole(1), steps)
    tuned = "tune the generator to TARGET first, a picture; goes with --fuse splice and --preset paper, which show its "
    tuned += "faces whole"
    group.add_argument("--tune", dest=f"{_SETTING}tune", action="store_true", default=None, help=tuned)
    keys = "expressions of DRIVER that --fuse solve searches for at most; the others lie between"
    _add(group, "--keys", "solve.keys", "N", _whole(1), keys)
    folds = "how much of the shading of folds that the generator draws is laid on the photo; 0: none"
    _add(group, "--folds", "compose.folds", "X", _not_negative, folds)
    driver_steps = "steps at most to find each frame of DRIVER, where --fuse is splice"
    _add(group, "--driver-steps", "driver.steps", "N", _whole(1), driver_steps)


def _add_tools(group: _Group) -> None:
    generator = (
        "what draws faces: mobile, stylegan1, stylegan2, or a file with a network of these; see docs/generators.md"
    )
    _add(group, "--generator", "generator", "NAME|PATH", str, generator)
    noise = "a StyleGAN's noise: const (the same in every frame), none, or random"
    _add(group, "--noise", "noise", "KIND", str, noise)
    perceptual = (
        "whose features --preset paper compares: packaged, vgg16 (torchvision's), or its file; auto: vgg16 if fetched"
    )
    _add(group, "--perceptual", "perceptual", "NAME|PATH", str, perceptual)
    _add(group, "--detector", "detector", "NAME", str, "what finds faces: auto, landmarker, face-alignment or dlib")
    _add(group, "--device", "device", "NAME", str, "where it runs: auto, cpu, cuda, cuda:N or mps")
    _add(group, "--seed", "seed", "N", _whole(0), "same seed, same machine, same result")


def _command_parser(name: str, command: ModuleType) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"reenact {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    _add_common(parser.add_argument_group("this command"))
    return parser


def _add_common(group: _Group) -> None:
    group.add_argument("--offline", action="store_true", help="never use the network")
    accept = "accept the licences of networks that ask for it, once and for all"
    group.add_argument("--accept-licence", action="store_true", help=accept)
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="say more")
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    group.add_argument("--version", action="version", version=f"reenact {_version()}", help="show the version")
    group.add_argument("-h", "--help", action="help", help="show this help")


def _version() -> str:
    return version_of("reenact") or "(not installed)"


# --- Values -------------------------------------------------------------------------------------


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _not_negative(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return parse


def _seconds(text: str) -> float:
    """12.5, 1:02.5 or 1:00:00 in seconds."""
    try:
        seconds = 0.0
        for part in text.split(":"):
            seconds = seconds * 60 + float(part)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or text.count(":") > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write seconds or mm:ss")
    if "-" in text:
        raise argparse.ArgumentTypeError(f"{text} is negative; times count from the beginning")
    return seconds


def _with_setting(options: T, path: str, value: object) -> T:
    """A copy of nested frozen dataclasses with the field at `path` ("fuse.layers") changed."""
    name, _, rest = path.partition(".")
    inner = _with_setting(getattr(options, name), rest, value) if rest else value
    return cast(T, replace(cast(Any, options), **{name: inner}))


def _options(args: argparse.Namespace) -> Options:
    """The preset's options, changed by what was given.

    Raises:
        UsageError: no preset, generator, detector, fusion or motion of that name, or times that don't fit.
    """
    from .driver import MISSING
    from .follow import parse_choice
    from .fuse import FUSIONS, MOTIONS, chooses_layers, parse_regions
    from .generators import check_name
    from .options import POSES, PRESETS, check_tuning
    from .perceptual import check_features

    options = PRESETS[_one_of("--preset", args.preset, PRESETS)]
    for dest, value in vars(args).items():
        path = _setting(dest)
        if path is not None and value is not None:
            options = _with_setting(options, path, value)
    check_name(options.generator)
    _one_of("--detector", options.detector, ["auto", *plugins.names("detectors")])
    _one_of("--fuse", options.fuse.method, FUSIONS)
    _one_of("--motion", options.fuse.motion, MOTIONS)
    _one_of("--pose", options.pose, POSES)
    _one_of("--on-missing", options.missing, MISSING)
    parse_choice(options.target_face, "--target-face")
    parse_choice(options.driver_face, "--driver-face")
    parse_regions(options.fuse.regions)
    chooses_layers(options.fuse)
    check_features(options.perceptual, options.target.distance)
    check_tuning(options)
    if options.end is not None and options.end <= (options.start or 0.0):
        raise UsageError(f"--end {options.end:g} s: must be later than --start, {options.start or 0.0:g} s")
    return options


def _one_of(flag: str, value: str, known: Sequence[str] | dict[str, Any]) -> str:
    if value not in known:
        raise UsageError(f"{flag} {value}: there is no such; choose from {', '.join(known)}")
    return value


# --- reenact ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What was asked for, checked as far as it can be before the work begins."""

    target: Path
    driver: Path
    output: Path
    matte: Path | None
    overwrite: bool
    side_by_side: bool
    audio: str  # one of `AUDIO`
    options: Options
    video: VideoInfo | None  # of the driver; None: it is a picture
    pictured: bool  # whether the driver has pictures; a template has none
    latents: Path | None
    latents_sound: bool
    csv: Path | None
    resume: bool

    @property
    def is_cut(self) -> bool:
        """Whether only a part of the driver, and of its sound, is used."""
        from . import template

        o = self.options
        if not (o.start is o.end is o.max_frames is None):
            return True
        return template.is_template(self.driver) and template.sound_is_cut(self.driver)

    def expected_frames(self) -> int | None:
        """About how many there will be; None if the driver doesn't tell."""
        if self.video is None:
            return 1
        o, count, seconds = self.options, self.video.frame_count, self.video.duration
        if count is None and seconds and self.video.frame_rate:
            count = round(seconds * self.video.frame_rate)
        if count and seconds:
            used = min(o.end or seconds, seconds) - (o.start or 0.0)
            count = max(1, round(count * used / seconds))
        return min((n for n in (count, o.max_frames) if n is not None), default=None)


def _reenact(args: argparse.Namespace, console: Console) -> None:
    from .pipeline import reenact
    from .trace import Trace
    from .video.camera import is_camera

    began = time.monotonic()
    store = WeightStore(
        weights.default_root(), offline=args.offline, on_progress=console.download, on_licence=console.licence
    )
    if is_camera(args.driver):
        from .filming import film

        film(vars(args), _options(args), store, console)
        return
    for flag in ("preview", "virtual_camera"):
        if getattr(args, flag):
            raise UsageError(f"--{flag.replace('_', '-')}: shows what a camera films, and {args.driver} is none")
    job = _checked(args)
    checkpoint = _checkpoint(job, console)
    again = job.resume and checkpoint.exists
    trace = Trace(args.trace, overwrite=args.overwrite, going_on=again) if args.trace else None
    try:
        frames = reenact(job.target, job.driver, job.options, store, _hooks(job, console, trace), checkpoint)
        pairs = _beside(job, frames) if job.side_by_side else ((frame, frame) for frame in frames)
        count = (_save_picture if job.video is None else _save_video)(job, pairs, console)
    except BaseException:
        if checkpoint.exists:
            console.stopped(f"{checkpoint.folder} keeps what was done; the same command with --resume goes on with it")
        raise
    checkpoint.remove()
    console.close()
    took = time.monotonic() - began
    console.say(f"{job.output}: {_plural(count, 'frame')} in {took:.1f} s, {short(count / took)} per second")


def _checkpoint(job: _Job, console: Console) -> Checkpoint:
    """What a run may go on with, beside its output; an earlier one is neither used nor lost unasked.

    Raises:
        UsageError: there is one, and neither --resume nor -y says what is to become of it.
    """
    from .resume import Checkpoint

    checkpoint = Checkpoint(_checkpoint_folder(job.output), job.resume, console.warn)
    if job.resume and not checkpoint.exists:
        console.say(f"{checkpoint.folder}: there is nothing to go on with; starting from the beginning")
    if checkpoint.exists and not job.resume:
        if not job.overwrite:
            raise UsageError(
                f"{checkpoint.folder}: an earlier run was ended; --resume goes on with it, -y starts anew without it"
            )
        console.say(f"{checkpoint.folder}: of an earlier run; removed, since --resume was not given")
    return checkpoint


def _checkpoint_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.checkpoint")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _checked(args: argparse.Namespace) -> _Job:
    """The job, if nothing speaks against it that can be known by now.

    Raises:
        UsageError: a value or an output that can't be used.
        VideoError: a driver that can't.
    """
    from . import template
    from .images import is_image
    from .video import SUFFIXES, check_output, probe

    options, audio = _options(args), _one_of("--audio", args.audio, AUDIO)
    if not args.driver.exists():
        raise VideoError(f"{args.driver}: no such file")
    video: VideoInfo | None
    if template.is_template(args.driver):
        motion = template.load(args.driver)
        still, video = False, template.described(args.driver, motion, template.has_sound(args.driver))
        if args.side_by_side:
            raise UsageError(f"--side-by-side: {args.driver} holds no pictures to be shown; leave it out")
    else:
        still = is_image(args.driver)
        video = None if still else probe(args.driver)
    suffixes = IMAGE_SUFFIXES if still else SUFFIXES
    if args.output.suffix.lower() not in suffixes:
        what = "picture" if still else "video"
        raise UsageError(f"{args.output}: {args.driver} is a {what}, and so is the result; use {', '.join(suffixes)}")
    inputs = args.target, args.driver, *((options.mask,) if options.mask else ())
    check_output(args.output, inputs, args.overwrite, suffixes)
    if args.matte:
        if still:
            raise UsageError(f"--matte {args.matte}: is a video, and {args.driver} is a picture; leave it out")
        check_output(args.matte, inputs, args.overwrite, (".mkv",))
        if args.matte.resolve() == args.output.resolve():
            raise UsageError(f"--matte {args.matte}: is the output too; name another file")
    for path, suffix in ((args.latents, template.SUFFIX), (args.export_csv, ".csv")):
        if path:
            # What the run to go on with has written already may be written again.
            again = args.resume and _checkpoint_folder(args.output).is_dir()
            check_output(path, inputs, args.overwrite or again, (suffix,))
    if args.latents and options.fuse.method == "splice" and options.detector != "landmarker":
        raise UsageError("--latents: the motion of --fuse splice is points alone; add --detector landmarker")
    if args.latents_sound and not args.latents:
        raise UsageError("--latents-sound: goes with --latents, which names the file")
    return _Job(
        args.target, args.driver, args.output, args.matte, args.overwrite, args.side_by_side, audio, options,
        video, not template.is_template(args.driver), args.latents, args.latents_sound, args.export_csv, args.resume,
    )  # fmt: skip


def _hooks(job: _Job, console: Console, trace: Trace | None) -> Hooks:
    from . import template
    from .files import write_text
    from .options import Hooks

    expected, auto = job.expected_frames(), job.options.detector == "auto"

    def progress(stage: str, done: int, total: int | None) -> None:
        # While the driver is first read nobody knows its frames; what it claims is good enough for a bar.
        console.progress(stage, done, expected if stage == "track" else total)
        if trace and stage == "track":
            trace.total = done

    def note(line: str) -> None:
        if trace:
            trace.note(line)
        console.note(line, always=auto and line.startswith("detector: "))

    def save_motion(motion: Motion) -> None:
        if job.latents:
            with TemporaryDirectory(prefix="reenact-") as folder:
                sound: Path | None = None
                if job.latents_sound and job.video:
                    sound = job.driver if job.pictured else template.unpack_sound(job.driver, Path(folder))
                template.save(job.latents, motion, sound, job.is_cut)
        if job.csv:
            write_text(job.csv, template.to_csv(motion))

    hooks = Hooks(progress=progress, note=note, warn=console.warn, motion=save_motion)
    if not trace:
        return hooks
    return replace(hooks, picture=trace.picture, losses=trace.losses, layers=trace.layers)


def _beside(job: _Job, frames: Iterator[Frame]) -> Iterator[tuple[Frame, Frame]]:
    """Each frame, and the same with target and driver on its left."""
    from .dub import in_time, is_clip
    from .images import read_image
    from .trace import row
    from .types import Frame
    from .video import read_frames

    def picture(path: Path) -> Iterator[Frame]:
        yield Frame(read_image(path), 0, 0, 0.0)

    o, pairs = job.options, deque[tuple[Frame, Frame]]()
    acted = read_frames(job.driver, o.start, o.end, o.max_frames) if job.video else picture(job.driver)

    def times() -> Iterator[float]:
        """When each frame is shown, as `dub.in_time` counts; `pairs` then ends with it and the driver's."""
        first: float | None = None
        frame = next(frames, None)
        for driver in acted:
            first = driver.seconds if first is None else first
            if frame is None:
                return
            if frame.index == driver.index:
                pairs.append((frame, driver))
                yield driver.seconds - first
                frame = next(frames, None)
        if frame is not None:
            raise VideoError(f"{job.driver}: changed while it was being read; start again when nothing writes to it")

    for target in in_time(read_frames(job.target) if is_clip(job.target) else picture(job.target), times()):
        frame, driver = pairs.popleft()
        yield frame, replace(frame, rgb=row([target.rgb, driver.rgb, frame.rgb], len(frame.rgb)), matte=None)


def _save_picture(job: _Job, pairs: Iterator[tuple[Frame, Frame]], console: Console) -> int:
    """Write the one frame that a picture gives."""
    from .images import write_image

    for _, shown in pairs:
        write_image(job.output, shown.rgb)
    return 1


def _save_video(job: _Job, pairs: Iterator[tuple[Frame, Frame]], console: Console) -> int:
    """Write the frames, and the matte where one is wanted; returns how many.

    After Ctrl-C what was written so far is kept under another name, and said.
    """
    from .template import unpack_sound
    from .video import MatteWriter, VideoWriter

    def opened(kind: type[W], path: Path, frame: Frame) -> W:
        height, width = frame.rgb.shape[:2]
        return files.enter_context(kind(
            path, width, height, job.video, audio_from=None if job.audio == "none" else sound, cut=job.is_cut,
            overwrite=job.overwrite, inputs=(job.target,), on_warning=console.warn, encode_sound=job.audio == "encode",
        ))  # fmt: skip

    video, matte = None, None
    try:
        with ExitStack() as files:
            sound = job.driver if job.pictured else unpack_sound(
                job.driver, Path(files.enter_context(TemporaryDirectory(prefix="reenact-")))
            )  # fmt: skip
            for frame, shown in pairs:
                if video is None:
                    matte = opened(MatteWriter, job.matte, frame) if job.matte else None
                    video = opened(VideoWriter, job.output, shown)
                with held():  # both have as many frames
                    video.write(shown)
                    if matte:
                        matte.write(frame)
            for writer in (video, matte):
                if writer:
                    writer.complete()
    except KeyboardInterrupt:
        if video and video.partial_path:
            console.stopped(f"{video.partial_path} holds the first {_plural(video.frames, 'frame')}")
        raise
    return video.frames if video else 0
