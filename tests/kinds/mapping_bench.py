"""The resource mappings of a cluster in memory, and the bench of their kind."""

from typing import Any, ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds import mapping
from nixops_proxmox.kinds.resource import ResourceWorld
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.answers import MappingSeen
from nixops_proxmox.spec.mapping import MappingEntry, MappingSpec
from nixops_proxmox.spec.marks import mark_of
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record

THEIRS = MappingSeen(("node=pve9,path=0000:05:00.0,id=10de:1b80",), "not ours", mediated=False)
GPU = MappingEntry(node="pve1", path="0000:01:00.0", id="10de:1b80")


class Mappings:
    """As one process changes them."""

    def __init__(self, fuse: Fuse) -> None:
        self.there: dict[tuple[str, str], MappingSeen] = {("pci", "theirs"): THEIRS}
        self.fuse = fuse

    def find(self, kind: str, name: str, /) -> MappingSeen | None:
        return self.there.get((kind, name))

    def create(self, kind: str, name: str, wanted: MappingSeen, /) -> None:
        self.fuse.boundary()
        assert (kind, name) not in self.there, "PVE would refuse a second one"
        self.there[kind, name] = wanted
        self.fuse.boundary()

    def change(self, kind: str, name: str, wanted: MappingSeen, /) -> None:
        self.fuse.boundary()
        self.there[kind, name] = wanted
        self.fuse.boundary()

    def delete(self, kind: str, name: str, /) -> None:
        self.fuse.boundary()
        self.there.pop((kind, name), None)
        self.fuse.boundary()


class MappingBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.api = Mappings(Fuse())
        self.record = Record(Thing("mapping", "demo", "gpu"), Known.from_json)

    def run(self, fuse: Fuse, *, wanted: bool, **spec: Any) -> Thing:
        self.record.fuse = self.api.fuse = fuse
        described = MappingSpec(**{"name": "gpu", "type": "pci", "entries": (GPU,), **spec})
        clock, mark = SteppedClock(), mark_of("demo", "gpu")
        world: mapping.World = ResourceWorld(described, mark, self.api, clock, Silent(), lambda _upid: None)
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(mapping.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        assert self.api.there.pop(("pci", "theirs")) == THEIRS
        assert [one.rows for one in self.api.there.values()] == ([(GPU.print(),)] if wanted else [])
