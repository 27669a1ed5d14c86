import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from reenact.errors import ImageError, UsageError
from reenact.images import MAX_PIXELS, is_image, read_image, to_rgb, to_tensor, write_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(width: int = 80, height: int = 100) -> np.ndarray:
    """Red, green above blue, white."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = RED, GREEN
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = BLUE, WHITE
    return rgb


def ramp(low: float, high: float) -> np.ndarray:
    """[64,256], from low at the left to high at the right."""
    return np.tile(np.linspace(low, high, 256), (64, 1))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand: Pillow writes no 16-bit colour and no false headers."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def as_16_bit_png(values: np.ndarray, colour: int) -> bytes:
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, colour, rows)


def red_blue_swapped_profile() -> bytes:
    """sRGB with the red and the blue primary exchanged: what is red in a file is blue to the eye."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = profile[:512].replace(b"rXYZ", b"####").replace(b"bXYZ", b"rXYZ").replace(b"####", b"bXYZ")
    return tags + profile[512:]


# --- Reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp", "webp", "ppm"])
def test_lossless_formats_give_the_very_pixels(tmp_path: Path, suffix: str) -> None:
    settings = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(quadrants()).save(tmp_path / f"a.{suffix}", **settings)
    rgb = read_image(tmp_path / f"a.{suffix}")
    assert rgb.dtype == np.uint8
    assert rgb.flags.writeable
    assert np.array_equal(rgb, quadrants())


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, stored, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored(quadrants()))).save(tmp_path / f"a.{suffix}", exif=exif, **settings)
    difference = read_image(tmp_path / f"a.{suffix}").astype(int) - quadrants()
    assert np.abs(difference).mean() < 2


def test_greyscale_has_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(ramp(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.repeat(ramp(0, 255)[..., None], 3, axis=2))


def test_black_and_white_bitmap(tmp_path: Path) -> None:
    Image.fromarray(ramp(0, 1) > 0.5).save(tmp_path / "a.png")
    rgb = read_image(tmp_path / "a.png")
    assert (rgb[:, :128] == 0).all()
    assert (rgb[:, 128:] == 255).all()


def test_palette(tmp_path: Path) -> None:
    Image.fromarray(quadrants()).quantize(4).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert np.array_equal(read_image(tmp_path / "a.png"), quadrants())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_become_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (80, 80), (0,) * (len(mode) - 1) + (255,))  # black
    image.paste((0,) * len(mode), (0, 0, 40, 80))  # transparent black
    image.paste((0,) * (len(mode) - 1) + (51,), (0, 0, 40, 40))  # a fifth of black
    image.save(tmp_path / "a.png")
    rgb = read_image(tmp_path / "a.png")
    assert (rgb[:40, :40] == 204).all()
    assert (rgb[40:, :40] == 255).all()
    assert (rgb[:, 40:] == 0).all()


def test_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (80, 80), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (40, 0, 80, 80))
    image.save(tmp_path / "a.gif", transparency=0)
    rgb = read_image(tmp_path / "a.gif")
    assert (rgb[:, :40] == WHITE).all()
    assert (rgb[:, 40:] == RED).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(as_16_bit_png(ramp(0, 65535), colour=0))
    Image.fromarray(ramp(0, 65535).astype("<u2")).save(tmp_path / "a.tiff")
    for name in ("a.png", "a.tiff"):
        assert np.array_equal(read_image(tmp_path / name)[0, :, 0], np.arange(256)), name


def test_sixteen_bit_grey_in_big_endian_order(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (256, 64), ramp(0, 65535).astype(">u2").tobytes()).save(tmp_path / "a.tiff")
    assert np.array_equal(read_image(tmp_path / "a.tiff")[0, :, 0], np.arange(256))


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    values = np.stack([ramp(0, 65535), ramp(65535, 0), ramp(0, 0)], axis=2)
    (tmp_path / "a.png").write_bytes(as_16_bit_png(values, colour=2))
    rgb = read_image(tmp_path / "a.png").astype(int)
    assert np.abs(rgb - values / 257).max() <= 1


def test_floats_are_taken_as_zero_to_one(tmp_path: Path) -> None:
    values = ramp(0, 1).astype(np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.array_equal(read_image(tmp_path / "a.tiff")[0, :, 0], np.arange(256))


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_is_not_a_negative(tmp_path: Path, suffix: str) -> None:
    """Pillow writes CMYK JPEGs inverted and marked by Adobe's tag, as Photoshop does."""
    Image.fromarray(quadrants()).convert("CMYK").save(tmp_path / f"a.{suffix}")
    assert Image.open(tmp_path / f"a.{suffix}").mode == "CMYK"
    rgb = read_image(tmp_path / f"a.{suffix}").astype(int)
    assert np.abs(rgb - quadrants()).mean() < 4


def test_ycck_jpeg(tmp_path: Path) -> None:
    """YCCK, which Photoshop writes, is CMYK whose inks went through the YCbCr transform; tag 2 of Adobe says so.

    Stored Y=100, Cb=Cr=128 (no colour) and no black ink are a grey of 255 - 100, as all is stored inverted.
    """
    stream = BytesIO()
    Image.new("CMYK", (80, 80), (255 - 100, 255 - 128, 255 - 128, 0)).save(stream, "JPEG", quality=100, subsampling=0)
    data = bytearray(stream.getvalue())
    data[data.index(b"Adobe") + 11] = 2
    (tmp_path / "a.jpg").write_bytes(data)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - 155).max() <= 2


def test_colour_profile_is_applied(tmp_path: Path) -> None:
    Image.fromarray(quadrants()).save(tmp_path / "a.png", icc_profile=red_blue_swapped_profile())
    rgb = read_image(tmp_path / "a.png").astype(int)
    assert np.abs(rgb - quadrants()[..., ::-1]).max() <= 2


def test_a_picture_in_srgb_stays_as_it_is(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=profile)
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - noise).max() <= 1


@pytest.mark.parametrize("profile", [b"not a profile", red_blue_swapped_profile()[:300]])
def test_broken_profile_is_ignored(tmp_path: Path, profile: bytes) -> None:
    Image.fromarray(quadrants()).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(read_image(tmp_path / "a.png"), quadrants())


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_profile_of_other_colours_is_ignored(tmp_path: Path, mode: str) -> None:
    plain, tagged = tmp_path / "plain.tiff", tmp_path / "tagged.tiff"
    Image.fromarray(quadrants()).convert(mode).save(plain)
    Image.fromarray(quadrants()).convert(mode).save(tagged, icc_profile=red_blue_swapped_profile())
    assert np.array_equal(read_image(tagged), read_image(plain))


def test_lab(tmp_path: Path) -> None:
    lab = Image.merge("LAB", [Image.new("L", (64, 64), v) for v in (255, 128, 128)])  # L* = 100, a* = b* = 0
    lab.save(tmp_path / "a.tiff")
    assert (read_image(tmp_path / "a.tiff") >= 253).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    settings = {"lossless": True} if suffix == "webp" else {}
    first, second = (Image.new("RGB", (80, 80), colour) for colour in (RED, BLUE))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **settings)
    assert (read_image(tmp_path / f"a.{suffix}") == RED).all()


def test_a_very_large_photo_is_read_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    Image.new("1", (12000, 9000)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (9000, 12000, 3)
    assert not recwarn.list


# --- Bad input ----------------------------------------------------------------------------------


def complaint(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        read_image(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "gone.png")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in complaint(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert "empty" in complaint(tmp_path / "a.jpg")


def test_text_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("I'm not a picture.\n" * 100)
    assert "not a picture" in complaint(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff", "bmp"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: len(whole) // 2])
    complaint(tmp_path / f"a.{suffix}")


def test_too_small(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    message = complaint(tmp_path / "a.png")
    assert "16x16" in message
    assert "64 pixels" in message


def test_the_smallest_that_is_taken(tmp_path: Path) -> None:
    Image.new("RGB", (64, 100)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (100, 64, 3)


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png(side, side, 8, 2, b""))
    message = complaint(tmp_path / "a.png")
    assert f"{side}x{side}" in message
    assert f"{MAX_PIXELS // 10**6} million" in message


def test_pillows_own_limit_is_left_to_the_caller(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    complaint(tmp_path / "gone.png")
    assert before == Image.MAX_IMAGE_PIXELS


# --- Which files are pictures -------------------------------------------------------------------


def test_a_picture_is_known_by_its_content(tmp_path: Path) -> None:
    for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF"):
        Image.fromarray(quadrants()).save(tmp_path / "a.mp4", format=form)
        assert is_image(tmp_path / "a.mp4"), form


def test_pages_of_a_tiff_are_no_film(tmp_path: Path) -> None:
    page = Image.fromarray(quadrants())
    page.save(tmp_path / "a.tiff", save_all=True, append_images=[page])
    assert is_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_is_no_picture(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.new("RGB", (80, 80), colour) for colour in (RED, BLUE))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    assert not is_image(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    "start", [b"", b"text", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3" + b"\x20" * 90]
)
def test_other_files_are_no_pictures(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a.png").write_bytes(start + bytes(64) * bool(start))
    assert not is_image(tmp_path / "a.png")


def test_what_is_not_there_is_no_picture(tmp_path: Path) -> None:
    assert not is_image(tmp_path / "gone.png")
    assert not is_image(tmp_path)


# --- Writing ------------------------------------------------------------------------------------


def test_png_keeps_every_pixel(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", noise)
    assert np.array_equal(read_image(tmp_path / "a.png"), noise)


@pytest.mark.parametrize(
    ("name", "form"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP"), ("a.PNG", "PNG")]
)
def test_the_suffix_chooses_the_format(tmp_path: Path, name: str, form: str) -> None:
    write_image(tmp_path / name, quadrants())
    assert Image.open(tmp_path / name).format == form
    assert np.abs(read_image(tmp_path / name).astype(int) - quadrants()).mean() < 4


def test_jpeg_keeps_the_resolution_of_colour(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = RED, BLUE  # halved colour resolution would make it all purple
    write_image(tmp_path / "a.jpg", stripes)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - stripes).mean() < 12


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", quadrants())
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a.bmp", "a"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        write_image(tmp_path / name, quadrants())


@pytest.mark.parametrize("folder", ["gone", "file"])
def test_no_folder_to_write_into(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=f"{folder}/a.png: can't be written"):
        write_image(tmp_path / folder / "a.png", quadrants())


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    write_image(tmp_path / "a.webp", quadrants())
    before = (tmp_path / "a.webp").read_bytes()
    with pytest.raises(ImageError, match="can't be written"):
        write_image(tmp_path / "a.webp", np.zeros((64, 17000, 3), np.uint8))  # WebP ends at 16,383
    assert [file.name for file in tmp_path.iterdir()] == ["a.webp"]
    assert (tmp_path / "a.webp").read_bytes() == before


# --- Tensors ------------------------------------------------------------------------------------


def test_a_picture_as_tensor() -> None:
    tensor = to_tensor(quadrants(80, 100))
    assert tensor.shape == (1, 3, 100, 80)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert tensor[0, :, 0, 0].tolist() == [1, -1, -1]
    assert tensor[0, :, 99, 0].tolist() == [-1, -1, 1]


def test_every_value_survives_the_way_there_and_back() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    assert np.array_equal(to_rgb(to_tensor(values))[0], values)
    assert np.array_equal(to_rgb(to_tensor(values)[0]), values)


def test_a_batch_keeps_its_order() -> None:
    batch = np.stack([quadrants(), 255 - quadrants()])
    assert to_tensor(batch).shape == (2, 3, 100, 80)
    assert np.array_equal(to_rgb(to_tensor(batch)), batch)


def test_mirrored_and_read_only_arrays_are_taken() -> None:
    mirrored = quadrants()[:, ::-1]
    mirrored.flags.writeable = False
    assert np.array_equal(to_rgb(to_tensor(mirrored))[0], mirrored)


def test_values_beyond_the_range_are_clamped_and_others_rounded() -> None:
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 0.6 / 127.5 - 1])
    rgb = to_rgb(values.reshape(1, 1, 6).expand(3, 1, 6))
    assert rgb[0, :, 0].tolist() == [0, 0, 128, 255, 255, 1]


def test_a_tensor_that_needs_a_gradient_in_half_precision() -> None:
    tensor = torch.full((3, 4, 5), 1.0, dtype=torch.bfloat16, requires_grad=True)
    rgb = to_rgb(tensor)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert (rgb == 255).all()
