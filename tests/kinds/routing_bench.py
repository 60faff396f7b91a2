"""A router's configuration in memory, and what is done with a deployment's part of it."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds import routing
from nixops_proxmox.kinds.resource import Setting, Stranger
from nixops_proxmox.model import Endpoint, Facts, Machine, Phase
from nixops_proxmox.options import Silent
from nixops_proxmox.routers.parts import RouterParts
from nixops_proxmox.routers.routing import Comparison, Owner, Routing, TrialMode, Unclaimed
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.spec.routing import RoutingSpec
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record

THEIRS = ("theirs", "route to 172.16.0.0/12")


@dataclass
class Shelf:
    """A router with a timer. Each entry has its owner's mark. `saved`: what a restart brings back."""

    clock: SteppedClock
    running: set[tuple[str, str]] = field(default_factory=lambda: {THEIRS})
    saved: set[tuple[str, str]] = field(default_factory=lambda: {THEIRS})
    before: set[tuple[str, str]] | None = None  # what comes back when the timer runs out
    deadline: float = 0.0
    fuse: Fuse = field(default_factory=Fuse)
    trial: TrialMode = TrialMode.TIMER

    def exclusive(self) -> AbstractContextManager[object]:
        return threading.Lock()

    @property
    def restart(self) -> Callable[[], None] | None:
        return None

    def describe(self) -> str:
        return "a shelf"

    def outline(self, wanted: RouterParts) -> Sequence[str]:
        return [str(one) for one in (*wanted.vlans, *wanted.routes, *wanted.masquerade, *wanted.forwards)]

    def tick(self) -> None:
        if self.before is not None and self.clock.now() >= self.deadline:
            self.running, self.before = self.before, None

    def compare(self, wanted: RouterParts, owner: Owner) -> Comparison:
        self.tick()
        ours = {one for one in self.running if one[0] == owner.mark}
        want = {(owner.mark, text) for text in self.outline(wanted)}
        lines = [f"{text}: {'missing' if (mark, text) in want else 'gone'}" for mark, text in sorted(ours ^ want)]
        return Comparison(bool(ours), lines, work=(set(self.running), (self.running - ours) | want))

    def find_unclaimed(self, wanted: RouterParts, mark: str) -> Unclaimed:
        del wanted, mark
        return Unclaimed()

    def claim(self, found: Unclaimed) -> None:
        """There is nothing to claim."""

    def begin(self, change: Comparison, minutes: int) -> TrialMode:
        self.fuse.boundary()
        self.before, self.deadline = set(self.running), self.clock.now() + minutes * 60
        self.running = set(change.work[1])
        self.fuse.boundary()
        return self.trial

    def is_alive(self) -> bool:
        self.tick()
        return True

    def confirm(self) -> bool:
        self.fuse.boundary()
        self.tick()
        pending, self.before = self.before is not None, None
        self.fuse.boundary()
        return pending

    def finish(self, sleep: Callable[[float], None]) -> None:
        del sleep
        self.confirm()

    def keep(self) -> None:
        self.fuse.boundary()
        self.saved = set(self.running)
        self.fuse.boundary()

    def undo(self, change: Comparison) -> None:
        self.fuse.boundary()
        self.running = set(change.work[0])


def machine(name: str, address: str = "", phase: Phase = Phase.READY) -> Machine:
    endpoint = Endpoint(address) if address else None
    return Machine("demo", name, phase, Facts(uuid=name, vmid=100, endpoint=endpoint))


class RoutingBench:
    """The router has a route of somebody else."""

    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.shelf = Shelf(self.clock)
        self.router: Routing = self.shelf
        self.record = Record(Thing("routing", "demo", "edge"), Known.from_json)
        self.machines = [machine("web", "10.9.0.23")]
        self.described = [MachineSpec(name="web")]
        self.silent: Callable[[str], bool] = lambda _host: False  # which machines do not answer
        self.spec = RoutingSpec.model_validate(
            {
                "name": "edge",
                "vlans": [{"interface": "eth1", "vlan": 20, "addresses": ["10.9.0.1/24"]}],
                "routes": [{"to": "10.20.0.0/16", "via": "10.9.0.2"}],
            }
        )

    def setting(self, *, described: bool = True, only: str = "") -> Setting:
        network = NetworkSpec(name="demo", machines=tuple(self.described)) if described else None
        return Setting(
            "demo",
            network,
            lambda: self.machines,
            lambda _profile: None,
            self.clock,
            Silent(),
            router=lambda _name: SimpleNamespace(routing=self.router),
            only=only,
        )

    def run(self, fuse: Fuse, *, wanted: bool, described: bool = True, only: str = "") -> Thing:
        self.record.fuse = self.shelf.fuse = fuse
        world = routing.DESCRIBED.world(self.spec, self.setting(described=described, only=only))
        world = replace(world, probe=lambda spot: not self.silent(spot[0]))
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(routing.LIFECYCLE, goal, self.record.thing, world, self.record)

    def find_stranger(self) -> Stranger | None:
        """What others made as it is described."""
        assert routing.DESCRIBED.stranger is not None
        return routing.DESCRIBED.stranger(routing.DESCRIBED.world(self.spec, self.setting()))

    def claim(self) -> Stranger:
        """Twice, which is safe."""
        found = self.find_stranger()
        assert found is not None
        found.claim()
        found.claim()
        self.record.thing = replace(Thing("routing", "demo", "edge"), phase=Presence.PRESENT)
        return found

    def check(self, *, wanted: bool) -> None:
        """Nothing waits for a confirmation, and all of it is saved."""
        assert self.shelf.before is None and self.shelf.running == self.shelf.saved
        assert THEIRS in self.shelf.running and len(self.shelf.running) == (3 if wanted else 1)
