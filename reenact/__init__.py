"""Make one person's photo take on the expressions of another person's video.

from reenact import reenact

for frame in reenact("target.jpg", "driver.mp4"):
    ...  # frame.rgb: uint8 [H,W,3]; frame.seconds: the driver's clock
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import PRESETS, Hooks, Options, reenact

__all__ = ["PRESETS", "Hooks", "Options", "reenact"]


def __getattr__(name: str) -> object:
    # At first use, since the pipeline imports torch, which takes seconds.
    if name in __all__:
        from . import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
