"""What webcams and phones record: each kind of file, made here, comes out with its own time, sound and pictures."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    copy,
    corner_colours,
    edit,
    encode,
    jpegs,
    lag,
    make_clip,
    move_clusters,
    packets_of,
    plain,
    quarters,
    remux,
    shade,
    stamps_of,
    tone,
    truncate,
    turn,
)

from reenact.errors import VideoError
from reenact.video import VideoWriter, probe, read_frames
from reenact.video.read import increasing
from reenact.video.stamps import picture_times

# ---- Formats


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("webcam.avi", "mjpeg", "yuvj420p", {}),
        ("webcam.webm", "libvpx", "yuv420p", {"b": "2M"}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", {"b": "2M"}),
        ("av1.webm", "libsvtav1", "yuv420p", {"crf": "10", "svtav1-params": "lp=1"}),
        ("phone.mov", "libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
        ("ten.mkv", "libx264", "yuv422p10le", {"crf": "4"}),
        ("camera.mov", "prores_ks", "yuva444p10le", {}),
        ("disc.mpg", "mpeg2video", "yuv420p", {"b": "2M"}),
        ("grey.mkv", "ffv1", "gray16le", {}),
    ],
)
def test_what_cameras_write_is_read(tmp_path, name, codec, pix_fmt, options):
    frames = list(read_frames(encode(tmp_path / name, codec, pix_fmt, options=options)))
    assert [f.seconds for f in frames] == pytest.approx([i / 25 for i in range(10)], abs=1e-3)
    for frame in frames:
        assert np.abs(frame.rgb.astype(int) - shade(frame.index)).max() <= 3


def test_a_browsers_webm_of_unknown_duration_keeps_its_stamps_and_its_sound(tmp_path):
    stamps = [0, 33, 70, 101, 300, 333, 350, 1000, 1033]
    made = make_clip(tmp_path / "made.webm", stamps, Fraction(1, 1000), sound="opus", sound_seconds=1.0)
    clip = remux(made, tmp_path / "browser.webm", options={"live": "1"}, stream=True)
    info = probe(clip)
    assert (info.duration, info.frame_count) == (None, None)
    copy(clip, tmp_path / "out.mp4", on_warning=pytest.fail)
    assert stamps_of(tmp_path / "out.mp4") == [Fraction(s, 1000) for s in stamps]
    assert packets_of(tmp_path / "out.mp4") == packets_of(clip)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_a_webcams_avi_of_jpegs_and_plain_samples(tmp_path, suffix):
    pictures = encode(tmp_path / "p.avi", "mjpeg", "yuvj420p", frames=50)
    sound = make_clip(tmp_path / "s.mkv", range(50), sound="pcm_s16le")
    clip = tmp_path / "webcam.avi"
    with av.open(str(pictures)) as a, av.open(str(sound)) as b, av.open(str(clip), "w") as output:
        streams = [output.add_stream_from_template(s) for s in (a.streams.video[0], b.streams.audio[0])]
        packets = [[p for p in c.demux(c.streams[i]) if p.size] for i, c in enumerate((a, b))]
        for stream, group in zip(streams, packets, strict=True):
            for packet in group:
                packet.stream = stream
        for packet in sorted([*packets[0], *packets[1]], key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    copy(clip, tmp_path / f"out{suffix}")
    assert stamps_of(tmp_path / f"out{suffix}") == [Fraction(i, 25) for i in range(50)]
    assert abs(lag(tone(sound), tone(tmp_path / f"out{suffix}"))) <= 48


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_start_without_a_key_frame_is_left_out_and_said(tmp_path, suffix):
    # A picture that moves, in groups of twelve: without the first key frame eleven are lost.
    made = make_clip(tmp_path / "m.mkv", range(40), picture=moving, options={"sc_threshold": "0", "keyint_min": "12"})
    count = iter(range(100))
    clip = remux(made, tmp_path / f"c{suffix}", lambda packet: next(count) > 0)
    said: list[str] = []
    frames = list(read_frames(clip, on_warning=said.append))
    whole = list(read_frames(made))[12:]
    assert len(frames) == 28
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, whole, strict=True))
    assert len(said) == 1
    assert "no key frame in its first 0.44 s" in said[0]


def moving(index: int, width: int, height: int) -> np.ndarray:
    x, y = np.arange(width)[None, :] + 3 * index, np.arange(height)[:, None]
    return np.stack([(2 * x + y) % 256, (x + 3 * y) % 256, x * y // 8 % 256], axis=2).astype(np.uint8)


def test_a_recording_cut_off_by_a_crash_keeps_picture_and_sound_together(tmp_path):
    clip = truncate(make_clip(tmp_path / "c.mkv", range(200), sound="opus"), 0.6)
    copy(clip, tmp_path / "out.mkv")
    assert 80 < len(stamps_of(clip)) < 160
    assert stamps_of(tmp_path / "out.mkv") == stamps_of(clip)
    assert packets_of(tmp_path / "out.mkv") == packets_of(clip)
    assert stamps_of(tmp_path / "out.mkv", "audio") == stamps_of(clip, "audio")


def test_a_phones_mov_turned_and_of_a_variable_rate(tmp_path):
    ticks = [0, 20, 41, 60, 80, 131, 140, 160, 181, 200]
    clip = make_clip(tmp_path / "c.mov", ticks, Fraction(1, 600), picture=quarters, sound="aac", sound_seconds=0.4)
    turn(clip, 90)
    copy(clip, tmp_path / "out.mp4", on_warning=pytest.fail)
    assert stamps_of(tmp_path / "out.mp4") == [Fraction(t, 600) for t in ticks]
    assert packets_of(tmp_path / "out.mp4") == packets_of(clip)
    for frame in read_frames(tmp_path / "out.mp4"):
        assert frame.rgb.shape == (64, 48, 3)
        assert corner_colours(frame.rgb) == ["blue", "red", "white", "green"]


# ---- Pictures


def test_interlaced_pictures_are_deinterlaced_and_said(tmp_path):
    def fields(index: int, width: int, height: int) -> np.ndarray:
        """A bar that moves between the fields."""
        rgb = np.zeros((height, width, 3), np.uint8)
        for field in (0, 1):
            left = 8 * index + 4 * field
            rgb[field::2, left : left + 20] = 255
        return rgb

    options = {"flags": "+ilme+ildct", "x264-params": "tff=1", "crf": "4"}
    clip = encode(tmp_path / "c.mkv", "libx264", picture=fields, size=(160, 96), options=options)
    said: list[str] = []
    frames = list(read_frames(clip, on_warning=said.append))
    assert said == [f"{clip}: is interlaced; deinterlaced"]
    assert [f.pts for f in frames] == [40 * i for i in range(10)]
    assert comb(fields(3, 160, 96)) > 20
    assert max(comb(f.rgb) for f in frames) < 2


def comb(rgb: np.ndarray) -> float:
    """How far lines stand out from those above and below."""
    grey = rgb[..., 0].astype(int)
    return float(np.abs(2 * grey[1:-1] - grey[:-2] - grey[2:]).mean())


def hdr_clip(path: Path, code: float, transfer: int, chroma: tuple[float, float] = (0, 0), matrix: int = 9) -> Path:
    """A lossless 10-bit clip in BT.2020 of one colour: `code` is Y', 0..1, `chroma` Cb and Cr."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", 25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
        codec = video.codec_context
        codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range = matrix, 9, transfer, 1
        frame = av.VideoFrame(64, 48, "yuv420p10le")
        values = [64 + 876 * code, *(512 + 896 * c for c in chroma)]
        for plane, value in zip(frame.planes, values, strict=True):
            plane.update(np.full(plane.buffer_size // 2, round(value), np.uint16).tobytes())
        output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


# Paper white is 203 candelas in both; BT.2390's curve keeps what is dark and bends what is bright. What lies between is
# the signal of that many candelas by SMPTE ST 2084 and BT.2100, and sRGB's of as much beside 203.
@pytest.mark.parametrize(
    ("code", "transfer", "least", "most"),
    [
        (0.0, 16, 0, 0),
        (0.4401, 16, 134, 138),  # 50 of 203 candelas: 0.246, in sRGB 136
        (0.5807, 16, 215, 245),
        (0.7518, 16, 255, 255),  # 1,000
        (0.9026, 16, 255, 255),  # 4,000
        (0.75, 18, 215, 245),
        (1.0, 18, 255, 255),
    ],
)
def test_hdr_is_tone_mapped_and_said(tmp_path, code, transfer, least, most):
    said: list[str] = []
    clip = hdr_clip(tmp_path / "c.mkv", code, transfer)
    (frame,) = read_frames(clip, on_warning=said.append)
    assert said == [f"{clip}: is HDR ({'PQ' if transfer == 16 else 'HLG'}); tone-mapped"]
    assert np.ptp(frame.rgb) <= 1  # grey stays grey
    assert least <= frame.rgb.mean() <= most


def test_colours_of_bt2020_are_those_of_srgb(tmp_path):
    # BT.709's red in linear BT.2020 is (0.6274, 0.0691, 0.0164), by BT.2087.
    linear = np.array([0.6274, 0.0691, 0.0164])
    red, green, blue = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    y = 0.2627 * red + 0.678 * green + 0.0593 * blue
    clip = hdr_clip(tmp_path / "c.mkv", y, 1, ((blue - y) / 1.8814, (red - y) / 1.4746))
    (frame,) = read_frames(clip, on_warning=pytest.fail)
    assert np.abs(frame.rgb.astype(int) - [255, 0, 0]).max() <= 6


@pytest.mark.parametrize(("matrix", "name"), [(8, "YCgCo"), (14, "ICtCp")])
def test_colours_that_cannot_be_read_are_refused_in_one_line(tmp_path, matrix, name):
    clip = hdr_clip(tmp_path / "c.mkv", 0.5, 1, matrix=matrix)
    for look in (probe, lambda p: list(read_frames(p))):
        with pytest.raises(VideoError, match=name) as caught:
            look(clip)
        assert str(clip) in str(caught.value)


def test_what_is_transparent_is_white(tmp_path):
    clip = tmp_path / "c.mkv"
    with av.open(str(clip), "w") as output:
        video = output.add_stream("ffv1", 25)
        video.width, video.height, video.pix_fmt = 64, 48, "bgra"
        rgba = np.dstack([quarters(0, 64, 48), np.full((48, 64), 255, np.uint8)])
        rgba[:24, :32, 3], rgba[24:, :32, 3] = 0, 128
        output.mux(video.encode(av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="bgra")))
        output.mux(video.encode(None))
    (frame,) = read_frames(clip)
    assert frame.rgb[10, 10].tolist() == [255, 255, 255]
    assert frame.rgb[10, 50].tolist() == [0, 255, 0]
    assert np.abs(frame.rgb[40, 10].astype(int) - [127, 127, 255]).max() <= 1


def test_the_orientation_of_jpegs_counts(tmp_path):
    clip = jpegs(tmp_path / "c.mkv", [quarters(0, 64, 48)] * 3, orientation=6)
    assert (probe(clip).width, probe(clip).height, probe(clip).rotation) == (48, 64, 90)
    assert [corner_colours(f.rgb) for f in read_frames(clip)] == [["blue", "red", "white", "green"]] * 3


def test_a_size_that_changes_is_fitted_into_the_first_and_said(tmp_path):
    clip = jpegs(tmp_path / "c.mkv", [quarters(0, *size) for size in [(64, 48), (64, 48), (48, 64), (128, 96)]])
    said: list[str] = []
    frames = [f.rgb for f in read_frames(clip, on_warning=said.append)]
    assert [f.shape for f in frames] == [(48, 64, 3)] * 4
    assert corner_colours(frames[3]) == ["red", "green", "blue", "white"]
    assert corner_colours(frames[2][:, 14:50]) == ["red", "green", "blue", "white"]  # 36 of 48 wide, in the middle
    assert frames[2][:, :13].max() == frames[2][:, 51:].max() == 0
    assert len(said) == 1
    assert "48x64 from 64x48" in said[0]


# ---- Stamps


def repaired(*stamps: int | None) -> tuple[list[int], list[str]]:
    said: list[str] = []
    return [s for s, _ in increasing(((s, 40, None) for s in stamps), 1000, said.append)], said


@pytest.mark.parametrize(
    ("stamps", "made", "why"),
    [
        ([0, 40, 80, 500, 540], [0, 40, 80, 500, 540], None),  # a drop-out
        ([-40, 0, 40], [-40, 0, 40], None),
        ([0, 40, None, 120], [0, 40, 80, 120], None),
        ([0, 40, 40, 80], [0, 40, 41, 80], "doesn't increase"),  # a duplicate
        ([0, 40, 999_999, 120, 160], [0, 40, 80, 120, 160], "stands out"),
        ([999_999, 40, 80], [19, 40, 80], "stands out"),
        ([5000, 5040, 5080, 0, 40], [5000, 5040, 5080, 5120, 5160], "begins anew"),
    ],
)
def test_stamps_are_made_to_increase(stamps, made, why):
    result, said = repaired(*stamps)
    assert result == made
    assert len(said) == (why is not None)
    assert why is None or why in said[0]


def test_a_clock_that_begins_anew_goes_on_for_picture_and_sound(tmp_path):
    made = make_clip(tmp_path / "m.mkv", range(500, 700), sound="aac", sound_start=20.0, sound_seconds=8.0)
    clip = remux(made, tmp_path / "c.mkv", options={"cluster_time_limit": "1000"})
    move_clusters(clip, lambda number, ms: ms if ms < 24000 else ms - 15_000)
    said: list[str] = []
    copy(clip, tmp_path / "out.mkv", on_warning=said.append)
    for kind in ("video", "audio"):
        steps = np.diff([float(t) for t in stamps_of(tmp_path / "out.mkv", kind)])
        assert steps.max() <= (0.041 if kind == "video" else 0.023)
    assert packets_of(tmp_path / "out.mkv") == packets_of(clip)
    assert len(said) == 1  # of the sound; `copy` reads the pictures itself
    assert "begins anew" in said[0]


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_what_an_edit_list_cuts_away_is_gone_and_the_rest_keeps_its_time(tmp_path, bframes, suffix):
    whole = make_clip(tmp_path / "whole.mp4", range(50), bframes=bframes, sound="aac")
    clip = tmp_path / "c.mp4"
    clip.write_bytes(whole.read_bytes())
    edit(clip, {"video": 0.48, "audio": 0.48})
    frames = copy(clip, tmp_path / f"out{suffix}")
    assert [f.seconds for f in frames] == pytest.approx([i / 25 for i in range(38)])
    for frame in frames:
        assert np.abs(frame.rgb.astype(int) - shade(frame.index + 12)).max() <= 2
    assert len(picture_times(clip)) == 38
    assert stamps_of(tmp_path / f"out{suffix}") == [Fraction(i, 25) for i in range(38)]
    assert abs(lag(tone(whole)[round(0.48 * 48000) :], tone(tmp_path / f"out{suffix}"))) <= 48
    # Of the sound that was cut away no more goes along than a decoder needs to start.
    assert stamps_of(tmp_path / f"out{suffix}", "audio")[0] >= -0.15


# ---- Sound


def clicks(path: Path, stamps: np.ndarray, block: int = 1024, every: int = 20) -> list[float]:
    """A clip whose sound has a block for each stamp (seconds), each so many of which click; when they do."""
    pcm = np.zeros((len(stamps), block), "<i2")
    pcm[::every, :20] = 20_000
    with av.open(str(path), "w") as output:
        video, sound = output.add_stream("libx264", 25), output.add_stream("pcm_s16le", 48000, layout="mono")
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for index in range(100):
            packets += video.encode(av.VideoFrame.from_ndarray(plain(index, 64, 48), "rgb24"))
        packets += video.encode(None)
        output.start_encoding()
        for stamp, samples in zip(stamps, pcm, strict=True):
            packet = av.Packet(samples.tobytes())
            packet.stream, packet.time_base = sound, Fraction(1, 1000)
            packet.pts = packet.dts = round(stamp * 1000)
            packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return [round(s * 1000) / 1000 for s in stamps[::every].tolist()]


def clicks_of(path: Path) -> list[float]:
    """When clicks are heard, in seconds."""
    loud = np.flatnonzero(np.abs(tone(path)) > 0.4 * np.abs(tone(path)).max())
    return [i / 48000 for i, before in zip(loud, [-(10**6), *loud[:-1]], strict=True) if i - before > 2000]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_sound_encoded_again_follows_a_clock_that_runs_fast(tmp_path, suffix):
    heard = clicks(tmp_path / "c.mkv", np.arange(180) * 1024 / 48000 * 1.005)
    copy(tmp_path / "c.mkv", tmp_path / f"out{suffix}", encode_sound=True, on_warning=pytest.fail)
    assert clicks_of(tmp_path / f"out{suffix}") == pytest.approx(heard, abs=1.1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_encoded_again_keeps_a_gap(tmp_path, suffix):
    stamps = np.arange(120) * 1024 / 48000
    stamps[50:] += 0.7
    heard = clicks(tmp_path / "c.mkv", stamps)
    copy(tmp_path / "c.mkv", tmp_path / f"out{suffix}", encode_sound=True, on_warning=pytest.fail)
    assert clicks_of(tmp_path / f"out{suffix}") == pytest.approx(heard, abs=1.1e-3)


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_sound_encoded_again_is_cut_to_the_sample_at_both_ends(tmp_path, suffix):
    heard = clicks(tmp_path / "c.mkv", np.arange(15) * 0.2, block=9600, every=1)  # pieces longer than a frame
    copy(tmp_path / "c.mkv", tmp_path / f"out{suffix}", start=0.44, end=1.32, encode_sound=True)
    assert clicks_of(tmp_path / f"out{suffix}") == pytest.approx(
        [t - 0.44 for t in heard if 0.44 <= t < 1.32], abs=1e-3
    )
    longest = 0.88 + (1024 / 48000 if suffix == ".mkv" else 0)  # AAC comes in whole blocks; the last is filled up
    assert 0.88 - 1e-3 <= len(tone(tmp_path / f"out{suffix}")) / 48000 <= longest


# ---- An hour

HOUR = 3600
NTSC_TICKS = [1001 * 300 * i for i in range(HOUR // 10)]  # 29.97 frames a second, of which each 300th is there


def hour(path: Path, codec: str, rate: int) -> Path:
    """An hour of few pictures and full sound: of AAC one packet over and over, of PCM a click each minute."""
    with av.open(str(path), "w") as output:
        video, sound = (
            output.add_stream("libx264", Fraction(30000, 1001)),
            output.add_stream(codec, rate, layout="mono"),
        )
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 30000)
        packets = []
        for index, ticks in enumerate(NTSC_TICKS):
            frame = av.VideoFrame.from_ndarray(plain(index, 64, 48), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = ticks, Fraction(1, 30000)
            packets += video.encode(frame)
        packets += video.encode(None)
        if codec == "aac":
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate = rate
            blocks, block = [bytes(p) for p in [*sound.encode(silence), *sound.encode(None)]][-1:], 1024
        else:
            minute = np.zeros((60, rate), "<i2")
            minute[0, :20] = 20_000
            blocks, block = [m.tobytes() for m in minute], rate
        output.start_encoding()
        for number in range(HOUR * rate // block):
            packet = av.Packet(blocks[number % len(blocks)])
            packet.stream, packet.time_base, packet.duration = sound, Fraction(1, rate), block
            packet.pts = packet.dts = number * block
            packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_copied_sound_does_not_drift_in_an_hour(tmp_path, suffix):
    clip, out = hour(tmp_path / "c.mp4", "aac", 44_100), tmp_path / f"out{suffix}"
    copy(clip, out, on_warning=pytest.fail)
    assert packets_of(out) == packets_of(clip)
    for kind in ("video", "audio"):
        off = [abs(a - b) for a, b in zip(stamps_of(out, kind), stamps_of(clip, kind), strict=True)]
        assert max(off) <= Fraction(1, 1000)
        assert suffix != ".mp4" or max(off) == 0


def test_encoded_sound_does_not_drift_in_an_hour(tmp_path):
    clip, out = hour(tmp_path / "c.mov", "pcm_s16le", 8000), tmp_path / "out.webm"
    copy(clip, out)
    heard, _ = loud_parts(out)
    assert heard == pytest.approx([60.0 * i for i in range(60)], abs=1e-3)
    off = [abs(a - b) for a, b in zip(stamps_of(out), stamps_of(clip), strict=True)]
    assert max(off) <= Fraction(1, 1000)


def loud_parts(path: Path) -> tuple[list[float], int]:
    """When clicks are heard in a long file, and at which rate it was decoded."""
    found: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            wave = np.abs(frame.to_ndarray()[0])
            if wave.max() > 0.2:
                seconds = (
                    float(frame.pts * frame.time_base) + int((wave > 0.4 * wave.max()).argmax()) / frame.sample_rate
                )
                if not found or seconds - found[-1] > 0.1:
                    found.append(seconds)
    return found, frame.sample_rate


# ---- What is not wanted


def test_a_writer_that_is_asked_for_no_sound_has_none(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", sound="aac")
    info = probe(clip)
    with VideoWriter(tmp_path / "out.mp4", info.width, info.height, info) as writer:
        for frame in read_frames(clip):
            writer.write(frame)
    assert not probe(tmp_path / "out.mp4").has_audio


def test_a_frame_that_would_take_gigabytes_is_refused(tmp_path):
    clip = encode(tmp_path / "c.mov", "png", "gray", frames=1, size=(12_000, 9_000), picture=black)
    for look in (probe, lambda p: list(read_frames(p))):
        with pytest.raises(VideoError, match="12000x9000 is too large; at most 100 million pixels"):
            look(clip)


def black(index: int, width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)
