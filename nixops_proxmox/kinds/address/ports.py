"""What an address needs from outside."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from nixops_proxmox.addresses import Asked, Elsewhere, MacPool, PoolEntry
from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.ports import Clock, Reporter


class OpenList(Protocol):
    """A list while no other process may change it."""

    @property
    def entries(self) -> Sequence[PoolEntry]: ...
    def take(self, mac: str, user: str, day: str, /) -> None: ...
    def give_back(self, mac: str, /) -> None: ...


class Lists(Protocol):
    """Files, as the operating system has them. All raise ConfigError for one that cannot be used."""

    def read(self, pool: MacPool, /) -> Sequence[PoolEntry]: ...
    def locked(self, pool: MacPool, /) -> AbstractContextManager[OpenList]: ...


@dataclass(frozen=True)
class World:
    """Everything outside, for one NIC. `elsewhere`: which MACs the cluster's VMs have; asked only when one is taken.
    `today`: YYYY-MM-DD."""

    pool: MacPool
    asked: Asked
    lists: Lists
    elsewhere: Callable[[], Elsewhere]
    today: str
    clock: Clock
    reporter: Reporter[Thing]

    @property
    def user(self) -> str:
        """What the list says of who has it."""
        return f"{self.asked.user} ({self.asked.mark})"

    def wait_for_task(self, upid: str) -> None:
        """An address has no tasks."""
        del upid

    def find_task(self, facts: Known, kind: str) -> str:
        del facts, kind
        return ""
