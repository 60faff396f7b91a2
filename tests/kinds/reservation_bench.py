"""A router in memory, and what is done with a deployment's reservations on it."""

from collections.abc import Sequence
from typing import ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds import reservation
from nixops_proxmox.kinds.resource import KnownNic, Setting
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.options import Silent
from nixops_proxmox.routers import Reservation, Router
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.spec.reservations import ReservationsSpec
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record


class Shelf:
    """A router's entries. A change acts, and outlasts a restart, when it is settled."""

    marks = True

    def __init__(self, there: list[Reservation]) -> None:
        self.there, self.acting, self.fuse = there, list(there), Fuse()

    def read(self) -> Sequence[Reservation]:
        return list(self.there)

    def put(self, wanted: Sequence[Reservation]) -> None:
        self.fuse.boundary()
        owners = [one.owner for one in wanted]
        self.there = [*(one for one in self.there if one.owner not in owners), *wanted]
        self.fuse.boundary()

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        return have == want

    def drop(self, gone: Sequence[Reservation]) -> None:
        self.fuse.boundary()
        owners = [one.owner for one in gone]
        self.there = [one for one in self.there if one.owner not in owners]
        self.fuse.boundary()

    def settle(self) -> None:
        self.fuse.boundary()
        self.acting = list(self.there)
        self.fuse.boundary()


class ReservationBench:
    """The router's list has an entry of somebody else, and one of ours of a machine that is gone."""

    made_again: ClassVar[bool] = True
    THEIRS = Reservation("", "02:00:00:00:00:99", "10.9.0.99", "", "printer")
    WEB = Reservation("demo/web.net0", "02:00:00:00:00:01", "10.9.0.23", "", "web.lan")

    def __init__(self) -> None:
        self.shelf = Shelf([self.THEIRS, Reservation("demo/old.net0", "02:00:00:00:00:02", "10.9.0.24", "", "old")])
        self.router: Router = self.shelf
        self.record = Record(Thing("reservation", "demo", "lan"), Known.from_json)
        self.machines = [Machine("demo", "web", Phase.DEFINED), Machine("demo", "db", Phase.ABSENT)]
        self.spec = ReservationsSpec(name="lan", domain="lan")
        self.nics = [
            KnownNic("web", "net0", "02:00:00:00:00:01", "", ("10.9.0.23",)),
            KnownNic("db", "net0", "02:00:00:00:00:03", "", ("10.9.0.25",)),
        ]

    def run(self, fuse: Fuse, *, wanted: bool, described: bool = True, only: str = "") -> Thing:
        self.record.fuse = self.shelf.fuse = fuse
        clock, reporter = SteppedClock(), Silent()
        described_machines = tuple(MachineSpec(name=nic.machine) for nic in self.nics)
        setting = Setting(
            "demo",
            NetworkSpec(name="demo", machines=described_machines) if described else None,
            lambda: self.machines,
            lambda _profile: None,
            clock,
            reporter,
            (lambda: self.nics) if described else tuple,
            lambda _name: self.router,
            only,
        )
        world = reservation.DESCRIBED.world(self.spec, setting)
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(reservation.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        assert self.shelf.acting == self.shelf.there == ([self.THEIRS, self.WEB] if wanted else [self.THEIRS])
