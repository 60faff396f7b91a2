"""A list of MACs in memory, which two deployments use, and a NIC that takes an entry of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from nixops_proxmox.addresses import Asked, MacPool, PoolEntry
from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds import address
from nixops_proxmox.options import Silent
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record

POOL = MacPool("campus", Path("machines.yml"))
LIST = [
    PoolEntry(n, f"DE:AD:BE:EF:00:0{n}", f"pvm00{n}.example.com", user="Lars" if n == 1 else "") for n in range(1, 5)
]


class Lists:
    """What one process does with the list."""

    def __init__(self, bench: "AddressBench", fuse: Fuse) -> None:
        self.bench, self.fuse = bench, fuse

    @property
    def entries(self) -> Sequence[PoolEntry]:
        return list(self.bench.entries)

    def read(self, pool: MacPool, /) -> Sequence[PoolEntry]:
        self.fuse.boundary()
        return self.entries

    @contextmanager
    def locked(self, pool: MacPool, /) -> Iterator["Lists"]:
        self.fuse.boundary()
        yield self

    def take(self, mac: str, user: str, day: str, /) -> None:
        self._write(mac, user, day)

    def give_back(self, mac: str, /) -> None:
        self._write(mac, "", "")

    def _write(self, mac: str, user: str, day: str) -> None:
        self.fuse.boundary()
        entries = self.bench.entries
        self.bench.entries = [replace(one, user=user, date=day) if one.mac == mac else one for one in entries]
        self.fuse.boundary()


class AddressBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.entries = list(LIST)
        self.record = Record(Thing(address.NAME, "campus", "web.net0"), Known.from_json)

    def run(self, fuse: Fuse, *, wanted: bool) -> Thing:
        self.record.fuse = fuse
        asked = Asked("web", "campus/web", "anna")
        world = address.World(POOL, asked, Lists(self, fuse), lambda: {}, "2026-11-29", SteppedClock(), Silent())
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(address.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        taken = [entry for entry in self.entries if entry.mark == "campus/web"]
        assert [entry.mac for entry in taken] == ([self.record.thing.facts.values["mac"]] if wanted else [])
        assert self.entries[0].user == "Lars", "what another has stays another's"
        assert sum(bool(entry.user) for entry in self.entries) == (2 if wanted else 1)
