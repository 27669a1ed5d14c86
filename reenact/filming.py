"""The command with a camera as driver: what it refuses, where the pictures go, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .console import Console, short
from .errors import ReenactError, UsageError
from .options import Hooks, Options
from .screens import Preview, Screen, Screens, VirtualCamera
from .types import Frame
from .video import SUFFIXES, VideoWriter, check_output
from .video.camera import Camera
from .weights import WeightStore

# Arguments that a camera has no use for, and what they are called.
_MEANINGLESS = {
    "side_by_side": "--side-by-side",
    "matte": "--matte",
    "trace": "--trace",
    "resume": "--resume",
    "latents": "--latents",
    "export_csv": "--export-csv",
}


def film(args: Mapping[str, Any], options: Options, store: WeightStore, console: Console) -> None:
    """Reenact what the camera sees until it is told to end, by Ctrl-C, a key in the preview, --end or --max-frames.

    Args:
        args: the command's arguments, by name.
        options: what of them changes the result.
        store: where weights come from.
        console: where it is told of.

    Raises:
        ReenactError: an argument that doesn't fit a camera, or what `live.live` raises.
    """
    from .live import live

    camera = _checked(args, options)
    screens: list[Screen] = [Preview(f"reenact {camera.name}")] if args["preview"] else []
    screens += [VirtualCamera()] if args["virtual_camera"] else []
    hooks = Hooks(progress=console.progress, note=console.say, warn=console.warn)
    frames = live(args["target"], camera, options, store, hooks)
    with Screens(screens) as shown:
        count, seconds = _written(args["output"], args["target"], args["overwrite"], frames, camera, shown, console)
    console.close()
    rate = short(count / seconds) if seconds else "0"
    console.say(f"{args['output']}: {count} frames, {rate} a second")


def _checked(args: Mapping[str, Any], options: Options) -> Camera:
    for name, flag in _MEANINGLESS.items():
        if args[name]:
            raise UsageError(f"{flag}: doesn't go with {args['driver']}; record a video, and give that")
    if options.missing != "hold":
        raise UsageError(f"--on-missing {options.missing}: while {args['driver']} films, faces that are gone are held")
    if options.start is not None:
        raise UsageError(f"--start: {args['driver']} begins now; leave it out")
    camera = Camera.named(str(args["driver"]))
    inputs = args["target"], *((options.mask,) if options.mask else ())
    check_output(args["output"], inputs, args["overwrite"], SUFFIXES)
    return camera


def _written(
    output: Path,
    target: Path,
    overwrite: bool,
    frames: Iterator[Frame],
    camera: Camera,
    screens: Screens,
    console: Console,
) -> tuple[int, float]:
    """Write and show the frames; how many there were, and in how many seconds. What was filmed is always kept."""
    began, gone = time.monotonic(), None
    with ExitStack() as files:
        video: VideoWriter | None = None
        try:
            for frame in frames:
                if video is None:
                    height, width = frame.rgb.shape[:2]
                    video = files.enter_context(VideoWriter(
                        output, width, height, camera.info(frame), overwrite=overwrite, inputs=(target,),
                        on_warning=console.warn,
                    ))  # fmt: skip
                    began = time.monotonic()
                video.write(frame)
                if not screens.show(frame.rgb):
                    break
        except KeyboardInterrupt:  # how filming usually ends
            if video is None:
                raise
        except ReenactError as error:
            if video is None or video.frames < 2:
                raise
            gone = error
        seconds = time.monotonic() - began
        if video:
            video.complete()
    count = video.frames if video else 0
    if gone:
        raise ReenactError(f"{gone}; {output} holds the {count} frames before") from gone
    return count, seconds
