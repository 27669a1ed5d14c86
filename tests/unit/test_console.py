"""What the command says, on a terminal and elsewhere."""

import io
import logging

import pytest

from reenact.console import Console, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def run(console, clock, stage, total, seconds):
    """Report a stage that does `total` in `seconds`, beginning with a wait as long as one step."""
    for done in range(1, total + 1):
        clock.now += seconds / total
        console.progress(stage, done, total)


def test_elsewhere_a_stage_is_a_line_and_a_long_one_a_line_every_five_seconds(clock):
    out = io.StringIO()
    with Console(stream=out, clock=clock) as console:
        run(console, clock, "track", 4, 2.0)
        run(console, clock, "frames", 24, 12.0)
    assert out.getvalue().splitlines() == [
        "following the driver: 4 frames in 2.0 s",
        "making frames: 10 of 24 frames, 2/s, 0:07 left",
        "making frames: 20 of 24 frames, 2/s, 0:02 left",
        "making frames: 24 frames in 12.0 s",
    ]


def test_a_download_counts_megabytes(clock):
    out = io.StringIO()
    with Console(stream=out, clock=clock) as console:
        for second in range(7):
            clock.now = float(second)
            console.download("vgg.pth", second * 5_000_000, 30_000_000)
    assert out.getvalue().splitlines() == [
        "fetching vgg.pth: 25.0 of 30.0 MB, 5 MB/s, 0:01 left",
        "fetching vgg.pth: 30.0 MB in 6.0 s",
    ]


def test_a_terminal_gets_bars_and_no_lines(clock):
    out = Terminal()
    with Console(stream=out, clock=clock) as console:
        run(console, clock, "frames", 24, 12.0)
    assert "24 frames, 2/s" in out.getvalue()
    assert " in 12.0 s" not in out.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_messages_stay_one_line_and_as_they_are(kind):
    out = kind()
    name = "[bold]" + "very long " * 20 + ":smile:.mp4"
    Console(stream=out).error(f"{name}: no such\nfile")
    assert out.getvalue() == f"reenact: error: {name}: no such file\n"


def test_quiet_says_nothing_but_errors(clock):
    out = io.StringIO()
    with Console(quiet=True, stream=out, clock=clock) as console:
        run(console, clock, "frames", 24, 12.0)
        console.warn("odd")
        console.note("detail", always=True)
        console.say("done")
        assert out.getvalue() == ""
        console.error("bad")
    assert out.getvalue() == "reenact: error: bad\n"


def test_notes_are_for_the_verbose():
    quiet, verbose = io.StringIO(), io.StringIO()
    for out, console in ((quiet, Console(stream=quiet)), (verbose, Console(verbose=True, stream=verbose))):
        console.note("anchor frame: 3")
        console.note("detector: landmarker", always=True)
        assert out.getvalue().endswith("detector: landmarker\n")
    assert "anchor" in verbose.getvalue()
    assert "anchor" not in quiet.getvalue()


def test_the_packages_log_is_heard_while_the_console_is_open():
    out, log = io.StringIO(), logging.getLogger("reenact.weights")
    with Console(stream=out):
        log.warning("%s is damaged", "vgg.pth")
        log.info("fetching")
    log.warning("too late")
    assert out.getvalue() == "reenact: warning: vgg.pth is damaged\n"


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_durations_read_like_a_clock(seconds, text):
    assert duration(seconds) == text


def test_a_table_is_drawn_on_a_terminal_and_told_in_lines_elsewhere():
    columns, rows, lines = ("score", "value"), [("[akd]", "4"), ("ssim", "0.9")], ["[akd]: 4", "ssim: 0.9"]
    pipe, terminal = io.StringIO(), Terminal()
    Console(stream=io.StringIO(), results=pipe).table(columns, rows, lines)
    Console(stream=io.StringIO(), results=terminal).table(columns, rows, lines)
    assert pipe.getvalue().splitlines() == lines
    drawn = terminal.getvalue()
    assert all(cell in drawn for row in rows for cell in row)
    assert "[akd]: 4" not in drawn
