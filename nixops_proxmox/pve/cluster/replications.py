"""The replication jobs of a cluster, and whether PVE could replicate a VM to a node."""

from collections.abc import Iterator, Mapping, Sequence

from nixops_proxmox.pve.api.answers import GuestSeen, StorageSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.replication import ReplicationState
from nixops_proxmox.pve.wire.properties import drives_of, is_cdrom, storage_of

ZFS = "zfspool"  # the only type that PVE replicates


class ReplicationStore:
    """Satisfies `kinds.replication.kind.ReplicationStore`."""

    def __init__(self, client: PveClient) -> None:
        self._client = client

    def jobs(self) -> Mapping[str, Mapping[str, str]]:
        return self._client.replication.list_jobs()

    def node_of(self, vmid: int, /) -> str:
        guest = self._client.get_resources(0.0).guests.get(vmid)
        return "" if guest is None else guest.node

    def state(self, job: str, node: str, /) -> ReplicationState:
        return self._client.replication.list_states(node).get(job, ReplicationState())

    def why_not(self, vmid: int, target: str, /) -> str:
        seen = self._client.get_resources(0.0)
        guest = seen.guests.get(vmid)
        if guest is None:
            return f"there is no VM {vmid}"
        if target == guest.node:
            return f"VM {vmid} is on {target} itself"
        if all(node.name != target for node in seen.nodes):
            return f"the cluster has no node {target}"
        return next(self._objections(guest, target, seen.storages), "")

    def _objections(self, guest: GuestSeen, target: str, storages: Sequence[StorageSeen]) -> Iterator[str]:
        """Volumes on shared storages, and those that say so, are left out, as PVE does."""
        kinds = {one.storage: one for one in storages}
        there = {one.storage for one in storages if one.node == target}
        copied = 0
        for slot, drive in drives_of(self._client.get_config(guest.node, guest.vmid).values).items():
            volume = drive.get("file", "")
            storage = kinds.get(storage_of(volume))
            if is_cdrom(drive) or drive.get("replicate") == "0" or (storage is not None and storage.shared):
                continue
            copied += 1
            if storage is None or storage.kind != ZFS:
                yield f"{slot} is on {storage_of(volume) or volume}, which is not ZFS: PVE replicates nothing else"
            elif storage.storage not in there:
                yield f"{slot} is on {storage.storage}, which {target} does not have"
        if not copied:
            yield "it has no disk that PVE replicates: all are on shared storages, or say `replicate=0`"

    def create(self, job: str, settings: Mapping[str, str], /) -> None:
        self._client.replication.create(job, settings)

    def change(self, job: str, settings: Mapping[str, str], gone: Sequence[str], /) -> None:
        self._client.replication.change(job, settings, gone)

    def remove(self, job: str, /) -> None:
        """Its node does it later. It passes over jobs that are off, and those whose VM is gone."""
        have = self.jobs().get(job)
        if have is None:
            return
        if not self.node_of(int(job.partition("-")[0])):
            self._client.replication.remove(job, force=True)
        elif have.get("disable") == "1":
            self._client.replication.change(job, {"remove_job": "full"}, ("disable",))
        else:
            self._client.replication.remove(job)
