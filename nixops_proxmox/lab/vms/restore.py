"""Restoring an archive: as a new VM, or over one that is stopped."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import (
    disk_keys,
    format_disk,
    format_nic,
    format_size,
    is_cdrom,
    is_nic,
    parse_disk,
    parse_nic,
)
from nixops_proxmox.lab.firewall import Firewall
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import power
from nixops_proxmox.lab.vms.backup import archived_disk, find_archive, kind_of, read_archive
from nixops_proxmox.lab.vms.create import config_values, join_pool
from nixops_proxmox.lab.vms.disks import Made, allocation_line, refuse_disks_with_archive
from nixops_proxmox.lab.vms.leases import take_addresses
from nixops_proxmox.lab.vms.rights import check_rights


def start_restore(cluster: Cluster, auth: Auth, node: str, params: Mapping[str, Any]) -> str:
    vmid = int(params["vmid"])
    values = config_values({key: value for key, value in params.items() if key != "archive"})
    refuse_disks_with_archive(values)
    check_rights(cluster, auth, vmid, values, pool=params.get("pool"), creating=True)
    archive = find_archive(cluster, auth, node, params["archive"])
    cluster.check_quorum()
    if kind_of(archive) == "lxc":
        die(f"unable to restore VM {vmid} - '{archive.volid}' is no backup of a VM")
    old = cluster.vms.get(vmid)
    if old is not None:
        _check_overwrite(cluster, old, node, params)
        old.config["lock"] = "create"
    vm = old or cluster.claim(vmid, node, lock="create")

    async def work(log: Log) -> None:
        try:
            await _restore(cluster, auth, vm, archive, values, params, log, new=old is None)
        except Refused:
            vm.config.pop("lock", None)
            log.say(
                "error before or during data restore, some or all disks were not completely restored."
                f" VM {vmid} state is NOT cleaned up."
            )
            raise

    return cluster.tasks.start(node, "qmrestore", str(vmid), auth, work)


def _check_overwrite(cluster: Cluster, old: Vm, node: str, params: Mapping[str, Any]) -> None:
    if not params.get("force"):
        cluster.already_there(old.vmid)
    if old.node != node:
        cluster.already_there(old.vmid)
    old.check_lock()
    if old.config.get("protection") == "1":
        die(f"unable to restore VM {old.vmid} - protection mode enabled")
    if old.running:
        die(f"unable to restore VM {old.vmid} - vm is running")


async def _restore(
    cluster: Cluster,
    auth: Auth,
    vm: Vm,
    archive: Stored,
    values: dict[str, str],
    params: Mapping[str, Any],
    log: Log,
    *,
    new: bool,
) -> None:
    """What stood there is gone as soon as the archive's header was read: if the rest fails, an empty VM is left."""
    content = read_archive(archive)
    config: dict[str, str] = dict(content["config"])
    log.say(f"restore vma archive: {archive.shown}")
    _restore_firewall(cluster, vm, content)
    for key in content["disks"]:  # before anything is lost
        cluster.stores.get_usable(_storage_for(key, config, params), vm.node)
    if not new:
        await _clear(cluster, vm)
    made = Made()
    try:
        for key in disk_keys(config):
            if key in content["disks"]:
                config[key] = await _restore_disk(
                    cluster, vm, archive, key, config[key], content["disks"][key], params, made, log
                )
            elif not is_cdrom(parse_disk(key, config[key])):
                del config[key]
    except Refused:
        await made.undo(cluster)
        raise
    if params.get("unique"):
        _make_unique(cluster, config)
    vm.config = {**config, **values}  # what the caller says wins, also over what is made unique
    vm.config["vmgenid"] = cluster.new_uuid()
    if new:
        take_addresses(cluster, vm, log)
    join_pool(cluster, vm, params.get("pool"))
    if params.get("start"):
        power.begin_start(cluster, auth, vm)


async def _clear(cluster: Cluster, vm: Vm) -> None:
    for volid in vm.volids():
        if stored := cluster.stores.find(volid, vm.node):
            await cluster.stores.free(stored)
    vm.snapshots.clear()
    vm.config = {"lock": "create", "memory": "128"}


def _make_unique(cluster: Cluster, config: dict[str, str]) -> None:
    for key in [key for key in config if is_nic(key)]:
        config[key] = format_nic({**parse_nic(config[key]), "macaddr": cluster.new_mac()})
    if "smbios1" in config:
        uuid = {**properties.split(config["smbios1"]), "uuid": cluster.new_uuid()}
        config["smbios1"] = ",".join(f"{key}={value}" for key, value in uuid.items())


def _restore_firewall(cluster: Cluster, vm: Vm, content: Mapping[str, Any]) -> None:
    """Before the disks: what fails later leaves it. An archive without one changes nothing."""
    if "firewall" in content:
        cluster.vm_firewalls[vm.vmid] = Firewall(**content["firewall"])


def _storage_for(key: str, config: Mapping[str, str], params: Mapping[str, Any]) -> str:
    return str(params.get("storage") or parse_disk(key, config[key])["file"].partition(":")[0])


async def _restore_disk(
    cluster: Cluster,
    vm: Vm,
    archive: Stored,
    key: str,
    value: str,
    saved: Mapping[str, Any],
    params: Mapping[str, Any],
    made: Made,
    log: Log,
) -> str:
    disk = parse_disk(key, value)
    storage = cluster.stores.get_usable(_storage_for(key, {key: value}, params), vm.node)
    source = archived_disk(archive, key, saved)
    format = source.format if source.format in storage.formats() else "raw"
    stored = await cluster.stores.allocate(storage, vm.node, vm.vmid, source.size, format)
    made.volumes.append(stored)
    log.say(allocation_line(storage, stored))
    log.say(f"new volume ID is '{stored.volid}'")
    await cluster.driver.copy(source, stored.volume)
    return format_disk({**disk, "file": stored.volid, "size": format_size(stored.size)})
