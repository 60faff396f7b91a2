"""Somebody's own kind: a note is a file in a folder. All that a package that brings a kind needs to have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing, three_rows
from nixops_proxmox.core.ports import Clock, Reporter
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import SpecError
from nixops_proxmox.guest.agent import RealClock
from nixops_proxmox.kinds.registry import Entry, ResourceType, hookimpl
from nixops_proxmox.options import Silent
from nixops_proxmox.state import Deployment


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


LIFECYCLE = three_rows(Note())


def make_note(inputs: Mapping[str, str], record: Deployment) -> Mapping[str, str]:
    """For NixOps 4. Safe to repeat: the engine looks, and writes only what differs."""
    if set(inputs) != {"name", "folder", "text"}:
        raise SpecError("a note takes a name, a folder and a text")
    name, record = inputs["name"], record.only(inputs["name"], Note.name)
    world = Folder(Path(inputs["folder"]), inputs["text"], RealClock(), Silent())
    with record.lease() as lease:
        pursue(LIFECYCLE, Presence.PRESENT, Thing(Note.name, record.name, name), world, record.journal(lease))
    return {"path": str(world.path / name)}


@hookimpl
def kinds() -> Sequence[Entry]:
    return (Entry(Note.name, "a file in a folder", LIFECYCLE, (ResourceType("note", make=make_note),)),)
