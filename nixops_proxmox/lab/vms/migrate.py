"""A VM that goes to another node, by an administrator, HA, or this call."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import UNUSED, disk_keys, format_disk, is_cdrom, parse_disk, volume_of
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm


def local_volumes(cluster: Cluster, vm: Vm) -> list[tuple[str, Stored]]:
    """Key and volume of what lies on storages that are not shared."""
    found = []
    for key, value in vm.config.items():
        if key in disk_keys(vm.config) or UNUSED.match(key):
            stored = cluster.stores.find(volume_of(value), vm.node)
            if stored is not None and not cluster.stores.get(stored.storage).shared:
                found.append((key, stored))
    return sorted(found, key=lambda item: item[0])


def _described(vm: Vm, key: str, stored: Stored) -> dict[str, Any]:
    unused = UNUSED.match(key) is not None
    found: dict[str, Any] = {
        "volid": stored.volid,
        "shared": 0,
        "replicate": 1,
        "is_attached": int(not unused),
        "is_unused": int(unused),
        "is_vmstate": 0,
        "is_tpmstate": int(key == "tpmstate0"),
        "cdrom": int(not unused and is_cdrom(parse_disk(key, vm.config[key]))),
    }
    return found if unused else {**found, "drivename": key, "size": stored.size}


def preconditions(cluster: Cluster, vm: Vm) -> dict[str, Any]:
    locals_ = local_volumes(cluster, vm)
    disks = [_described(vm, key, stored) for key, stored in locals_]
    found: dict[str, Any] = {
        "running": int(vm.running is not None),
        "local_disks": disks,
        "local_resources": [],
        "mapped-resources": [],
        "mapped-resource-info": {},
    }
    if not vm.running:
        others = [name for name, node in cluster.nodes.items() if name != vm.node and node.online]
        found |= {"allowed_nodes": others, "not_allowed_nodes": {}}
    return found


def start_migration(cluster: Cluster, auth: Auth, vm: Vm, params: Mapping[str, Any]) -> str:
    target = params["target"]
    if target not in cluster.nodes:
        die(f"no such cluster node '{target}'")
    if target == vm.node:
        raise bad_parameter("target", "target is local node.")
    if not cluster.nodes[target].online:
        die(f"node '{target}' is not online")
    cluster.check_quorum()
    if vm.running and not params.get("online"):
        die("can't migrate running VM without --online")
    vm.check_lock()

    async def work(log: Log) -> None:
        async with cluster.flocked(vm):
            await migrate(cluster, vm, target, params, log)

    return cluster.tasks.start(vm.node, "qmigrate", str(vm.vmid), auth, work)


async def migrate(cluster: Cluster, vm: Vm, target: str, params: Mapping[str, Any], log: Log) -> None:
    log.say(f"starting migration of VM {vm.vmid} to node '{target}' ({cluster.nodes[target].address})")
    locals_ = local_volumes(cluster, vm)
    for key, stored in locals_:
        cdrom = not UNUSED.match(key) and is_cdrom(parse_disk(key, vm.config[key])) and "cloudinit" not in stored.volid
        if cdrom:
            die(f"can't migrate local cdrom drive: {stored.volid}")
        if vm.running and not params.get("with-local-disks"):
            die(f"can't live migrate attached local disks without with-local-disks option: {stored.volid}")
        if stored.snapshots and vm.running:
            die(f"can't migrate VM with snapshots on local disks: {stored.volid}")
    for key, stored in locals_:
        await _take_along(cluster, vm, key, stored, target, params, log)
    vm.node = target
    if vm.running:
        log.say("migration status: completed")
    log.say("migration finished successfully (duration 00:00:01)")


async def _take_along(
    cluster: Cluster, vm: Vm, key: str, stored: Stored, target: str, params: Mapping[str, Any], log: Log
) -> None:
    storage = cluster.stores.get_usable(params.get("targetstorage", stored.storage), target)
    new = await cluster.stores.allocate(
        storage, target, vm.vmid, stored.size, stored.format if stored.format in storage.formats() else "raw"
    )
    await cluster.driver.copy(stored.volume, new.volume)
    log.say(f"volume '{stored.volid}' is '{new.volid}' on the target")
    await cluster.stores.free(stored)
    if UNUSED.match(key):
        vm.config[key] = new.volid
    else:
        vm.config[key] = format_disk({**parse_disk(key, vm.config[key]), "file": new.volid})
        if vm.running:
            vm.started[key] = vm.config[key]
