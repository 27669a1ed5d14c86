"""Reads the numbers out of pickles without running what is in them.

A pickle is a program: loading it calls whatever it names. Here it may name only what generators' files need, and each
of those names stands for something inert: a container, an array, a record of an object's class name and state. That
covers NVIDIA's pickles, whose own classes would execute source code out of the file, and both formats of torch.save.
Storages nested in a pickle, which torch hands to an unrestricted `torch.load`, are parsed by the same reader.

Memory stays in proportion to the file, whatever the file claims: before a pickle is loaded its opcodes are looked
through and counted, and no length or memo index may exceed what is there; no stand-in copies what it is given, which a
pickle could give it a million times; no tensor may be larger than its storage; an archive may not be compressed, which
torch.save never does.
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import WeightsError

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch.save's older format
_TORCH_PROTOCOL = 1001
_MEMO_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_MOST_OPCODES = 5_000_000  # an honest file has a twentieth of that
# Whatever a program that is no honest file can make an unpickler raise.
_FAULTS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError,
    RecursionError, struct.error, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip


def read(path: Path) -> object:
    """The data in a pickle, or in a file of torch.save's, either format.

    Returns:
        dicts, lists, tuples, sets, texts and numbers; `Array` and `LazyTensor` for arrays, `Record` for objects.

    Raises:
        WeightsError: it is none of these, is cut short or damaged, or asks for more than data.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_zip(path) if zipped else _read_stream(file, path)
    except OSError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror or error})") from error
    except ForbiddenError as error:
        raise WeightsError(f"{path}: {error}; nothing in it was run") from error
    except _FAULTS as error:
        raise WeightsError(f"{path}: is cut short or damaged ({str(error)[:150] or type(error).__name__})") from error


class ForbiddenError(Exception):
    """The file asks for what no generator's file needs."""


# --- What stands for what -----------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """An object of a class that is known here by name alone."""

    name: str
    state: Mapping[str, Any]


class _Stateful:
    """Keeps what the object that it stands for would be made of."""

    state: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = _as_dict(state)


class Network(_Stateful):
    """Stands for `dnnlib.tflib.network.Network`, whose own way of loading executes `build_module_src`."""


class Namespace(_Stateful):
    """Stands for `argparse.Namespace`: training scripts save their arguments."""


class Container(dict[Any, Any]):
    """Stands for OrderedDict and EasyDict, which are filled item by item."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


class Array:
    """A numpy array, made when `value` is asked for."""

    _state: tuple[Any, ...] = (0, (0,), None, False, b"")

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, data = state
        _check_length(_dtype(dtype), _shape(shape), data)
        self._state = state

    @property
    def value(self) -> NDArray[Any]:
        """The array; a view of the file's own bytes."""
        _, shape, dtype, fortran, data = self._state
        return np.frombuffer(_raw(data), _dtype(dtype)).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands for numpy.dtype: numbers only, no objects."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or code not in _NUMBERS:
            raise ForbiddenError("holds an array of what are no numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


_NUMBERS = {"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"}


@dataclass(frozen=True)
class Storage:
    """Numbers in a row, read when they are wanted."""

    dtype: torch.dtype
    count: int
    data: Callable[[], bytes | memoryview]


@dataclass(frozen=True)
class LazyTensor:
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self) -> Tensor:
        """The tensor itself, contiguous, in its own dtype."""
        raw = torch.frombuffer(bytearray(self.storage.data()) or bytearray(8), dtype=self.storage.dtype)
        return raw.as_strided(self.shape, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


def _as_dict(state: object) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise ForbiddenError("holds an object whose state is no dictionary")
    return state


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise ForbiddenError("holds an array of an impossible shape")
    return shape


def _dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise ForbiddenError("holds an array of what are no numbers")
    return dtype.dtype


def _check_length(dtype: np.dtype[Any], shape: tuple[int, ...], data: object) -> None:
    if not isinstance(data, bytes | str):  # text was pickled by Python 2, one character a byte
        raise ForbiddenError("holds an array of objects")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ForbiddenError(f"holds an array of {len(data):,} bytes whose shape {shape} wants another number")


def _raw(data: bytes | str) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else data


def _scalar(dtype: object, data: bytes | str) -> object:
    _check_length(_dtype(dtype), (), data)
    return np.frombuffer(_raw(data), _dtype(dtype))[0].item()


def _encode(text: object, encoding: object) -> object:
    """How pickles before protocol 3 spell bytes; they stay text until they are wanted."""
    if encoding != "latin1":
        raise ForbiddenError("asks for another encoding than latin1")
    return text


def _persistent(meta: object) -> Record:
    """Stands for `torch_utils.persistence._reconstruct_persistent_obj`, which executes `module_src`."""
    described = _as_dict(meta)
    name = described.get("class_name")
    return Record(name if isinstance(name, str) else "", _as_dict(described.get("state")))


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> LazyTensor:
    if not isinstance(storage, Storage):
        raise ForbiddenError("holds a tensor without a storage")
    size, steps, (start,) = _shape(shape), _shape(stride), _shape((offset,))
    last = start + sum((n - 1) * step for n, step in zip(size, steps, strict=True))
    count = math.prod(size)
    if count > storage.count or (count and last >= storage.count):
        raise ForbiddenError(f"holds a tensor of the shape {size}, larger than its storage")
    return LazyTensor(storage, start, size, steps)


def _parameter(tensor: object, *_: object) -> object:
    return tensor


def _nested_storage(data: object) -> object:
    """Stands for `torch.storage._load_from_bytes`, which loads a pickle without any restriction."""
    if not isinstance(data, bytes):
        raise ForbiddenError("holds a storage that is no bytes")
    return _read_torch(BytesIO(data), nested=True)


_STORAGES = {
    ("torch", f"{name}Storage"): dtype
    for name, dtype in {
        "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16, "Double": torch.float64,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}  # fmt: skip
_TORCH: dict[tuple[str, str], object] = {
    **_STORAGES,
    ("collections", "OrderedDict"): Container,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("argparse", "Namespace"): Namespace,
}
_ALLOWED: dict[tuple[str, str], object] = {
    **_TORCH,
    ("torch.storage", "_load_from_bytes"): _nested_storage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("dnnlib.util", "EasyDict"): Container,
    ("dnnlib.tflib.network", "Network"): Network,
    ("_codecs", "encode"): _encode,
    ("builtins", "set"): Container,  # protocol 3 has no opcode for it; what is in it is not wanted
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Dtype,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", Array), ("scalar", _scalar))
    },
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows no names but those it is given, and no files but through `persistent`."""

    def __init__(
        self, file: IO[bytes], known: Mapping[tuple[str, str], object], persistent: Callable[[object], object] | None
    ) -> None:
        super().__init__(file, encoding="latin1")
        self._known, self._persistent = known, persistent

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for."""
        if (module, name) not in self._known:
            raise ForbiddenError(f"asks for {module}.{name}, which no generator's file needs")
        return self._known[module, name]

    def persistent_load(self, pid: object) -> Any:
        """What lies outside the pickle."""
        if self._persistent is None:
            raise ForbiddenError("refers to something outside the pickle")
        return self._persistent(pid)


class _Bounded:
    """A file that is not asked for more than it has: that alone would take the memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._size = file, _size(file)
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size - self._file.tell()))


def _opcodes(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """The next pickle's opcodes by name, and what each of them holds."""
    for opcode, value, _ in pickletools.genops(cast(IO[bytes], _Bounded(file))):
        yield opcode.name, value


def _size(file: IO[bytes]) -> int:
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size


def _load(
    file: IO[bytes], known: Mapping[tuple[str, str], object], persistent: Callable[[object], object] | None = None
) -> Any:
    """The next pickle in a file, once it was looked through; the file is left behind it."""
    start, size = file.tell(), _size(file)
    for count, (opcode, value) in enumerate(_opcodes(file)):
        # What is longer than the file raises by itself; these two claim without reading.
        limit = size if opcode == "FRAME" else count if opcode in _MEMO_PUTS else None
        if limit is not None and value > limit:
            raise ForbiddenError("claims more than it holds")
        if count > _MOST_OPCODES:
            raise ForbiddenError(f"is a pickle of more than {_MOST_OPCODES:,} opcodes")
    file.seek(start)
    return _Unpickler(file, known, persistent).load()


# --- Files --------------------------------------------------------------------------------------


def _read_stream(file: IO[bytes], path: Path) -> object:
    """A pickle, or torch.save's older format."""
    first, _ = next(_opcodes(file), ("", None))
    file.seek(0)
    if first != "PROTO":
        raise pickle.UnpicklingError("no pickle")
    if _starts_as_torch(file):
        return _read_torch(file, nested=False, path=path)
    return _load(file, _ALLOWED)


def _starts_as_torch(file: IO[bytes]) -> bool:
    head = file.read(14)
    file.seek(0)
    return head == pickle.dumps(_TORCH_MAGIC, 2)[:14]


def _read_torch(file: IO[bytes], nested: bool, path: Path | None = None) -> object:
    """torch.save's older format: five pickles, then each storage's count and numbers."""
    if _load(file, {}) != _TORCH_MAGIC or _load(file, {}) != _TORCH_PROTOCOL:
        raise pickle.UnpicklingError("a storage of an unknown format")
    if not _as_dict(_load(file, {})).get("little_endian"):
        raise ForbiddenError("was saved by a big-endian machine")
    places: dict[str, tuple[int, Storage]] = {}  # where each storage lies is known only after the last pickle
    storages: dict[str, Storage] = {}

    def storage(pid: object) -> Storage:
        dtype, key, count, view = _storage_id(pid)
        if view is not None:
            raise ForbiddenError("holds a view of a storage, as torch has not saved since 2018")
        return storages.setdefault(key, Storage(dtype, count, lambda: _stored(file, path, *places[key])))

    found = _load(file, _STORAGES if nested else _TORCH, storage)
    keys, here, end = _load(file, {}), file.tell(), _size(file)
    for key in keys:
        wanted = storages[key]
        file.seek(here)
        (count,) = struct.unpack("<q", file.read(8))
        length = wanted.count * wanted.dtype.itemsize
        if count != wanted.count or here + 8 + length > end:
            raise EOFError("a storage is incomplete")
        places[key] = here + 8, wanted
        here += 8 + length
    if storages.keys() - places.keys():
        raise EOFError("a storage is missing")
    return found


def _stored(file: IO[bytes], path: Path | None, start: int, storage: Storage) -> bytes:
    """A storage's bytes: of a file in memory, or of the one at `path`, which has been closed since."""
    length = storage.count * storage.dtype.itemsize
    if path is None:
        assert isinstance(file, BytesIO)  # files on the disk come with their path
        return file.getvalue()[start : start + length]
    with path.open("rb") as again:
        again.seek(start)
        return again.read(length)


def _storage_id(pid: object) -> tuple[torch.dtype, str, int, object]:
    """('storage', type, key, place, count), to which the older format adds the view's metadata."""
    if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
        raise ForbiddenError("refers to something outside the pickle that is no storage")
    _, dtype, key, _, count = pid[:5]
    if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise ForbiddenError("holds a storage of an unknown kind")
    return dtype, key, count, pid[5] if len(pid) == 6 else None


def _read_zip(path: Path) -> object:
    """torch.save's newer format: an uncompressed archive of a pickle and the storages."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        total, size = sum(info.file_size for info in archive.infolist()), path.stat().st_size
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()) or total > size:
            raise ForbiddenError(f"would unpack {size:,} bytes to {total:,}, and torch.save compresses nothing")
        main = [name for name in entries if name.endswith("/data.pkl")]
        if len(main) != 1:
            raise ForbiddenError("is an archive, but not one of torch.save's")
        prefix = main[0].removesuffix("data.pkl")
        order = f"{prefix}byteorder"
        if order in entries and archive.read(order) != b"little":
            raise ForbiddenError("was saved by a big-endian machine")

        def storage(pid: object) -> Storage:
            dtype, key, count, _ = _storage_id(pid)
            name = f"{prefix}data/{key}"
            if name not in entries or entries[name].file_size != count * dtype.itemsize:
                raise EOFError(f"the storage {key} is missing or incomplete")
            return Storage(dtype, count, lambda: _unzipped(path, name))

        return _load(BytesIO(archive.read(main[0])), _TORCH, storage)


def _unzipped(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)
