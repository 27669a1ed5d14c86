"""Which versions of what are installed."""

from __future__ import annotations

import importlib.metadata


def version_of(package: str) -> str | None:
    """Of an installed package; None: it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
