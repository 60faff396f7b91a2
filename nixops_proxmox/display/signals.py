"""The end by a signal. SIGTERM (systemd, `timeout`, a CI job that was called off) and SIGHUP (a terminal that was
closed) mean what Ctrl-C means."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]


class Ended(KeyboardInterrupt):
    """A signal wants the program to end: everything unwinds, and what was held is released."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def status_of(number: int) -> int:
    """As a shell says it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP, 141 for SIGPIPE."""
    return 128 + number


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Give all of them to the handler, but those that are ignored (nohup). Outside of the main thread, which Python
    calls handlers in, nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminals = [fd for fd in (0, 1, 2) if os.isatty(fd)]

    def handle(number: int, frame: FrameType | None) -> None:
        leave_closed(terminals)
        handler(number, frame)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    meant = [number for number, old in before.items() if old not in (signal.SIG_IGN, None)]
    for number in meant:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in meant:
            signal.signal(number, before[number])


def end(number: int, _frame: FrameType | None) -> NoReturn:
    raise Ended(number)


def leave_closed(terminals: list[int]) -> None:
    """What is written to a terminal that was closed is an error, and would stop us in the middle of things."""
    for fd in terminals:
        if not os.isatty(fd):
            with suppress(OSError):
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, fd)
                os.close(nothing)
