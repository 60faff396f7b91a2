"""The lock that NixOps holds in a shared state, as its machines' threads ask for it before each effect.

NixOps itself asks only when it takes the lock: a run that was stopped while somebody said `nixops unlock` would go on.
"""

from collections.abc import Callable
from typing import Any

from nixops_proxmox.errors import Locked


def nothing_held() -> None:
    """Commands that only look, and other lock drivers: nothing can be lost."""


def let_go() -> None:
    raise Locked("NixOps has released its lock, so this run does nothing more", hint="run the same command again")


class Holding:
    """One for each lock driver that NixOps makes. Any thread may use it."""

    def __init__(self) -> None:
        self._prove: Callable[[], None] = nothing_held

    def began(self, prove: Callable[[], None]) -> None:
        """`prove` raises Locked if somebody else has broken the lock."""
        self._prove = prove

    def ended(self) -> None:
        """Threads that still work may do nothing more from now on, because another run may have begun."""
        self._prove = let_go

    def prove(self) -> None:
        """Raises Locked if the lock is no longer ours, StateError if we cannot tell."""
        self._prove()


def holding_of(statefile: Any) -> Holding:
    """The holding of the lock driver with which NixOps opened this state. Without our driver, it holds nothing.
    NixOps hands its drivers only to its state."""
    held = getattr(getattr(statefile, "lock", None), "holding", None)
    return held if isinstance(held, Holding) else Holding()
