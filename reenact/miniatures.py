"""Clips made small for a page: WebM, thumbnails and single frames, all as data: URIs."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from .images import is_image, read_image
from .types import Box, Rgb
from .video import read_frames

VIDEO_BOX = (456, 256)
"""Width and height, in pixels, that a clip's video fits into; no picture is enlarged."""

VIDEO_BYTES = 1_500_000
"""About what a clip's video takes at most; a long one gets fewer bits a second."""

FRAME_BOX = (356, 200)
"""The same for a single frame."""

THUMB_BOX = (172, 96)
"""The same for a thumbnail."""

MAX_THUMBS = 300
"""Thumbnails of a clip at most; of a longer one every second frame has one, or every third."""

VIDEO_ROOM, FRAME_ROOM = 3.0, 1.9
"""What is shown round a face, in multiples of its size: by a clip's video, and by its frames and thumbnails."""

_MILLISECOND = Fraction(1, 1000)  # WebM's own clock


@dataclass(frozen=True)
class Sheet:
    """Thumbnails of one clip as one picture: row by row, `columns` in each, every one `width` x `height` pixels."""

    uri: str
    columns: int
    rows: int
    width: int
    height: int


@dataclass(frozen=True)
class Miniature:
    """One clip as a page holds it."""

    label: str  # "driver", "output"
    width: int  # of `video` and `poster`, in pixels
    height: int
    video: str | None  # data: URI of a WebM; None: the clip is a picture
    poster: str  # data: URI of the first frame
    sheet: Sheet
    frames: dict[int, str]  # data: URIs of the frames that were wanted, by index


def thumb_indices(frames: int) -> range:
    """The frames of a clip that get a thumbnail: evenly spaced from the first, `MAX_THUMBS` at most."""
    return range(0, frames, max(1, math.ceil(frames / MAX_THUMBS)))


def miniature(
    label: str,
    path: Path,
    seconds: Sequence[float],
    wanted: Collection[int] = (),
    face: Box | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Miniature:
    """One video, or a picture, made small; frames pass through one at a time.

    Args:
        label: what the page calls it.
        path: the file.
        seconds: when each frame is shown, [T]; the video's later frames are left out. Clips that share them play in
            step, whatever their own clocks say.
        wanted: indices of the frames to keep as single pictures.
        face: what the face keeps within; None: the whole picture is shown.
        on_progress: called with the number of frames done.

    Raises:
        VideoError, ImageError: it can't be read.
    """
    if is_image(path):
        return _of_picture(label, read_image(path), wanted, face)
    thumbs, frames, shown = list[Rgb](), dict[int, str](), thumb_indices(len(seconds))
    poster = None
    with _Webm(seconds) as webm:
        for frame in read_frames(path, max_frames=len(seconds)):
            small, near = fitted(around(frame.rgb, face, VIDEO_ROOM), VIDEO_BOX), around(frame.rgb, face, FRAME_ROOM)
            poster = small if poster is None else poster
            webm.write(small)
            if frame.index in shown:
                thumbs.append(fitted(near, THUMB_BOX))
            if frame.index in wanted:
                frames[frame.index] = jpeg(fitted(near, FRAME_BOX))
            if on_progress:
                on_progress(frame.index + 1)
    assert poster is not None  # a video without frames raises
    height, width = poster.shape[:2]
    return Miniature(label, width, height, webm.uri(), jpeg(poster), _sheet(thumbs), frames)


def _of_picture(label: str, rgb: Rgb, wanted: Collection[int], face: Box | None) -> Miniature:
    poster, near = fitted(around(rgb, face, VIDEO_ROOM), VIDEO_BOX), around(rgb, face, FRAME_ROOM)
    height, width = poster.shape[:2]
    frames = dict.fromkeys(wanted, jpeg(fitted(near, FRAME_BOX)))
    return Miniature(label, width, height, None, jpeg(poster), _sheet([fitted(near, THUMB_BOX)]), frames)


def film_strip(path: Path, frames: int, face: Box | None = None, shown: int = 6, height: int = 96) -> Rgb:
    """Evenly spaced frames of a video (or a picture, once) in a row, uint8 [height,W,3].

    Args:
        path: the file.
        frames: how many of its frames count.
        face: what the face keeps within, as `Evaluation.faces` has it; None: the whole picture is shown.
        shown: how many are shown at most, the first and the last among them.
        height: in pixels.

    Raises:
        VideoError, ImageError: it can't be read.
    """
    chosen = set(np.linspace(0, frames - 1, min(shown, frames)).round().astype(int).tolist())
    pictures = [read_image(path)] if is_image(path) else _pick(path, chosen)
    return np.hstack([_of_height(around(rgb, face, FRAME_ROOM), height) for rgb in pictures])


def _pick(path: Path, chosen: set[int]) -> Iterable[Rgb]:
    frames = read_frames(path, max_frames=max(chosen) + 1)
    return (frame.rgb for frame in frames if frame.index in chosen)


# ---- Pictures ----------------------------------------------------------------------------------------------------


def around(rgb: Rgb, face: Box | None, room: float) -> Rgb:
    """The square round a face that is `room` times its size, or as much of it as the picture has."""
    if face is None:
        return rgb
    left, top, right, bottom = face
    side = room * max(right - left, bottom - top)
    # The points of a face end at its brows.
    return rgb[_span((top + bottom) / 2 - 0.05 * side, side, len(rgb)), _span((left + right) / 2, side, rgb.shape[1])]


def _span(middle: float, side: float, length: int) -> slice:
    """`side` pixels about `middle`, moved to lie within `length`."""
    size = min(round(side), length)
    start = min(max(round(middle - size / 2), 0), length - size)
    return slice(start, start + size)


def fitted(rgb: Rgb, box: tuple[int, int]) -> Rgb:
    """The picture made small enough for a box of width and height; never enlarged."""
    height, width = rgb.shape[:2]
    scale = min(1.0, box[0] / width, box[1] / height)
    return _resized(rgb, width * scale, height * scale)


def _of_height(rgb: Rgb, height: int) -> Rgb:
    return _resized(rgb, rgb.shape[1] * height / rgb.shape[0], height)


def _resized(rgb: Rgb, width: float, height: float) -> Rgb:
    size = (max(1, round(width)), max(1, round(height)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(rgb: Rgb, quality: int = 80) -> str:
    """The data: URI of a uint8 [H,W,3] picture."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality, optimize=True)
    return data_uri("image/jpeg", file.getvalue())


def data_uri(kind: str, data: bytes) -> str:
    """Bytes of a media type as part of a page."""
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"


def _sheet(thumbs: Sequence[Rgb]) -> Sheet:
    """Nearly square: browsers don't show pictures of 50,000 pixels' width."""
    columns = math.ceil(math.sqrt(len(thumbs)))
    rows = math.ceil(len(thumbs) / columns)
    height, width = thumbs[0].shape[:2]
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for index, thumb in enumerate(thumbs):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = thumb
    return Sheet(jpeg(sheet, 70), columns, rows, width, height)


# ---- Video -------------------------------------------------------------------------------------------------------


class _Webm:
    """VP9 in memory; write pictures of one size inside a with block."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._stamps: Iterator[int] = (round(s * 1000) for s in seconds)
        self._duration = max(1.0, seconds[-1] - seconds[0])
        self._file = io.BytesIO()
        self._output = av.open(self._file, "w", format="webm")
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> _Webm:
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream and error[0] is None:
            self._output.mux(self._stream.encode(None))
        self._output.close()

    def write(self, rgb: Rgb) -> None:
        """Add one picture."""
        rgb = np.pad(rgb, ((0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0)), mode="edge")
        self._stream = self._stream or self._opened(rgb)
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = next(self._stamps), _MILLISECOND
        self._output.mux(self._stream.encode(frame))

    def _opened(self, rgb: Rgb) -> av.VideoStream:
        stream = self._output.add_stream("libvpx-vp9", rate=25)
        stream.height, stream.width = rgb.shape[:2]
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = _MILLISECOND
        codec.colorspace = codec.color_primaries = codec.color_trc = 1  # H.273's number of BT.709
        codec.color_range = ColorRange.MPEG
        codec.gop_size = 25  # quick to seek in
        # Constant quality, but for a limit on the bits.
        most = str(round(VIDEO_BYTES * 8 / self._duration))
        codec.options = {"crf": "36", "b": most, "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}
        return stream

    def uri(self) -> str:
        """The whole file, after the block."""
        return data_uri("video/webm", self._file.getvalue())
