"""The right to act, asked for right before each effect: a run whose lock was broken does nothing any more.

A process may be stopped for hours at any point, and then goes on as if nothing had been: what it knew before is worth
nothing, only what the record says now.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nixops_proxmox.errors import Locked

FRESH = 5.0  # seconds for which the record's word is good, from the moment it was asked
LOOKS = 3  # at a record that is slow, or in a process that is stopped again and again


def now_with_sleep() -> float:
    """Seconds that go on while the machine sleeps, which Python's monotonic clock does not count on Linux."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


class Right:
    """One for all threads of a run. Without a lock it forbids nothing: verbs that change nothing need no right."""

    def __init__(self, clock: Callable[[], float] = now_with_sleep) -> None:
        self._clock = clock
        self._prove: Callable[[], None] | None = None
        self._lost: Locked | None = None
        self._lock = threading.Lock()  # guards the two above

    @contextmanager
    def held(self, prove: Callable[[], None]) -> Iterator[None]:
        """`prove` raises Locked if somebody else has taken over. It is asked at each `check` until the end."""
        with self._lock:
            self._prove = prove
        try:
            yield
        finally:
            with self._lock:
                self._prove = None

    def check(self) -> None:
        """Raises Locked if somebody else has taken over, now or at any look before, or StateError if we cannot tell."""
        for _ in range(LOOKS):
            with self._lock:
                prove, lost = self._prove, self._lost
            if lost is not None:
                raise Locked(lost.message, hint=lost.hint)
            if prove is None:
                return
            asked = self._clock()
            try:
                prove()
            except Locked as error:
                with self._lock:
                    self._lost = error
                raise
            if self._clock() - asked < FRESH:
                return
        raise Locked(
            f"the record took more than {FRESH:g} s to say whether this run still has its lock; nothing more was done",
            hint="run the same command again when the record answers faster",
        )

    def sleep(self, seconds: float) -> None:
        """What every wait sleeps with: a run whose lock was broken does not wait to the end of its patience."""
        self.check()
        time.sleep(seconds)
