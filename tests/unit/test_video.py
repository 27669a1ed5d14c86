"""Video in and out, on clips whose content is known."""

import os
import socket
import subprocess
import sys
import textwrap
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    copy,
    corner_colours,
    lag,
    make_clip,
    make_sound,
    packets_of,
    plain,
    quarters,
    scramble,
    shade,
    stamps_of,
    tone,
    truncate,
    turn,
)

from reenact.errors import UsageError, VideoError
from reenact.types import Frame
from reenact.video import MAX_AREA, MAX_SIDE, MatteWriter, VideoWriter, check_output, probe, read_frames

CFR_25 = [512 * i for i in range(30)], Fraction(1, 12800), Fraction(25)
NTSC = [1001 * i for i in range(30)], Fraction(1, 30000), Fraction(30000, 1001)
VFR = np.cumsum(np.random.default_rng(1).integers(400, 9000, 30)).tolist(), Fraction(1, 90000), Fraction(30)
VFR[0].insert(0, 0)
FILM = [1001 * i for i in range(30)], Fraction(1, 24000), Fraction(24000, 1001)
RATES = pytest.mark.parametrize("rate", [CFR_25, NTSC, FILM, VFR], ids=["25", "29.97", "23.976", "vfr"])


def seconds_of(frames: list[Frame], source: Path) -> list[Fraction]:
    return [frame.pts * probe(source).time_base for frame in frames]


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(".part"))


# --- reading


@RATES
def test_frames_carry_the_stamps_and_pictures_of_the_file(tmp_path, rate):
    stamps, time_base, frames_per_second = rate
    clip = make_clip(tmp_path / "c.mp4", stamps, time_base, rate=frames_per_second)
    frames = list(read_frames(clip))
    assert seconds_of(frames, clip) == [s * time_base for s in stamps]
    assert [f.index for f in frames] == list(range(len(stamps)))
    assert [f.seconds for f in frames] == pytest.approx([float(s * time_base) for s in stamps])
    for frame in frames:
        assert np.abs(frame.rgb.astype(int) - shade(frame.index)).max() <= 2


def test_probe_says_what_a_player_would_show(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", *NTSC[:2], rate=NTSC[2], sound="aac")
    info = probe(clip)
    assert (info.width, info.height, info.rotation, info.has_audio) == (64, 48, 0, True)
    assert (info.frame_rate, info.frame_count) == (Fraction(30000, 1001), 30)
    assert info.duration == pytest.approx(30 * 1001 / 30000, abs=1e-3)


def test_a_variable_rate_is_none(tmp_path):
    assert probe(make_clip(tmp_path / "c.mp4", *VFR[:2])).frame_rate is None


def test_two_passes_give_the_same_frames(tmp_path):
    clip = scramble(make_clip(tmp_path / "c.mp4", range(60), size=(160, 120), picture=noise))
    first, second = list(read_frames(clip)), list(read_frames(clip))
    assert [f.pts for f in first] == [f.pts for f in second]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(first, second, strict=True))


def noise(index: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("degrees", "mirror", "corners"),
    [
        (0, False, ["red", "green", "blue", "white"]),
        (90, False, ["blue", "red", "white", "green"]),
        (180, False, ["white", "blue", "green", "red"]),
        (270, False, ["green", "white", "red", "blue"]),
        (0, True, ["green", "red", "white", "blue"]),
        (90, True, ["white", "green", "blue", "red"]),
    ],
)
def test_rotation_is_applied(tmp_path, degrees, mirror, corners):
    clip = turn(make_clip(tmp_path / "c.mp4", picture=quarters), degrees, mirror)
    info, frame = probe(clip), next(read_frames(clip))
    assert info.rotation == degrees
    assert (info.width, info.height) == ((48, 64) if degrees in (90, 270) else (64, 48))
    assert frame.rgb.shape == (info.height, info.width, 3)
    assert corner_colours(frame.rgb) == corners


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (85, 48)), (Fraction(1, 2), (64, 96)), (Fraction(1), (64, 48))]
)
def test_pixels_are_made_square(tmp_path, aspect, size):
    clip = make_clip(tmp_path / "c.mkv", picture=quarters, aspect=aspect)
    info, frame = probe(clip), next(read_frames(clip))
    assert (info.width, info.height) == size
    assert frame.rgb.shape == (size[1], size[0], 3)
    assert corner_colours(frame.rgb) == ["red", "green", "blue", "white"]


WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}
COLOURS = [(200, 60, 40), (30, 180, 70), (20, 40, 220), (255, 255, 255), (0, 0, 0), (224, 172, 140)]


def stored_as(rgb: tuple[int, int, int], matrix: str, full: bool) -> tuple[int, int, int]:
    """Y, Cb, Cr by the definition of the matrix."""
    red, blue = WEIGHTS[matrix]
    r, g, b = (v / 255 for v in rgb)
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    scale, chroma, black = (255, 255, 0) if full else (219, 224, 16)
    return tuple(int(np.clip(round(v), 0, 255)) for v in (black + scale * y, 128 + chroma * cb, 128 + chroma * cr))


def yuv_clip(path: Path, size: tuple[int, int], matrix: str | None, full: bool, assumed: str) -> Path:
    """A lossless clip of one frame per colour, stored by `matrix` (None: `assumed`, but without a tag)."""
    tags = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", 25)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.colorspace = tags[matrix] if matrix else 2
        video.codec_context.color_range = 2 if full else 1
        for colour in COLOURS:
            frame = av.VideoFrame(*size, "yuv420p")
            for plane, value in zip(frame.planes, stored_as(colour, matrix or assumed, full), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_colours_follow_the_tags(tmp_path, matrix, full):
    clip = yuv_clip(tmp_path / "c.mkv", (64, 48), matrix, full, "")
    for frame, colour in zip(read_frames(clip), COLOURS, strict=True):
        assert np.abs(frame.rgb.astype(int) - colour).max() <= 2


@pytest.mark.parametrize(("size", "assumed"), [((64, 48), "smpte170m"), ((64, 720), "bt709")])
def test_untagged_colours_follow_the_height(tmp_path, size, assumed):
    clip = yuv_clip(tmp_path / "c.mkv", size, None, False, assumed)
    for frame, colour in zip(read_frames(clip), COLOURS, strict=True):
        assert np.abs(frame.rgb.astype(int) - colour).max() <= 2


def test_an_animated_gif_is_a_video(tmp_path):
    clip = make_clip(tmp_path / "c.gif", range(0, 60, 10), Fraction(1, 100), picture=quarters)
    frames = list(read_frames(clip))
    assert seconds_of(frames, clip) == [Fraction(i, 10) for i in range(6)]
    assert corner_colours(frames[0].rgb) == ["red", "green", "blue", "white"]


def test_a_video_of_one_frame(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", [0])
    assert len(list(read_frames(clip))) == 1
    assert len(copy(clip, tmp_path / "out.mp4")) == 1
    assert stamps_of(tmp_path / "out.mp4") == [0]


@pytest.mark.parametrize(
    ("cut", "indices"),
    [
        ({"start": 0.4}, range(10, 30)),
        ({"end": 0.4}, range(10)),
        ({"start": 0.41, "end": 0.6}, range(11, 15)),
        ({"start": 0.2, "max_frames": 3}, range(5, 8)),
        ({"max_frames": 100}, range(30)),
    ],
)
def test_cuts_count_seconds_from_the_first_frame(tmp_path, cut, indices):
    clip = make_clip(tmp_path / "c.mkv", range(1000, 1000 + 30 * 40, 40), Fraction(1, 1000))  # begins at 1 s
    frames = list(read_frames(clip, **cut))
    assert [f.pts for f in frames] == [1000 + 40 * i for i in indices]
    assert [f.seconds for f in frames] == pytest.approx([i / 25 for i in indices])
    assert [f.index for f in frames] == list(range(len(indices)))


@pytest.mark.parametrize(
    ("cut", "named"),
    [
        ({"start": -1.0}, "-1"),
        ({"end": -2.0}, "-2"),
        ({"start": 2.0, "end": 2.0}, "2"),
        ({"start": float("nan")}, "nan"),
        ({"end": float("nan")}, "nan"),
        ({"max_frames": 0}, "0"),
    ],
)
def test_impossible_cuts_are_refused_at_once(tmp_path, cut, named):
    with pytest.raises(UsageError, match=named):
        read_frames(tmp_path / "need not exist.mp4", **cut)


def test_a_start_after_the_end_of_the_video_is_refused(tmp_path):
    clip = make_clip(tmp_path / "c.mp4")
    with pytest.raises(UsageError, match=r"start 9 s.*0\.36 s"):
        list(read_frames(clip, start=9))


def test_a_cut_off_file_gives_what_decodes_and_says_so(tmp_path):
    for name in ("c.mp4", "c.mkv"):
        clip = truncate(make_clip(tmp_path / name, range(100), size=(160, 120), picture=noise))
        warnings: list[str] = []
        frames = list(read_frames(clip, on_warning=warnings.append))
        assert 30 <= len(frames) <= 60
        assert len(warnings) == 1
        assert name in warnings[0]
        assert f"{frames[-1].seconds:.2f} s" in warnings[0]


def test_damage_in_the_middle_is_said_and_stepped_over(tmp_path):
    clip = scramble(make_clip(tmp_path / "c.mp4", range(100), size=(160, 120), picture=noise), length=3000)
    warnings: list[str] = []
    frames = list(read_frames(clip, on_warning=warnings.append))
    assert len(frames) >= 80
    assert frames[-1].seconds == pytest.approx(99 / 25)
    assert len(warnings) == 1


def test_a_sound_file_gives_no_warning_and_a_healthy_file_neither(tmp_path):
    clip = make_clip(tmp_path / "c.webm", range(25), sound="opus", sound_seconds=3.0)
    list(read_frames(clip, on_warning=pytest.fail))


def test_stamps_that_do_not_increase_are_repaired(tmp_path):
    clip = tmp_path / "c.mkv"
    with av.open(str(clip), "w") as output:
        video = output.add_stream("ffv1", 25)
        video.width, video.height = 64, 48
        video.pix_fmt = "yuv420p"
        packets = []
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(plain(index, 64, 48), "rgb24").reformat(format="yuv420p")
            packets += video.encode(frame)
        for packet, stamp in zip(packets, [0, 40, 80, 80, 160, 200], strict=True):
            packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), stamp, stamp
            output.mux(packet)
    warnings: list[str] = []
    assert [f.pts for f in read_frames(clip, on_warning=warnings.append)] == [0, 40, 80, 81, 160, 200]
    assert len(warnings) == 1
    assert "0.08 s" in warnings[0]


def test_what_is_no_video_is_refused_by_name(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("This is not a video.\n" * 50)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, why in [
        (tmp_path / "missing.mp4", "no such file"),
        (tmp_path, "not a file"),
        (text, "can't be read as a video"),
        (empty, "can't be read as a video"),
        (make_sound(tmp_path / "sound.m4a"), "sound but no picture"),
        (make_sound(tmp_path / "sound.mkv", "pcm_s16le"), "sound but no picture"),
    ]:
        for look in (probe, lambda p: list(read_frames(p))):
            with pytest.raises(VideoError, match=why) as caught:
                look(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_song_with_a_cover_is_no_video(tmp_path):
    song = tmp_path / "song.mp3"
    with av.open(str(make_sound(tmp_path / "s.mp3", "libmp3lame"))) as source, av.open(str(song), "w") as output:
        sound = output.add_stream_from_template(source.streams.audio[0])
        cover = output.add_stream("png", 1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic.value
        output.mux(cover.encode(av.VideoFrame.from_ndarray(plain(0, 64, 48), "rgb24")))
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                output.mux(packet)
    with av.open(str(song)) as container:
        assert container.streams.video
    with pytest.raises(VideoError, match="sound but no picture"):
        probe(song)


@pytest.mark.parametrize("name", ["a b.mp4", "a:b.mp4", "http:c.mp4", "-i.mp4", "%03d.mp4", "жест.mp4"])
def test_any_file_name_is_a_file_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "c.mp4").rename(tmp_path / name)
    assert len(copy(Path(name), Path(f"out {name}"))) == 10
    assert len(list(read_frames(Path(f"out {name}")))) == 10


def test_a_playlist_does_not_reach_the_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        playlist = tmp_path / "driver.mp4"
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{server.getsockname()[1]}/a.ts\n"
        )
        with pytest.raises(VideoError):
            probe(playlist)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_video_without_frames_is_refused(tmp_path):
    clip = make_clip(tmp_path / "c.mkv", sound="aac")
    with av.open(str(clip)) as source, av.open(str(tmp_path / "none.mkv"), "w") as output:
        output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                output.mux(packet)
    for look in (probe, lambda p: list(read_frames(p))):
        with pytest.raises(VideoError, match="no frame"):
            look(tmp_path / "none.mkv")


# --- writing


@RATES
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_stamps_in_are_stamps_out(tmp_path, rate, suffix):
    clip = make_clip(tmp_path / "c.mp4", *rate[:2], rate=rate[2], bframes=2)
    output = tmp_path / f"out{suffix}"
    copy(clip, output)
    assert stamps_of(output) == [s * rate[1] for s in rate[0]]


@RATES
@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_rounds_stamps_to_milliseconds(tmp_path, rate, suffix):
    clip = make_clip(tmp_path / "c.mp4", *rate[:2], rate=rate[2])
    output = tmp_path / f"out{suffix}"
    copy(clip, output)
    wanted = [s * rate[1] for s in rate[0]]
    assert max(abs(a - b) for a, b in zip(stamps_of(output), wanted, strict=True)) <= Fraction(1, 2000)


@RATES
def test_the_last_frame_is_shown_as_long_as_in_the_driver(tmp_path, rate):
    clip = make_clip(tmp_path / "c.mp4", *rate[:2], rate=rate[2])
    copy(clip, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").duration == pytest.approx(probe(clip).duration, abs=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".MP4"])
def test_every_suffix_gives_its_pictures_back(tmp_path, suffix):
    clip = make_clip(tmp_path / "c.mp4", picture=quarters)
    output = tmp_path / f"out{suffix}"
    copy(clip, output)
    with av.open(str(output)) as container:
        video = container.streams.video[0].codec_context
        assert video.codec.canonical_name == ("vp9" if suffix == ".webm" else "h264")
        assert video.pix_fmt == "yuv420p"
    assert [corner_colours(f.rgb) for f in read_frames(output)] == [["red", "green", "blue", "white"]] * 10


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_colours_come_back_and_are_tagged_bt709(tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    with VideoWriter(output, 64, 48) as writer:
        for i, colour in enumerate(COLOURS):
            writer.write(Frame(np.full((48, 64, 3), colour, np.uint8), i, i, i / 25))
    with av.open(str(output)) as container:
        video = container.streams.video[0].codec_context
        assert (video.colorspace, video.color_primaries, video.color_trc, video.color_range) == (1, 1, 1, 1)
    for frame, colour in zip(read_frames(output), COLOURS, strict=True):
        assert np.abs(frame.rgb.astype(int) - colour).max() <= 3


@pytest.mark.parametrize(("codec", "suffixes"), [
    ("aac", [".mp4", ".mov", ".mkv"]),
    ("mp3", [".mp4", ".mov", ".mkv"]),
    ("opus", [".mp4", ".mkv", ".webm"]),
    ("pcm_s16le", [".mov", ".mkv"]),
])  # fmt: skip
def test_sound_is_copied_bit_for_bit(tmp_path, codec, suffixes):
    clip = make_clip(tmp_path / "c.mkv", range(50), sound={"mp3": "libmp3lame"}.get(codec, codec))
    for suffix in suffixes:
        output = tmp_path / f"out{suffix}"
        copy(clip, output, on_warning=pytest.fail)
        assert b"".join(packets_of(output)) == b"".join(packets_of(clip))
        if codec != "pcm_s16le":  # of which readers make packets as they like
            assert packets_of(output) == packets_of(clip)
            offsets = [a - b for a, b in zip(stamps_of(output, "audio"), stamps_of(clip, "audio"), strict=True)]
            assert max(map(abs, offsets)) <= Fraction(1, 1000)
        assert stamps_of(output) == stamps_of(clip)


@pytest.mark.parametrize(
    ("codec", "suffix", "encoded"),
    [("pcm_s16le", ".mp4", "aac"), ("aac", ".webm", "opus"), ("pcm_s16le", ".webm", "opus"), ("opus", ".mov", "aac")],
)
def test_sound_that_does_not_fit_is_encoded_again_and_said(tmp_path, codec, suffix, encoded):
    clip = make_clip(tmp_path / "c.mkv", range(50), sound=codec)
    warnings: list[str] = []
    output = tmp_path / f"out{suffix}"
    copy(clip, output, on_warning=warnings.append)
    assert len(warnings) == 1
    assert codec in warnings[0]
    with av.open(str(output)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == encoded
    assert abs(lag(tone(clip), tone(output))) <= 48  # samples: a millisecond
    assert len(tone(output)) == pytest.approx(len(tone(clip)), abs=2100)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_that_is_encoded_again_is_cut_to_the_sample(tmp_path, codec):
    clip = make_clip(tmp_path / "c.mkv", range(50), sound=codec)
    copy(clip, tmp_path / "out.webm", start=0.52, end=1.4)
    assert abs(lag(tone(clip)[round(0.52 * 48000) :], tone(tmp_path / "out.webm"))) <= 48


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("picture_start", "sound_start"), [(0.0, 0.0), (0.0, 0.3), (0.4, 0.0), (5.0, 5.2), (7.0, 6.5)])
def test_picture_and_sound_keep_their_distance(tmp_path, suffix, picture_start, sound_start):
    first = round(picture_start * 25)
    clip = make_clip(
        tmp_path / "c.mkv", range(first, first + 25), sound="pcm_s16le", sound_start=sound_start, sound_seconds=1.0
    )
    output = tmp_path / f"out{suffix}"
    copy(clip, output)
    begin = min(picture_start, sound_start)
    assert stamps_of(output)[0] == pytest.approx(picture_start - begin, abs=1e-3)
    assert stamps_of(output, "audio")[0] == pytest.approx(sound_start - begin, abs=0.03 if suffix == ".mp4" else 1e-3)
    assert len(stamps_of(output)) == 25


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_picture_that_begins_after_the_sound_keeps_its_exact_time(tmp_path, suffix):
    stamps = [12345 + 3003 * i for i in range(20)]
    clip = make_clip(tmp_path / "c.mp4", stamps, Fraction(1, 90000), sound="aac", sound_seconds=1.0)
    output = tmp_path / f"out{suffix}"
    copy(Path(clip), output)
    assert stamps_of(output) == stamps_of(clip)
    assert stamps_of(output, "audio") == stamps_of(clip, "audio")
    assert stamps_of(output)[0] == pytest.approx(12345 / 90000, abs=1e-3)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_cut_takes_the_sound_of_its_own_time(tmp_path, codec):
    clip = make_clip(tmp_path / "c.mkv", range(0, 2000, 40), Fraction(1, 1000), sound=codec)
    output = tmp_path / "out.mkv"
    copy(clip, output, start=0.8, end=1.2)
    assert stamps_of(output) == [Fraction(i, 25) for i in range(10)]
    before = dict(zip(packets_of(clip), stamps_of(clip, "audio"), strict=True))
    after = dict(zip(packets_of(output), stamps_of(output, "audio"), strict=True))
    assert set(after) == {packet for packet, time in before.items() if Fraction(8, 10) <= time < Fraction(12, 10)}
    for packet, time in after.items():
        assert before[packet] - time == Fraction(8, 10)


def test_the_first_frames_alone_take_the_first_sound_alone(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", range(50), sound="aac")
    copy(clip, tmp_path / "out.mp4", max_frames=25)
    count = len(packets_of(tmp_path / "out.mp4"))
    assert packets_of(tmp_path / "out.mp4") == packets_of(clip)[:count]
    assert stamps_of(tmp_path / "out.mp4", "audio")[-1] == pytest.approx(1.0, abs=0.022)


def test_sound_longer_than_the_picture_is_kept_whole(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", range(25), sound="aac", sound_seconds=3.0)
    copy(clip, tmp_path / "out.mp4")
    assert packets_of(tmp_path / "out.mp4") == packets_of(clip)


def test_sound_and_picture_lie_side_by_side_in_the_file(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", range(250), sound="aac")
    copy(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        positions = {k: [] for k in ("video", "audio")}
        for packet in container.demux():
            if packet.size:
                positions[packet.stream.type].append((packet.pos, float(packet.dts * packet.time_base)))
    order = sorted((p, t, k) for k, all_ in positions.items() for p, t in all_)
    assert max(abs(a[1] - b[1]) for a, b in pairwise(order) if a[2] != b[2]) < 1.5


def test_an_odd_size_is_padded_by_its_edge(tmp_path):
    rng = np.random.default_rng(0)
    rgb = np.kron(rng.integers(0, 256, (6, 8, 1)), np.ones((8, 8, 3))).astype(np.uint8)[:47, :61]
    warnings: list[str] = []
    with VideoWriter(tmp_path / "out.mp4", 61, 47, on_warning=warnings.append, crf=1) as writer:
        writer.write(Frame(rgb, 0, 0, 0.0))
    (frame,) = read_frames(tmp_path / "out.mp4")
    assert frame.rgb.shape == (48, 62, 3)
    padded = np.pad(rgb, ((0, 1), (0, 1), (0, 0)), mode="edge")
    assert np.abs(frame.rgb.astype(int) - padded).max() <= 6
    assert len(warnings) == 1
    assert "61x47" in warnings[0]
    assert "62x48" in warnings[0]


def test_a_huge_picture_is_scaled_to_what_players_take(tmp_path):
    warnings: list[str] = []
    rgb = np.broadcast_to(np.array([200, 60, 40], np.uint8), (9000, 12000, 3))
    with VideoWriter(tmp_path / "out.mp4", 12000, 9000, on_warning=warnings.append) as writer:
        writer.write(Frame(np.ascontiguousarray(rgb), 0, 0, 0.0))
    info = probe(tmp_path / "out.mp4")
    assert max(info.width, info.height) <= MAX_SIDE
    assert 0.99 * MAX_AREA <= info.width * info.height <= MAX_AREA
    assert info.width / info.height == pytest.approx(4 / 3, rel=1e-3)
    assert len(warnings) == 1
    assert "12000x9000" in warnings[0]
    assert f"{info.width}x{info.height}" in warnings[0]


def test_the_same_frames_give_the_same_bytes(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", range(30), size=(96, 96), picture=noise, sound="aac")
    # In turns, since one encoder leaves its traces in memory, which the next must not read.
    for name in ("one", "two"):
        for suffix in (".mp4", ".webm", ".mkv", ".mov"):
            copy(clip, tmp_path / f"{name}{suffix}")
    for suffix in (".mp4", ".webm", ".mkv", ".mov"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_a_matte_is_lossless_and_keeps_time(tmp_path):
    rng = np.random.default_rng(0)
    mattes = [rng.integers(0, 256, (47, 61), np.uint8) for _ in range(5)]
    clip = make_clip(tmp_path / "c.mp4", range(5), size=(64, 48))
    info = probe(clip)
    with MatteWriter(tmp_path / "matte.mkv", 61, 47, info) as writer:
        for frame, matte in zip(read_frames(clip), mattes, strict=True):
            writer.write(Frame(np.zeros((47, 61, 3), np.uint8), frame.index, frame.pts, frame.seconds, matte))
    with av.open(str(tmp_path / "matte.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
        stored = [f.to_ndarray() for f in container.decode(video=0)]
    assert all(np.array_equal(a, b) for a, b in zip(stored, mattes, strict=True))
    assert stamps_of(tmp_path / "matte.mkv") == stamps_of(clip)
    # And as anyone would read it, in RGB.
    for frame, matte in zip(read_frames(tmp_path / "matte.mkv"), mattes, strict=True):
        assert np.array_equal(frame.rgb, np.repeat(matte[..., None], 3, axis=2))


def test_a_matte_has_the_zero_of_its_video(tmp_path):
    clip = make_clip(tmp_path / "c.mkv", range(25, 50), sound="aac", sound_start=0.5, sound_seconds=1.0)
    copy(clip, tmp_path / "out.mkv")
    info = probe(clip)
    with MatteWriter(tmp_path / "matte.mkv", 64, 48, info, audio_from=clip) as writer:
        for frame in read_frames(clip):
            writer.write(Frame(frame.rgb, frame.index, frame.pts, frame.seconds, frame.rgb[..., 0].copy()))
    assert stamps_of(tmp_path / "matte.mkv") == stamps_of(tmp_path / "out.mkv")


# --- what may go wrong


def test_check_output_refuses_what_could_not_be_written(tmp_path):
    clip = make_clip(tmp_path / "c.mp4")
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    (tmp_path / "folder.mp4").mkdir()
    for path, inputs, why in [
        (tmp_path / "out.avi", [], r"\.avi.*\.mp4, \.mov, \.mkv, \.webm"),
        (tmp_path / "out", [], "without suffix"),
        (tmp_path / "none" / "out.mp4", [], "no folder"),
        (tmp_path / "folder.mp4", [], "is a folder"),
        (clip, [clip], "is the input"),
        (link, [clip], "is the input"),
        (clip, [link], "is the input"),
    ]:
        with pytest.raises(UsageError, match=why):
            check_output(path, inputs, overwrite=True)
    with pytest.raises(UsageError, match=r"c\.mp4 exists; -y overwrites it"):
        check_output(clip)
    check_output(clip, overwrite=True)
    check_output(tmp_path / "new.mkv", [clip])


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UsageError, match="can't write into folder"):
        check_output(tmp_path / "out.mp4")


def test_the_driver_is_never_overwritten(tmp_path):
    clip = make_clip(tmp_path / "c.mp4")
    before = clip.read_bytes()
    with pytest.raises(UsageError, match="is the input"):
        VideoWriter(clip, 64, 48, probe(clip), overwrite=True)
    assert clip.read_bytes() == before


def write_until(writer: VideoWriter, clip: Path, index: int, error: type[BaseException]) -> None:
    with writer:
        for frame in read_frames(clip):
            writer.write(frame)
            if frame.index == index:
                raise error


def test_an_error_leaves_the_earlier_output_and_nothing_else(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", sound="aac")
    output = tmp_path / "out.mp4"
    output.write_bytes(b"earlier")
    writer = VideoWriter(output, 64, 48, probe(clip), audio_from=clip, overwrite=True)
    with pytest.raises(ZeroDivisionError):
        write_until(writer, clip, 8, ZeroDivisionError)
    assert output.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.mp4", "out.mp4"]


def test_no_frames_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(VideoError, match="no frame"), VideoWriter(tmp_path / "out.mp4", 64, 48):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_ctrl_c_keeps_what_was_done_beside_the_earlier_output(tmp_path, suffix):
    clip = make_clip(tmp_path / "c.mkv", range(100), sound="opus")
    output = tmp_path / f"out{suffix}"
    output.write_bytes(b"earlier")
    writer = VideoWriter(output, 64, 48, probe(clip), audio_from=clip, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        write_until(writer, clip, 49, KeyboardInterrupt)
    partial = tmp_path / f"out.partial{suffix}"
    assert writer.partial_path == partial
    assert output.read_bytes() == b"earlier"
    assert len(list(read_frames(partial, on_warning=pytest.fail))) == 50
    assert stamps_of(partial, "audio")[-1] == pytest.approx(2.0, abs=0.05)
    assert not leftovers(tmp_path)


def test_ctrl_c_before_the_first_frame_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", 64, 48) as writer:
        raise KeyboardInterrupt
    assert writer.partial_path is None
    assert not list(tmp_path.iterdir())


def test_a_real_ctrl_c_at_any_moment_gives_a_file_that_plays(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys, threading
        import numpy as np
        from reenact.types import Frame
        from reenact.video import VideoWriter
        rgb = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
        threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            with VideoWriter(sys.argv[1], 160, 120) as writer:
                for i in range(10**9):
                    writer.write(Frame(np.roll(rgb, i, 1), i, i, i / 25))
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    for i in range(3):
        output = tmp_path / f"out{i}.mp4"
        done = subprocess.run(
            [sys.executable, "-c", script, str(output), str(0.5 + 0.137 * i)], timeout=60, capture_output=True
        )
        assert done.returncode == 130, done.stderr.decode()
        stamps = stamps_of(tmp_path / f"out{i}.partial.mp4")
        assert stamps == [Fraction(n, 25) for n in range(len(stamps))]
        assert len(list(read_frames(tmp_path / f"out{i}.partial.mp4", on_warning=pytest.fail))) == len(stamps)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_one_clear_line(tmp_path, suffix):
    script = textwrap.dedent("""
        import resource, sys
        import numpy as np
        from reenact.errors import VideoError
        from reenact.types import Frame
        from reenact.video import VideoWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        rng = np.random.default_rng(0)
        try:
            with VideoWriter(sys.argv[1], 160, 120, overwrite=True) as writer:
                for i in range(60):
                    writer.write(Frame(rng.integers(0, 256, (120, 160, 3), np.uint8), i, i, i / 25))
        except VideoError as error:
            sys.exit(str(error))
    """)
    output = tmp_path / f"out{suffix}"
    output.write_bytes(b"earlier")
    done = subprocess.run([sys.executable, "-c", script, str(output)], timeout=60, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"{output}: can't be written (File too large)"
    assert output.read_bytes() == b"earlier"
    assert not leftovers(tmp_path)


def test_a_folder_that_vanishes_is_one_clear_line(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = VideoWriter(folder / "out.mp4", 64, 48)
    writer.write(Frame(plain(0, 64, 48), 0, 0, 0.0))
    for part in folder.iterdir():
        part.unlink()
    folder.rmdir()
    with pytest.raises(VideoError, match="can't be written"), writer:
        pass


def test_frames_that_do_not_fit_are_a_bug(tmp_path):
    with pytest.raises(ValueError, match="expected 48x64x3"), VideoWriter(tmp_path / "out.mp4", 64, 48) as writer:
        writer.write(Frame(plain(0, 64, 50), 0, 0, 0.0))
    with VideoWriter(tmp_path / "out.mp4", 64, 48) as writer:
        writer.write(Frame(plain(0, 64, 48), 0, 5, 0.0))
        with pytest.raises(ValueError, match="increase"):
            writer.write(Frame(plain(1, 64, 48), 1, 5, 0.2))


def test_memory_does_not_grow_with_the_video(tmp_path):
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from reenact.video import VideoWriter, probe, read_frames
        clip = Path(sys.argv[1])
        info = probe(clip)
        with VideoWriter(sys.argv[2], info.width, info.height, info, audio_from=clip) as writer:
            for frame in read_frames(clip):
                writer.write(frame)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """)
    peaks = []
    for count in (50, 500):
        clip = make_clip(tmp_path / f"{count}.mkv", range(count), size=(320, 240), picture=plain, sound="pcm_s16le")
        command = [sys.executable, "-c", script, str(clip), str(tmp_path / f"out{count}.mp4")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout))
    assert peaks[1] <= 1.1 * peaks[0]
