"""How long to wait for a guest: as long as it shows that it is getting on."""

import time
from collections.abc import Callable, Collection


class Vigil:
    """One wait. `quiet`: seconds until the first sign of life. `patience`: seconds after each new one. `most`: seconds
    in all, whatever the guest shows."""

    def __init__(self, quiet: float, patience: float, most: float, now: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._most, self._now = patience, most, now
        self._began = now()
        self._until = self._began + quiet
        self._seen: set[str] = set()

    def see(self, signs: Collection[str]) -> None:
        """Extend the wait if there is a new sign. A guest that shows only old signs stands still."""
        if not self._seen.issuperset(signs):
            self._seen.update(signs)
            self.extend()

    def extend(self) -> None:
        """It is at work right now."""
        self._until = max(self._until, self._now() + self._patience)

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    @property
    def left(self) -> float:
        """Seconds that it has if nothing more is seen."""
        return max(0.0, min(self._until, self._began + self._most) - self._now())

    @property
    def waited(self) -> float:
        """Seconds."""
        return self._now() - self._began
