"""NixOps's backups of a machine: vzdump archives where a storage takes them, snapshots where none does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nixops_proxmox.errors import ConfigError, NeedsPermission, NotFound, PveError, StateError
from nixops_proxmox.nixops2.book import Book
from nixops_proxmox.operations import backups as of_machines
from nixops_proxmox.operations import restoring
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor

VZDUMP, SNAPSHOT = "vzdump", "snapshot"

Backup = Mapping[str, Any]  # kind; snapshot, or volume and node once the archive is there


class Backups:
    """Those of one machine, by NixOps's ID: the record says what each of them is on the hypervisor."""

    def __init__(self, hypervisor: PveHypervisor, pursuit: Pursuit, book: Book) -> None:
        self._hypervisor, self._pursuit, self._book = hypervisor, pursuit, book
        self._name = pursuit.machine.name

    def make(self, backup_id: str, devices: Sequence[str]) -> None:
        if devices:
            raise ConfigError(
                f"{self._name}: a backup contains the whole machine, not only {', '.join(devices)}",
                hint="leave --devices out; a disk with `backup = false` is not in it",
            )
        if any(storage.available and "backup" in storage.content for storage in self._hypervisor.resources().storages):
            self._put(backup_id, {"kind": VZDUMP})
            archive = of_machines.back_up(self._pursuit)
            self._put(backup_id, {"kind": VZDUMP, "volume": archive.volume, "node": archive.node})
        else:
            name = f"nixops-{backup_id}"
            self._put(backup_id, {"kind": SNAPSHOT, "snapshot": name})
            of_machines.take_snapshot(self._pursuit, name, description="a backup made by NixOps")

    def find(self) -> dict[str, Backup]:
        """By ID, as NixOps wants it: `status` and `info`."""
        kept = self._book.record_now.backups
        try:
            there = self._there() if kept else set()
        except PveError as error:
            return {one: {"status": "unknown", "info": [f"{self._name}: {error.message}"]} for one in kept}
        return {one: self._told(backup, there) for one, backup in kept.items()}

    def restore(self, backup_id: str | None, devices: Sequence[str], confirm: Callable[[str], bool]) -> None:
        """Restore the newest, unless one is named. Look at it, and then ask. NixOps starts the machine afterwards, if
        it does not run."""
        if devices:
            raise ConfigError(f"{self._name}: a restore replaces the whole machine, not only {', '.join(devices)}")
        chosen = backup_id or max(self._book.record_now.backups, default="")
        backup = self._book.record_now.backups.get(chosen)
        if backup is None or not _place(backup):
            have = ", ".join(sorted(self._book.record_now.backups)) or "none"
            raise StateError(f"{self._name}: there is no complete backup {chosen!r}", hint=f"there are: {have}")
        archive = backup["kind"] == VZDUMP
        if archive:
            self._prove(backup["volume"], f"take another of its backups: {self._others()}")
        else:
            of_machines.prove_snapshot(self._pursuit, backup["snapshot"])
        if not confirm(
            f"are you sure you want to restore ‘{self._name}’ from {_place(backup)}, and lose what is on its disks now?"
        ):
            raise NeedsPermission(
                f"{self._name}: it was not restored, because you did not agree", hint="answer y, or add --confirm"
            )
        if archive:
            restoring.restore(self._hypervisor, self._pursuit, backup["volume"])
        else:
            of_machines.return_to_snapshot(self._pursuit, backup["snapshot"])

    def remove(self, backup_id: str, *, keep_physical: bool) -> None:
        """One that the record has; not every machine of the network has each."""
        backup = self._book.record_now.backups[backup_id]
        if _place(backup) and not keep_physical:
            self._delete(backup)
        left = {name: kept for name, kept in self._book.record_now.backups.items() if name != backup_id}
        self._book.keep(backups=left)

    # How.

    def _prove(self, volume: str, hint: str) -> None:
        """Check that the archive holds this machine, because another one may have been put there under its name
        since."""
        try:
            restoring.choose_archive(self._hypervisor, self._pursuit.machine, volume)
        except NeedsPermission as error:
            raise NeedsPermission(error.message, hint=hint) from error

    def _others(self) -> str:
        return ", ".join(sorted(self._book.record_now.backups)) or "there is none"

    def _there(self) -> set[str]:
        """Every snapshot and every archive that the hypervisor has of the machine."""
        found = {one.volume for one in of_machines.list_archives(self._hypervisor, self._pursuit.machine.facts)}
        if any(backup["kind"] == SNAPSHOT for backup in self._book.record_now.backups.values()):
            found |= {one.name for one in of_machines.list_snapshots(self._hypervisor, self._pursuit)}
        return found

    def _told(self, backup: Backup, there: set[str]) -> Backup:
        what = f"{self._name} - {_place(backup) or backup['kind']}"
        if _place(backup) in there:
            return {"status": "complete", "info": [what]}
        why = "gone" if _place(backup) else "interrupted while it was taken"
        return {"status": "unavailable", "info": [f"{what}: {why}"]}

    def _delete(self, backup: Backup) -> None:
        try:
            if backup["kind"] == SNAPSHOT:
                of_machines.delete_snapshot(self._pursuit, backup["snapshot"])
            else:
                self._prove(
                    backup["volume"], "`nixops remove-backup --keep-physical` removes the entry and leaves the file"
                )
                of_machines.delete_backup(self._pursuit, backup["node"], backup["volume"])
        except NotFound as error:
            self._pursuit.world.reporter.warn(self._pursuit.machine, error.message)

    def _put(self, backup_id: str, backup: Backup) -> None:
        self._book.keep(backups={**self._book.record_now.backups, backup_id: backup})


def _place(backup: Backup) -> str:
    """The snapshot's name or the archive's volume ID. Empty for an archive that was not finished."""
    place: str = backup.get("volume") or backup.get("snapshot") or ""
    return place
