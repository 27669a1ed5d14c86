"""Third-party weight files: where they come from, their hashes, the per-user cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OnProgress = Callable[[str, int, int], None]
"""Called with (weight's name, bytes so far, bytes in all)."""


def default_root() -> Path:
    """The cache folder: $REENACT_WEIGHTS, else the user's cache folder of the platform."""
    raise NotImplementedError


@dataclass(frozen=True)
class WeightStore:
    """The cache of third-party weights, and how it may be filled."""

    root: Path
    offline: bool = False
    on_progress: OnProgress | None = None

    def path(self, name: str) -> Path:
        """The file of that name in `weights.toml`, fetched and checked if it is not there yet."""
        raise NotImplementedError


def shipped(name: str) -> Path:
    """A file that this project trained itself: in the wheel, or in `weights/` of the checkout."""
    raise NotImplementedError
