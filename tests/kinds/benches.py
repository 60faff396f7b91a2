"""A world in memory for each kind of ours; it outlives every run, and so does its record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import uuid4

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.core.ports import NoteTask, OnBytes
from nixops_proxmox.core.thing import AnyThing
from nixops_proxmox.errors import NeedsPermission, NotFound, PveRefused
from nixops_proxmox.kinds import backup_job, medium, network, pool
from nixops_proxmox.kinds.backup_job.kind import job_id
from nixops_proxmox.kinds.medium import Medium
from nixops_proxmox.kinds.resource import ResourceWorld, Setting
from nixops_proxmox.kinds.volume import ports as volumes
from nixops_proxmox.kinds.volume.facts import Volume, VolumeFacts, VolumePhase
from nixops_proxmox.kinds.volume.table import DISK
from nixops_proxmox.kinds.volume.table import LIFECYCLE as LIFE_OF_VOLUMES
from nixops_proxmox.model import Facts, Machine, Phase, Spot, VmRef
from nixops_proxmox.options import Silent
from nixops_proxmox.spec import VolumeSpec
from nixops_proxmox.spec.backup_job import BackupJobSpec
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.virtual_network import VirtualNetwork
from tests.clocks import SteppedClock
from tests.kinds import shelves
from tests.kinds.address_bench import AddressBench
from tests.kinds.firewall_bench import AliasBench, ClusterFirewallBench, GroupBench, IpSetBench, MachineFirewallBench
from tests.kinds.ha_bench import HaBench, HaRuleBench
from tests.kinds.machine import cluster
from tests.kinds.machine.cluster import Fuse
from tests.kinds.mapping_bench import MappingBench
from tests.kinds.record import Record
from tests.kinds.replication_bench import ReplicationBench
from tests.kinds.reservation_bench import ReservationBench
from tests.kinds.routing_bench import RoutingBench
from tests.kinds.storage_bench import StorageBench
from tests.kinds.template_bench import TemplateBench

T = TypeVar("T", bound=AnyThing)


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


class ContainerBench:
    made_again: ClassVar[bool] = False

    def __init__(self) -> None:
        self.bench = cluster.Bench()

    def run(self, fuse: Fuse, *, wanted: bool) -> object:
        return self.bench.run(Phase.READY if wanted else Phase.ABSENT, fuse, spec=cluster.CONTAINER)

    def check(self, *, wanted: bool) -> None:
        assert self.bench.record.machine.phase is (Phase.READY if wanted else Phase.ABSENT)
        if wanted:
            facts = self.bench.record.machine.facts
            assert facts.container and self.bench.vm.running and self.bench.vm.active and self.bench.vm.host_key
            assert self.bench.cluster.calls.count("create_vm") == 1
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


class MediumBench:
    made_again: ClassVar[bool] = True

    def __init__(self, file: Medium = FILE) -> None:
        self.file, self.storage, self.reporter = file, Storage(), Silent()
        self.record = Record(Thing(medium.NAME, "demo", "nixos"), Known.from_json)

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


class VolumeBench:
    """A volume that the VM 100 is to have, or that is to be deleted with its data."""

    made_again: ClassVar[bool] = False

    def __init__(self) -> None:
        self.shelves, self.reporter = shelves.Shelves(), Silent()
        self.record = Record(Volume("demo", "data"), VolumeFacts.from_json)

    def world(
        self, fuse: Fuse, spec: VolumeSpec = shelves.SPEC, target: VmRef | None = shelves.MACHINE
    ) -> volumes.World:
        facts = self.record.thing.facts
        known = [VmRef(facts.parker, facts.parker_vmid, "pve1")] if facts.parker_vmid else []
        return volumes.World(
            spec=spec,
            serial=shelves.SERIAL,
            store=shelves.Disks(self.shelves, fuse),
            clock=SteppedClock(),
            reporter=self.reporter,
            mint=lambda: str(uuid4()),
            node="pve1",
            parkers=known,
            roomy=known,
            target=target,
            machine="web",
        )

    def pursue(self, goal: VolumePhase, fuse: Fuse | None = None, *, disk: Spot | None = None, **more: Any) -> Volume:
        """`disk`: the one that is to become the volume."""
        fuse = fuse or Fuse()
        self.record.fuse = fuse
        world = replace(self.world(fuse, **more), disk=disk)
        way = "" if disk is None else DISK
        return pursue(LIFE_OF_VOLUMES, goal, self.record.thing, world, self.record, way=way)

    def run(self, fuse: Fuse, *, wanted: bool) -> Volume:
        if wanted:
            return self.pursue(VolumePhase.ATTACHED, fuse)
        try:
            return self.pursue(VolumePhase.ABSENT, fuse)
        except NeedsPermission:  # only what is parked can be deleted
            self.pursue(VolumePhase.PARKED, fuse)
            return self.pursue(VolumePhase.ABSENT, fuse)

    def check(self, *, wanted: bool) -> None:
        found = self.shelves.disks()
        if wanted:
            ((vmid, slot, disk),) = found
            assert (vmid, slot, disk.data) == (shelves.MACHINE.vmid, "scsi30", self.shelves.made)
            assert self.shelves.made == 1 or not found
        else:
            assert not found and not self.shelves.parkers
        assert all(end is None for end in self.shelves.tasks.values()), "a task was left behind"


class Pools:
    """The pools of a cluster, as one process changes them."""

    def __init__(self, there: dict[str, str], fuse: Fuse) -> None:
        self.there, self.fuse = there, fuse

    def find_comment(self, pool: str, /) -> str | None:
        return self.there.get(pool)

    def members(self, pool: str, /) -> Sequence[str]:
        return ()

    def create(self, pool: str, comment: str, /) -> None:
        self.fuse.boundary()
        assert pool not in self.there, "PVE would refuse a second one"
        self.there[pool] = comment
        self.fuse.boundary()

    def set_comment(self, pool: str, comment: str, /) -> None:
        self.fuse.boundary()
        self.there[pool] = comment
        self.fuse.boundary()

    def delete(self, pool: str, /) -> None:
        self.fuse.boundary()
        self.there.pop(pool, None)
        self.fuse.boundary()


class PoolBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.there = {"theirs": "not ours"}
        self.record = Record(Thing("pool", "demo", "web"), Known.from_json)

    def run(self, fuse: Fuse, *, wanted: bool, spec: PoolSpec | None = None) -> Thing:
        self.record.fuse = fuse
        spec, mark = spec or PoolSpec(name="web", comment="front"), mark_of("demo", "web")
        world: pool.World = ResourceWorld(
            spec, mark, Pools(self.there, fuse), SteppedClock(), Silent(), lambda _upid: None
        )
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(pool.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        ours = {"web": f"front {mark_of('demo', 'web')}"} if wanted else {}
        assert self.there == {"theirs": "not ours", **ours}


class Jobs:
    """The backup jobs of a cluster, as one process changes them."""

    def __init__(self, there: dict[str, dict[str, str]], fuse: Fuse) -> None:
        self.there, self.fuse = there, fuse

    def find(self, job: str, /) -> Mapping[str, str] | None:
        return self.there.get(job)

    def create(self, job: str, settings: Mapping[str, str], /) -> None:
        self.fuse.boundary()
        assert job not in self.there, "PVE would refuse a second one"
        self.there[job] = dict(settings)
        self.fuse.boundary()

    def change(self, job: str, settings: Mapping[str, str], gone: Sequence[str], /) -> None:
        self.fuse.boundary()
        self.there[job] = {key: value for key, value in {**self.there[job], **settings}.items() if key not in gone}
        self.fuse.boundary()

    def delete(self, job: str, /) -> None:
        self.fuse.boundary()
        self.there.pop(job, None)
        self.fuse.boundary()


class BackupJobBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.there: dict[str, dict[str, str]] = {"theirs": {"comment": "not ours"}}
        self.vmid = 100
        self.record = Record(Thing("backup-job", "demo", "nightly"), Known.from_json)
        self.id = job_id(self.record.thing)

    def run(self, fuse: Fuse, *, wanted: bool, **spec: Any) -> Thing:
        self.record.fuse = fuse
        described = BackupJobSpec(
            **{"name": "nightly", "schedule": "02:00", "storage": "local", "machines": ("web",), **spec}
        )
        web = Machine("demo", "web", Phase.READY, Facts(uuid="u", vmid=self.vmid))
        clock, reporter = SteppedClock(), Silent()
        setting = Setting("demo", None, lambda: [web], lambda _profile: None, clock, reporter)
        world: backup_job.World = ResourceWorld(
            described,
            mark_of("demo", "nightly"),
            Jobs(self.there, fuse),
            clock,
            reporter,
            lambda _upid: None,
            setting,
        )
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(backup_job.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        assert self.there.pop("theirs") == {"comment": "not ours"}
        assert [job["vmid"] for job in self.there.values()] == (["100"] if wanted else [])


class Sdn:
    """A cluster's software-defined networks, with the lock of 9, as one process changes them."""

    def __init__(self, fuse: Fuse) -> None:
        self.configured: dict[tuple[str, str], dict[str, Any]] = {}
        self.running: dict[tuple[str, str], dict[str, Any]] = {}
        self.held, self.fuse, self.untaken = "", fuse, 0

    def why_not(self) -> str:
        return ""

    def waiting(self) -> Mapping[tuple[str, str], str]:
        found = {}
        for key in {*self.configured, *self.running}:
            if key not in self.running:
                found[key] = "new"
            elif key not in self.configured:
                found[key] = "deleted"
            elif self.configured[key] != self.running[key]:
                found[key] = "changed"
        return found

    def find(self, kind: str, name: str, /) -> Mapping[str, Any] | None:
        return self.configured.get((kind, name))

    def leaving(self, vnet: str, /) -> Mapping[str, Any] | None:
        return self.running.get(("vnet", vnet)) if ("vnet", vnet) not in self.configured else None

    def subnets(self, vnet: str, /) -> Mapping[str, Mapping[str, Any]]:
        return {name: one for (kind, name), one in self.configured.items() if kind == "subnet" and one["vnet"] == vnet}

    @contextmanager
    def _writing(self, token: str) -> Iterator[None]:
        self.fuse.boundary()
        if token != self.held:
            raise PveRefused("invalid lock token provided!")
        yield
        self.fuse.boundary()

    def add(self, kind: str, values: Mapping[str, Any], token: str, /) -> None:
        name = f"own-{values['subnet'].replace('/', '-')}" if kind == "subnet" else str(values[kind])
        with self._writing(token):
            assert (kind, name) not in self.configured, "PVE would refuse a second one"
            self.configured[(kind, name)] = dict(values)

    def change(self, kind: str, name: str, values: Mapping[str, Any], token: str, /, *, vnet: str = "") -> None:
        with self._writing(token):
            gone = str(values.get("delete", "")).split(",")
            kept = {key: value for key, value in self.configured[(kind, name)].items() if key not in gone}
            self.configured[(kind, name)] = {**kept, **{key: one for key, one in values.items() if key != "delete"}}

    def remove(self, kind: str, name: str, token: str, /, *, vnet: str = "") -> None:
        with self._writing(token):
            assert kind != "zone" or not any(what == "vnet" for what, _ in self.configured)
            assert kind != "vnet" or not self.subnets(name)
            del self.configured[(kind, name)]

    def lock(self) -> str:
        with self._writing(""):
            self.held = "token"
        return self.held

    def unlock(self, token: str, /) -> None:
        self.fuse.boundary()
        self.held = "" if self.held == token else self.held

    def break_lock(self) -> None:
        self.fuse.boundary()
        self.held = ""

    def apply(self, token: str, /) -> str:
        with self._writing(token):
            self.running = deepcopy(self.configured)
            self.held, self.untaken = "", 1
        return "UPID"

    def reloading(self) -> Mapping[str, str]:
        return self.behind("")

    def behind(self, zone: str, /) -> Mapping[str, str]:
        """The first look after an apply comes before the node has done it."""
        self.untaken -= 1
        return {"n1": "pending"} if self.untaken >= 0 else {}


class NetworkBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.sdn = Sdn(Fuse())
        self.record = Record(Thing("network", "demo", "lan"), Known.from_json)
        self.spec = VirtualNetwork(
            name="lan", vnet="own", subnet="10.9.0.0/24", gateway=ip_address("10.9.0.1"),
            dhcp_from=ip_address("10.9.0.9"), dhcp_to=ip_address("10.9.0.99"),
        )  # fmt: skip

    def run(self, fuse: Fuse, *, wanted: bool) -> Thing:
        self.record.fuse = self.sdn.fuse = fuse
        mark = mark_of("demo", "lan")
        world: network.World = ResourceWorld(self.spec, mark, self.sdn, SteppedClock(), Silent(), lambda _upid: None)
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(network.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        names = [("subnet", "own-10.9.0.0-24"), ("vnet", "own"), ("zone", "own")] if wanted else []
        assert sorted(self.sdn.running) == names
        assert self.sdn.configured == self.sdn.running and self.sdn.held == ""


BENCHES: dict[str, type[Bench]] = {
    "address": AddressBench,
    "machine": MachineBench,
    "container": ContainerBench,
    "medium": MediumBench,
    "volume": VolumeBench,
    "pool": PoolBench,
    "backup-job": BackupJobBench,
    "network": NetworkBench,
    "mapping": MappingBench,
    "ha": HaBench,
    "ha-rule": HaRuleBench,
    "replication": ReplicationBench,
    "reservation": ReservationBench,
    "storage": StorageBench,
    "template": TemplateBench,
    "routing": RoutingBench,
    "firewall": MachineFirewallBench,
    "cluster-firewall": ClusterFirewallBench,
    "ip-set": IpSetBench,
    "address-alias": AliasBench,
    "security-group": GroupBench,
}
