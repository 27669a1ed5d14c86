"""What a page holds of a clip is that clip, small."""

import base64
import io

import av
import numpy as np
import pytest
from clips import make_clip, quarters, shade
from PIL import Image

from reenact.errors import VideoError
from reenact.images import write_image
from reenact.miniatures import MAX_THUMBS, around, film_strip, fitted, miniature, thumb_indices

SECONDS = [0.0, 0.04, 0.08, 0.2, 0.24, 0.28, 0.32, 0.36]  # one of them late


def data_of(uri: str, kind: str) -> io.BytesIO:
    head, _, data = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data))


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(data_of(uri, "image/jpeg")).convert("RGB"))


@pytest.fixture
def clip(tmp_path):
    """Frame i is all `shade(i)`."""
    return make_clip(tmp_path / "clip.mp4", tuple(range(10)))


def test_the_video_shows_each_frame_at_its_time(clip):
    with av.open(data_of(miniature("driver", clip, SECONDS).video, "video/webm")) as container:
        frames = list(container.decode(video=0))
    assert [frame.time for frame in frames] == pytest.approx(SECONDS, abs=5e-4)
    greys = [frame.to_ndarray(format="gray").mean() for frame in frames]
    assert greys == pytest.approx([shade(i) for i in range(len(SECONDS))], abs=4)


def test_the_sheet_has_each_frames_thumbnail_in_its_place(clip):
    sheet = miniature("driver", clip, SECONDS).sheet
    pixels = picture(sheet.uri)
    assert pixels.shape[:2] == (sheet.rows * sheet.height, sheet.columns * sheet.width)
    for index in range(len(SECONDS)):
        row, column = divmod(index, sheet.columns)
        middle = pixels[int((row + 0.5) * sheet.height), int((column + 0.5) * sheet.width)]
        assert np.abs(middle.astype(int) - shade(index)).max() <= 3


def test_wanted_frames_are_kept_as_pictures(clip):
    frames = miniature("driver", clip, SECONDS, wanted={0, 5}).frames
    assert frames.keys() == {0, 5}
    assert picture(frames[5]).mean() == pytest.approx(shade(5), abs=3)


def test_a_picture_is_no_video_and_the_same_at_all_times(tmp_path):
    write_image(tmp_path / "target.png", quarters(0, 80, 64))
    small = miniature("target", tmp_path / "target.png", SECONDS, wanted={3, 4})
    assert small.video is None
    assert (small.width, small.height) == (80, 64)
    assert small.frames[3] == small.frames[4]
    assert (small.sheet.columns, small.sheet.rows) == (1, 1)


def test_an_odd_size_is_encoded(tmp_path):
    write_image(tmp_path / "x.png", quarters(0, 80, 64))
    clip = make_clip(tmp_path / "odd.mp4", tuple(range(3)), size=(128, 98), picture=quarters)
    with av.open(data_of(miniature("x", clip, SECONDS[:3], face=(10, 10, 27, 27)).video, "video/webm")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_restless_clip_takes_no_more_than_is_allowed(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)

    def restless(index, width, height):
        return rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)

    clip = make_clip(tmp_path / "clip.mp4", tuple(range(50)), size=(256, 256), picture=restless)

    def size(allowed):
        monkeypatch.setattr("reenact.miniatures.VIDEO_BYTES", allowed)
        return len(data_of(miniature("x", clip, [i / 25 for i in range(50)]).video, "video/webm").getvalue())

    assert size(200_000) < 1.25 * 200_000 < size(10_000_000)


@pytest.mark.parametrize("frames", [1, 7, MAX_THUMBS, MAX_THUMBS + 1, 10_000])
def test_thumbnails_are_spread_evenly_and_limited_in_number(frames):
    indices = thumb_indices(frames)
    assert indices[0] == 0
    assert len(indices) <= MAX_THUMBS
    assert frames - indices[-1] <= indices.step  # to the end
    assert indices.step == 1 or frames > MAX_THUMBS


def test_what_is_small_enough_is_not_enlarged():
    assert fitted(quarters(0, 60, 40), (100, 100)).shape == (40, 60, 3)
    assert fitted(quarters(0, 60, 40), (30, 100)).shape == (20, 30, 3)


def test_a_view_is_square_round_the_face_and_moves_to_stay_within_the_picture():
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[90:110, 140:160] = 255
    view = around(rgb, (140, 90, 160, 110), 3)
    assert view.shape == (60, 60, 3)
    assert (view == 255).sum() == 20 * 20 * 3
    assert around(rgb, (0, 0, 20, 20), 3).shape == (60, 60, 3)
    assert around(rgb, (100, 50, 200, 150), 3).shape == (200, 300, 3)  # there is no more
    assert around(rgb, None, 3) is rgb


def test_a_film_strip_has_the_first_frame_the_last_and_those_between(clip):
    strip = film_strip(clip, 9, shown=3, height=24)
    assert strip.shape == (24, 3 * 32, 3)
    assert [strip[12, 16 + 32 * i, 0] for i in range(3)] == pytest.approx([shade(0), shade(4), shade(8)], abs=3)


def test_a_clip_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"clip\.mp4"):
        miniature("driver", tmp_path / "clip.mp4", SECONDS)
