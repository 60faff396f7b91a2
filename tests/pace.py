"""How fast this machine is now, against one with nothing else to do; deadlines of tests are multiplied by it.

Measured once, by the process that starts the tests; its workers inherit the answer. A deadline says that something is
broken. On a busy machine nothing is broken yet.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

VARIABLE = "NIXOPS_PROXMOX_TEST_PACE"
WORK = "import asyncio, json, ssl, sqlite3; sum(number * number for number in range(2_000_000))"
AT_ONCE = 4  # two workers, and what each of them starts
IDLE_SECONDS = 0.9  # for that work, on two cores with nothing else to do
MOST = 20.0


def measure_pace() -> float:
    """How many times longer than on an idle machine a little work takes; 1 at least."""
    began = time.monotonic()
    started = [subprocess.Popen([sys.executable, "-I", "-c", WORK]) for _ in range(AT_ONCE)]
    for process in started:
        process.wait()
    return pace_of(time.monotonic() - began)


def pace_of(seconds: float) -> float:
    return round(min(max(1.0, seconds / IDLE_SECONDS), MOST), 1)


def pace() -> float:
    return float(os.environ.get(VARIABLE, "1"))


def patience(seconds: float) -> float:
    """A deadline that is `seconds` on an idle machine."""
    return seconds * pace()


def wait_until(true: Callable[[], object], seconds: float = 30.0, what: str = "it", every: float = 0.02) -> None:
    """For what happens elsewhere; fails after so many seconds on an idle machine."""
    deadline = time.monotonic() + patience(seconds)
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come to be within {seconds:g} s"
        time.sleep(every)


async def turns(true: Callable[[], Awaitable[object]], seconds: float = 30.0, what: str = "it") -> None:
    """The same on an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + patience(seconds)
    while not await true():
        assert time.monotonic() < deadline, f"{what} did not come to be within {seconds:g} s"
        await asyncio.sleep(0.02)
