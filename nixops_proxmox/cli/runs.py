"""What the verbs that change machines have in common: progress, then a summary, then the exit status."""

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.progress import INTERRUPTED_STATUS
from nixops_proxmox.cli.report import Line, exit_status, explain_outcomes
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.model import Machine


def carry_out(
    args: argparse.Namespace,
    console: Console,
    names: Sequence[str],
    goal: str,
    work: Callable[[], Sequence[Outcome]],
    standing: Callable[[], Sequence[Machine]],
) -> int:
    """Do `work` on the machines while it is watched; tell how it ended. `standing` looks them up afterwards."""
    if not names:
        console.show([Line("nothing to do: no machine is meant")])
        return 0
    began = time.monotonic()
    with console.progress(goal, names), stop_on_interrupt(console):
        outcomes = work()
    seconds = time.monotonic() - began
    now = {machine.name: machine for machine in standing()}
    console.show(explain_outcomes(outcomes, now, goal=goal, seconds=seconds, command=args.command))
    return exit_status(outcomes)


@contextmanager
def stop_on_interrupt(console: Console) -> Iterator[None]:
    """The first Ctrl-C lets every machine finish the step it is in; the second one ends us on the spot, which is as
    safe as any crash: the next run goes on from the journal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if console.reporter.stopping:
            console.err.show_cursor(True)
            os._exit(INTERRUPTED_STATUS)
        console.reporter.stop()
        console.say("stopping when the steps under way are done; Ctrl-C again stops at once, and loses nothing either")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
