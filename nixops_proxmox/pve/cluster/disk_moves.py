"""Disks taken to another storage: copied first, and the old copy is deleted only when the new one has been verified."""

from functools import partial

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import PveRefused
from nixops_proxmox.model import Facts, OldCopy, Vm
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.vm.drives import SLACK
from nixops_proxmox.pve.wire.properties import MIB, parse_drive, parse_size, storage_of

FIRMWARE = {"efidisk0": 128 * 1024, "tpmstate0": 4 * MIB}  # bytes: a move gives them PVE's own size
LARGEST = 1 << 63
LOGGED = 50  # lines of a task's log; the volume is in the first ones


class DiskMoves:
    """Works for all threads of one cluster."""

    def __init__(self, client: PveClient, finder: VmFinder, work: Work) -> None:
        self._client, self._finder, self._work = client, finder, work

    def wait_for_others(self, vm: Vm) -> bool:
        """Wait for a move of this VM's disks that runs already. A run that was killed may have begun it and not noted
        it. False: none runs."""
        tasks = self._client.list_tasks(vm.node, vmid=vm.vmid, kind="qmmove") if vm.node else ()
        running = [task.upid for task in tasks if task.running]
        for upid in running:
            self._work.failure(upid)  # what it did, the next look tells
        return bool(running)

    def move(self, vm: Vm, slot: str, storage: str, note: NoteTask, doing: str) -> None:
        """Copy the disk to the storage, live if the VM runs. The old copy stays, detached."""
        config = self._client.get_config(vm.node, vm.vmid)
        if config.values.get(slot) != vm.config.get(slot):
            raise PveRefused(
                f"{doing}: somebody else changed {slot} at the same moment, and it was not moved",
                hint="run the same command again",
            )
        post = partial(self._client.move_disk, vm.node, vm.vmid, slot, storage, config.digest)
        self._work.run("qmmove", vm.node, vm.vmid, post, note, f"{doing}, {slot} to {storage}")
        self._finder.drop_look(vm.vmid)

    def prove(self, vm: Vm, slot: str, storage: str, old: str) -> None:
        """The disk is on the storage, with the serial and the size that it had. PveRefused otherwise: nothing is lost
        then, because the old copy is still there."""
        before, now = parse_drive(old), parse_drive(vm.config.get(slot, ""))
        volume = now.get("file", "")
        size = min(parse_size(before.get("size", "")) or 0, FIRMWARE.get(slot, LARGEST))
        there = {one.volid: one.size for one in self._client.list_volumes(vm.node, storage, "images")}
        wrong = [
            text
            for text, is_so in (
                (f"it is on {volume or 'nothing'}", storage_of(volume) != storage),
                ("its serial is another one", now.get("serial", "") != before.get("serial", "")),
                (f"{storage} does not have {volume}", volume not in there),
                ("it is smaller than before", there.get(volume, 0) < size),
            )
            if is_so
        ]
        if wrong:
            raise PveRefused(
                f"VM {vm.vmid} on {vm.node}: {slot} was moved to {storage}, but {' and '.join(wrong)};"
                f" the old copy {before.get('file', '')} stays",
                hint=f"look at the disk in PVE; `qm config {vm.vmid}` on {vm.node} shows it",
            )

    def drop(self, facts: Facts, key: str, copy: OldCopy, note: NoteTask, doing: str) -> None:
        """Delete the old copy, which is detached: only if the disk itself is elsewhere, and is proven to be there."""
        vm, slot = self._finder.find_again(facts), copy.slot
        if vm is None or vm.config.get(key, "").partition(",")[0] != copy.volume:
            return
        drives = (parse_drive(look.get(slot, "")) for look in (vm.config, vm.active or vm.config))
        if slot in vm.pending or any(drive.get("file", "") in ("", copy.volume) for drive in drives):
            return
        self.prove(vm, slot, storage_of(parse_drive(vm.config[slot])["file"]), vm.config[slot])
        if "serial" not in parse_drive(vm.config[slot]):
            self._prove_copied(vm, copy)
        self._prove_old(vm, copy)
        params = {"delete": key, "digest": self._client.get_config(vm.node, vm.vmid).digest}
        post = partial(self._client.change_config, vm.node, vm.vmid, params)
        self._work.run("qmconfig", vm.node, vm.vmid, lambda: post() or "", note, f"{doing}, deleting {copy.volume}")
        self._finder.drop_look(vm.vmid)

    def _prove_copied(self, vm: Vm, copy: OldCopy) -> None:
        """Without a serial, only PVE's own log tells that what is in the slot now was copied from the old volume."""
        said = f"drive {copy.slot} ({copy.volume})"
        for task in self._client.list_tasks(vm.node, vmid=vm.vmid, kind="qmmove"):
            if task.status == "OK":
                log = self._client.task_log(vm.node, task.upid, limit=LOGGED)
                if any(said in line for line in log):
                    return
        raise PveRefused(
            f"VM {vm.vmid} on {vm.node}: PVE has no log of a move of {copy.slot} away from {copy.volume},"
            " and the disk has no serial: the old copy stays",
            hint=f"if the machine is fine, `qm set {vm.vmid} --delete` its key deletes the old copy",
        )

    def _prove_old(self, vm: Vm, copy: OldCopy) -> None:
        """A volume of that name that has another size is another volume, and is kept."""
        there = {one.volid: one.size for one in self._client.list_volumes(vm.node, storage_of(copy.volume), "images")}
        size = parse_size(copy.size)
        if size is not None and abs(there.get(copy.volume, size) - size) > SLACK:
            raise PveRefused(
                f"VM {vm.vmid} on {vm.node}: {copy.volume} has another size than {copy.slot} had there",
                hint=f"it may be another volume: look at it, and `qm set {vm.vmid} --delete` its key if it is not",
            )
