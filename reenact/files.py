"""Files that appear under their name when they are whole, and arrays in files without pickle."""

from __future__ import annotations

import glob
import os
import secrets
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from .errors import ReenactError

if sys.platform != "win32":
    import fcntl

Arrays = Mapping[str, NDArray[Any]]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, line ends as they are; an earlier file of that name stays until this one is whole.

    Raises:
        ReenactError: it can't be written there.
    """
    _write(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Arrays, packed: bool = True) -> None:
    """Write numpy's .npz, which many languages read; otherwise as `write_text`. `packed`: smaller, and slower."""
    save: Callable[..., None] = np.savez_compressed if packed else np.savez
    _write(path, lambda file: save(file, **arrays))


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    try:
        with unfinished(path) as partial, partial.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the name without the content
    except OSError as error:
        raise ReenactError(f"{path}: can't be written ({error.strerror or error})") from error


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; it becomes `path` where the block ends well, else it goes.

    Raises:
        OSError: it can't be made or renamed.
    """
    file = Unfinished(path)
    try:
        yield file.path
        file.rename(path)
    finally:
        file.remove()


class Unfinished:
    """An empty hidden file beside the one that it is to become.

    While it is being written a lock is held on it. So what a killed run left behind can be told from what another
    process is writing, and goes as soon as the same output is written again.
    """

    def __init__(self, path: Path) -> None:
        """Make it; OSError if that can't be."""
        self.path = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._lock: int | None = None
        _sweep(path)
        if sys.platform == "win32":  # an open file can't be removed there: that is lock enough
            self.path.touch(exist_ok=False)
        else:
            self._lock = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def rename(self, name: Path) -> None:
        """Give it its name, in place of an earlier file; OSError if that can't be."""
        os.replace(self.path, name)
        self._release()

    def remove(self) -> None:
        """Remove it, unless it got its name."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._release()

    def __del__(self) -> None:
        """Whoever made it may have been stopped before the block that removes it."""
        self.remove()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _sweep(path: Path) -> None:
    """Remove what killed runs left of `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        with suppress(OSError):
            if sys.platform != "win32":
                lock = os.open(left, os.O_RDWR)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError while somebody writes it
                finally:
                    os.close(lock)
            left.unlink()


class ArrayFile:
    """An .npz opened for reading. Each array is looked at before it is loaded: nothing in it is trusted."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._file.namelist()

    def read(self, name: str, kinds: str, shape: tuple[int | None, ...], most: int) -> NDArray[Any]:
        """The array of that name.

        Args:
            name: without the .npy.
            kinds: numpy's letters of the types that will do: "f", "iu", "b", "U".
            shape: what it must have; None: any length.
            most: numbers in it, at most.

        Raises:
            ValueError: it is not there, or not such.
        """
        if name not in self:
            raise ValueError(f"{name} is missing")
        with self._file.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(cast(Any, member))
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"{name} is in a format that is not known")
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            found, _, dtype = header(cast(Any, member))
        fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=True))
        count = int(np.prod(found, dtype=np.float64))
        if dtype.kind not in kinds or not fits or count > most or dtype.itemsize > 4096:
            raise ValueError(f"{name} is {dtype} {list(found)}")
        if self._file.getinfo(f"{name}.npy").file_size < count * dtype.itemsize:
            raise ValueError(f"{name} is cut off")
        with self._file.open(f"{name}.npy") as member:
            return np.asarray(np.lib.format.read_array(cast(Any, member), allow_pickle=False))


@contextmanager
def open_arrays(path: Path, what: str) -> Iterator[ArrayFile]:
    """An .npz for reading; whatever is wrong with it, also found while it is read, is a ReenactError.

    Args:
        path: the file.
        what: what it should be, for the error: "a motion template".
    """
    try:
        with zipfile.ZipFile(path) as file:
            yield ArrayFile(file)
    except FileNotFoundError:
        raise ReenactError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, KeyError,
            RuntimeError, SyntaxError, MemoryError, OverflowError) as error:  # fmt: skip
        why = textwrap.shorten(str(error) or type(error).__name__, 120)  # some quote the bytes that they found
        raise ReenactError(f"{path}: is not {what} that can be read ({why})") from error
