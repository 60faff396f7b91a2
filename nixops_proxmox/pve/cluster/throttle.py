"""How many may allocate on a storage at once: found out, since PVE gives up on a storage's lock after 10 s."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST = 12  # at once, to begin with: most storages allocate in well under a second


class Throttle:
    """Lets one more in after each that went well, and half as many after one that was kept waiting for too long."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = min(FIRST, most)
        self._inside = 0
        self._changed = threading.Condition()

    @property
    def room(self) -> int:
        return self._room

    @contextmanager
    def passing(self, is_busy: Callable[[BaseException], bool]) -> Iterator[None]:
        """`is_busy` tells whether an error means that too many were at it."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self._room)
            self._inside += 1
        busy = failed = False
        try:
            yield
        except BaseException as error:
            busy, failed = is_busy(error), True
            raise
        finally:
            with self._changed:
                self._inside -= 1
                room = self._room // 2 if busy else self._room + (not failed)
                self._room = max(1, min(self._most, room))
                self._changed.notify_all()
