"""What a decoder gives, as a player shows it: whole frames, upright, square pixels, standard colours, RGB."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar, cast

import av
import cv2
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc, Interpolation
from numpy.typing import NDArray

from reenact.types import Floats, Rgb

Say = Callable[[str, str], None]
"""Takes what is odd of the file, once for each kind: (kind, the rest of the sentence that the file's name begins)."""

S = TypeVar("S")


# --- Fields -------------------------------------------------------------------------------------


def deinterlaced(pictures: Iterable[tuple[S, av.VideoFrame]], say: Say) -> Iterator[tuple[S, av.VideoFrame]]:
    """Each (stamp, picture), whole pictures in place of pairs of fields; one comes late, none is lost.

    From the first interlaced frame on all go through FFmpeg's bwdif, which leaves the others as they are.
    """
    graph: Graph | None = None
    shape: tuple[object, ...] = ()
    waiting: deque[S] = deque()
    for stamp, picture in pictures:
        here = (picture.width, picture.height, picture.format.name)
        if graph and here != shape:
            yield from zip(waiting, _pulled(graph, None), strict=False)
            graph = None
            waiting.clear()
        if graph is None and picture.interlaced_frame:
            say("fields", "is interlaced; deinterlaced")
            graph, shape = _bwdif(picture), here
        if graph is None:
            yield stamp, picture
            continue
        waiting.append(stamp)
        for whole in _pulled(graph, picture):
            yield waiting.popleft(), whole
    if graph:
        yield from zip(waiting, _pulled(graph, None), strict=False)


def _bwdif(picture: av.VideoFrame) -> Graph:
    graph, ticks = Graph(), picture.time_base or Fraction(1, 90000)
    source = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=ticks)
    for name, argument in (("bwdif", "mode=send_frame:deint=interlaced"), ("buffersink", None)):
        step = graph.add(name, argument)
        source.link_to(step)
        source = step
    graph.configure()
    return graph


def _pulled(graph: Graph, picture: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
    """What comes out after `picture` went in; None: it was the last."""
    graph.push(picture)
    while True:
        try:
            yield cast(av.VideoFrame, graph.pull())
        except (av.BlockingIOError, av.EOFError):
            return


# --- Shape --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Display:
    """How stored pictures become what a player shows."""

    width: int  # of the stored picture with its pixels made square
    height: int
    matrix: tuple[int, int, int, int]  # signs of a, b, c, d: x' = a x + c y, y' = b x + d y
    aspect: Fraction  # of a stored pixel

    @classmethod
    def of(cls, stream: av.VideoStream, picture: av.VideoFrame) -> Display:
        """What the first picture of a stream says."""
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if not Fraction(1, 8) <= aspect <= 8:  # 0 is "unknown"; far values are damage, and would ask for memory
            aspect = Fraction(1)
        return cls(*_squared(picture, aspect), _matrix(picture), aspect)

    @property
    def turned(self) -> bool:
        """Whether the picture lies on its side."""
        return self.matrix[0] == 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the screen."""
        return (self.height, self.width) if self.turned else (self.width, self.height)

    @property
    def rotation(self) -> int:
        """Degrees clockwise: 0, 90, 180 or 270; a mirrored picture is mirrored left to right first."""
        a, b, c, d = self.matrix
        mirror = a * d - b * c
        return round(math.degrees(math.atan2(b * mirror, a * mirror))) % 360

    def rgb(self, picture: av.VideoFrame, say: Say) -> Rgb:
        """Pixels as displayed, uint8 [H,W,3]. One of another shape than the first's is fitted in, with black bars."""
        rgb = self._fitted(picture, say)
        a, b, c, d = self.matrix
        if self.turned:
            rgb, a, d = rgb.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(rgb[:: d or 1, :: a or 1])

    def _fitted(self, picture: av.VideoFrame, say: Say) -> Rgb:
        width, height = _squared(picture, self.aspect)
        if (width, height) == (self.width, self.height):
            return _rgb24(picture, width, height, say)
        say("size", f"becomes {width}x{height} from {self.width}x{self.height}; all is fitted into the first size")
        scale = min(Fraction(self.width, width), Fraction(self.height, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (self.width - width) // 2, (self.height - height) // 2
        framed = np.zeros((self.height, self.width, 3), np.uint8)
        framed[top : top + height, left : left + width] = _rgb24(picture, width, height, say)
        return framed


def _squared(picture: av.VideoFrame, aspect: Fraction) -> tuple[int, int]:
    """Width and height with square pixels. Whichever side is short grows, so that no detail is lost."""
    return round(picture.width * max(aspect, Fraction(1))), round(picture.height / min(aspect, Fraction(1)))


_TURNS = ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))  # by 0, 90, 180, 270 degrees clockwise


def _matrix(picture: av.VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix, snapped to quarter turns and mirrorings."""
    try:
        # PyAV's stubs call this a dict of names; it is a mapping that also takes a Type.
        data = cast(Any, picture.side_data).get(SideDataType.DISPLAYMATRIX)
    except ValueError:  # side data newer than PyAV's list of types
        return _TURNS[round(-picture.rotation / 90) % 4]
    if data is None:
        return _TURNS[0]
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(a) >= abs(b):
        return (-1 if a < 0 else 1), 0, 0, (-1 if d < 0 else 1)
    return 0, (-1 if b < 0 else 1), (-1 if c < 0 else 1), 0


# --- Colour -------------------------------------------------------------------------------------

# H.273's number of a matrix, which frames carry, to swscale's: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020 twice.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}

# Those that swscale can't undo. To take them for another would give wrong colours without a word.
_UNREADABLE = {8: "YCgCo", 11: "YDzDx", 12: "derived YCbCr", 13: "derived YCbCr", 14: "ICtCp", 15: "IPT-C2"}

_HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}


def refusal(picture: av.VideoFrame) -> str | None:
    """Why colours like the picture's can't be shown; None: they can."""
    name = None if picture.format.is_rgb else _UNREADABLE.get(picture.colorspace)
    return name and f"its colours are coded as {name}, which can't be read; convert it to BT.709 first"


def _rgb24(picture: av.VideoFrame, width: int, height: int, say: Say) -> Rgb:
    """sRGB of the given size, by the matrix, range, primaries and transfer function that the picture names."""
    if (hdr := _HDR.get(cast(ColorTrc, picture.color_trc))) is not None:
        say("hdr", f"is HDR ({hdr}); tone-mapped")
        transfer = cast(ColorTrc, picture.color_trc)
        return _in_bands(_converted(picture, width, height, "rgb48le"), lambda band: _tone_mapped(band, transfer))
    if picture.color_primaries == ColorPrimaries.BT2020:
        return _in_bands(_converted(picture, width, height, "rgb48le"), _narrowed)
    if any(component.is_alpha for component in picture.format.components):
        return _on_white(_converted(picture, width, height, "rgba"))
    return cast(Rgb, _converted(picture, width, height, "rgb24"))


def _in_bands(pixels: NDArray[np.uint16], convert: Callable[[NDArray[np.uint16]], Rgb]) -> Rgb:
    """Some rows at a time: floats take four times the memory of the picture."""
    rgb = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), 128):
        rgb[top : top + 128] = convert(pixels[top : top + 128])
    return rgb


def _converted(picture: av.VideoFrame, width: int, height: int, format: str) -> NDArray[Any]:
    """The picture scaled, in a format of full-range RGB."""
    full = picture.format.is_rgb or picture.format.name.startswith("yuvj") or picture.color_range == ColorRange.JPEG
    return picture.reformat(
        width,
        height,
        format,
        src_colorspace=None if picture.format.is_rgb else _colorspace(picture),
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC,
    ).to_ndarray()


def _colorspace(picture: av.VideoFrame) -> int:
    """The named matrix; where none is named, what everyone assumes: BT.709 from 720 lines on, else BT.601."""
    return _MATRICES.get(picture.colorspace, 1 if picture.height >= 720 else 5)


def _on_white(rgba: NDArray[np.uint8]) -> Rgb:
    """Transparent parts laid on white, as `images.read_image` does."""
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)


# BT.2020's linear RGB to BT.709's, ITU-R BT.2407.
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)

WHITE = 203.0
"""Candelas per square metre of white paper in HDR, ITU-R BT.2408; it becomes nearly the white of the result."""

_PEAK = 1000.0  # what is brighter is cut off; HLG's screen, and most masters', has that much


def _tone_mapped(rgb: NDArray[np.uint16], transfer: ColorTrc) -> Rgb:
    """HDR [H,W,3] in BT.2020 as sRGB: the highlights compressed by BT.2390's curve, hues kept."""
    light = np.take(_light(transfer), rgb)  # [H,W,3] candelas
    if transfer == ColorTrc.ARIB_STD_B67:  # HLG's screen brightens with the scene: BT.2100's system gamma of 1.2
        luminance = light @ np.array([0.2627, 0.678, 0.0593], np.float32)
        light *= ((luminance / _PEAK) ** 0.2)[..., None]
    light = np.clip(cv2.transform(light, _TO_709), 0, _PEAK)
    peak = light.max(2, keepdims=True)
    index = np.rint(np.sqrt(peak / _PEAK) * (len(_compressed()) - 1)).astype(np.intp)
    return _srgb(light * np.take(_compressed(), index))


def _narrowed(rgb: NDArray[np.uint16]) -> Rgb:
    """BT.2020 of the usual brightness [H,W,3] as sRGB."""
    return _srgb(cv2.transform(np.take(_light(ColorTrc.BT709), rgb), _TO_709))


@lru_cache
def _light(transfer: ColorTrc) -> Floats:
    """Light of each 16-bit value [65536]: candelas by PQ, HLG (of a neutral scene, before the screen); else 0..1."""
    value = np.arange(65536) / 65535
    if transfer == ColorTrc.SMPTE2084:
        return _pq_to_light(value).astype(np.float32)
    if transfer == ColorTrc.ARIB_STD_B67:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return (_PEAK * np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)).astype(np.float32)
    return (np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)).astype(np.float32)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # SMPTE ST 2084


def _pq_to_light(value: NDArray[np.float64]) -> NDArray[np.float64]:
    root = value ** (1 / _M2)
    return 10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def _light_to_pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (light / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


@lru_cache
def _compressed() -> Floats:
    """Factor from light to the result's 0..1 [4096], by the square root of light over `_PEAK`: BT.2390's EETF."""
    light = np.maximum(np.linspace(0, 1, 4096) ** 2, 1e-7) * _PEAK
    top = _light_to_pq(np.array([_PEAK, WHITE]))
    level, most = _light_to_pq(light) / top[0], top[1] / top[0]
    knee = 1.5 * most - 0.5
    t = np.clip((level - knee) / (1 - knee), 0, 1)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    mapped = _pq_to_light(np.where(level < knee, level, bent) * top[0])
    return (mapped / WHITE / light).astype(np.float32)


def _srgb(light: NDArray[Any]) -> Rgb:
    """Linear 0..1 [H,W,3] as sRGB."""
    index = np.rint(np.sqrt(np.clip(light, 0, 1)) * 4095).astype(np.intp)
    rgb: Rgb = np.take(_srgb_values(), index)
    return rgb


@lru_cache
def _srgb_values() -> NDArray[np.uint8]:
    """sRGB of light, by its square root [4096], which is nearly as fine everywhere as sRGB itself."""
    light = np.linspace(0, 1, 4096) ** 2
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    rounded: NDArray[np.uint8] = np.rint(255 * value).astype(np.uint8)
    return rounded
