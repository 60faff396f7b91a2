"""A lab, a client of it, and a hypervisor whose sleeping is short; counts the calls."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import sleep as real_sleep
from typing import Any

from nixops_proxmox.lab.faults import Fault
from nixops_proxmox.lab.testing import RunningLab, start_lab
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.wire.calls import CallDone
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.spec import MachineSpec
from tests.pve.specs import spec

MAC = "bc:24:11:00:00:01"


@dataclass
class Bench:
    lab: RunningLab
    done: list[CallDone] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # what was waited for
    made: list[PveClient] = field(default_factory=list)
    skew: float = 0.0  # seconds by which the hypervisor's clock was moved on

    def __post_init__(self) -> None:
        self.hypervisor = self.another()

    def another(self, *, sleep: Callable[[float], None] | None = None, **settings: Any) -> PveHypervisor:
        """As after a restart: it knows nothing."""
        table = {"endpoint": self.lab.url, "token": self.lab.token, "fingerprint": self.lab.fingerprint} | settings
        if "password" in table:
            del table["token"]
        client = connect(parse_profile("lab", table), trace=self.done.append, sleep=self.sleep)
        self.made.append(client)
        return PveHypervisor(
            client, clock=self.now, sleep=sleep or self.sleep, warn=self.warned.append, tell=self.told.append
        )

    def now(self) -> float:
        from time import monotonic

        return monotonic() + self.skew

    def sleep(self, seconds: float) -> None:
        """A little really, the rest on our own clock."""
        short = min(seconds, 0.02)
        real_sleep(short)
        self.skew += seconds - short

    def fault(self, action: Any, method: str, path: str, **more: Any) -> None:
        self.lab.faults.add(Fault(action, method, path, **more))

    def empty(self) -> None:
        """No VMs, and nothing that was looked at before counts any more."""
        self.lab.run(self.lab.cluster.stop_all())
        self.change(self.lab.cluster.reset)
        self.skew += 600

    def calls(self) -> Counter[str]:
        """Those that are no polls, since the last look."""
        counted = Counter(one.call.name for one in self.done if not one.call.poll)
        self.done.clear()
        return counted

    def machine(self, described: MachineSpec | None = None, *, name: str = "web") -> Machine:
        """Placed, not created."""
        place = self.hypervisor.choose_place(described or bare())
        facts = Facts(uuid=str(uuid.uuid4()), vmid=place.vmid, node=place.node, macs=(MAC,))
        return Machine("demo", name, Phase.RESERVED, facts)

    def created(self, described: MachineSpec | None = None) -> Machine:
        machine = self.machine(described)
        self.hypervisor.create_vm(described or bare(), machine, self.note)
        return machine

    def note(self, upid: str) -> None:
        self.noted.append(upid)

    def change(self, work: Callable[[], Any]) -> None:
        """Something done to the cluster's state, on the lab's own loop."""

        async def on_loop() -> None:
            work()

        self.lab.run(on_loop())

    @property
    def vmids(self) -> list[int]:
        return sorted(self.hypervisor.client.get_resources(0.0).guests)


def bare(**changes: Any) -> MachineSpec:
    """Without an ISO: nothing to boot, much to test."""
    return spec(**({"install": {"from": "iso"}} | changes))


@contextmanager
def start_bench(version: str = "8.4", **settings: Any) -> Iterator[Bench]:
    with start_lab(version=version, **settings) as lab:
        bench = Bench(lab)
        try:
            yield bench
        finally:
            for client in bench.made:
                client.close()
