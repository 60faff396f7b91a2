"""Volumes of containers: mount points whose paths tell them, in machines' containers or in one that never starts."""

import gzip
import io
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import DeployError, NotFound, PveRefused
from nixops_proxmox.model import Facts, Spot, VmRef
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.guest_kinds import CONTAINERS, GuestKind
from nixops_proxmox.pve.cluster.templates import Templates
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.cluster.volume_store import VolumeStore
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.vm.container import ROOT, mounts_of
from nixops_proxmox.pve.vm.parking import MOUNTS, container_parker_params, serial_at, volume_mount
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import parse_size, print_properties
from nixops_proxmox.spec import VolumeSpec
from nixops_proxmox.spec.volume import PLACE

EMPTY = "nixops-proxmox-empty.tar.gz"


def empty_template() -> bytes:
    """A tar file with nothing in it: Proxmox VE makes no container without one."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        folder = tarfile.TarInfo("./")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
    return gzip.compress(tar.getvalue(), mtime=0)


class ContainerVolumeStore(VolumeStore):
    """Satisfies `kinds.volume.ports.DiskStore` for containers. Their volumes never become those of VMs."""

    kind: ClassVar[GuestKind] = CONTAINERS
    slots: ClassVar[Sequence[str]] = MOUNTS
    move_task: ClassVar[str] = "move_volume"

    def __init__(
        self, client: PveClient, view: ClusterView, finder: VmFinder, work: Work, templates: Templates
    ) -> None:
        super().__init__(client, view, finder, work)
        self._templates = templates

    @override
    def _spots_in(self, vm: VmRef, config: Mapping[str, str]) -> Iterator[tuple[str, Spot]]:
        for slot, mount in mounts_of(config).items():
            if slot != ROOT:
                serial, size = serial_at(mount), parse_size(mount.get("size", "")) or 0
                yield serial, Spot(vm, slot, mount.get("volume", ""), size, bool(serial))

    @override
    def _params(self, facts: Facts, owner: str, storage: str, note: NoteTask) -> dict[str, Value]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / EMPTY
            path.write_bytes(empty_template())
            template = self._templates.ensure(str(path), facts.node, "", note)
        return container_parker_params(facts.uuid, facts.vmid, owner, storage, template)

    @override
    def _drive(self, spec: VolumeSpec, serial: str, volume: str) -> str:
        return volume_mount(serial, volume)

    @override
    def allocate(self, parker: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask) -> None:
        with self._unprotected(parker, note):
            super().allocate(parker, slot, spec, serial, note)

    @override
    def mark(self, vm: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask) -> None:
        with self._unprotected(vm, note):
            super().mark(vm, slot, spec, serial, note)

    @override
    def move(self, spot: Spot, target: VmRef, slot: str, note: NoteTask) -> None:
        """A volume that somebody detached has no mount point, and PVE gives none to the other container then: it gets
        one where it is first."""
        if not spot.slot.startswith("mp"):
            spot = self._attached(spot, note)
        with self._unprotected(target, note):
            super().move(spot, target, slot, note)

    def _attached(self, spot: Spot, note: NoteTask) -> Spot:
        slot = self.find_slot(spot.vm, (), last=True)
        if not slot:
            raise PveRefused(f"{self._named(spot.vm)} has no free mount point")
        with self._unprotected(spot.vm, note):
            value = print_properties({"volume": spot.volume, "mp": f"{PLACE}{spot.slot}", "backup": "0"}, "volume")
            self._change(spot.vm, {slot: value}, note, f"attaching {spot.volume} in {self._named(spot.vm)}")
        return replace(spot, slot=slot)

    @contextmanager
    def _unprotected(self, vm: VmRef, note: NoteTask) -> Iterator[None]:
        """A protected container refuses a volume when the one that had it has lost it already, and nothing has it then.
        It is protected again before this returns, or by `guard`, or by a deploy if it is a machine's."""
        doing = f"{self._named(vm)}: giving it a volume"
        protected = self._seen(vm).values.get("protection", "0") == "1"
        if protected:
            self._change(vm, {"protection": False}, note, doing)
        try:
            yield
        except BaseException:  # which one it was, matters more than what hinders us now
            with suppress(DeployError):
                self._protect(vm, note, doing, was_protected=protected)
            raise
        self._protect(vm, note, doing, was_protected=protected)

    def _protect(self, vm: VmRef, note: NoteTask, doing: str, *, was_protected: bool) -> None:
        if was_protected or self.keeps_volumes(vm):
            self._change(vm, {"protection": True}, note, doing)

    @override
    def guard(self, parker: VmRef) -> None:
        guest = self._guests(VIEW_AGE).get(parker.vmid)
        if guest is None:
            return
        there = replace(parker, node=guest.node)
        with suppress(NotFound):  # deleted a moment ago
            if self.keeps_volumes(there) and self._seen(there).values.get("protection", "0") != "1":
                self._change(there, {"protection": True}, lambda _upid: None, f"protecting {self._named(there)}")

    @override
    def delete(self, spot: Spot, note: NoteTask) -> None:
        """PVE detaches a mount point, and deletes the volume by a second change."""
        vm, doing = spot.vm, f"deleting {spot.volume} in {self._named(spot.vm)}"
        with self._unprotected(vm, note):
            if spot.slot.startswith("mp"):
                self._change(vm, {"delete": spot.slot}, note, doing)
            for slot, left in self.drives(vm).items():
                if not slot.startswith("mp") and left.volume == spot.volume:
                    self._change(vm, {"delete": slot}, note, doing)
