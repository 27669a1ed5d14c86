"""The way through: a target, picture or clip, and a driver in, frames out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .errors import NoFaceError, UsageError
from .options import POSES, PRESETS, Hooks, Options
from .resume import Checkpoint
from .run import Run
from .splicing import SplicedRun
from .types import Frame
from .weights import WeightStore, default_root

__all__ = ["POSES", "PRESETS", "Hooks", "Options", "reenact"]


def reenact(
    target: Path | str,
    driver: Path | str,
    options: Options | None = None,
    store: WeightStore | None = None,
    hooks: Hooks | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Frame]:
    """Yield the target making the driver's expressions, one frame for each of the driver's.

    Args:
        target: a picture of a person, or a clip, which keeps its own motion but for its expressions.
        driver: a video of a person, or a picture, which gives a single frame and moves no clip, or a motion template.
        options: `PRESETS` has good ones.
        store: where third-party weights are kept and how they are fetched.
        hooks: progress, warnings, intermediate pictures.
        checkpoint: keeps what is done, so that a later call can go on; None: nothing is kept. It stays until the caller
            removes it, once the result is safe; where the inputs turn out not to do, it is removed here.

    Yields:
        Frames of the target's size with the driver's `pts` and `seconds`, and a matte.

    Raises:
        ReenactError: an input that can't be used, weights that can't be had. `NoFaceError` where there is no face.
    """
    options, store = options or Options(), store or WeightStore(default_root())
    kind = SplicedRun if options.fuse.method == "splice" else Run
    try:
        yield from kind(Path(target), Path(driver), options, store, hooks or Hooks(), checkpoint).frames()
    except (NoFaceError, UsageError):
        if checkpoint and checkpoint.fresh:
            checkpoint.remove()  # the same would happen again
        raise
    finally:
        if checkpoint:
            checkpoint.close()
