"""Somebody's own kind: a note is a file in a folder. All that a package that brings a kind needs to have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.core.kind import Known, Thing, three_rows
from nixops_proxmox.core.ports import Clock, Reporter
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.kinds.registry import Entry, hookimpl


@dataclass(frozen=True)
class Folder:
    """The world of one note."""

    path: Path
    wanted: str
    clock: Clock
    reporter: Reporter[Thing]

    def wait_for_task(self, upid: str) -> None:
        """A note has no tasks."""

    def find_task(self, facts: Known, kind: str) -> str:
        return ""


class Note:
    name = "note"

    def look(self, world: Folder, thing: Thing, /) -> str | None:
        file = world.path / thing.name
        return file.read_text() if file.exists() else None

    def diff(self, world: Folder, found: str, /) -> Sequence[str]:
        return () if found == world.wanted else (f"it says {found!r}",)

    def apply(self, world: Folder, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        (world.path / thing.name).write_text(world.wanted)
        return attempt.facts

    def remove(self, world: Folder, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        (world.path / thing.name).unlink(missing_ok=True)
        return Known()


@hookimpl
def kinds() -> Sequence[Entry]:
    return (Entry(Note.name, three_rows(Note())),)
