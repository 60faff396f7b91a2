"""Snapshots and backups of VMs: which there are, made, deleted, and put in a VM's place."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import NotFound
from nixops_proxmox.model import Archive, Facts
from nixops_proxmox.pve.api.answers import StorageSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.guest_kinds import VMS, GuestKind
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.vm.parking import refuse_to_lose_volumes
from nixops_proxmox.spelling import Verb, command

MARK = "nixops-proxmox "  # before the machine's UUID in an archive's notes


class Saves:
    """Snapshots and backups of one cluster, for all threads; satisfies `kinds.machine.ports.Saves`."""

    def __init__(
        self, client: PveClient, view: ClusterView, finder: VmFinder, work: Work, kind: GuestKind = VMS
    ) -> None:
        self._client, self._view, self._finder, self._work, self._kind = client, view, finder, work, kind

    # Snapshots

    def snapshots(self, facts: Facts) -> Mapping[str, bool]:
        """By name, the oldest first: is it complete?"""
        found = self._client.describe_snapshots(self._finder.node_of(facts), facts.vmid)
        return {one.name: not one.state for one in found}

    def can_snapshot(self, facts: Facts) -> bool:
        return self._client.can_snapshot(self._finder.node_of(facts), facts.vmid)

    def uuid_in_snapshot(self, facts: Facts, name: str) -> str:
        if self._kind is not VMS:  # a snapshot keeps no notes, and goes with its container
            return facts.uuid
        config = self._client.get_config(self._finder.node_of(facts), facts.vmid, snapshot=name)
        return self._kind.uuid_of(config.values)

    def take_snapshot(self, facts: Facts, name: str, note: NoteTask, *, description: str, ram: bool) -> None:
        def post(node: str) -> str:
            return self._client.create_snapshot(node, facts.vmid, name, description=description, ram=ram)

        self._run("snapshot", facts, post, f"taking the snapshot {name}", note)

    def delete_snapshot(self, facts: Facts, name: str, note: NoteTask) -> None:
        def post(node: str) -> str:
            return self._client.delete_snapshot(node, facts.vmid, name)

        self._run("delsnapshot", facts, post, f"deleting the snapshot {name}", note)

    def return_to_snapshot(self, facts: Facts, name: str, note: NoteTask) -> None:
        def post(node: str) -> str:
            return self._client.roll_back(node, facts.vmid, name)

        self._run("rollback", facts, post, f"returning to the snapshot {name}", note)

    def _run(self, task: str, facts: Facts, post: Callable[[str], str], doing: str, note: NoteTask) -> None:
        self.run_task(f"{self._kind.prefix}{task}", facts, post, f"{self._kind.word} {facts.vmid}: {doing}", note)

    # Backups

    def archives(self, facts: Facts) -> Sequence[Archive]:
        """Every archive of the machine's VMID on every storage that takes backups, the oldest first."""
        found = {}
        for place in self._backup_places():
            for volume in self._client.list_volumes(place.node, place.storage, "backup"):
                if volume.vmid == facts.vmid and not re.search(self._kind.others_archives, volume.volid):
                    ours = f"{MARK}{facts.uuid}" in volume.notes
                    found[place.only_node, volume.volid] = Archive(
                        volume.volid, place.node, volume.size, volume.created, ours, place.shared
                    )
        return tuple(sorted(found.values(), key=lambda archive: (archive.created, archive.volume)))

    def choose_storage(self, facts: Facts) -> str:
        """Where to back the VM up to: shared before local, then the most room. NotFound if no storage takes backups."""
        node = self._finder.node_of(facts)
        fitting = [place for place in self._backup_places() if place.shared or place.node == node]
        if not fitting:
            raise NotFound(
                f"no storage on {node} takes backups",
                hint=f"enable the content type for backups on one; {command(Verb.DOCTOR)} shows them",
            )
        return max(fitting, key=lambda place: (place.shared, place.free)).storage

    def back_up(self, facts: Facts, storage: str, mode: str, note: NoteTask) -> None:
        notes = f"{{{{guestname}}}} {MARK}{facts.uuid}"

        def post(node: str) -> str:
            return self._client.back_up(node, facts.vmid, storage, mode=mode, notes=notes)

        self.run_task("vzdump", facts, post, f"{self._kind.word} {facts.vmid}: backing up to {storage}", note)

    def delete_archive(self, node: str, volume: str, note: NoteTask) -> None:
        """NotFound if there is none."""
        upid = self._client.delete_volume(node, volume)
        note(upid)
        self._work.finish(upid, f"deleting {volume}")

    def restore(self, facts: Facts, archive: Archive, note: NoteTask, *, over: str, storage: str = "") -> None:
        """Make the VM as it is in the archive. `over`: the UUID of the VM that stands there. Empty: none does, but
        perhaps what a restore of ours left that failed. `storage`: for all of its disks. Empty: each goes where it
        was."""
        doing = f"{self._kind.word} {facts.vmid}: restoring {archive.volume}"
        if over:
            vm = self._finder.find(replace(facts, uuid=over))
            if vm is not None:
                refuse_to_lose_volumes(vm, "overwritten")
            post = partial(self._post_restore, facts, archive, storage, force=True)
            self.run_task(self._kind.task("qmrestore"), replace(facts, uuid=over), post, doing, note)
            return

        def noted(upid: str) -> None:
            self._finder.note_restore(facts.vmid, upid)
            note(upid)

        def anew() -> str:
            again = bool(self._finder.find_remains(facts))
            return self._post_restore(facts, archive, storage, archive.node, force=again)

        self._finder.expect(facts.vmid)
        try:
            self._work.run(self._kind.task("qmrestore"), archive.node, facts.vmid, anew, noted, doing)
        finally:
            self._finder.forget(facts.vmid)

    def _post_restore(self, facts: Facts, archive: Archive, storage: str, node: str, *, force: bool) -> str:
        return self._client.restore_vm(node, facts.vmid, archive.volume, storage=storage, force=force)

    # How.

    def _backup_places(self) -> Iterator[StorageSeen]:
        """The storages that take backups. A shared storage comes once."""
        seen = set()
        for place in self._view.get(VIEW_AGE).storages:
            key = (place.storage, place.only_node)
            if place.available and "backup" in place.content and key not in seen:
                seen.add(key)
                yield place

    def run_task(self, kind: str, facts: Facts, post: Callable[[str], str | None], doing: str, note: NoteTask) -> None:
        """Have PVE do something with our VM in a task of type `kind`, and wait. `post` gets the VM's node."""
        node = self._finder.node_of(facts)
        try:
            self._work.run(kind, node, facts.vmid, lambda: post(node) or "", note, doing)
        finally:
            self._finder.forget(facts.vmid)  # it may be configured otherwise, and run now, or not any more
        self._finder.learn(facts, node, self._finder.live_power(node, facts.vmid))
