"""A lab that a test, a bench or a demo started ends with it, however that ends; a person's lab outlives its command.

Who starts labs puts itself into the environment's STARTERS, and what it starts inherits that. The lab's process watches
the starters in a thread of its own, so that it ends even if its event loop hangs.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, MutableMapping

from nixops_proxmox.lab.processes import identity

STARTERS = "NIXOPS_PROXMOX_LAB_STARTERS"  # process numbers, with commas between them; when one ends, so does the lab
POLL = 0.5
GRACE = 20.0  # seconds from SIGTERM to SIGKILL


def name_starter(environment: MutableMapping[str, str], pid: int) -> None:
    """Labs that are started with this environment end when the process `pid` ends, or one that is named already."""
    pids = [word for word in environment.get(STARTERS, "").split(",") if word]
    environment[STARTERS] = ",".join(dict.fromkeys([*pids, str(pid)]))


def watch_starters(told: str, end: Callable[[], None] | None = None) -> threading.Thread | None:
    """End this process when one of the starters has ended; None, and no thread, if there are none."""
    pids = [int(word) for word in told.split(",") if word.isdigit()]
    if not pids:
        return None
    known = {pid: identity(pid) for pid in pids}
    thread = threading.Thread(target=_watch, args=(known, end or _end_this_process), name="starters", daemon=True)
    thread.start()
    return thread


def _watch(known: dict[int, str | None], end: Callable[[], None]) -> None:
    while all(was is not None and identity(pid) == was for pid, was in known.items()):
        time.sleep(POLL)
    end()


def _end_this_process() -> None:
    """As `lab down` does it, and for certain: what the lab holds ends with it either way."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
