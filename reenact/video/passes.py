"""A video read more than once, while nobody else keeps it from changing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from reenact.errors import VideoError
from reenact.types import Frame
from reenact.video.read import read_frames, silent


class Passes:
    """The frames of a video; each pass after the first gives the same ones or an error.

    A file that grows, since it is still being recorded, gives what the first pass saw.
    """

    def __init__(
        self,
        path: Path,
        start: float | None = None,
        end: float | None = None,
        max_frames: int | None = None,
        on_warning: Callable[[str], None] = silent,
    ) -> None:
        """Take the arguments of `read_frames`. What is wrong with the file is said once, not in each pass."""
        self._path, self._part, self._warn = path, (start, end, max_frames), on_warning
        self._said: set[str] = set()
        self._stamps: list[int] | None = None  # of the first whole pass
        self._state = _state(path)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, as `read_frames` does; VideoError too if the file is no longer what it was."""
        known = self._stamps
        stamps: list[int] = []
        self._check()
        for frame in read_frames(self._path, *self._part, self._once):
            if known is not None and len(stamps) == len(known):
                break
            if known is not None and frame.pts != known[len(stamps)]:
                raise self._changed()
            stamps.append(frame.pts)
            yield frame
        self._check()
        if known is not None and len(stamps) < len(known):
            raise self._changed()
        self._stamps = stamps

    def _check(self) -> None:
        file, size, modified = self._state
        now = _state(self._path)
        if now[0] != file or now[1] < size or (now[1] == size and now[2] != modified):
            raise self._changed()
        self._state = now

    def _changed(self) -> VideoError:
        return VideoError(f"{self._path}: changed while it was being read; start again when nothing writes to it")

    def _once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._warn(line)


def _state(path: Path) -> tuple[tuple[int, int], int, int]:
    """Which file it is, its size, and when it was last written to; of none, that of an empty one."""
    try:
        stat = os.stat(path)
    except OSError:  # the reader says what is wrong
        return (0, 0), 0, 0
    return (stat.st_dev, stat.st_ino), stat.st_size, stat.st_mtime_ns
