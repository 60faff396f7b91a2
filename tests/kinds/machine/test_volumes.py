"""Machines with a volume, broken at every boundary: it is never lost, attached twice, or destroyed with a VM."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import NeedsPermission, PveOutcomeUnknown
from nixops_proxmox.kinds.machine.engine import carry_out
from nixops_proxmox.kinds.machine.plans import plan_reinstall
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.kinds.volume.facts import NAME, Volume
from nixops_proxmox.model import Facts, Machine, Phase, Vm
from nixops_proxmox.operations.keeping import Keeper
from nixops_proxmox.pve.api.answers import ClusterResources, ConfigSeen, StorageSeen
from nixops_proxmox.spec import MachineSpec, VolumeSpec
from nixops_proxmox.spec.volume import PLACE, serial_of
from nixops_proxmox.state import Stored
from tests.kinds.machine import cluster as machines
from tests.kinds.machine.cluster import CONTAINER, COPIES, SPEC, Bench, Crash, Fuse
from tests.kinds.shelves import Disks, ShelfVm, Shelves

BANGS: list[Callable[[], BaseException]] = [Crash, lambda: PveOutcomeUnknown("the answer was lost")]
IDS = ["crash", "unknown-outcome"]
DATA = VolumeSpec(name="data", storage="local-lvm", size=10 << 30, protect=False)
SERIAL = serial_of("demo", "data")
WITH = SPEC.model_copy(update={"volumes": ("data",)})
HOLDS = CONTAINER.model_copy(update={"volumes": ("data",)})
Act = Callable[["Both", Fuse], object]


class Joint(Shelves):
    """Shelves whose machines' VMs are those of the machines' cluster."""

    def __init__(self, cluster: machines.Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.vms.clear()

    def sync(self) -> None:
        for vmid, vm in self.cluster.vms.items():
            if vmid in self.vms and self.vms[vmid].uuid != vm.uuid:
                assert not self.vms[vmid].disks, "a volume went with its VM"
                del self.vms[vmid]
            self.vms.setdefault(vmid, ShelfVm(vm.uuid)).running = vm.running
        for vmid in [vmid for vmid, vm in self.vms.items() if not vm.parker and vmid not in self.cluster.vms]:
            assert not self.vms[vmid].disks, "a volume went with its VM"
            del self.vms[vmid]

    @override
    def disks(self, serial: str = SERIAL) -> list[Any]:
        self.sync()
        return super().disks(serial)


class Volumes:
    """The record of volumes; it survives the process."""

    name = identity = "demo"

    def __init__(self) -> None:
        self.rows: dict[str, Stored] = {}
        self.reads = 0
        self.fuse, self.count = Fuse(), 0

    def stored(self, kind: str) -> Sequence[Stored]:
        assert kind == NAME
        self.reads += 1
        return list(self.rows.values())

    def forget(self, name: str, lease: Any = None, *, kind: str = "machine") -> None:
        del self.rows[name]

    def journal(self, lease: Any = None) -> "Volumes":
        return self

    def begin(self, thing: Volume, label: str, to: str, /) -> int:
        self.fuse.boundary()
        self.count += 1
        return self.count

    def note(self, attempt: int, thing: Volume, /) -> None:
        self.rows[thing.name] = Stored(NAME, thing.name, str(thing.phase), thing.facts.to_json())
        self.fuse.boundary()

    def commit(self, attempt: int, thing: Volume, /) -> None:
        self.fuse.boundary()
        self.note(attempt, thing)

    def fail(self, attempt: int, error: Exception, /) -> None: ...

    def record(self, thing: Volume, label: str, /) -> None:
        self.note(0, thing)


class Hypervisor(machines.Hypervisor):
    """Its VMs show the volumes that they have, and take them with them."""

    shelves: Joint

    @override
    def find_vm(self, facts: Facts, *, power: bool = True) -> Vm | None:
        vm = super().find_vm(facts, power=power)
        if vm is None:
            return None
        self.shelves.sync()
        of_container = facts.container
        drives = {
            slot: f"{disk.name},{f'mp={PLACE}' if of_container else 'serial='}{disk.serial},size={disk.size >> 30}G"
            for slot, disk in self.shelves.vms[vm.vmid].disks.items()
        }
        return replace(vm, config={**vm.config, **drives})

    @override
    def destroy_vm(self, facts: Facts, note: NoteTask, *, ran: bool = True) -> None:
        if self.cluster.ours(facts) is not None:
            self.shelves.sync()
            assert not self.shelves.vms[facts.vmid].disks, "a VM is destroyed that has a volume"
        super().destroy_vm(facts, note, ran=ran)


class Cluster:
    """What `Keeper` asks."""

    def __init__(self, shelves: Joint, hypervisor: Hypervisor, fuse: Fuse) -> None:
        self.volume_store, self._hypervisor = Disks(shelves, fuse), hypervisor
        self._shelves = shelves

    def resources(self) -> ClusterResources:
        storage = StorageSeen("local-lvm", "pve1", available=True, shared=False, content=frozenset({"images"}))
        return ClusterResources(0.0, storages=(storage,))

    def find_vm(self, facts: Facts) -> Vm | None:
        return self._hypervisor.find_vm(facts)

    def config_in_snapshot(self, facts: Facts, name: str) -> ConfigSeen:
        raise NotImplementedError


class Both(Bench):
    """A machine, and the volume that it has attached; made once, before the machine."""

    def __init__(self, machine: MachineSpec = WITH) -> None:
        super().__init__()
        self.machine = machine
        self.data = DATA.model_copy(update={"kind": machine.kind})
        self.shelves, self.volumes = Joint(self.cluster), Volumes()
        if machine.is_container:
            self.shelves.slots, self.shelves.move_task = [f"mp{n}" for n in range(256)], "move_volume"
        self.keeper(Fuse()).ensure("data", "pve1", "web")
        ((_, _, self.disk),) = self.shelves.disks()

    def keeper(self, fuse: Fuse, hypervisor: Hypervisor | None = None) -> Keeper:
        self.volumes.fuse = fuse
        there = hypervisor or self.hypervisor(fuse)
        return Keeper(
            self.volumes,
            [self.data],
            lambda _, *, container: Cluster(self.shelves, there, fuse),
            self.clock,
            self.reporter,
            lease="held",
        )

    def hypervisor(self, fuse: Fuse) -> Hypervisor:
        made = Hypervisor(self.cluster, fuse)
        made.shelves = self.shelves
        return made

    @override
    def world(self, fuse: Fuse | None = None, *, spec: MachineSpec | None = None, **more: Any) -> World:
        fuse, spec = fuse or Fuse(), spec or self.machine
        hypervisor = self.hypervisor(fuse)
        world = super().world(fuse, spec=spec, **more)
        return replace(world, hypervisor=hypervisor, volumes=self.keeper(fuse, hypervisor))

    @override
    def run(
        self, goal: Phase = Phase.READY, fuse: Fuse | None = None, *, spec: MachineSpec | None = None, **more: Any
    ) -> Machine:
        return super().run(goal, fuse, spec=spec or self.machine, **more)

    def reinstall(self, fuse: Fuse) -> Machine:
        world = self.world(fuse)
        return carry_out(plan_reinstall(self.record.machine, world), self.record.machine, world, self.record)

    def where(self) -> tuple[int, str]:
        """Where the volume is: the same one, and no other."""
        ((vmid, slot, disk),) = self.shelves.disks()
        assert disk.data == 1 and self.shelves.made == 1, "it is another disk"
        return vmid, slot

    def check(self) -> None:
        assert self.record.machine.phase is Phase.READY and self.vm.running
        assert self.where() == (self.record.machine.facts.vmid, self.shelves.slots[-1])


def ready(both: Both, fuse: Fuse) -> object:
    return both.run(Phase.READY, fuse)


def absent(both: Both, fuse: Fuse) -> object:
    return both.run(Phase.ABSENT, fuse)


def again(both: Both, fuse: Fuse) -> object:
    return both.reinstall(fuse)


def without(both: Both, fuse: Fuse) -> object:
    spec = both.machine.model_copy(update={"volumes": ()})
    return both.run(Phase.READY, fuse, spec=spec, permissions=Permissions(allow_reboot=True))


def parked(both: Both) -> None:
    vmid, _ = both.where()
    assert both.shelves.vms[vmid].parker


ENDS: Mapping[
    str, tuple[Act, Act | None, Callable[[Both], None]]
] = {  # what breaks, what was before, what must be true
    "deploy": (ready, None, Both.check),
    "destroy": (absent, ready, parked),
    "reinstall": (again, ready, Both.check),
    "no longer described": (without, ready, parked),
}


SWEPT = [
    pytest.param(WITH, BANGS[0], id="vm-crash"),
    pytest.param(WITH, BANGS[1], id="vm-unknown-outcome"),
    pytest.param(HOLDS, BANGS[0], id="container-crash"),
    pytest.param(HOLDS, BANGS[1], id="container-unknown-outcome", marks=pytest.mark.weekly),
]


@pytest.mark.parametrize(("machine", "bang"), SWEPT)
@pytest.mark.parametrize("story", ENDS)
def test_a_volume_survives_a_break_anywhere(
    story: str, bang: Callable[[], BaseException], machine: MachineSpec
) -> None:
    act, before, check = ENDS[story]
    for at in range(1000):
        both = Both(machine)
        if before is not None:
            before(both, Fuse())
        fuse = Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            act(both, fuse)
        both.where()
        if fuse.count <= at:
            assert at >= 10, "the sweep must have walked a whole run"
            check(both)
            return
        act(both, Fuse())
        check(both)


@pytest.mark.parametrize("story", ["deploy", "reinstall"])
def test_after_a_crash_anywhere_the_machine_can_be_destroyed_and_made_again(story: str) -> None:
    act, before, _ = ENDS[story]
    for at in range(1000):
        both = Both()
        if before is not None:
            before(both, Fuse())
        fuse = Fuse(at)
        with contextlib.suppress(Crash):
            act(both, fuse)
        if fuse.count <= at:
            return
        absent(both, Fuse())
        parked(both)
        ready(both, Fuse())
        both.check()


def test_a_killed_attach_to_a_running_machine_does_not_hold_up_its_end() -> None:
    """At each boundary: the record says parked, and the VM has the volume, or is about to get it."""
    for at in range(1000):
        both = Both()
        both.run(Phase.READY, spec=SPEC)
        fuse = Fuse(at)
        with contextlib.suppress(Crash):
            ready(both, fuse)
        if fuse.count <= at:
            assert at >= 4
            return
        absent(both, Fuse())
        parked(both)
        assert both.record.machine.phase is Phase.ABSENT and not both.cluster.vms


def test_the_record_is_read_once_for_any_number_of_volumes() -> None:
    both = Both()
    keeper = both.keeper(Fuse())
    for name in ("data", *(f"more{number}" for number in range(5))):
        specs = [VolumeSpec(name=name, storage="local-lvm", size=1 << 30)]
        keeper = Keeper(both.volumes, specs, keeper._cluster, both.clock, both.reporter, lease="held")
        keeper.ensure(name, "pve1", "")
    both.volumes.reads = 0
    keeper = both.keeper(Fuse())
    assert len(keeper.look({})) == 6
    assert both.volumes.reads == 1


@pytest.mark.parametrize("source", COPIES)
def test_a_copy_of_an_image_or_a_template_has_its_volume_when_it_boots(source: str) -> None:
    both = Both()
    spec = COPIES[source].model_copy(update={"volumes": ("data",)})
    both.run(Phase.READY, spec=spec)
    both.check()
    both.run(Phase.RESERVED, spec=spec)
    parked(both)


def test_the_installer_never_sees_it() -> None:
    both = Both()
    both.run(Phase.READY, enough=lambda machine: machine.phase is Phase.INSTALLED)
    parked(both)


def test_a_running_machine_keeps_a_volume_that_it_should_let_go_of() -> None:
    both = Both()
    ready(both, Fuse())
    both.run(Phase.READY, spec=SPEC)
    assert both.where() == (both.record.machine.facts.vmid, "scsi30")
    with pytest.raises(NeedsPermission, match="only parks disks of a VM that is stopped"):
        both.keeper(Fuse()).park("data")


def test_one_that_is_gone_is_lost_and_never_made_again() -> None:
    both = Both()
    both.shelves.vms[both.where()[0]].disks.clear()
    with pytest.raises(Exception, match="it is lost, and no move leads from there to attached"):
        ready(both, Fuse())
    assert both.shelves.made == 1 and not both.shelves.disks()
