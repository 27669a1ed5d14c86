"""Everything that changes a result, the presets, and what a caller may want to hear of while it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .align import AlignOptions
from .blend import BlendOptions
from .compose import ComposeOptions
from .errors import UsageError
from .fuse import FuseOptions
from .invert import COLOURS, DRIVER, PAPER, TARGET, InvertOptions
from .layers import LayerChoice
from .solve import SolveOptions
from .template import Motion
from .tune import TuneOptions
from .types import Rgb

POSES = ("own", "driver")


NO_FRONT = "none"
"""Instead of a mask: not even the rims of the photo's glasses stay."""


@dataclass(frozen=True)
class Options:
    """Everything that changes the result."""

    generator: str = "mobile"  # or a file
    noise: str = "const"  # of a StyleGAN; or "none", "random"
    perceptual: str = "auto"  # whose features the paper's recipe compares: "packaged", "vgg16", a file
    detector: str = "auto"
    device: str = "auto"
    align: AlignOptions = field(default_factory=AlignOptions)
    steps: int | None = None  # to find the target, at most; None: what the recipe says
    colours: InvertOptions = COLOURS  # how the target is found where expressions are mapped ...
    target: InvertOptions = TARGET  # ... and where not
    driver: InvertOptions = DRIVER
    tune: bool = False  # tune the generator to the target, where its faces are shown whole; see `check_tuning`
    tuning: TuneOptions = field(default_factory=TuneOptions)
    fuse: FuseOptions = field(default_factory=FuseOptions)
    solve: SolveOptions = field(default_factory=SolveOptions)
    blend: BlendOptions = field(default_factory=BlendOptions)
    compose: ComposeOptions = field(default_factory=ComposeOptions)
    smooth: float = 0.7  # sigma in frames, of expressions and of the face's place in time; 0: none
    pose: str = "own"  # the head stays as in the target, or, a photo's, turns with the "driver"
    front: str | None = None  # a mask of what is before the face of a photo, see `front.read_front`; or `NO_FRONT`
    target_face: str = "largest"  # `follow.parse_choice` reads it
    driver_face: str = "largest"
    missing: str = "hold"  # one of `driver.MISSING`: what comes where the driver shows no face
    anchor: int | None = None  # the driver's frame that relative motion starts from; None: chosen
    size: int | None = None  # of generated pictures; None: what the target's face needs
    start: float | None = None  # seconds
    end: float | None = None
    max_frames: int | None = None
    seed: int = 0

    @property
    def mask(self) -> Path | None:
        """The file that `front` names, if it does."""
        return None if self.front in (None, NO_FRONT) else Path(str(self.front))


PRESETS: dict[str, Options] = {
    "paper": Options(
        detector="dlib",
        target=PAPER,
        driver=replace(PAPER, steps=100),
        fuse=FuseOptions(method="splice", motion="absolute"),
        blend=BlendOptions(carry=False),
        smooth=0.0,
    ),
    "quality": Options(
        colours=replace(COLOURS, steps=16),
        target=replace(TARGET, steps=60),
        solve=SolveOptions(keys=24, sweeps=((14, 0.05, 128), (12, 0.03, 256))),
        driver=replace(DRIVER, steps=16),
        tuning=TuneOptions(steps=30, map_steps=100),
    ),
    "balanced": Options(),
    "fast": Options(
        colours=replace(COLOURS, steps=4),
        target=replace(TARGET, steps=20),
        solve=SolveOptions(keys=6, sweeps=((14, 0.05, 128),)),
        driver=replace(DRIVER, steps=3),
    ),
}


def check_tuning(options: Options) -> None:
    """Refuse to tune a generator of whose faces hardly anything would be shown.

    Raises:
        UsageError: as it says.
    """
    if options.tune and options.fuse.method != "splice":
        shown = f"--fuse {options.fuse.method} shows no more of a drawn face than the inside of its mouth"
        raise UsageError(f"--tune: {shown}; add --fuse splice or --preset paper, or leave it out")


@dataclass(frozen=True)
class Hooks:
    """What a caller may want to hear of.

    Stages: 'track', 'track target' (a clip), 'invert', 'layers', 'tune', 'solve', 'frames'.
    """

    progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None
    note: Callable[[str], None] = lambda line: None
    warn: Callable[[str], None] = lambda line: None
    picture: Callable[[str, int, Rgb], None] | None = None  # (stage, frame, picture), for a trace
    losses: Callable[[str, tuple[float, ...]], None] = lambda name, losses: None
    layers: Callable[[LayerChoice], None] = lambda choice: None  # where they are chosen
    # The driver's, as soon as it is known; to be used or copied at once, for its points are smoothed in place later.
    motion: Callable[[Motion], None] = lambda motion: None
