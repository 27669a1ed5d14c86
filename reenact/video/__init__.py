"""Video files in and out, streaming: stamps and sound go through, pixels are upright RGB."""

from reenact.video.passes import Passes
from reenact.video.read import probe, read_frames
from reenact.video.write import MAX_AREA, MAX_SIDE, SUFFIXES, MatteWriter, VideoWriter, check_output

__all__ = [
    "MAX_AREA",
    "MAX_SIDE",
    "SUFFIXES",
    "MatteWriter",
    "Passes",
    "VideoWriter",
    "check_output",
    "probe",
    "read_frames",
]
