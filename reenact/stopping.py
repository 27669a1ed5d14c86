"""Being told to end: by Ctrl-C, and by the system, whose SIGTERM or closing terminal end the command likewise."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_BY_SYSTEM = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # no SIGHUP on Windows


class Terminated(KeyboardInterrupt):
    """The system asked the program to end; what is done is kept, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number  # as a shell reports it


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what is done is being kept
    raise Terminated(number)


@contextmanager
def heeded() -> Iterator[None]:
    """Raise `Terminated` in the main thread where the system asks; a signal that is ignored (nohup) stays so."""
    if threading.current_thread() is not threading.main_thread():  # others can't set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in _BY_SYSTEM if signal.getsignal(number) == signal.SIG_DFL}
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Let whatever would end the program wait for the end of the block.

    An exception between any two instructions is what a thread pool's own bookkeeping does not survive: a thread that
    it has started and not yet noted is waited for by nobody, while the file that it writes is closed.
    """
    if threading.current_thread() is not threading.main_thread():  # signals interrupt the main thread alone
        yield
        return
    came: dict[int, FrameType | None] = {}

    def note(number: int, frame: FrameType | None) -> None:
        came[number] = frame

    handlers = ((number, signal.getsignal(number)) for number in (*_BY_SYSTEM, signal.SIGINT))
    before = {number: handler for number, handler in handlers if callable(handler)}
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        _restore(before, note)
        for number, frame in came.items():
            before[number](number, frame)


def _restore(handlers: dict[int, Callable[[int, FrameType | None], object]], instead_of: object) -> None:
    """Put handlers back, all of them even where one is called meanwhile, whose exception then ends this."""
    stop: KeyboardInterrupt | None = None
    noted = [number for number in handlers if signal.getsignal(number) == instead_of]
    while noted:
        try:
            signal.signal(noted[-1], handlers[noted[-1]])
            noted.pop()
        except KeyboardInterrupt as error:
            stop = error
    if stop:
        raise stop
