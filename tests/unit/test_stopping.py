"""Being told to end: never lost, never in the middle of what can't be broken off."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from clips import make_clip

from reenact.ahead import ahead
from reenact.stopping import Terminated, heeded, held
from reenact.types import Frame
from reenact.video import VideoWriter

TWO = (signal.SIGTERM, signal.SIGINT)


def ends(number: int, reached: list[str], error: Exception | None = None, held_again: bool = False) -> None:
    """Be told to end within a held block, which goes on to `reached`."""
    with held():
        with held() if held_again else nullcontext():
            signal.raise_signal(number)
        reached.append("end of the block")
        if error:
            raise error
    reached.append("after it")


@pytest.mark.parametrize("held_again", [False, True])
def test_ctrl_c_waits_for_the_end_of_a_held_block(held_again):
    reached = []
    with pytest.raises(KeyboardInterrupt):
        ends(signal.SIGINT, reached, held_again=held_again)
    assert reached == ["end of the block"]
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_ctrl_c_is_not_lost_where_the_block_fails():
    error = ValueError("of the block")
    with pytest.raises(KeyboardInterrupt) as stopped:
        ends(signal.SIGINT, [], error)
    assert stopped.value.__context__ is error


def test_a_failure_goes_through_and_the_handlers_are_back():
    with pytest.raises(ValueError, match="of the block"), held():
        raise ValueError("of the block")
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", 0)])
def test_what_the_system_asks_waits_too(number):
    reached = []
    before = signal.signal(number, signal.SIG_DFL)  # under nohup one is ignored
    try:
        with pytest.raises(Terminated) as stopped, heeded():
            ends(number, reached)
    finally:
        signal.signal(number, before)
    assert reached == ["end of the block"]
    assert stopped.value.exit_status == 128 + number


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_hold_nothing():
    """Signals come to the main thread; another can't set handlers, and must not fail for it."""
    failed = []

    def work():
        try:
            with held():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


@pytest.fixture
def ctrl_c_at_a_threads_start(monkeypatch):
    """Ctrl-C comes when a pool has begun a thread and not yet noted that it has."""
    start = threading.Thread.start

    def started(thread):
        start(thread)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", started)


def test_a_writer_waits_for_its_thread(tmp_path, ctrl_c_at_a_threads_start):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", 64, 48) as writer:
        writer.write(Frame(np.zeros((48, 64, 3), np.uint8), 0, 0, 0.0))
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial.mp4"]


def test_work_ahead_waits_for_its_threads(ctrl_c_at_a_threads_start):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(ahead([(0, lambda: 0)]))
    assert threading.active_count() == before


def test_work_ahead_gives_up_where_a_thread_cannot_start(monkeypatch):
    """As where too many processes run: those threads that could be started must not wait for it."""
    start, started = threading.Thread.start, []

    def first_only(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", first_only)
    cores = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="can't start"):
            list(ahead([(0, lambda: 0)]))
    finally:
        torch.set_num_threads(cores)
    assert not started[0].is_alive()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals")
def test_handlers_come_back_even_if_a_signal_comes_meanwhile(monkeypatch):
    """At the moment when SIGTERM is heeded again and the others are not yet."""
    put, asked = signal.signal, []

    def put_and_ask(number, handler):
        before = put(number, handler)
        if handler is stop and not asked:
            asked.append(number)
            signal.raise_signal(number)
        return before

    def stop(number, frame):
        raise Terminated(number)

    earlier = {number: put(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(Terminated), held():
            monkeypatch.setattr(signal, "signal", put_and_ask)
        assert all(signal.getsignal(number) is stop for number in earlier)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for number, handler in earlier.items():
            put(number, handler)


def test_of_several_signals_each_is_heard():
    heard = []
    earlier = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in TWO}
    try:
        with held():
            for number in (*TWO, TWO[0]):
                signal.raise_signal(number)
            assert not heard
        assert heard == list(TWO)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_five_hundred_ctrl_cs_at_any_moment_of_writing(tmp_path):
    """None crashes, none is another error: picture, sound and matte are opened, written and closed over and over."""
    make_clip(tmp_path / "clip.mp4", range(6), sound="aac")
    script = textwrap.dedent("""
        import random, signal, sys, time
        from contextlib import ExitStack
        from dataclasses import replace
        from pathlib import Path
        import numpy as np
        from reenact.video import MatteWriter, VideoWriter, probe, read_frames

        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        folder = Path(sys.argv[1])
        clip = folder / "clip.mp4"
        info = probe(clip)
        frames = [replace(frame, matte=np.zeros(frame.rgb.shape[:2], np.uint8)) for frame in read_frames(clip)]

        def write():
            with ExitStack() as files:
                writers = [
                    files.enter_context(VideoWriter(folder / "out.mp4", 64, 48, info, audio_from=clip, overwrite=True)),
                    files.enter_context(MatteWriter(folder / "out.mkv", 64, 48, info, overwrite=True)),
                ]
                for frame in frames:
                    for writer in writers:
                        writer.write(frame)
                for writer in writers:
                    writer.complete()

        def seconds_of_writing():
            began = time.perf_counter()
            write()
            return time.perf_counter() - began

        write()
        # Of the shortest, so that on a busy machine, too, the moment comes before the end.
        seconds = min(seconds_of_writing() for _ in range(5))
        moments, stopped = random.Random(1), 0
        while stopped < 500:
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-4, seconds))
                write()
                signal.setitimer(signal.ITIMER_REAL, 0)  # the timer rings once: what has rung rings no more
            except KeyboardInterrupt:
                stopped += 1
        print(stopped)
    """)
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], timeout=300, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 500
    assert {path.name for path in tmp_path.iterdir()} <= {
        "clip.mp4", "out.mp4", "out.mkv", "out.partial.mp4", "out.partial.mkv"
    }  # fmt: skip
