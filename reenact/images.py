"""Still pictures: read, written, and turned into tensors and back."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from .errors import ImageError, UsageError
from .files import unfinished
from .types import Floats, Rgb

MAX_PIXELS = 200_000_000
"""The largest picture that is decoded; more is taken for a decompression bomb."""

MIN_SIDE = 64
"""Pixels of the shorter side; a smaller picture shows no face that could be used."""

# What `write_image` writes: by suffix, Pillow's name of the format and its settings.
_WRITTEN: dict[str, tuple[str, dict[str, int]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
}

# Formats whose further frames make a film; those of others (TIFF, MPO, ICO) are pages or sizes.
_FILMS = {"GIF", "PNG", "WEBP", "AVIF"}

_OPAQUE = 250  # of 255: less is meant

_pillow_limit = threading.Lock()

# What Pillow logs of a broken file, it also raises; without a handler Python would print it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


# --- Reading ------------------------------------------------------------------------------------


def is_image(path: Path) -> bool:
    """Whether the file's content is a still picture; its suffix doesn't count.

    An animated GIF, PNG, WebP or AVIF is a video, and so is MPEG (which Pillow knows but can't
    decode). False too for what is missing or unreadable: the reader that is then tried says why.
    """
    try:
        with _open(path) as image:
            is_film = image.format in _FILMS and getattr(image, "is_animated", False)
            return image.format != "MPEG" and not is_film
    except ImageError:
        return False


def read_image(path: Path) -> Rgb:
    """A picture as it is meant to be seen: sRGB uint8 [H,W,3], upright.

    Any format that Pillow decodes; of an animated one, the first frame. EXIF orientation is applied,
    a colour profile converted to sRGB (a broken one is ignored), 16-bit grey scaled to 8, floats
    taken as 0..1, and transparent parts laid on white.

    Raises:
        ImageError: no such file, not a picture, cut off, more than `MAX_PIXELS` (nothing is decoded
            then), or less than `MIN_SIDE` pixels on the shorter side.
    """
    with _open(path) as image:
        _check_size(path, image.width, image.height)
        upright = _decoded(path, image)
        profile = image.info.get("icc_profile")
    return np.array(_to_srgb(_flattened(_to_eight_bits(upright)), profile))


def read_mask(path: Path) -> Floats:
    """How much a picture marks each pixel: its opacity, or how light it is where it is opaque all over.

    Returns:
        float32 [H,W], 0 to 1, upright.

    Raises:
        ImageError: as `read_image`.
    """
    with _open(path) as image:
        _check_size(path, image.width, image.height)
        upright = _decoded(path, image)
    opacity = upright.convert("RGBA").getchannel("A") if upright.has_transparency_data else None
    if opacity is None or np.asarray(opacity).min() > _OPAQUE:
        opacity = _flattened(_to_eight_bits(upright)).convert("L")
    return np.asarray(np.asarray(opacity, np.float32) / 255, np.float32)


def _open(path: Path) -> Image.Image:
    """The picture with its header read and no pixels decoded."""
    try:
        with _without_pillows_limit(), _unheard():
            return Image.open(path)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder; give a picture") from None
    except UnidentifiedImageError:
        what = "not a picture that can be read" if path.stat().st_size else "the file is empty"
        raise ImageError(f"{path}: {what}; give a JPEG, PNG, WebP or TIFF file") from None
    except Exception as error:  # broken files make Pillow raise anything at all
        raise ImageError(f"{path}: can't be read ({_reason(error)})") from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Drop Pillow's warnings of damage that it gets over; of other damage it raises errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's own limit on pixels, which is lower than ours and would print a warning first."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: {width}x{height} is too large; at most {MAX_PIXELS // 10**6} million pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{path}: {width}x{height} is too small; at least {MIN_SIDE} pixels on the shorter side")


def _decoded(path: Path, image: Image.Image) -> Image.Image:
    """The pixels, in whatever mode, turned upright."""
    try:
        with _unheard():
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception as error:  # broken files make Pillow's decoders raise anything at all
        raise ImageError(f"{path}: damaged or cut off ({_reason(error)}); give a whole file") from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Deep greyscale as mode L. Pillow itself would clip 16-bit values at 255."""
    if image.mode == "F":
        return Image.fromarray(_rounded(np.nan_to_num(np.asarray(image)) * 255.0))
    if image.mode.startswith("I"):
        return Image.fromarray(_rounded(np.asarray(image) / 257.0))
    return image


def _rounded(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)


def _flattened(image: Image.Image) -> Image.Image:
    """Without transparency: laid on white, as a page shows it."""
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Mode RGB in sRGB. Without a profile that fits, RGB is taken to be sRGB and CMYK plain ink."""
    with suppress(OSError, ImageCms.PyCMSError):  # a broken profile
        profile = _profile(image, icc)
        if profile is not None:
            source = image if image.mode in ("L", "CMYK", "LAB") else image.convert("RGB")
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(source, profile, srgb, outputMode="RGB")
            assert converted is not None  # it is None only where asked to work in place
            return converted
    return image.convert("RGB")


def _profile(image: Image.Image, icc: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """The profile of the picture's colours, None if there is none or it is one of other colours."""
    if image.mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if not icc:
        return None
    profile = ImageCms.ImageCmsProfile(BytesIO(icc))
    own = {"L": "GRAY", "CMYK": "CMYK"}.get(image.mode, "RGB")
    return profile if profile.profile.xcolor_space.strip() == own else None


def _reason(error: Exception) -> str:
    """An exception as part of a line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


# --- Writing ------------------------------------------------------------------------------------


def write_image(path: Path, rgb: Rgb) -> None:
    """Write uint8 [H,W,3] as PNG, JPEG (quality 95, full colour resolution) or WebP, by suffix.

    The file appears under its name when it is complete; an earlier one stays until then.

    Raises:
        UsageError: another suffix.
        ImageError: it can't be written there, or the format can't hold that size.
    """
    if path.suffix.lower() not in _WRITTEN:
        raise UsageError(
            f"{path}: can't write {path.suffix or 'a picture without a suffix'}; use {', '.join(_WRITTEN)}"
        )
    form, settings = _WRITTEN[path.suffix.lower()]
    try:
        with unfinished(path) as partial:
            Image.fromarray(rgb).save(partial, format=form, **settings)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: can't be written ({_reason(error)})") from error


# --- Tensors ------------------------------------------------------------------------------------


def to_tensor(rgb: Rgb, device: torch.device | str | None = None) -> torch.Tensor:
    """Pixels uint8 [H,W,3] or [N,H,W,3] as float32 [N,3,H,W] in [-1,1]."""
    pixels = torch.from_numpy(np.array(rgb, ndmin=4, order="C"))  # a copy: the tensor must not share a frame's memory
    return pixels.to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()


def to_rgb(images: torch.Tensor) -> Rgb:
    """Floats [3,H,W] or [N,3,H,W] in [-1,1] as uint8 [H,W,3] or [N,H,W,3], rounded; beyond the range, clamped."""
    pixels = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    rgb: Rgb = pixels.to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()
    return rgb


def noise_of(grey: Floats) -> float:
    """The standard deviation of the noise of a grey picture [h,w], in its unit; edges and lines do not count.

    J. Immerkaer, "Fast noise variance estimation" (1996), but by the median.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(grey, -1, kernel)))) / 0.6745 / 6
