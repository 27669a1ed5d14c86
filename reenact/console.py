"""What the command says: while it works, on stderr, bars on a terminal and plain lines elsewhere; tables on stdout."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import rich.box
import rich.console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from typing import Self

    from .weights import Weight

PLAIN_INTERVAL = 5.0
"""Seconds between two lines of one stage where there is no terminal to draw a bar on."""

# What the stages of `options.Hooks` and of `evaluate.evaluate` are called, and what they count.
_STAGES = {
    "track": ("following the driver", "frames"),
    "invert": ("finding the target", "steps"),
    "layers": ("choosing layers", "sets"),
    "tune": ("tuning the generator", "steps"),
    "solve": ("learning the expressions", "steps"),
    "frames": ("making frames", "frames"),
    "live": ("filming", "frames"),
    **{f"track {role}": (f"following the {role}", "frames") for role in ("output", "driver", "target", "truth")},
    "check": ("looking", "frames"),
    "measure": ("measuring", "frames"),
    "report": ("making the page", "frames"),
}


def duration(seconds: float) -> str:
    """Seconds as a clock shows them: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(number: float) -> str:
    """A number of two figures at least: 0.034, 3.4, 345."""
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


@dataclass
class _Stage:
    """How far one stage has come."""

    key: str
    label: str
    unit: str
    began: float  # when the stage before ended
    first_time: float  # of the first report, which speed is counted from
    first_done: int
    now: float = 0.0
    done: int = 0
    total: int | None = None
    said: float = 0.0  # when the last plain line was written
    bar: TaskID | None = None

    @property
    def took(self) -> float:
        """Seconds, with all that went on since the stage before."""
        return self.now - self.began

    def amount(self) -> str:
        """How much is done: "12 of 48 frames"."""
        scale, unit = (1e6, "MB") if self.unit == "bytes" else (1, self.unit)
        shown = [f"{n / scale:.1f}" if scale > 1 else str(n) for n in (self.done, self.total) if n is not None]
        return f"{' of '.join(shown)} {unit}"

    def text(self) -> str:
        """How much is done, how fast, and how long the rest will take."""
        elapsed, counted = self.now - self.first_time, self.done - self.first_done
        if elapsed <= 0 or counted <= 0:
            return self.amount()
        rate = counted / elapsed
        speed = f"{short(rate / 1e6)} MB/s" if self.unit == "bytes" else f"{short(rate)}/s"
        left = "" if self.total is None else f", {duration(max(0, self.total - self.done) / rate)} left"
        return f"{self.amount()}, {speed}{left}"


class Console:
    """Progress, notes, warnings and errors; one line each. Use it as a context: leaving it ends the bars."""

    def __init__(
        self,
        quiet: bool = False,
        verbose: bool = False,
        stream: TextIO | None = None,
        results: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Say nothing yet.

        Args:
            quiet: nothing but errors.
            verbose: notes and the time of each stage too.
            stream: instead of stderr.
            results: instead of stdout.
            clock: seconds, for tests.
        """
        self._quiet, self._verbose, self._clock = quiet, verbose, clock
        self.accepts_licences = False  # without asking
        self._out = rich.console.Console(file=stream, stderr=stream is None)
        self._results = rich.console.Console(file=results)
        self._bars: Progress | None = None
        if self._out.is_terminal and not self._out.is_dumb_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), TextColumn("{task.fields[text]}"))
            # What the command prints itself belongs on stdout, wherever that leads.
            self._bars = Progress(*columns, console=self._out, redirect_stdout=False)
        self._stage: _Stage | None = None
        self._free_since = clock()  # when the last stage ended
        self._logs = _LogLines(self)

    # ---- lines

    def error(self, message: str) -> None:
        """Say what ended the command."""
        self._print(f"reenact: error: {message}")

    def stopped(self, message: str) -> None:
        """Say that the user ended the command, and what is left of it."""
        self._print(f"reenact: {message}")

    def warn(self, message: str) -> None:
        """Say what the user should know of the result."""
        if not self._quiet:
            self._print(f"reenact: warning: {message}")

    def note(self, message: str, always: bool = False) -> None:
        """Say what the curious want to know; `always`: everyone."""
        if self._verbose or (always and not self._quiet):
            self._print(message)

    def say(self, message: str) -> None:
        """Say what everyone wants to know."""
        self.note(message, always=True)

    def _print(self, message: str) -> None:
        line = " ".join(message.splitlines())
        self._out.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[str]) -> None:
        """Print the command's result: rows on a terminal, elsewhere `lines`, which say the same.

        Args:
            columns: their heads; all but the first are set flush right.
            rows: as many cells in each.
            lines: for files, pipes and logs.
        """
        if not self._results.is_terminal:
            for line in lines:
                self._results.print(Text(line), soft_wrap=True)
            return
        table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for index, head in enumerate(columns):
            table.add_column(Text(head), justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self._results.print(table)

    def licence(self, weight: Weight) -> bool:
        """Show a weight's licence, and ask for consent where somebody is there to give it."""
        self.end_stage()
        self._print(f"{weight.name}: {weight.licence}. {weight.note} ({weight.origin})")
        self._print(f"its licence: {weight.terms}")
        if self.accepts_licences or not (sys.stdin and sys.stdin.isatty()):
            return self.accepts_licences
        if self._bars:
            self._bars.stop()
        return self._out.input("Do you accept it? [y/N] ", markup=False).strip().lower() in ("y", "yes")

    # ---- progress

    def progress(self, key: str, done: int, total: int | None) -> None:
        """Report of a stage of `options.Hooks`."""
        label, unit = _STAGES.get(key, (key, "steps"))
        self._report(key, label, unit, done, total)

    def download(self, name: str, done: int, total: int) -> None:
        """Report of a weight file on its way, as `WeightStore.on_progress` gives it."""
        self._report(f"fetch {name}", f"fetching {name}", "bytes", done, total)

    def _report(self, key: str, label: str, unit: str, done: int, total: int | None) -> None:
        now = self._clock()
        if self._stage is None or self._stage.key != key:
            self.end_stage()
            self._stage = _Stage(key, label, unit, self._free_since, now, done, said=self._free_since)
            if self._bars:
                self._bars.start()  # at the first report: without one there is nothing to draw
                self._stage.bar = self._bars.add_task(label, total=total, text="")
        stage = self._stage
        stage.now, stage.done, stage.total = now, done, total
        if self._bars and stage.bar is not None:
            self._bars.update(stage.bar, completed=done, total=total, text=stage.text())
        elif now - stage.said >= PLAIN_INTERVAL:
            stage.said = now
            self.say(f"{label}: {stage.text()}")

    def end_stage(self) -> None:
        """Close the stage under way, if there is one."""
        if self._stage is None:
            return
        stage, self._stage = self._stage, None
        self._free_since = stage.now
        stage.total = None
        if self._bars and stage.bar is not None:
            self._bars.update(stage.bar, completed=stage.done, total=stage.done, text=stage.text())
        self.note(f"{stage.label}: {stage.amount()} in {stage.took:.1f} s", always=self._bars is None)

    def close(self) -> None:
        """End the stage and the bars; what is printed from now on is not overdrawn."""
        self._close(finished=True)

    def _close(self, finished: bool) -> None:
        if finished:
            self.end_stage()
        if self._bars:
            self._bars.stop()

    # ---- the context

    def __enter__(self) -> Self:
        """Begin to listen to the package's log."""
        self._logs.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the bars."""
        self._close(finished=kind is None)
        self._logs.detach()


class _LogLines(logging.Handler):
    """The package's own log as lines: warnings, and what is less as notes."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._logger = logging.getLogger(__package__)
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        say = self._console.warn if record.levelno >= logging.WARNING else self._console.note
        say(record.getMessage())

    def attach(self) -> None:
        """Begin to listen."""
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)

    def detach(self) -> None:
        """Leave the log as it was."""
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
