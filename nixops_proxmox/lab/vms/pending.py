"""Pending changes: what waits for a full stop, and making it so."""

import re

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import UNUSED, is_cdrom, is_disk, is_nic, parse_disk, volume_of
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.leases import nic_changes, nic_goes


async def apply_pending(cluster: Cluster, vm: Vm, keys: set[str] | None = None) -> None:
    """Make pending deletions and values active; `keys`: only these."""
    for key in [key for key in vm.deleted if keys is None or key in keys]:
        force = vm.deleted.pop(key)
        await delete_key(cluster, vm, key, force=force)
    for key in [key for key in vm.pending if keys is None or key in keys]:
        value = vm.pending.pop(key)
        if is_disk(key):
            keep_old_volume(vm, key, value)
        if key == "boot" and "order=" in value:
            vm.config.pop("bootdisk", None)
        if is_nic(key):
            nic_changes(cluster, vm, vm.config.get(key, ""), value)
        vm.config[key] = value


def keep_old_volume(vm: Vm, key: str, value: str) -> None:
    """A disk that is replaced by another becomes unused: its data stays."""
    old = vm.config.get(key)
    if old is None or volume_of(old) in ("", volume_of(value)):
        return
    if not is_cdrom(parse_disk(key, old)):
        add_unused(vm, volume_of(old))


def add_unused(vm: Vm, volid: str) -> None:
    if any(UNUSED.match(key) and volume_of(value) == volid for key, value in vm.config.items()):
        return
    number = next(n for n in range(256) if f"unused{n}" not in vm.config)
    vm.config[f"unused{number}"] = volid


def forget_unused(vm: Vm, volid: str) -> None:
    """A volume that is attached again is unused no more."""
    for key in [key for key, value in vm.config.items() if UNUSED.match(key) and volume_of(value) == volid]:
        del vm.config[key]


async def delete_key(cluster: Cluster, vm: Vm, key: str, *, force: bool) -> None:
    value = vm.config.get(key)
    if value is None:
        return
    volid = volume_of(value)
    if UNUSED.match(key):
        await _free(cluster, vm, volid)
    elif is_disk(key) and volid:
        disk = parse_disk(key, value)
        if "cloudinit" in volid or (force and not is_cdrom(disk)):
            await _free(cluster, vm, volid)
        elif not is_cdrom(disk):
            add_unused(vm, volid)
    if is_nic(key):
        nic_goes(cluster, vm.config[key])
    del vm.config[key]


async def _free(cluster: Cluster, vm: Vm, volid: str) -> None:
    if is_in_snapshot(vm, volid):
        die(f"unable to delete '{volid}' - volume is still in use (snapshot?)")
    stored = cluster.stores.find(volid, vm.node)
    if stored is not None:
        cluster.stores.check_unused_base(stored)
        await cluster.stores.free(stored)


def is_in_snapshot(vm: Vm, volid: str) -> bool:
    """Does a snapshot of the VM refer to the volume?"""
    configs = (snapshot.config for snapshot in vm.snapshots.values())
    return any(re.search(re.escape(volid) + r"(?![\w.-])", value) for config in configs for value in config.values())
