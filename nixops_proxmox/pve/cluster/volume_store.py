"""Volumes on a cluster: disks with a serial of their own, in machines' VMs or parked in VMs that never start."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar
from urllib.parse import unquote

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.core.upid import parse_upid
from nixops_proxmox.errors import NotFound, PveRefused, StateError, VmidTaken
from nixops_proxmox.model import Facts, Power, Spot, VmRef
from nixops_proxmox.pve.api.answers import ConfigSeen, GuestSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.guest_kinds import VMS, GuestKind
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.vm.parking import SLOTS, VMIDS, is_parker, parker_params, volume_drive
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import drives_of, gib, is_cdrom, parse_size, print_size, set_aside
from nixops_proxmox.pve.wire.refusals import WrongPlace
from nixops_proxmox.spec import VolumeSpec


class VolumeStore:
    """The disks of one cluster, for all threads; satisfies `kinds.volume.ports.Store`. What changes a VM carries the
    digest of the configuration in which the VM was seen to be the right one: PVE refuses it if that changed since."""

    kind: ClassVar[GuestKind] = VMS
    slots: ClassVar[Sequence[str]] = SLOTS
    move_task: ClassVar[str] = "qmmove"  # PVE's type of the task that makes a disk another VM's

    def __init__(self, client: PveClient, view: ClusterView, finder: VmFinder, work: Work) -> None:
        self._client, self._view, self._finder, self._work = client, view, finder, work

    # Looking

    def find(self, serial: str, near: Collection[int]) -> Spot | None:
        """The disk with this serial. `near`: VMIDs that are looked at first; then every VM that we may see is.
        StateError where two VMs have such a disk."""
        guests = self._guests(VIEW_AGE)
        for vmid in near:
            found = self._with_serial(serial, [guests[vmid]] if vmid in guests else [])
            if found:
                return _only(serial, found)
        return _only(serial, self._with_serial(serial, self._guests(0.0).values()))

    def _guests(self, age: float) -> dict[int, GuestSeen]:
        return {guest.vmid: guest for guest in self._view.get(age).guests.values() if guest.kind == self.kind.type}

    def _with_serial(self, serial: str, guests: Iterable[GuestSeen]) -> list[Spot]:
        return [spot for guest in guests for known, spot in self._spots(guest) if known == serial]

    def _spots(self, guest: GuestSeen) -> Iterator[tuple[str, Spot]]:
        """Each disk of the VM, and its serial."""
        try:
            seen = self._client.get_pending(guest.node, guest.vmid)
        except (NotFound, WrongPlace):  # destroyed or moved a moment ago
            return
        vm = VmRef(self.kind.uuid_of(seen.values), guest.vmid, guest.node)
        config = {**seen.active, **seen.values}
        yield from self._spots_in(vm, config)
        for slot, volume in set_aside(config).items():
            yield "", Spot(vm, slot, volume, 0, marked=False)

    def _spots_in(self, vm: VmRef, config: Mapping[str, str]) -> Iterator[tuple[str, Spot]]:
        for slot, drive in drives_of(config).items():
            if not is_cdrom(drive):
                serial, size = unquote(drive.get("serial", "")), parse_size(drive.get("size", "")) or 0
                yield serial, Spot(vm, slot, drive.get("file", ""), size, bool(serial))

    def drives(self, vm: VmRef) -> Mapping[str, Spot]:
        """The disks that the VM has, by slot, detached ones too; empty if the VM is gone or is another one."""
        guest = self._guests(VIEW_AGE).get(vm.vmid)
        found = () if guest is None else self._spots(guest)
        return {spot.slot: spot for _, spot in found if spot.vm.uuid == vm.uuid}

    def find_slot(self, vm: VmRef, besides: Collection[str], *, last: bool) -> str:
        """A free slot, the first or the last; empty: it is full. `besides`: slots that are not to be used."""
        taken = {*self.drives(vm), *besides}
        free = [slot for slot in self.slots if slot not in taken]
        return "" if not free else free[-1] if last else free[0]

    def _seen(self, vm: VmRef) -> ConfigSeen:
        """The VM's configuration now. NotFound if it is another VM."""
        seen = self._client.get_pending(vm.node, vm.vmid)
        if self.kind.uuid_of(seen.values) != vm.uuid:
            raise NotFound(f"{self.kind.word} {vm.vmid} on {vm.node} is not the one with the UUID {vm.uuid} any more")
        return seen

    # VMs that keep volumes

    def runs(self, vm: VmRef) -> bool:
        """Does the VM run now?"""
        return self._client.get_status(vm.node, vm.vmid).running

    def keeps_volumes(self, vm: VmRef) -> bool:
        """Is it a VM that we made to keep volumes, by what its notes say?"""
        return vm.vmid in VMIDS and is_parker(self._seen(vm).values.get("description", ""))

    def propose_parker(self, uuid: str, node: str) -> VmRef:
        """A VMID that is free now for a new one."""
        taken = self._view.get(0.0).guests
        vmid = next((one for one in VMIDS if one not in taken and self._client.is_vmid_free(one)), None)
        if vmid is None:
            raise PveRefused(f"no VMID from {VMIDS[0]} to {VMIDS[-1]} is free for a VM that keeps volumes")
        return VmRef(uuid, vmid, node)

    def make_parker(self, parker: VmRef, owner: str, storage: str, note: NoteTask) -> VmRef:
        """Make it, unless it is there; where it is now. VmidTaken if another VM has its VMID."""
        facts = Facts(uuid=parker.uuid, vmid=parker.vmid, node=parker.node)
        there = self._finder.find_again(facts)
        if there is None:
            self._make(facts, owner, storage, note)
            return parker
        if there.power is Power.RUNNING:
            raise StateError(
                f"{self.kind.word} {there.vmid} on {there.node} keeps volumes, and somebody started it",
                hint="stop it: it has nothing to boot from, and while it runs its volumes cannot be attached",
            )
        return replace(parker, node=there.node)

    def _params(self, facts: Facts, owner: str, storage: str, note: NoteTask) -> dict[str, Value]:
        del storage, note
        return parker_params(facts.uuid, facts.vmid, owner)

    def _make(self, facts: Facts, owner: str, storage: str, note: NoteTask) -> None:
        params = self._params(facts, owner, storage, note)
        doing = f"creating {self.kind.word} {facts.vmid} on {facts.node}, which keeps volumes"
        self._finder.expect(facts.vmid)
        post = partial(self._client.create_vm, facts.node, params)
        try:
            upid = self._work.submit(self.kind.task("qmcreate"), facts.node, facts.vmid, post)
            note(upid)
            self._work.finish(upid, doing)
        except VmidTaken:
            if self._finder.find_again(facts) is None:
                raise
        else:
            if self._work.is_guessed(upid) and self._finder.find_again(facts) is None:
                raise VmidTaken(f"VMID {facts.vmid} was taken by somebody else at the same moment")
        self._finder.learn(facts, facts.node, Power.STOPPED)

    def bring(self, parker: VmRef, node: str, note: NoteTask) -> VmRef:
        """Move a stopped VM to the node: with shared disks, only its configuration moves."""
        self._seen(parker)
        post = partial(self._client.migrate_vm, parker.node, parker.vmid, node)
        doing = f"moving {self.kind.word} {parker.vmid}, which keeps volumes, from {parker.node} to {node}"
        try:
            self._work.run(self.kind.task("qmigrate"), parker.node, parker.vmid, post, note, doing)
        finally:
            self._finder.forget(parker.vmid)
        return replace(parker, node=node)

    # Changing

    def allocate(self, parker: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask) -> None:
        """Make an empty disk in the slot."""
        drive = self._drive(spec, serial, f"{spec.storage}:{gib(spec.size)}")
        self._change(parker, {slot: drive}, note, f"volume {spec.name}: making it in {self._named(parker)}")

    def _drive(self, spec: VolumeSpec, serial: str, volume: str) -> str:
        return volume_drive(spec, serial, volume)

    def _named(self, vm: VmRef) -> str:
        return f"{self.kind.word} {vm.vmid}"

    def mark(self, vm: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask) -> None:
        """Give the disk in the slot the volume's serial and options, which it lost when it was detached."""
        drive = self._drive(spec, serial, self.drives(vm)[slot].volume)
        self._change(vm, {slot: drive}, note, f"volume {spec.name}: marking it in {self._named(vm)}")

    def _change(self, vm: VmRef, params: Mapping[str, Value], note: NoteTask, doing: str) -> None:
        def post() -> str:
            with_digest = {**params, "digest": self._seen(vm).digest}
            return self._client.change_config(vm.node, vm.vmid, with_digest) or ""

        self._work.run("qmconfig", vm.node, vm.vmid, post, note, doing)

    def move(self, spot: Spot, target: VmRef, slot: str, note: NoteTask) -> None:
        """Make the disk the target's, in that slot."""
        source = spot.vm

        def post() -> str:
            digests = self._seen(source).digest, self._seen(target).digest
            return self._client.reassign_disk(source.node, source.vmid, spot.slot, target.vmid, slot, digests)

        try:
            doing = f"moving {spot.volume} to {self._named(target)}"
            self._work.run(self.move_task, source.node, source.vmid, post, note, doing)
        finally:
            self._finder.drop_look(target.vmid)

    def grow(self, spot: Spot, size: int, note: NoteTask) -> None:
        vm = spot.vm
        self._seen(vm)

        def post() -> str:
            return self._client.resize_disk(vm.node, vm.vmid, spot.slot, print_size(size)) or ""

        self._work.run("resize", vm.node, vm.vmid, post, note, f"growing {spot.volume} to {print_size(size)}")

    def delete(self, spot: Spot, note: NoteTask) -> None:
        """Delete the disk with its data. Its VM is protected again before this returns, or by the next change."""
        vm = spot.vm
        doing = f"deleting {spot.volume} in {self._named(vm)}"
        self._change(vm, {"protection": False}, note, doing)
        try:
            self._change(vm, {"delete": spot.slot, "force": True}, note, doing)
        finally:
            self._change(vm, {"protection": True}, note, doing)

    def guard(self, parker: VmRef) -> None:
        """A VM that keeps volumes is unprotected only while one is deleted."""

    def drop_parker(self, parker: VmRef, note: NoteTask) -> None:
        """Destroy a VM that keeps volumes, and keeps none now."""
        facts = Facts(uuid=parker.uuid, vmid=parker.vmid, node=parker.node)
        vm = self._finder.find_again(facts)
        if vm is None or any(True for _ in self._spots_in(parker, vm.config)) or set_aside(vm.config):
            return
        doing = f"destroying {self.kind.word} {vm.vmid}, which keeps no volume any more"
        self._change(replace(parker, node=vm.node), {"protection": False}, note, doing)
        post = partial(self._client.delete_vm, vm.node, vm.vmid)
        self._work.run(self.kind.task("qmdestroy"), vm.node, vm.vmid, post, note, doing)
        self._finder.forget(vm.vmid)

    # Tasks

    def wait_for_task(self, upid: str) -> None:
        task = parse_upid(upid)
        self._work.finish(upid, f"{task.type} {task.id} on {task.node}")

    def find_task(self, vmids: Collection[int], kind: str) -> str:
        """The UPID of a task of that type that works on one of these VMs now. That of a moved disk names both VMs:
        `100-scsi1>900000-scsi0`."""
        for node in self._view.get(0.0).nodes:
            for task in self._client.list_tasks(node.name, kind=kind) if node.online else ():
                if task.running and any(part.partition("-")[0] in map(str, vmids) for part in task.id.split(">")):
                    return task.upid
        return ""


def _only(serial: str, found: list[Spot]) -> Spot | None:
    if len(found) > 1:
        places = " and ".join(f"VM {spot.vm.vmid} ({spot.slot})" for spot in found)
        raise StateError(
            f"{places} have a disk with the serial {serial}, which is one volume's",
            hint="somebody copied the disk or its VM: detach the copy, or give it another serial",
        )
    return found[0] if found else None
