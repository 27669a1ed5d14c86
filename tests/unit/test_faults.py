"""What goes wrong with files under way: one line, nothing half-written, earlier results untouched."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip, plain, truncate

from reenact.cli import main
from reenact.errors import ReenactError, VideoError
from reenact.files import Unfinished, unfinished, write_text
from reenact.images import write_image
from reenact.pipeline import Hooks
from reenact.trace import Trace
from reenact.types import Frame
from reenact.video import MatteWriter, Passes, VideoWriter, read_frames

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and locks")

# ---- The driver


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "driver.mkv", range(50), size=(160, 120))


def test_a_file_that_stays_as_it_is_gives_the_same_in_each_pass(clip):
    passes = Passes(clip, 0.4, None, 20)
    first, second = list(passes), list(passes)
    assert [(f.index, f.pts) for f in first] == [(f.index, f.pts) for f in second]
    assert len(first) == 20


def test_trouble_is_said_once_though_it_is_met_in_each_pass(clip):
    said: list[str] = []
    passes = Passes(truncate(clip, 0.6), on_warning=said.append)
    assert len(list(passes)) == len(list(passes)) > 10
    assert len(said) == len(set(said))


def rewrite(path: Path) -> None:
    """Another film of the same name, size and stamps."""
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: truncate(path, 0.5), "changed while it was being read"),
        (rewrite, "changed while it was being read"),
        (lambda path: shutil.move(make_clip(path.with_name("x.mkv"), range(60)), path), "changed while"),
        (lambda path: path.unlink(), "driver.mkv"),
    ],
    ids=["truncated", "written again", "replaced", "removed"],
)
def test_a_file_that_changes_between_passes_is_an_error(clip, change, why):
    passes = Passes(clip)
    list(passes)
    change(clip)
    with pytest.raises(VideoError, match=why) as caught:
        list(passes)
    assert str(clip) in str(caught.value)


def test_a_file_that_changes_during_a_pass_is_an_error(clip):
    def read() -> None:
        for frame in Passes(clip):
            if frame.index == 20:
                truncate(clip, 0.7)

    with pytest.raises(VideoError, match="changed while it was being read"):
        read()


def test_a_file_that_grows_gives_what_the_first_pass_saw(tmp_path, clip):
    whole = clip.read_bytes()
    truncate(clip, 0.5)
    passes = Passes(clip)
    seen = [f.pts for f in passes]
    with clip.open("ab") as file:
        file.write(whole[clip.stat().st_size :])
    assert len(list(read_frames(clip))) == 50
    assert [f.pts for f in passes] == seen
    assert len(seen) < 40


# ---- The output


def test_a_folder_removed_under_way_is_noticed_at_once(tmp_path, clip):
    folder, done = tmp_path / "folder", []
    folder.mkdir()

    def after(frame: Frame) -> None:
        done.append(frame.index)
        if frame.index == 4:
            shutil.rmtree(folder)

    with pytest.raises(VideoError, match="was removed"):
        record(clip, folder / "out.mp4", after)
    assert done == [0, 1, 2, 3, 4]
    assert not folder.exists()


def record(clip: Path, output: Path, after: Callable[[Frame], None] = lambda frame: None) -> None:
    with VideoWriter(output, 160, 120, overwrite=True) as writer:
        for frame in read_frames(clip):
            writer.write(frame)
            after(frame)


def test_a_thread_that_fails_ends_it_and_leaves_nothing(tmp_path, clip, monkeypatch):
    (tmp_path / "out.mp4").write_bytes(b"earlier")
    before = threading.enumerate()

    def fail(self, picture, seconds):
        raise MemoryError

    monkeypatch.setattr(VideoWriter, "_encode", fail)
    with pytest.raises(MemoryError):
        record(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["driver.mkv", "out.mp4"]
    assert not set(threading.enumerate()) - set(before)


class Stub:
    """Stands in for `pipeline.reenact`: the driver's frames; `under_way` is called before the last."""

    def __init__(self, under_way):
        self.under_way = under_way

    def __call__(self, target, driver, options, store=None, hooks=Hooks(), checkpoint=None):  # noqa: B008  # frozen
        frames = list(read_frames(Path(driver)))
        for frame in frames:
            if frame is frames[-1]:
                self.under_way()
            yield Frame(frame.rgb, frame.index, frame.pts, frame.seconds, frame.rgb[..., 0].copy())


def run(tmp_path, monkeypatch, clip, under_way, *words) -> int:
    monkeypatch.setattr("reenact.pipeline.reenact", Stub(under_way))
    write_image(tmp_path / "target.png", plain(0, 80, 80))
    names = [tmp_path / "target.png", clip, "-o", tmp_path / "out.mp4", "-y", *words]
    return main([str(name) for name in names])


def test_two_outputs_replace_earlier_ones_only_when_both_are_whole(tmp_path, monkeypatch, clip, capsys):
    for name in ("out.mp4", "matte.mkv"):
        (tmp_path / name).write_bytes(b"earlier")

    def full(self, duration, cut):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MatteWriter, "_drain", full)
    assert run(tmp_path, monkeypatch, clip, lambda: None, "--matte", tmp_path / "matte.mkv") == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("matte.mkv: can't be written (No space left on device)")
    assert {(tmp_path / n).read_bytes() for n in ("out.mp4", "matte.mkv")} == {b"earlier"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["driver.mkv", "matte.mkv", "out.mp4", "target.png"]


def test_a_driver_that_shrinks_beside_its_result_is_an_error(tmp_path, monkeypatch, clip, capsys):
    class Early(Stub):
        def __call__(self, *words, **more):
            yield from [*super().__call__(*words, **more)] * 1
            yield Frame(plain(0, 160, 120), 50, 5000, 5.0, np.zeros((120, 160), np.uint8))  # one more than there are

    monkeypatch.setattr("reenact.pipeline.reenact", Early(lambda: None))
    write_image(tmp_path / "target.png", plain(0, 80, 80))
    assert main([str(tmp_path / "target.png"), str(clip), "-o", str(tmp_path / "out.mp4"), "--side-by-side"]) == 1
    assert "changed while it was being read" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("*out*"))


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_end_keeps_what_is_done(tmp_path, monkeypatch, clip, number, status, capsys):
    (tmp_path / "out.mp4").write_bytes(b"earlier")
    usual = signal.signal(number, signal.SIG_DFL)  # `nohup` has it ignored, and then it is
    before = signal.getsignal(number)
    try:
        assert run(tmp_path, monkeypatch, clip, lambda: os.kill(os.getpid(), number)) == status
        assert signal.getsignal(number) == before
    finally:
        signal.signal(number, usual)
    assert len(list(read_frames(tmp_path / "out.partial.mp4"))) == 49
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    assert capsys.readouterr().err.splitlines()[-1] == f"reenact: stopped by {signal.Signals(number).name}"


def test_too_little_memory_is_one_line(tmp_path, monkeypatch, clip, capsys):
    def fail():
        raise MemoryError

    assert run(tmp_path, monkeypatch, clip, fail) == 1
    assert "out of memory" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("*out*"))


WRITES = """
    import sys, time
    import numpy as np
    from reenact.types import Frame
    from reenact.video import VideoWriter
    with VideoWriter(sys.argv[1], 64, 48, overwrite=True) as writer:
        for i in range(10**9):
            writer.write(Frame(np.zeros((48, 64, 3), np.uint8), i, i, i / 25))
            time.sleep(0.01)
"""


@posix
def test_what_a_killed_run_left_goes_with_the_next_and_what_is_being_written_stays(tmp_path, clip):
    output = tmp_path / "out.mp4"
    others = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITES), str(output)]) for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob(".out.mp4.*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        both = set(tmp_path.glob(".out.mp4.*"))
        others[0].kill()
        others[0].wait()
        record(clip, output)
        assert others[1].poll() is None
        left = set(tmp_path.glob(".out.mp4.*"))
        assert len(left) == 1
        assert left < both
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert len(list(read_frames(output))) == 50


# ---- Small files


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")

    def stop() -> None:
        with unfinished(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop()
    assert path.read_text() == "earlier"
    write_text(path, "new\r\n")
    assert path.read_bytes() == b"new\r\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@posix
def test_what_others_are_writing_is_not_swept_away(tmp_path):
    first = Unfinished(tmp_path / "a.txt")
    second = Unfinished(tmp_path / "a.txt")
    assert first.path.exists()
    first.remove()
    second.rename(tmp_path / "a.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_name_with_wild_cards_sweeps_no_others(tmp_path):
    other = tmp_path / ".a.txt.01234567.part"
    other.write_text("another's")
    write_text(tmp_path / "[ab].txt", "")
    write_text(tmp_path / "?.txt", "")
    assert other.exists()


@posix
def test_a_full_disk_is_one_line_for_pictures_and_text(tmp_path):
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from reenact.errors import ReenactError
        from reenact.files import write_text
        from reenact.images import write_image
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        folder = Path(sys.argv[1])
        rgb = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
        for write in (lambda: write_text(folder / "a.csv", "x" * 20_000), lambda: write_image(folder / "a.png", rgb)):
            try:
                write()
            except ReenactError as error:
                print(error)
    """)
    for name in ("a.csv", "a.png"):
        (tmp_path / name).write_text("earlier")
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        f"{tmp_path / name}: can't be written (File too large)" for name in ("a.csv", "a.png")
    ]
    assert {(tmp_path / name).read_text() for name in ("a.csv", "a.png")} == {"earlier"}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_trace_whose_folder_goes_is_one_line(tmp_path):
    trace = Trace(tmp_path / "trace", total=1)
    shutil.rmtree(tmp_path / "trace")
    for write in (lambda: trace.picture("driver", 0, plain(0, 64, 64)), lambda: trace.losses("target", (1.0,))):
        with pytest.raises(ReenactError, match="the trace can't be written") as caught:
            write()
        assert str(tmp_path / "trace") in str(caught.value)
