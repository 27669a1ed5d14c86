"""Plug-ins are files: a module in `detectors/`, `generators/` or `metrics/` is found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from .errors import UsageError


def names(kind: str) -> list[str]:
    """The names of the plug-ins of a kind ('detectors', 'generators', 'metrics'), as users write them."""
    package = importlib.import_module(f"{__package__}.{kind}")
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def module(kind: str, name: str) -> ModuleType:
    """The module of one plug-in.

    Raises:
        UsageError: there is none of that name.
    """
    known = names(kind)
    if name not in known:
        raise UsageError(f"no {kind.removesuffix('s')} named {name!r}; there are: {', '.join(known)}")
    return importlib.import_module(f"{__package__}.{kind}.{name.replace('-', '_')}")
