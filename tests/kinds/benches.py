"""A world in memory for each kind of ours; it outlives every run, and so does its record."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.core.ports import NoteTask, OnBytes
from nixops_proxmox.errors import NotFound
from nixops_proxmox.kinds import medium
from nixops_proxmox.kinds.medium import Medium
from nixops_proxmox.model import Phase
from nixops_proxmox.options import Silent
from tests.clocks import SteppedClock
from tests.kinds.machine import cluster
from tests.kinds.machine.cluster import Fuse


class Bench(Protocol):
    made_again: ClassVar[bool]  # what is gone is made again unasked: nothing is lost with it

    def run(self, fuse: Fuse, *, wanted: bool) -> object:
        """As one process does it, from what is recorded: make the thing as described, or remove it."""
        ...

    def check(self, *, wanted: bool) -> None:
        """After such a run: what the world must be like."""
        ...


class MachineBench:
    made_again: ClassVar[bool] = False

    def __init__(self) -> None:
        self.bench = cluster.Bench()

    def run(self, fuse: Fuse, *, wanted: bool) -> object:
        return self.bench.run(Phase.READY if wanted else Phase.ABSENT, fuse)

    def check(self, *, wanted: bool) -> None:
        assert self.bench.record.machine.phase is (Phase.READY if wanted else Phase.ABSENT)
        if wanted:
            assert self.bench.vm.running and self.bench.vm.active
        else:
            assert not self.bench.cluster.vms


FILE = Medium(Path("nixos.iso"), "nixos-0123456789abcdef.iso", 10, "iso", "local", "pve1")


class Storage:
    """Files and tasks as PVE has them: an upload's file has its full name before all of it is there, and what a task
    began goes on without us. It ends when somebody waits for it."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.tasks: dict[str, Callable[[], object] | None] = {}
        self.inserted: dict[str, list[int]] = {}
        self.uploads = 0

    @property
    def running(self) -> list[str]:
        return [upid for upid, end in self.tasks.items() if end is not None]


class Media:
    """What one process does with the storage."""

    def __init__(self, storage: Storage, fuse: Fuse) -> None:
        self.storage, self.fuse = storage, fuse

    def sizes(self, node: str, storage: str, content: str, /) -> Mapping[str, int]:
        return dict(self.storage.files)

    def upload(
        self, node: str, storage: str, path: Path, note: NoteTask, /, *, content: str, filename: str, progress: OnBytes
    ) -> str:
        volume = f"{storage}:{content}/{filename}"

        def begin() -> None:
            assert not self.storage.running, "two tasks would write the same file"
            self.storage.files[volume] = FILE.size // 2
            self.storage.uploads += 1

        self._task(begin, lambda: self.storage.files.update({volume: FILE.size}), note)
        return volume

    def delete(self, node: str, volume: str, note: NoteTask, /) -> None:
        def begin() -> None:
            assert not self.storage.running and not self.storage.inserted.get(volume)

        self._task(begin, lambda: self.storage.files.pop(volume, None), note)

    def find_tasks(self, node: str, volume: str, /) -> Sequence[str]:
        return self.storage.running

    def users_of(self, volume: str, node: str, /) -> Sequence[int]:
        return self.storage.inserted.get(volume, [])

    def wait(self, upid: str) -> None:
        if upid not in self.storage.tasks:
            raise NotFound(f"no such task: {upid}")
        end = self.storage.tasks[upid]
        self.storage.tasks[upid] = None
        if end is not None:
            end()

    def _task(self, begin: Callable[[], None], end: Callable[[], object], note: NoteTask) -> None:
        self.fuse.boundary()
        begin()
        upid = f"UPID:pve1:{len(self.storage.tasks)}:"
        self.storage.tasks[upid] = end
        self.fuse.boundary()
        note(upid)
        self.fuse.boundary()
        self.wait(upid)
        self.fuse.boundary()


class Record:
    """The journal of one medium, which survives the process."""

    def __init__(self) -> None:
        self.thing, self.fuse = Thing(medium.NAME, "demo", "nixos"), Fuse()
        self.entries: list[str] = []

    def begin(self, thing: Thing, label: str, to: str, /) -> int:
        self.fuse.boundary()
        self.entries.append("running")
        return len(self.entries) - 1

    def note(self, attempt: int, thing: Thing, /) -> None:
        self.thing = thing.moved(thing.phase, Known.from_json(thing.facts.to_json()))
        self.fuse.boundary()

    def commit(self, attempt: int, thing: Thing, /) -> None:
        self.fuse.boundary()
        self.note(attempt, thing)
        self.entries[attempt] = "done"

    def fail(self, attempt: int, error: Exception, /) -> None:
        self.entries[attempt] = "failed"

    def record(self, thing: Thing, label: str, /) -> None:
        self.fuse.boundary()
        self.note(0, thing)
        self.entries.append("seen")


class MediumBench:
    made_again: ClassVar[bool] = True

    def __init__(self, file: Medium = FILE) -> None:
        self.file, self.storage, self.record, self.reporter = file, Storage(), Record(), Silent()

    def run(self, fuse: Fuse, *, wanted: bool) -> Thing:
        media = Media(self.storage, fuse)
        self.record.fuse = fuse
        world = medium.World(self.file, media, media.wait, SteppedClock(), self.reporter)
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(medium.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        assert self.storage.files == ({self.file.volume: self.file.size} if wanted else {})
        assert not self.storage.running
        assert self.storage.uploads <= 2


BENCHES: dict[str, type[MachineBench] | type[MediumBench]] = {"machine": MachineBench, "medium": MediumBench}
