"""What a run has done so far, in a folder of its own, so that another can go on after whatever ended it.

The folder holds job.json, which says what the run was asked for; arrays, each in a file that appears whole; and
frames.log, one record a finished frame, in which only the last can be torn.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from .errors import ReenactError, UsageError
from .files import ArrayFile, Arrays, open_arrays, write_arrays, write_text
from .types import Frame, Rgb
from .versions import version_of

_JOB, _LOG = "job.json", "frames.log"
_SYNC_EVERY = 5.0  # seconds of finished frames that a power cut may cost


class Checkpoint:
    """A folder that keeps what is done. It is made with the first thing that is kept."""

    def __init__(self, folder: Path, resume: bool = False, warn: Callable[[str], None] | None = None) -> None:
        """Look for nothing yet.

        Args:
            folder: its place.
            resume: go on with what is there; otherwise it is removed when the run begins.
            warn: told once if the disk takes no more; from then on nothing is kept.
        """
        self.folder, self.resume, self.fresh, self._full = folder, resume, False, False
        self._warn = warn or (lambda line: None)
        self._job: dict[str, str] = {}
        self._log: BinaryIO | None = None
        self._synced = 0.0

    @property
    def exists(self) -> bool:
        """Whether there is anything to go on with."""
        return (self.folder / _JOB).is_file()

    def begin(self, job: Mapping[str, str]) -> bool:
        """Say what the run was asked for; returns whether it goes on with an earlier one.

        Args:
            job: all that the result depends on, in words.

        Raises:
            UsageError: the earlier run was asked for something else, or its folder is not one of ours.
        """
        self._job = dict(job)
        if not self.resume or not self.exists:
            self.remove()
            self.fresh = True
            return False
        try:
            earlier = dict(json.loads((self.folder / _JOB).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{self.folder}: can't be gone on with ({error}); leave --resume out") from error
        other = [
            f"{name} {earlier.get(name)!s:.80} (now {value:.80})"
            for name, value in self._job.items()
            if earlier.get(name) != value
        ]
        if other:
            raise UsageError(
                f"{self.folder}: the run to go on with was asked for something else: {'; '.join(other)}; "
                "ask for the same, or leave --resume out"
            )
        return True

    def remove(self) -> None:
        """Remove the folder and what is in it, if it is a checkpoint's.

        Raises:
            UsageError: it holds something else.
        """
        self.close()
        if not self.folder.exists():
            return
        if not self.exists and any(self.folder.iterdir()):
            raise UsageError(f"{self.folder}: is no checkpoint, and its name is needed for one; move it away")
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the files; they stay."""
        log, self._log = self._log, None
        if log:
            with suppress(OSError):  # what is still to be written goes nowhere: told of already
                log.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The folder, made if need be. A disk that takes no more must not end the run."""
        try:
            if not self.exists:
                self.folder.mkdir(exist_ok=True)
                write_text(self.folder / _JOB, json.dumps(self._job, indent=1))
            yield
        except (OSError, ReenactError) as error:
            self._full = True
            self._warn(f"{error}; going on without a checkpoint, so that --resume has only what is there by now")

    # ---- arrays

    def keep(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name."""
        if not self._full:
            with self._writing():
                write_arrays(self.folder / f"{name}.npz", arrays, packed=False)

    def has(self, name: str) -> bool:
        """Whether arrays are kept under that name."""
        return (self.folder / f"{name}.npz").is_file()

    def kept(self, name: str) -> AbstractContextManager[ArrayFile]:
        """What was kept under a name."""
        return open_arrays(self.folder / f"{name}.npz", "a checkpoint")

    # ---- frames

    def frames(self, target: Callable[[int], Rgb]) -> Iterator[Frame]:
        """The finished frames in order. A torn record ends them, and is cut off.

        Args:
            target: the target's picture for a frame's index, which is all that the frame shows outside its record.
        """
        whole = 0
        with suppress(FileNotFoundError), (self.folder / _LOG).open("rb") as log:
            most = os.fstat(log.fileno()).st_size
            while (frame := _read(log, most, target)) is not None:
                whole = log.tell()
                yield frame
        with suppress(FileNotFoundError):
            os.truncate(self.folder / _LOG, whole)

    def add(self, frame: Frame, target: Rgb) -> None:
        """Keep a finished frame, made from the target's picture; `frames` must have come to its end before."""
        if self._full:
            return
        with self._writing():
            self._log = self._log or (self.folder / _LOG).open("ab")
            self._log.write(_record(frame, target))
            self._log.flush()  # survives this program; the next survives the machine
            if time.monotonic() - self._synced > _SYNC_EVERY:
                os.fsync(self._log.fileno())
                self._synced = time.monotonic()


def job(inputs: Mapping[str, Path], options: object, program: str) -> dict[str, str]:
    """What `Checkpoint.begin` wants to know.

    Args:
        inputs: files, which are told by their content.
        options: a frozen dataclass, nested or not.
        program: what computes, in words.
    """
    contents = {name: f"sha256 {_sha256(path)}" for name, path in inputs.items()}
    ours = f"reenact {version_of('reenact') or 'of a checkout'}"
    # A file that an option names is told by its content too.
    return {**dict(_settings(options, "")), **contents, "program": f"{ours}, {program}"}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _settings(options: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Nested dataclasses as ("fuse.strength", "1.0"), ..."""
    for f in fields(options):
        value = getattr(options, f.name)
        if is_dataclass(value):
            yield from _settings(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, repr(value)


# ---- Records: a header, a PNG of the part that differs from the photo with the matte as its alpha, a checksum --------

_HEADER = struct.Struct("<4sIqd5I")  # magic, index, pts, seconds, left, top, width, height, bytes of the PNG
_SUM = struct.Struct("<I")
_MAGIC = b"rf01"


def _record(frame: Frame, target: Rgb) -> bytes:
    matte = np.zeros(frame.rgb.shape[:2], np.uint8) if frame.matte is None else frame.matte
    left, top, width, height = cv2.boundingRect(((frame.rgb != target).any(2) | (matte > 0)).view(np.uint8))
    part = np.dstack([frame.rgb, matte])[top : top + height, left : left + width]
    png = b""
    if part.size:
        png = cv2.imencode(".png", part, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    header = _HEADER.pack(_MAGIC, frame.index, frame.pts, frame.seconds, left, top, width, height, len(png))
    return header + png + _SUM.pack(zlib.crc32(header + png))


def _read(log: BinaryIO, most: int, target: Callable[[int], Rgb]) -> Frame | None:
    """The next frame; None where the log of `most` bytes ends or is torn."""
    header = log.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, index, pts, seconds, left, top, width, height, length = _HEADER.unpack(header)
    if magic != _MAGIC or length > most:
        return None
    png, end = log.read(length), log.read(_SUM.size)
    if len(end) < _SUM.size or _SUM.unpack(end)[0] != zlib.crc32(header + png):
        return None
    rgb = target(index).copy()
    matte = np.zeros(rgb.shape[:2], np.uint8)
    if length:
        part = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED))
        rows, columns = slice(top, top + height), slice(left, left + width)
        rgb[rows, columns], matte[rows, columns] = part[:, :, :3], part[:, :, 3]
    return Frame(rgb, index, pts, seconds, matte)
