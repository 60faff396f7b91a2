"""A machine's own small CD: put on a storage of its node, inserted, and gone again soon. It holds a secret."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import PermissionDenied, PveOutcomeUnknown, PveRefused
from nixops_proxmox.model import Facts, Vm
from nixops_proxmox.pve.api.answers import StorageSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.media import Media
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.vm.boot import find_free_slot
from nixops_proxmox.pve.vm.requests import EMPTY_TRAY
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import drives_of, is_cloud_init, parse_drive, storage_of
from nixops_proxmox.pve.wire.refusals import HotplugFailed
from nixops_proxmox.spec import MachineSpec

BLANK = bytes(2048)  # what stands in a file that we may replace and not delete


class Discs:
    """Satisfies `kinds.machine.ports.Discs`."""

    def __init__(
        self,
        client: PveClient,
        view: ClusterView,
        finder: VmFinder,
        work: Work,
        media: Media,
        warn: Callable[[str], None],
    ) -> None:
        self._client, self._view, self._finder, self._work = client, view, finder, work
        self._media, self._warn = media, warn

    def choose(self, vm: Vm, spec: MachineSpec, uuid: str) -> str:
        """The volume ID that the machine's CD has on the VM's node. PveRefused if no storage there takes one."""
        return f"{self._storage(vm.node, spec)}:iso/nixops-px-{uuid}.iso"

    def _storage(self, node: str, spec: MachineSpec) -> str:
        """The described one; else the node's own before a shared one, where more people may look, then by name."""
        wanted, seen = spec.install.identity_storage, self._view.get(VIEW_AGE).storages
        fit = [one for one in seen if one.node == node and one.available and wanted in (None, one.storage)]
        fit = [one for one in fit if "iso" in one.content]
        if not fit:
            what = f"the storage {wanted!r} does not take" if wanted else "no storage takes"
            raise PveRefused(
                f"{spec.name}: {what} ISO files on {node}, so the machine cannot be told who it is",
                hint=f"set {spec.name}.deployment.proxmox.install.identityStorage, or let `resources.storages` switch"
                " on the content `iso`",
            )
        return min(fit, key=_preference).storage

    def is_inserted(self, vm: Vm, volume: str) -> bool:
        return bool(_slots_with(vm, volume))

    def insert(self, vm: Vm, spec: MachineSpec, volume: str, content: bytes, note: NoteTask) -> None:
        """Put the CD on its storage, where it replaces an earlier one, and into the VM. PVE's own cloud-init drive
        leaves the VM first."""
        self._put(vm.node, volume, content, note)
        own = [slot for slot, drive in drives_of(vm.config).items() if is_cloud_init(drive)]
        if own:
            self._set(vm, {"delete": ",".join(own)})
        if not self.is_inserted(vm, volume):
            free = find_free_slot(vm, spec, besides=own)
            self._set(vm, {free: f"{volume},media=cdrom"})

    def _put(self, node: str, volume: str, content: bytes, note: NoteTask) -> None:
        self._wait_for_others(node, volume)
        with _as_file(content) as path:
            name = volume.rpartition("/")[2]
            self._media.upload(node, storage_of(volume), path, note, content="iso", filename=name)

    def _wait_for_others(self, node: str, volume: str) -> None:
        """An upload or a deletion of an earlier run would end after ours, and undo it."""
        for upid in self._media.find_tasks(node, volume):
            self._work.failure(upid)

    def remove(self, facts: Facts, node: str, volume: str, note: NoteTask) -> None:
        """Eject it from our VM, if that is there, and delete the file; fine if it is gone. Where we may not delete, an
        empty file takes its place."""
        vm = self._finder.find_again(facts)
        if vm is not None and (slots := _slots_with(vm, volume)):
            self._set(vm, dict.fromkeys(slots, EMPTY_TRAY))  # PVE removes no IDE or SATA drive from a VM that runs
            self._leave(vm, slots)
        self._wait_for_others(node, volume)
        if volume not in self._media.sizes(node, storage_of(volume), "iso"):
            return
        try:
            self._media.delete(node, volume, note)
        except PermissionDenied:
            self._put(node, volume, BLANK, note)
            self._warn(
                f"we may not delete {volume} on {node}: it is empty now, and stays (Datastore.Allocate is missing)"
            )

    def _leave(self, vm: Vm, slots: Sequence[str]) -> None:
        """What a running guest does not let go of stays until it stops, which PVE has noted by then."""
        with suppress(HotplugFailed):
            self._set(vm, {"delete": ",".join(slots)})

    def _set(self, vm: Vm, params: dict[str, Value]) -> None:
        def change() -> None:
            self._client.set_config(vm.node, vm.vmid, params)

        try:
            self._work.while_locked(vm.node, vm.vmid, change)
        except PveOutcomeUnknown:
            self._work.while_locked(vm.node, vm.vmid, change)  # the same values once more do no harm
        finally:
            self._finder.drop_look(vm.vmid)


def _preference(storage: StorageSeen) -> tuple[bool, str]:
    return storage.shared, storage.storage


def _slots_with(vm: Vm, volume: str) -> Sequence[str]:
    return [slot for slot, value in vm.config.items() if parse_drive(value).get("file") == volume]


@contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """A file of ours alone; on Linux, one in memory that ends with this process, however it ends."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("disc")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:  # of mode 0700
        path = Path(folder) / "disc"
        path.write_bytes(content)
        yield path
