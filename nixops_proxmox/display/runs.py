"""What the verbs that change machines have in common: progress, then a summary, then the exit status."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType

from nixops_proxmox.display.screen import Screen
from nixops_proxmox.display.signals import handled, status_of
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.messages.closing import no_lines
from nixops_proxmox.messages.explaining import exit_status, explain_outcomes
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.model import Machine

WAKE = 0.25  # seconds
STOPPING = "stopping after the current steps; press Ctrl-C again to stop at once, which is also safe"
SHOW_CURSOR = b"\x1b[?25h\n"


def carry_out(
    command: str,
    screen: Screen,
    names: Sequence[str],
    goal: str,
    work: Callable[[], Sequence[Outcome]],
    standing: Callable[[], Sequence[Machine]],
    *,
    things: bool = False,
    tell: Callable[[Sequence[Machine]], Iterable[Line]] = no_lines,
) -> int:
    """Do `work` on the machines while it is watched, and tell how it ended. `command`: what the user typed. `standing`
    looks the machines up afterwards. `things`: there is something to do even without machines. `tell`: the last lines
    of a run that went well, about the machines that it worked on."""
    if not names and not things:
        screen.show([Line("no machines selected")])
        return 0
    began = time.monotonic()
    with screen.progress(goal, names), stop_on_interrupt(screen):
        outcomes = wait_awake(work, screen)
    seconds = time.monotonic() - began
    now = {machine.name: machine for machine in standing()}
    screen.show(explain_outcomes(outcomes, now, goal=goal, seconds=seconds, command=command))
    if all(outcome.error is None for outcome in outcomes):
        worked = [now[name] for name in names if name in now and name in screen.reporter.worked]
        screen.show(list(tell(worked)))
    return exit_status(outcomes)


def wait_awake(work: Callable[[], Sequence[Outcome]], screen: Screen) -> Sequence[Outcome]:
    """Do it in another thread. Python runs signal handlers only in the main thread, and the kernel may give the signal
    to any: a main thread that slept until all is done would hear of Ctrl-C when all is done."""
    told = False
    with ThreadPoolExecutor(1, thread_name_prefix="run") as thread:
        future = thread.submit(work)
        while not wait([future], timeout=WAKE).done:
            if screen.reporter.stopping and not told:
                told = True
                screen.say(STOPPING)
        return future.result()


@contextmanager
def stop_on_interrupt(screen: Screen) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM, or SIGHUP) lets every machine finish the step it is in. The second one ends us on
    the spot, which is as safe as any crash: the next run goes on from the journal."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # No print here: the streams may be in the middle of one, and are not reentrant.
        if screen.reporter.stopping:
            if screen.err.is_terminal:
                os.write(2, SHOW_CURSOR)
            os._exit(status_of(number))
        screen.reporter.stop(number)

    with handled(interrupt):
        yield
