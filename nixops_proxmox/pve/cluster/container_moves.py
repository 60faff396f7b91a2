"""Our containers taken to other nodes. One that runs is stopped for it, and started there: PVE has no live way."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.model import Power, Transfer, Vm
from nixops_proxmox.pve.api.answers import ClusterResources, GuestSeen, LocalDisk, MigrationSeen
from nixops_proxmox.pve.cluster.moves import MigrationLook, Moves
from nixops_proxmox.pve.cluster.placement import find_storage
from nixops_proxmox.pve.vm.container import mounts_of
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import parse_size, set_aside, storage_of

TAKEN_ALONG = {"zfspool", "btrfs"}  # storages whose snapshots PVE copies with their volumes
DOWN = "it is stopped, copied and started there: it does not answer until then"


class ContainerMoves(Moves):
    """Before 9.2, PVE tells nothing of a container's migration: what forbids it is read from its configuration."""

    task, word = "vzmigrate", "container"

    @override
    def _look(self, vm: Vm) -> MigrationLook:
        seen = self._placer.look_again()
        disks = tuple(_local_disks(vm, seen))
        kinds = {_kind(vm, seen, disk.volid) for disk in disks}
        snapshots = self._client.list_snapshots(vm.node, vm.vmid) if kinds - TAKEN_ALONG else ()
        why = f"its volumes are on {vm.node} alone and have snapshots ({', '.join(snapshots)}), which PVE does not copy"
        refused = {node.name: (why,) for node in seen.nodes} if snapshots else {}
        return MigrationLook(vm, seen, MigrationSeen(vm.power is Power.RUNNING, disks, refused=refused), ())

    @override
    def _migration(self, look: MigrationLook, target: str) -> Transfer:
        way = super()._migration(look, target)
        return replace(way, live=False, told=(*way.told, DOWN) if look.told.running else way.told)

    @override
    def _restricted(self, look: MigrationLook, target: str) -> Iterator[str]:
        yield from (f"{key} is a folder or a device of {look.vm.node}" for key in _bound(look.vm))
        yield from self._limits(look).reasons.get(target, ())

    @override
    def _params(self, migration: Transfer, *, running: bool) -> dict[str, Value]:
        return {"restart": True} if running else {}

    @override
    def _has_arrived(self, guest: GuestSeen, *, ran: bool) -> bool:
        """HA starts it in a round of its own, after the one in which it moved it."""
        return not guest.lock and (guest.status == "running" or not ran)


def _local_disks(vm: Vm, seen: ClusterResources) -> Iterator[LocalDisk]:
    """The volumes that PVE copies: those of storages that are not shared."""
    sizes = {mount.get("volume", ""): parse_size(mount.get("size", "")) for mount in mounts_of(vm.config).values()}
    for volume in (*sizes, *set_aside(vm.config).values()):
        storage = find_storage(seen, vm.node, storage_of(volume))
        if storage is not None and not storage.shared:
            yield LocalDisk(volume, sizes.get(volume) or 0, cdrom=False)


def _kind(vm: Vm, seen: ClusterResources, volume: str) -> str:
    storage = find_storage(seen, vm.node, storage_of(volume))
    return "" if storage is None else storage.kind


def _bound(vm: Vm) -> Iterator[str]:
    """Folders and devices of the node, unless root has said that all nodes have them."""
    mounts: Mapping[str, Mapping[str, str]] = mounts_of(vm.config)
    for key, mount in mounts.items():
        if not storage_of(mount.get("volume", "")) and mount.get("shared") != "1":
            yield key
