"""Where live pictures can be seen: a window, and a camera for other programs."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from .errors import ReenactError, UsageError
from .types import Rgb

if TYPE_CHECKING:
    from typing import Self


class Screen(Protocol):
    """Shows one picture after the other."""

    def show(self, rgb: Rgb) -> bool:
        """Show uint8 [H,W,3]; False: whoever looks at it wants no more."""
        ...

    def close(self) -> None:
        """Show nothing any more."""
        ...


_LARGEST = 900
"""Pixels of a preview's longer side, before somebody makes it larger."""


class Preview:
    """A window; q or Esc in it, or closing it, ends the recording."""

    _ENDS = (ord("q"), 27)

    def __init__(self, title: str) -> None:
        """Open it.

        Raises:
            UsageError: there is no screen, or OpenCV was built without windows.
        """
        # Without a screen Qt would end the program, and no exception could be caught.
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise UsageError("--preview: there is no screen ($DISPLAY is not set); leave it out")
        self._title, self._shown = title, False
        try:
            # Without Qt's buttons, which would take half of a small window.
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise UsageError("--preview: this build of OpenCV has no windows; pip install opencv-python has") from error

    def show(self, rgb: Rgb) -> bool:
        """See `Screen.show`."""
        if self._shown and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            return False
        if not self._shown:
            height, width = rgb.shape[:2]
            scale = min(1.0, _LARGEST / max(height, width))
            cv2.resizeWindow(self._title, round(scale * width), round(scale * height))
        cv2.imshow(self._title, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        self._shown = True
        return cv2.waitKey(1) & 0xFF not in self._ENDS

    def close(self) -> None:
        """See `Screen.close`."""
        cv2.destroyWindow(self._title)


class VirtualCamera:
    """A camera that video calls can choose; pyvirtualcam makes it, by what the system has for that."""

    RATE = 25.0  # that it claims; pictures are sent as they come

    def __init__(self) -> None:
        """Nothing is opened before the first picture, whose size it takes.

        Raises:
            UsageError: pyvirtualcam isn't installed.
        """
        try:
            import pyvirtualcam
        except ImportError as error:
            raise UsageError("--virtual-camera: needs pyvirtualcam; pip install 'reenact[camera]'") from error
        self._open = pyvirtualcam.Camera
        self._camera: Any = None

    def show(self, rgb: Rgb) -> bool:
        """See `Screen.show`; ReenactError where the system has no virtual cameras."""
        if self._camera is None:
            try:
                self._camera = self._open(width=rgb.shape[1], height=rgb.shape[0], fps=self.RATE)
            except RuntimeError as error:
                why = " ".join(str(error).split())
                raise ReenactError(
                    f"--virtual-camera: can't be opened ({why}); OBS or v4l2loopback makes one"
                ) from error
        self._camera.send(np.ascontiguousarray(rgb))
        return True

    def close(self) -> None:
        """See `Screen.close`."""
        if self._camera is not None:
            self._camera.close()


class Screens:
    """All that were asked for; a context."""

    def __init__(self, screens: list[Screen]) -> None:
        self._screens = screens

    def __enter__(self) -> Self:
        """Show what is to come."""
        return self

    def show(self, rgb: Rgb) -> bool:
        """On each of them; False as soon as one has been closed."""
        wanted = [screen.show(rgb) for screen in self._screens]
        return all(wanted)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        for screen in self._screens:
            screen.close()
