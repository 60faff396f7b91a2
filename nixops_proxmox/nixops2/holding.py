"""The lock that NixOps holds in a shared state, as its machines' threads ask for it before each effect.

NixOps itself asks only when it takes the lock: a run that was stopped while somebody said `nixops unlock` would go on.
"""

from collections.abc import Callable

from nixops_proxmox.errors import Locked


def nothing_held() -> None:
    """Commands that only look, and other lock drivers: nothing can be lost."""


def let_go() -> None:
    raise Locked("NixOps has released its lock, so this run does nothing more", hint="run the same command again")


class Holding:
    """One for the process: NixOps holds one lock at a time. From any thread."""

    def __init__(self) -> None:
        self._prove: Callable[[], None] = nothing_held

    def began(self, prove: Callable[[], None]) -> None:
        """`prove` raises Locked if somebody else has broken the lock."""
        self._prove = prove

    def ended(self) -> None:
        """From now on whoever is still at work in a thread may do nothing more: another run may have begun."""
        self._prove = let_go

    def prove(self) -> None:
        """Raises Locked if the lock is ours no more, StateError if nobody can tell."""
        self._prove()


holding = Holding()
