"""Frames, clock, sound and the untouched target, on files whose faults are known."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, truncate
from moments import FACELESS, clip, context, measured

from reenact.metrics import Sample, View, integrity
from reenact.types import Frame
from reenact.video import VideoWriter, probe, read_frames
from reenact.video.stamps import picture_times, sound_times

FRAMES = 50
TARGET = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8).repeat(2, 0).repeat(2, 1)
OUTSIDE = np.zeros(TARGET.shape[:2], np.uint8)
OUTSIDE[48:112, 48:112] = 255


@pytest.fixture
def driver(tmp_path) -> Path:
    """Two seconds with sound that can be told to the sample."""
    return make_clip(tmp_path / "driver.mov", range(FRAMES), sound="pcm_s16le")


def remuxed(source: Path, output: Path, picture=lambda seconds: seconds, sound=lambda seconds: seconds) -> Path:
    """The same packets at other times."""
    with av.open(str(source)) as container, av.open(str(output), "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size:
                move = picture if packet.stream.type == "video" else sound
                change = round(move(packet.pts * packet.time_base) / packet.time_base) - packet.pts
                packet.pts, packet.dts = packet.pts + change, packet.dts + change
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    return output


def of_files(output: Path, driver: Path, output_frames=FRAMES, driver_frames=FRAMES):
    where = context(clip(output, output_frames), clip(driver, driver_frames))
    nothing = (Sample(i, i / 25, FACELESS, FACELESS, None, None, None) for i in range(where.frames))
    return measured(integrity.create(where), nothing)


def rewritten(driver: Path, output: Path, frames: int = FRAMES) -> Path:
    """As the pipeline writes a result."""
    info = probe(driver)
    cut = frames < FRAMES
    with VideoWriter(output, info.width, info.height, info, audio_from=driver, cut=cut) as writer:
        for frame in read_frames(driver, max_frames=frames):
            writer.write(frame)
    return output


# --- frames and stamps


def test_the_driver_itself_is_whole(driver):
    scores = of_files(driver, driver)
    assert {n: s.value for n, s in scores.items() if not n.startswith("outside")} == {
        "frames": 0, "timestamps": 0, "timestamps-largest": 0, "sound-drift": 0, "sound-length": 1,
    }  # fmt: skip


def test_one_late_frame_is_that_many_milliseconds_late(driver, tmp_path):
    late = remuxed(driver, tmp_path / "late.mov", picture=lambda s: s + Fraction(1, 50) * (s == Fraction(20, 25)))
    scores = of_files(late, driver)
    assert scores["timestamps"].worst == 20
    assert scores["timestamps-largest"].value == pytest.approx(20, abs=0.1)
    assert scores["timestamps"].value == pytest.approx(20 / FRAMES, abs=0.01)


def test_another_rate_drifts_away(driver, tmp_path):
    slow = remuxed(driver, tmp_path / "slow.mov", picture=lambda s: s * Fraction(1001, 1000))
    assert of_files(slow, driver)["timestamps-largest"].value == pytest.approx((FRAMES - 1) * 0.04, abs=0.1)


def test_both_later_is_no_difference(driver, tmp_path):
    later = remuxed(driver, tmp_path / "later.mkv", *[lambda s: s + 3] * 2)
    scores = of_files(later, driver)
    assert scores["timestamps-largest"].value < 2  # Matroska has milliseconds
    assert scores["sound-drift"].value < 2


def test_reordered_pictures_are_told_in_the_order_of_the_screen(tmp_path):
    clip = make_clip(tmp_path / "b.mp4", range(FRAMES), bframes=3)
    assert np.diff(picture_times(clip)) == pytest.approx([0.04] * (FRAMES - 1))


def test_missing_frames_are_counted(driver, tmp_path):
    short = rewritten(driver, tmp_path / "short.mp4", 30)
    scores = of_files(short, driver, output_frames=30)
    assert scores["frames"].value == 20
    assert "30 of the driver's 50" in scores["frames"].note
    assert scores["timestamps"].value == 0


def test_a_picture_has_no_clock(driver):
    where = context(clip("out.png", 1, still=True), clip(driver))
    scores = measured(integrity.create(where), [Sample(0, 0.0, FACELESS, FACELESS, None, None, None)])
    assert {s.value for s in scores.values()} == {None}
    assert "picture" in scores["timestamps"].note


# --- sound


def test_sound_that_begins_late_is_that_many_milliseconds_late(driver, tmp_path):
    late = remuxed(driver, tmp_path / "late.mov", sound=lambda s: s + Fraction(12, 100))
    score = of_files(late, driver)["sound-drift"]
    assert score.value == pytest.approx(120, abs=0.1)
    assert "+120.0 ms at the start, +120.0 at the end" in score.note


def test_sound_that_runs_away_is_caught_at_the_end(tmp_path):
    driver = make_clip(tmp_path / "driver.mkv", range(FRAMES), sound="libopus")
    slow = remuxed(driver, tmp_path / "slow.mkv", sound=lambda s: s * Fraction(105, 100))
    score = of_files(slow, driver)["sound-drift"]
    assert score.value == pytest.approx(100, abs=4)
    assert score.note.startswith("+0.0 ms at the start")


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("libopus", ".webm"), ("pcm_s16le", ".mov")])
def test_what_the_writer_copies_does_not_drift(tmp_path, codec, suffix):
    driver = make_clip(tmp_path / f"driver{suffix}", range(FRAMES), sound=codec)
    scores = of_files(rewritten(driver, tmp_path / f"out{suffix}"), driver)
    assert scores["sound-drift"].value <= 1
    assert scores["sound-length"].value == pytest.approx(1, abs=0.001)


def test_what_the_writer_encodes_again_is_told_to_a_packet(driver, tmp_path):
    scores = of_files(rewritten(driver, tmp_path / "out.webm"), driver)
    assert scores["sound-drift"].value <= 25
    assert scores["sound-length"].value == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("shift", [0, Fraction(1, 5)])
def test_of_a_part_packets_are_compared_with_their_likes(tmp_path, shift):
    driver = make_clip(tmp_path / "driver.mp4", range(FRAMES), sound="aac")
    part = rewritten(driver, tmp_path / "part.mp4", 20)
    moved = remuxed(part, tmp_path / "moved.mp4", sound=lambda s: s + shift * (s > Fraction(1, 2)))
    scores = of_files(moved, driver, output_frames=20)
    assert scores["sound-drift"].value == pytest.approx(1000 * shift, abs=8)
    assert scores["sound-length"].value < 0.6


def test_of_a_part_with_another_codec_only_the_start_is_compared(driver, tmp_path):
    part = rewritten(driver, tmp_path / "part.webm", 20)
    score = of_files(part, driver, output_frames=20)["sound-drift"]
    assert score.value <= 25
    assert "no telling at the end" in score.note


def test_a_silent_driver_is_not_measured(driver, tmp_path):
    silent = make_clip(tmp_path / "silent.mov", range(FRAMES))
    scores = of_files(driver, silent)
    assert scores["sound-drift"].value is scores["sound-length"].value is None
    assert "driver has no sound" in scores["sound-drift"].note


def test_lost_sound_is_a_failure(driver, tmp_path):
    silent = make_clip(tmp_path / "silent.mov", range(FRAMES))
    scores = of_files(silent, driver)
    assert scores["sound-drift"].value is None
    assert scores["sound-length"].value == 0
    assert "the output has none" in scores["sound-drift"].note


def test_of_a_file_cut_off_what_is_there_is_read(tmp_path):
    whole = make_clip(tmp_path / "whole.mkv", range(FRAMES), sound="libopus")
    times = sound_times(truncate(make_clip(tmp_path / "cut.mkv", range(FRAMES), sound="libopus")))
    assert 0 < times.seconds < sound_times(whole).seconds


# --- outside the matte


def drawn(path: Path, inside=lambda index: 0, outside=lambda index: 0, frames: int = 12) -> Path:
    """The target with levels added inside the matte, and outside to a square of 16 in the corner."""
    with VideoWriter(path, TARGET.shape[1], TARGET.shape[0]) as writer:
        for i in range(frames):
            rgb = TARGET // 2
            rgb[OUTSIDE > 0] += np.uint8(inside(i))
            rgb[:16, :16] += np.uint8(outside(i))
            writer.write(Frame(rgb, i, i, i / 25))
    return path


def outside(output: Path, target: np.ndarray = TARGET // 2, matte: np.ndarray | None = OUTSIDE):
    frames = list(read_frames(output))
    film = clip(output, len(frames))
    where = context(film, film, clip("target.png", still=True), Path("matte.mkv") if matte is not None else None)
    moments = (Sample(f.index, f.seconds, View(f.rgb, None), FACELESS, View(target, None), None, matte) for f in frames)
    return measured(integrity.create(where), moments)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_the_target_encoded_alike_differs_by_nothing(tmp_path, suffix):
    scores = outside(drawn(tmp_path / f"out{suffix}"))
    assert scores["outside-largest"].value == scores["outside-mean"].value == 0
    assert "encoded alike" in scores["outside-mean"].note


def test_what_happens_inside_the_matte_hardly_counts(tmp_path):
    scores = outside(drawn(tmp_path / "out.mp4", inside=lambda i: 10 * i))
    assert scores["outside-mean"].value < 1.5


def test_a_change_outside_is_seen_where_it_is(tmp_path):
    scores = outside(drawn(tmp_path / "out.mp4", outside=lambda i: 60 * (i == 7)))
    assert scores["outside-largest"].worst == scores["outside-mean"].worst == 7
    assert scores["outside-largest"].value == pytest.approx(60, abs=25)


def test_one_pixel_is_seen(tmp_path):
    still = drawn(tmp_path / "out.mp4")
    frames = list(read_frames(still))
    film = clip(still, len(frames))
    frames[3].rgb[5, 9, 1] += 40
    moments = [Sample(f.index, 0, View(f.rgb, None), FACELESS, View(TARGET // 2, None), None, OUTSIDE) for f in frames]
    where = context(film, film, clip("target.png", still=True), Path("matte.mkv"))
    score = measured(integrity.create(where), moments)["outside-largest"]
    assert (score.value, score.worst) == (40, 3)


def test_a_target_of_an_odd_size_is_padded_as_the_output_is(tmp_path):
    odd = TARGET[:159, :191] // 2
    with VideoWriter(tmp_path / "out.mp4", 191, 159) as writer:
        for i in range(3):
            writer.write(Frame(odd, i, i, i / 25))
    assert outside(tmp_path / "out.mp4", odd)["outside-largest"].value == 0


def test_a_picture_is_compared_with_the_picture():
    moved = TARGET // 2
    moved[5, 9, 1] += 3
    film = clip("out.png", 1, still=True)
    where = context(film, film, clip("target.png", 1, still=True), Path("matte.png"))
    moment = Sample(0, 0.0, View(moved, None), FACELESS, View(TARGET // 2, None), None, OUTSIDE)
    assert measured(integrity.create(where), [moment])["outside-largest"].value == 3


def test_sizes_that_differ_are_told(tmp_path):
    scores = outside(drawn(tmp_path / "out.mp4"), TARGET[:100])
    assert scores["outside-mean"].value is None
    assert "192x160" in scores["outside-mean"].note
    assert "192x100" in scores["outside-mean"].note


def test_without_a_matte_it_is_not_measured(tmp_path):
    scores = outside(drawn(tmp_path / "out.mp4"), matte=None)
    assert scores["outside-mean"].value is scores["outside-largest"].value is None
    assert "--matte" in scores["outside-mean"].note


def test_a_matte_that_covers_all_leaves_nothing(tmp_path):
    scores = outside(drawn(tmp_path / "out.mp4"), matte=np.full_like(OUTSIDE, 1))
    assert scores["outside-mean"].value is None
    assert "outside the matte" in scores["outside-mean"].note


def test_no_file_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert outside(drawn(tmp_path / "out.mp4"))["outside-mean"].value == 0
    assert not list((tmp_path / "temporary").iterdir())
