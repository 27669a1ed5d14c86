"""When pictures and sound come, read off a file's packets; nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reenact.video.read import open_input, open_video, packets, time_base


def picture_stamps(path: Path) -> list[int]:
    """The pictures' stamps in ticks of the video's time base, ascending.

    Raises:
        VideoError: the file can't be read.
    """
    with open_video(path) as (container, stream):
        shown = (p for p in packets(container, stream, _as_read) if not p.is_discard)  # an edit list cuts others away
        stamps = (p.dts if p.pts is None else p.pts for p in shown)
        return sorted({stamp for stamp in stamps if stamp is not None})


def picture_times(path: Path) -> NDArray[np.float64]:
    """When each frame is shown, [T] seconds on the file's clock; otherwise as `picture_stamps`."""
    with open_video(path) as (_, stream):
        base = time_base(stream)
    return np.array([float(stamp * base) for stamp in picture_stamps(path)])


@dataclass(frozen=True, eq=False)
class SoundTimes:
    """Where a file's first sound track lies, in seconds on the file's clock."""

    codec: str
    packets: NDArray[np.float64]  # [N], when each begins, ascending; what lies before 0 is a run-up, and taken for 0
    end: float  # of the last

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - float(self.packets[0])


def sound_times(path: Path) -> SoundTimes | None:
    """Where the sound lies; None: there is none.

    Raises:
        VideoError: the file can't be read.
    """
    with open_input(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        spans = [(p.pts, p.pts + (p.duration or 0)) for p in packets(container, stream, _as_read) if p.pts is not None]
        codec, base = stream.codec_context.name if stream.codec_context else "", float(time_base(stream))
    if not spans:
        return None
    begins, ends = (np.maximum(np.sort(ticks) * base, 0.0) for ticks in np.array(spans).T)
    return SoundTimes(codec, begins, float(ends[-1]))


def _as_read() -> None:
    """Damage is told of where the file is decoded."""
