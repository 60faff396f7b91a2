"""Replication jobs of a cluster in memory, and their bench."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds import replication
from nixops_proxmox.kinds.resource import ResourceWorld, Setting
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.replication import ReplicationState
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.replication import ReplicationSpec
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record

THEIRS = {"comment": "not ours", "target": "pve3", "guest": "100"}


class Replications:
    """As one process changes them. The node removes a marked job when it has been looked at a second time."""

    def __init__(self, fuse: Fuse) -> None:
        self.there: dict[str, dict[str, str]] = {"100-0": dict(THEIRS)}
        self.nodes = {100: "pve1"}
        self.states: dict[str, ReplicationState] = {}
        self.fuse, self.reason, self.stuck = fuse, "", False

    def jobs(self) -> Mapping[str, Mapping[str, str]]:
        shown = {name: dict(job) for name, job in self.there.items()}
        for name, job in shown.items():
            if "remove_job" in job and not self.stuck:
                del self.there[name]
        return shown

    def node_of(self, vmid: int, /) -> str:
        return self.nodes.get(vmid, "")

    def state(self, job: str, node: str, /) -> ReplicationState:
        return self.states.get(job, ReplicationState())

    def why_not(self, vmid: int, target: str, /) -> str:
        return self.reason

    def create(self, job: str, settings: Mapping[str, str], /) -> None:
        self.fuse.boundary()
        guest = job.partition("-")[0]
        targets = {one["target"] for name, one in self.there.items() if name.startswith(f"{guest}-")}
        assert job not in self.there and settings["target"] not in targets, "PVE would refuse a second one"
        self.there[job] = dict(settings)
        self.fuse.boundary()

    def change(self, job: str, settings: Mapping[str, str], gone: Sequence[str], /) -> None:
        assert "target" not in settings, "PVE cannot change it"
        self.fuse.boundary()
        self.there[job] = {key: one for key, one in {**self.there[job], **settings}.items() if key not in gone}
        self.fuse.boundary()

    def remove(self, job: str, /) -> None:
        self.fuse.boundary()
        if job in self.there:
            self.there[job]["remove_job"] = "full"
        self.fuse.boundary()


class ReplicationBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.store, self.clock, self.vmid = Replications(Fuse()), SteppedClock(), 100
        self.record = Record(Thing("replication", "demo", "copy"), Known.from_json)

    def world(self, fuse: Fuse, **spec: Any) -> replication.World:
        self.record.fuse = self.store.fuse = fuse
        web = Machine("demo", "web", Phase.READY, Facts(uuid="u", vmid=self.vmid))
        reporter = Silent()
        setting = Setting("demo", None, lambda: [web], lambda _profile: None, self.clock, reporter)
        described = ReplicationSpec(**{"name": "copy", "machine": "web", "target": "pve2", **spec})
        mark = mark_of("demo", "copy")
        return ResourceWorld(described, mark, self.store, self.clock, reporter, lambda _upid: None, setting)

    def run(self, fuse: Fuse, *, wanted: bool, **spec: Any) -> Thing:
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        world = self.world(fuse, **spec)
        return pursue(replication.LIFECYCLE, goal, self.record.thing, world, self.record)

    @property
    def ours(self) -> dict[str, dict[str, str]]:
        return {name: job for name, job in self.store.there.items() if name != "100-0"}

    def check(self, *, wanted: bool) -> None:
        assert self.store.there["100-0"] == THEIRS
        assert {name: job["target"] for name, job in self.ours.items()} == ({"100-1": "pve2"} if wanted else {})
        assert not any("remove_job" in job for job in self.ours.values())
