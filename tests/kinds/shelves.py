"""VMs with disks, in memory, as volumes see them: as strict as PVE about what moves, and from where."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import NotFound, PveRefused, VmidTaken
from nixops_proxmox.model import Spot, VmRef
from nixops_proxmox.spec import VolumeSpec
from tests.kinds.machine.cluster import Fuse, name_task

SPEC = VolumeSpec(name="data", storage="local-lvm", size=10 << 30, protect=False)
SERIAL = "npv-0123456789abcdef"
MACHINE = VmRef("11111111-1111-4111-8111-111111111111", 100, "pve1")
SLOTS = [f"scsi{number}" for number in range(31)]


@dataclass
class Disk:
    """`data`: which bytes are on it; they are what must survive."""

    serial: str
    size: int
    data: int
    name: str = ""


@dataclass
class ShelfVm:
    uuid: str
    node: str = "pve1"
    running: bool = False
    parker: bool = False
    disks: dict[str, Disk] = field(default_factory=dict)


class Shelves:
    """What is out there; outlives every process."""

    def __init__(self) -> None:
        self.slots, self.move_task = SLOTS, "qmmove"
        self.vms: dict[int, ShelfVm] = {MACHINE.vmid: ShelfVm(MACHINE.uuid)}
        self.made = 0
        self.tasks: dict[str, Callable[[], None] | None] = {}
        self.ids: dict[str, str] = {}

    def disks(self, serial: str = SERIAL) -> list[tuple[int, str, Disk]]:
        return [
            (vmid, slot, disk)
            for vmid, vm in self.vms.items()
            for slot, disk in vm.disks.items()
            if disk.serial == serial
        ]

    @property
    def parkers(self) -> list[int]:
        return [vmid for vmid, vm in self.vms.items() if vm.parker]


class Disks:
    """What one process does with it; satisfies `kinds.volume.ports.DiskStore`."""

    def __init__(self, shelves: Shelves, fuse: Fuse) -> None:
        self.shelves, self.fuse = shelves, fuse

    # Looking

    def find(self, serial: str, near: Collection[int], /) -> Spot | None:
        found = self.shelves.disks(serial)
        assert len(found) <= 1, "two disks have the volume's serial"
        return self._spot(*found[0]) if found else None

    def _spot(self, vmid: int, slot: str, disk: Disk) -> Spot:
        vm = self.shelves.vms[vmid]
        ref = VmRef(vm.uuid, vmid, vm.node)
        return Spot(ref, slot, disk.name, disk.size, bool(disk.serial))

    def drives(self, holder: VmRef, /) -> Mapping[str, Spot]:
        vm = self.shelves.vms.get(holder.vmid)
        if vm is None or vm.uuid != holder.uuid:
            return {}
        return {slot: self._spot(holder.vmid, slot, disk) for slot, disk in vm.disks.items()}

    def runs(self, holder: VmRef, /) -> bool:
        return self._get(holder).running

    def keeps_volumes(self, holder: VmRef, /) -> bool:
        return self.shelves.vms[holder.vmid].parker

    def find_slot(self, holder: VmRef, besides: Collection[str], /, *, last: bool) -> str:
        free = [slot for slot in self.shelves.slots if slot not in {*self.drives(holder), *besides}]
        return "" if not free else free[-1] if last else free[0]

    def propose_parker(self, uuid: str, node: str, /) -> VmRef:
        return VmRef(uuid, next(n for n in range(900000, 900100) if n not in self.shelves.vms), node)

    # Changing

    def make_parker(self, parker: VmRef, owner: str, storage: str, note: NoteTask, /) -> VmRef:
        there = self.shelves.vms.get(parker.vmid)
        if there is not None and there.uuid == parker.uuid:
            return replace(parker, node=there.node)

        def act() -> None:
            if parker.vmid in self.shelves.vms:
                raise VmidTaken(f"VM {parker.vmid} already exists")
            self.shelves.vms[parker.vmid] = ShelfVm(parker.uuid, parker.node, parker=True)

        self._task("qmcreate", str(parker.vmid), act, note)
        return parker

    def allocate(self, parker: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask, /) -> None:
        def act() -> None:
            vm = self._get(parker)
            assert slot not in vm.disks
            self.shelves.made += 1
            vm.disks[slot] = Disk(serial, spec.size, self.shelves.made, self._name(parker.vmid))

        self._task("qmconfig", str(parker.vmid), act, note)

    def move(self, spot: Spot, target: VmRef, slot: str, note: NoteTask, /) -> None:
        def act() -> None:
            source, to = self._get(spot.vm), self._get(target)
            if source.node != to.node:
                raise PveRefused(f"Both VMs need to be on the same node ({source.node} != {to.node})")
            if source.running and spot.marked:
                raise PveRefused("Cannot move disk to another VM while the source VM is running - detach first")
            if slot in to.disks:
                raise PveRefused(f"Target disk key '{slot}' is already in use for VM '{target.vmid}'")
            disk = source.disks.pop(spot.slot)
            to.disks[slot] = replace(disk, name=self._name(target.vmid))

        self._task(self.shelves.move_task, f"{spot.vm.vmid}-{spot.slot}>{target.vmid}-{slot}", act, note)

    def mark(self, holder: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask, /) -> None:
        def act() -> None:
            self._get(holder).disks[slot].serial = serial

        self._task("qmconfig", str(holder.vmid), act, note)

    def grow(self, spot: Spot, size: int, note: NoteTask, /) -> None:
        def act() -> None:
            disk = self._get(spot.vm).disks[spot.slot]
            assert size > disk.size, "PVE does not shrink a disk"
            disk.size = size

        self._task("resize", str(spot.vm.vmid), act, note)

    def bring(self, parker: VmRef, node: str, note: NoteTask, /) -> VmRef:
        def act() -> None:
            self._get(parker).node = node

        self._task("qmigrate", str(parker.vmid), act, note)
        return replace(parker, node=node)

    def delete(self, spot: Spot, note: NoteTask, /) -> None:
        def act() -> None:
            vm = self._get(spot.vm)
            assert vm.parker, "a volume that a machine has is never deleted"
            del vm.disks[spot.slot]

        self._task("qmconfig", str(spot.vm.vmid), act, note)

    def guard(self, parker: VmRef, /) -> None: ...

    def drop_parker(self, parker: VmRef, note: NoteTask, /) -> None:
        vm = self.shelves.vms.get(parker.vmid)
        if vm is not None and vm.uuid == parker.uuid and not vm.disks:
            self._task("qmdestroy", str(parker.vmid), lambda: self._end(parker), note)

    def _end(self, parker: VmRef) -> None:
        assert not self._get(parker).disks
        del self.shelves.vms[parker.vmid]

    # Tasks

    def wait_for_task(self, upid: str, /) -> None:
        if upid not in self.shelves.tasks:
            raise NotFound(f"no such task: {upid}")
        end, self.shelves.tasks[upid] = self.shelves.tasks[upid], None
        if end is not None:
            end()

    def find_task(self, vmids: Collection[int], kind: str, /) -> str:
        for upid, end in self.shelves.tasks.items():
            if end is not None and f":{kind}:" in upid:
                parts = self.shelves.ids[upid].split(">")
                if any(part.partition("-")[0] in map(str, vmids) for part in parts):
                    return upid
        return ""

    # How.

    def _get(self, holder: VmRef) -> ShelfVm:
        vm = self.shelves.vms.get(holder.vmid)
        if vm is None or vm.uuid != holder.uuid:
            raise NotFound(f"VM {holder.vmid} is not the one with the UUID {holder.uuid} any more")
        return vm

    def _name(self, vmid: int) -> str:
        taken = {disk.name for vm in self.shelves.vms.values() for disk in vm.disks.values()}
        return next(name for n in range(99) if (name := f"local-lvm:vm-{vmid}-disk-{n}") not in taken)

    def _task(self, kind: str, what: str, act: Callable[[], None], note: NoteTask) -> None:
        """A task goes on when whoever began it is gone; a move ends when somebody waits for it."""
        self.fuse.boundary()
        upid = name_task(len(self.shelves.tasks), kind)
        self.shelves.ids[upid] = what
        self.shelves.tasks[upid] = act if kind == self.shelves.move_task else None
        if kind != self.shelves.move_task:
            act()
        self.fuse.boundary()
        note(upid)
        self.fuse.boundary()
        self.wait_for_task(upid)
        self.fuse.boundary()
