"""What grows with a clip and is needed a frame at a time: rows in a temporary file instead of in memory."""

from __future__ import annotations

import tempfile

import numpy as np

from .errors import ReenactError
from .types import Floats


class Spool:
    """The rows of an array float32 [T,...], on disk; `spool[i]` reads one. The file has no name, and goes with it."""

    def __init__(self, rows: Floats) -> None:
        """Write them; ReenactError if there is no room."""
        self._count, self._shape = len(rows), rows.shape[1:]
        self._bytes = rows[0].nbytes if len(rows) else 0
        try:
            self._file = tempfile.TemporaryFile(prefix="reenact-", buffering=0)  # noqa: SIM115  # it lives as long as this
            for row in rows:
                self._file.write(np.ascontiguousarray(row, np.float32).tobytes())
        except OSError as error:
            where = tempfile.gettempdir()
            raise ReenactError(
                f"{where}: can't be written ({error.strerror or error}); $TMPDIR names another"
            ) from error

    def __len__(self) -> int:
        """T."""
        return self._count

    def __getitem__(self, index: int) -> Floats:
        """A copy of the row [...] of that index, 0 to T - 1."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        self._file.seek(int(index) * self._bytes)
        return np.frombuffer(bytearray(self._file.read(self._bytes)), np.float32).reshape(self._shape)
