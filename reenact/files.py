"""Text files that appear under their name when they are whole."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .errors import ReenactError


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, line ends as they are; an earlier file of that name stays until this one is whole.

    Raises:
        ReenactError: it can't be written there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(text.encode())
        partial.replace(path)
    except OSError as error:
        raise ReenactError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
