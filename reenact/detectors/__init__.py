"""Face landmark detectors, one file each; the file's name (with - for _) is its name on the command line.

Each module has

    create(store: WeightStore, device: torch.device) -> Detector
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ..types import Landmarks, Rgb


class Detector(Protocol):
    """Finds faces and follows them."""

    def track(self, frames: Iterable[Rgb], known: Sequence[Landmarks] = ()) -> Iterator[list[Landmarks]]:
        """Yield the faces of each RGB uint8 [H,W,3] picture, the largest first; an empty list: none.

        Streams: one answer per picture, before the next is asked for. A single image is a track of one. `known` are
        the faces of the picture before the first, as this detector found them; one that follows faces goes on there.
        """
        ...
