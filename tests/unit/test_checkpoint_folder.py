"""What a run keeps: whole or not at all, for the same run only, and never taken unasked."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from reenact import resume as module
from reenact import run as running
from reenact.errors import UsageError
from reenact.resume import Checkpoint, job
from reenact.types import Frame

RANDOM = np.random.default_rng(0)
TARGET = RANDOM.integers(0, 256, (40, 60, 3), np.uint8)
JOB = {"target": "a", "driver": "b"}


def frame(index: int) -> Frame:
    """The target with a part of it changed, and its matte; the third is the untouched target."""
    rgb, matte = TARGET.copy(), np.zeros(TARGET.shape[:2], np.uint8)
    if index != 2:
        rgb[5 : 20 + index, 10:30] = RANDOM.integers(0, 256, (15 + index, 20, 3), np.uint8)
        matte[5 : 20 + index, 10:31] = RANDOM.integers(0, 256, (15 + index, 21), np.uint8)
    return Frame(rgb, index, 1000 + 7 * index, index / 25, matte)


FRAMES = [frame(index) for index in range(5)]


def begun(folder, resume=False, asked=JOB):
    checkpoint = Checkpoint(folder, resume)
    return checkpoint, checkpoint.begin(asked)


@pytest.fixture
def kept(tmp_path):
    """A checkpoint with five frames and an array."""
    checkpoint, _ = begun(tmp_path / "out.checkpoint")
    checkpoint.keep("target", {"w": np.eye(3)})
    for each in FRAMES:
        checkpoint.add(each, TARGET)
    checkpoint.close()
    return tmp_path / "out.checkpoint"


def assert_same(frames, expected):
    assert len(frames) == len(expected)
    for one, other in zip(frames, expected, strict=True):
        assert (one.index, one.pts, one.seconds) == (other.index, other.pts, other.seconds)
        assert np.array_equal(one.rgb, other.rgb)
        assert np.array_equal(one.matte, other.matte)


def test_frames_and_arrays_come_back_bit_by_bit(kept):
    checkpoint, goes_on = begun(kept, resume=True)
    assert goes_on
    assert_same(list(checkpoint.frames(lambda index: TARGET)), FRAMES)
    with checkpoint.kept("target") as file:
        assert np.array_equal(file.read("w", "f", (3, 3), 9), np.eye(3))
    assert not checkpoint.has("other")


@pytest.mark.parametrize("lost", [1, 3, 20, 200])
def test_a_torn_record_is_cut_off_and_written_again(kept, lost):
    log = kept / "frames.log"
    log.write_bytes(log.read_bytes()[:-lost])
    checkpoint, _ = begun(kept, resume=True)
    assert_same(list(checkpoint.frames(lambda index: TARGET)), FRAMES[:4])
    checkpoint.add(FRAMES[4], TARGET)
    checkpoint.close()
    assert_same(list(begun(kept, resume=True)[0].frames(lambda index: TARGET)), FRAMES)


def test_what_a_power_cut_leaves_as_zeros_or_rubbish_is_cut_off(kept):
    log = kept / "frames.log"
    data = bytearray(log.read_bytes())
    data[-50:-10] = bytes(40)
    log.write_bytes(data + bytes(4096))
    assert_same(list(begun(kept, resume=True)[0].frames(lambda index: TARGET)), FRAMES[:4])


def test_without_resume_nothing_is_left_of_an_earlier_run(kept):
    checkpoint, goes_on = begun(kept)
    assert not goes_on
    assert not kept.exists()
    assert list(checkpoint.frames(lambda index: TARGET)) == []


def test_another_job_is_refused_and_what_there_is_stays(kept):
    with pytest.raises(UsageError, match=r"driver b \(now c\)"):
        begun(kept, resume=True, asked=JOB | {"driver": "c"})
    assert len(list(begun(kept, resume=True)[0].frames(lambda index: TARGET))) == 5


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00", "3"])
def test_a_spoilt_checkpoint_is_refused_in_one_line(kept, text):
    (kept / "job.json").write_text(text)
    with pytest.raises(UsageError, match="--resume"):
        begun(kept, resume=True)


def test_a_folder_that_is_no_checkpoint_is_never_removed(tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(UsageError, match="is no checkpoint"):
        begun(tmp_path / "holiday")
    assert (tmp_path / "holiday" / "photo.jpg").exists()


def test_a_disk_that_takes_no_more_is_told_of_once_and_ends_nothing(tmp_path, monkeypatch):
    said = list[str]()
    checkpoint = Checkpoint(tmp_path / "out.checkpoint", warn=said.append)
    checkpoint.begin(JOB)
    checkpoint.add(FRAMES[0], TARGET)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_record", full)
    checkpoint.add(FRAMES[1], TARGET)
    checkpoint.add(FRAMES[2], TARGET)
    checkpoint.keep("target", {"w": np.eye(3)})
    checkpoint.close()
    assert len(said) == 1
    assert "No space left" in said[0]
    assert len(list(begun(tmp_path / "out.checkpoint", resume=True)[0].frames(lambda index: TARGET))) == 1


@dataclass(frozen=True)
class Inner:
    strength: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    inner: Inner = field(default_factory=Inner)


def test_a_job_names_every_setting_and_tells_files_by_what_is_in_them(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    one, other = (job({"target": tmp_path / name}, Outer(), "here") for name in "ab")
    assert one == other
    assert one.keys() == {"target", "program", "name", "inner.strength"}
    (tmp_path / "b").write_bytes(b"2")
    assert job({"target": tmp_path / "b"}, Outer(), "here")["target"] != one["target"]


def test_a_run_with_weights_that_were_trained_anew_is_another_job(tmp_path, monkeypatch):
    target, driver, learnt = (tmp_path / name for name in ("target.png", "driver.mp4", "mobile_mapper.safetensors"))
    for path in (target, driver, learnt):
        path.write_bytes(b"1")
    monkeypatch.setattr(running, "all_shipped", lambda: {learnt.name: learnt})
    run = SimpleNamespace(
        options=running.Options(), checkpoint=None, device="cpu", detector_name="landmarker",
        driver=SimpleNamespace(path=driver),
    )  # fmt: skip
    before = running.Run._job(run, target)
    assert running.Run._job(run, target) == before
    learnt.write_bytes(b"2")
    after = running.Run._job(run, target)
    assert {name for name in after if after[name] != before[name]} == {learnt.name}


@pytest.mark.parametrize("option", ["generator", "front"])
def test_a_run_with_another_file_under_the_same_name_is_another_job(tmp_path, option):
    target, driver, named = (tmp_path / name for name in ("target.png", "driver.mp4", "named"))
    for path in (target, driver, named):
        path.write_bytes(b"1")
    run = SimpleNamespace(
        options=running.Options(**{option: str(named)}), checkpoint=None, device="cpu", detector_name="landmarker",
        driver=SimpleNamespace(path=driver),
    )  # fmt: skip
    before = running.Run._job(run, target)
    named.write_bytes(b"2")
    after = running.Run._job(run, target)
    assert {name for name in after if after[name] != before[name]} == {option}
