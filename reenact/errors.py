"""Errors a user can act on, by purpose. Each message names the bad value and what would be good.

The command line turns any `ReenactError` into one line and its `exit_status`; everything else is a
bug and keeps its traceback.
"""

from __future__ import annotations


class ReenactError(Exception):
    """Something outside the program is wrong: a file, a setting, the network, the machine."""

    exit_status = 1


class UsageError(ReenactError):
    """An argument or option has a value that can't be used."""

    exit_status = 2


class ImageError(ReenactError):
    """An image can't be read, used or written."""


class VideoError(ReenactError):
    """A video can't be read, used or written."""


class WeightsError(ReenactError):
    """A weight file can't be fetched, checked or read."""


class NoFaceError(ReenactError):
    """A picture that must show a face shows none. `frame` is its index in the video, or None."""

    def __init__(self, message: str, frame: int | None = None) -> None:
        super().__init__(message)
        self.frame = frame
