"""Files on storages (ISOs and images): which there are, put there, deleted, and which VMs have them inserted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from nixops_proxmox.core.ports import NoteTask, OnBytes
from nixops_proxmox.errors import NotFound, PermissionDenied, PveRefused
from nixops_proxmox.pve.api.answers import ConfigSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.view import ClusterView
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.wire.properties import MIB
from nixops_proxmox.pve.wire.upload import no_progress, stored_name

UPLOAD, DELETION = "imgcopy", "imgdel"  # PVE's types of the tasks that change a file on a storage
ROOT_RESERVE = 256 * MIB  # of a node's root file system, which an upload leaves free
TARGET = "target file:"  # before the path that an upload's task copies to


class Media:
    """The media of one cluster, for all threads; satisfies `kinds.medium.ports.Media`. `changed` is called with the
    node, storage and content type of each file that came or went."""

    def __init__(
        self, client: PveClient, view: ClusterView, work: Work, changed: Callable[[str, str, str], None]
    ) -> None:
        self._client, self._view, self._work, self._changed = client, view, work, changed

    def sizes(self, node: str, storage: str, content: str) -> Mapping[str, int]:
        """In bytes, by volume ID."""
        return {volume.volid: volume.size for volume in self._client.list_volumes(node, storage, content)}

    def upload(
        self,
        node: str,
        storage: str,
        path: Path,
        note: NoteTask,
        *,
        content: str = "iso",
        filename: str = "",
        progress: OnBytes = no_progress,
    ) -> str:
        """Put a file on a storage, wait, and return its volume ID. PVE replaces an existing file of that name."""
        name = stored_name(filename or path.name)
        self._refuse_crowded(node, name, path.stat().st_size)
        upid = self._client.upload(node, storage, path, content=content, filename=name, progress=progress)
        note(upid)
        self._work.finish(upid, f"uploading {name} to {storage} on {node}")
        self._changed(node, storage, content)
        return f"{storage}:{content}/{name}"

    def _refuse_crowded(self, node: str, name: str, size: int) -> None:
        """PveRefused if the node cannot take the file, which PVE puts into /var/tmp before it goes to its storage. A
        full root file system stops much more than an upload."""
        try:
            free = self._client.get_root_free(node)
        except PermissionDenied:
            return
        if free is not None and size > free - ROOT_RESERVE:
            raise PveRefused(
                f"{name} has {-(-size // MIB)} MiB, and the root file system of {node} has {free // MIB} MiB left:"
                " PVE puts an upload there first; nothing was sent",
                hint=f"make room on {node}, or upload to another node",
            )

    def delete(self, node: str, volume: str, note: NoteTask) -> None:
        """Delete the file and wait. Does nothing if it is gone already."""
        storage, _, rest = volume.partition(":")
        try:
            upid = self._client.delete_volume(node, volume)
        except NotFound:
            return
        note(upid)
        self._work.finish(upid, f"deleting {volume} on {node}")
        self._changed(node, storage, rest.partition("/")[0])

    def find_tasks(self, node: str, volume: str) -> Sequence[str]:
        """The UPIDs of the tasks that run now and may write or delete the file. An upload's task does not name the file
        before it has verified the checksum, and a deletion's task only names the storage."""
        storage, _, rest = volume.partition(":")
        return (*self._uploads(node, rest.rpartition("/")[2]), *self._deletions(node, storage))

    def _uploads(self, node: str, name: str) -> Iterator[str]:
        for task in self._client.list_tasks(node, kind=UPLOAD):
            if task.running and may_write(self._client.task_log(node, task.upid), name):
                yield task.upid

    def _deletions(self, node: str, storage: str) -> Iterator[str]:
        for task in self._client.list_tasks(node, kind=DELETION):
            if task.running and task.id == storage:
                yield task.upid

    def users_of(self, volume: str, node: str = "") -> Sequence[int]:
        """The VMIDs of the VMs that have the file inserted. `node`: the only one that has the file. VMs that the token
        may not see are not among them."""
        guests = self._view.get(0.0).guests.values()
        here = [guest for guest in guests if guest.kind == "qemu" and node in ("", guest.node)]
        return sorted(guest.vmid for guest in here if self._has(guest.node, guest.vmid, volume))

    def _has(self, node: str, vmid: int, volume: str) -> bool:
        try:
            return is_inserted(volume, self._client.get_config(node, vmid))
        except NotFound:  # it was destroyed a moment ago, or moved: a local file is not inserted elsewhere
            return False


def may_write(log: Sequence[str], name: str) -> bool:
    """May the upload's task with that log write the file?"""
    targets = [line for line in log if line.startswith(TARGET)]
    return not targets or any(line.endswith(f"/{name}") for line in targets)


def is_inserted(volume: str, config: ConfigSeen) -> bool:
    """Does the VM have the file now, or from its next start on?"""
    values = (*config.values.values(), *config.active.values())
    return any(value.partition(",")[0].removeprefix("file=") == volume for value in values)
