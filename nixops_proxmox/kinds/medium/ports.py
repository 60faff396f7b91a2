"""What a medium needs from outside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.ports import Clock, NoteTask, OnBytes, Reporter
from nixops_proxmox.kinds.medium.file import Medium


class Media(Protocol):
    """The files on a cluster's storages."""

    def sizes(self, node: str, storage: str, content: str, /) -> Mapping[str, int]:
        """In bytes, by volume ID."""
        ...

    def upload(
        self, node: str, storage: str, path: Path, note: NoteTask, /, *, content: str, filename: str, progress: OnBytes
    ) -> str:
        """Put a file on a storage, wait, and return its volume ID. An existing file of that name is replaced."""
        ...

    def delete(self, node: str, volume: str, note: NoteTask, /) -> None:
        """Delete the file and wait. Does nothing if it is gone already."""
        ...

    def find_tasks(self, node: str, volume: str, /) -> Sequence[str]:
        """The UPIDs of the tasks that run now and may write or delete the file, ours or not."""
        ...

    def users_of(self, volume: str, node: str, /) -> Sequence[int]:
        """The VMIDs of the VMs that have the file inserted; `node`: the only one that has the file; empty: all have."""
        ...


@dataclass(frozen=True)
class World:
    """Everything outside, for one medium. `wait`: for a task of the cluster, by its UPID."""

    medium: Medium
    media: Media
    wait: Callable[[str], None]
    clock: Clock
    reporter: Reporter[Thing]
    progress: OnBytes = lambda _done, _total: None

    def wait_for_task(self, upid: str) -> None:
        self.wait(upid)

    def find_task(self, facts: Known, kind: str) -> str:
        """The first that runs now and may write or delete the file, of whatever type; empty: none does."""
        del facts, kind
        return next(iter(self.media.find_tasks(self.medium.node, self.medium.volume)), "")
