"""NixOps's backups of a machine: vzdump archives where a storage takes them, snapshots where none does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nixops_proxmox.errors import ConfigError, NotFound, PveError, StateError
from nixops_proxmox.lifecycle.steps.hardware import get_vm
from nixops_proxmox.model import Phase, Vm
from nixops_proxmox.nixops2.book import Book
from nixops_proxmox.pve.client import PveClient
from nixops_proxmox.pve.tasks import TaskWaiter, parse_upid
from nixops_proxmox.wiring.pursuit import Pursuit

VZDUMP, SNAPSHOT = "vzdump", "snapshot"
BACKUP_TIME = 6 * 3600.0  # seconds; a full copy of all disks

Backup = Mapping[str, Any]  # kind, node, storage, volume or snapshot, upid while it is being made


class Backups:
    """Those of one machine. The record says of each what it is before it is made, so a crash leaves none unknown."""

    def __init__(self, client: PveClient, pursuit: Pursuit, book: Book) -> None:
        self._client = client
        self._tasks = TaskWaiter(client)
        self._pursuit, self._book = pursuit, book
        self._name = pursuit.machine.name

    def make(self, backup_id: str, devices: Sequence[str]) -> None:
        if devices:
            raise ConfigError(
                f"{self._name}: a backup is of the whole machine, not of {', '.join(devices)}",
                hint="leave --devices out; a disk with `backup = false` is not in it",
            )
        vm = get_vm(self._pursuit.world, self._pursuit.machine)
        storage = self._find_storage(vm.node)
        if storage:
            self._dump(backup_id, vm, storage)
        else:
            self._snapshot(backup_id, vm)

    def find(self) -> dict[str, Backup]:
        """By ID, as NixOps wants it: `status` and `info`."""
        return {backup_id: self._look(backup) for backup_id, backup in self._book.record_now.backups.items()}

    def restore(self, backup_id: str | None, devices: Sequence[str]) -> None:
        """The machine is shut down, and afterwards stopped; NixOps starts it."""
        if devices:
            raise ConfigError(f"{self._name}: a whole machine is restored, not {', '.join(devices)}")
        chosen = backup_id or max(self._book.record_now.backups, default="")
        backup = self._get(chosen)
        machine = self._pursuit.looked_at()
        if machine.phase not in (Phase.LOST, Phase.STOPPED):
            machine = self._pursuit.to(Phase.STOPPED)
        vm = self._pursuit.world.hypervisor.find_vm(machine.facts)
        node = vm.node if vm is not None else machine.facts.node
        doing = f"{self._name}: restoring {chosen}"
        if backup["kind"] == VZDUMP:
            upid = self._client.restore_vm(node, machine.facts.vmid, backup["volume"], force=vm is not None)
        else:
            upid = self._client.roll_back(node, machine.facts.vmid, backup["snapshot"])
        self._tasks.require(upid, doing, deadline=BACKUP_TIME)
        self._book.record(
            machine.moved(Phase.STOPPED, replace(machine.facts, node=node, boot_id="", endpoint=None)),
            f"restored from the backup {chosen}",
        )

    def remove(self, backup_id: str, *, keep_physical: bool) -> None:
        """Fine if there is none: other machines of the network may have it."""
        backup = self._book.record_now.backups.get(backup_id)
        if backup is None:
            return
        if not keep_physical:
            self._delete(backup_id, backup)
        left = {name: kept for name, kept in self._book.record_now.backups.items() if name != backup_id}
        self._book.keep(backups=left)

    # How.

    def _find_storage(self, node: str) -> str:
        """One that takes backups, shared before local, with the most room; empty if there is none."""
        fit = [s for s in self._client.list_storages(node) if s.available and "backup" in s.content]
        best = max(fit, key=lambda s: (s.shared, s.free), default=None)
        return "" if best is None else best.storage

    def _dump(self, backup_id: str, vm: Vm, storage: str) -> None:
        before = self._archives(vm.node, storage, vm.vmid)
        upid = self._client.back_up(vm.node, vm.vmid, storage)
        backup = {"kind": VZDUMP, "node": vm.node, "storage": storage, "upid": upid}
        self._put(backup_id, backup)
        self._tasks.require(upid, f"{self._name}: backing up to {storage}", deadline=BACKUP_TIME)
        made = sorted(self._archives(vm.node, storage, vm.vmid) - before)
        if not made:
            raise NotFound(f"{self._name}: the backup succeeded, but {storage} shows no new archive")
        self._put(backup_id, {**backup, "upid": "", "volume": made[-1]})

    def _archives(self, node: str, storage: str, vmid: int) -> set[str]:
        return {v.volid for v in self._client.list_volumes(node, storage, "backup") if v.vmid == vmid}

    def _snapshot(self, backup_id: str, vm: Vm) -> None:
        name = f"nixops-{backup_id}"
        upid = self._client.create_snapshot(vm.node, vm.vmid, name, description="a backup made by NixOps")
        backup = {"kind": SNAPSHOT, "node": vm.node, "snapshot": name, "upid": upid}
        self._put(backup_id, backup)
        self._tasks.require(upid, f"{self._name}: taking a snapshot", deadline=BACKUP_TIME)
        self._put(backup_id, {**backup, "upid": ""})

    def _look(self, backup: Backup) -> Backup:
        what = f"{self._name} - {backup.get('volume') or backup.get('snapshot') or backup['storage']}"
        try:
            status = self._status(backup)
        except PveError as error:
            return {"status": "unknown", "info": [f"{what}: {error.message}"]}
        return {"status": status, "info": [what if status == "complete" else f"{what}: {status}"]}

    def _status(self, backup: Backup) -> str:
        node, vmid = backup["node"], self._pursuit.machine.facts.vmid
        if backup["upid"]:
            return (
                "running"
                if self._client.get_task(parse_upid(backup["upid"]).node, backup["upid"]).running
                else "failed"
            )
        if backup["kind"] == VZDUMP:
            there = backup["volume"] in self._archives(node, backup["storage"], vmid)
        else:
            vm = get_vm(self._pursuit.world, self._pursuit.machine)
            there = backup["snapshot"] in self._client.list_snapshots(vm.node, vmid)
        return "complete" if there else "unavailable"

    def _delete(self, backup_id: str, backup: Backup) -> None:
        doing = f"{self._name}: removing the backup {backup_id}"
        try:
            if backup["kind"] == SNAPSHOT:
                vm = get_vm(self._pursuit.world, self._pursuit.machine)
                upid = self._client.delete_snapshot(vm.node, vm.vmid, backup["snapshot"])
            elif backup.get("volume"):
                upid = self._client.delete_volume(backup["node"], backup["volume"])
            else:
                return  # it failed, and vzdump cleans up after itself
            self._tasks.require(upid, doing)
        except NotFound as error:
            self._pursuit.world.reporter.warn(self._pursuit.machine, f"{doing}: {error.message}")

    def _get(self, backup_id: str) -> Backup:
        backup = self._book.record_now.backups.get(backup_id)
        if backup is None or backup["upid"] or not (backup.get("volume") or backup.get("snapshot")):
            have = ", ".join(sorted(self._book.record_now.backups)) or "none"
            raise StateError(f"{self._name}: there is no complete backup {backup_id!r}", hint=f"there are: {have}")
        return backup

    def _put(self, backup_id: str, backup: Backup) -> None:
        self._book.keep(backups={**self._book.record_now.backups, backup_id: backup})
