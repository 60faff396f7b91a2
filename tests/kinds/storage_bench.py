"""The storages of a cluster in memory, and their bench."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds import storage
from nixops_proxmox.kinds.resource import ResourceWorld
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.cluster.storages import StorageFound
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.storage import StorageSpec
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record


class Storages:
    """As one process changes them. `knows`: the content types of this release that are newer than others."""

    def __init__(self, fuse: Fuse) -> None:
        self.there = {"local": StorageFound("dir", ("backup", "iso"), "1")}
        self.fuse, self.knows = fuse, {"import"}

    def find(self, storage: str, /) -> StorageFound | None:
        self.fuse.boundary()
        return self.there.get(storage)

    def has_content(self, content: str, /) -> bool:
        return content != "import" or content in self.knows

    def set_content(self, storage: str, content: Sequence[str], digest: str, /) -> None:
        self.fuse.boundary()
        before = self.there[storage]
        assert digest == before.digest and len(content) == len({*content})
        self.there[storage] = replace(before, content=tuple(content), digest=f"{digest}1")
        self.fuse.boundary()


class StorageBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.store = Storages(Fuse())
        self.record = Record(Thing("storage", "demo", "local"), Known.from_json)

    def world(self, fuse: Fuse, **spec: Any) -> storage.World:
        self.record.fuse = self.store.fuse = fuse
        described = StorageSpec(**{"name": "local", "content": ("iso", "import"), **spec})
        mark = mark_of("demo", "local")
        return ResourceWorld(described, mark, self.store, SteppedClock(), Silent(), lambda _upid: None)

    def run(self, fuse: Fuse, *, wanted: bool, **spec: Any) -> Thing:
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(storage.LIFECYCLE, goal, self.record.thing, self.world(fuse, **spec), self.record)

    def check(self, *, wanted: bool) -> None:
        content = self.store.there["local"].content
        assert content[:2] == ("backup", "iso"), "what others have switched on stays"
        assert not wanted or content[2:] == ("import",)
