"""A VM that goes to another node, by an administrator, HA, or this call."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import UNUSED, disk_keys, format_disk, is_cdrom, parse_disk, volume_of
from nixops_proxmox.lab.permissions import ROOT
from nixops_proxmox.lab.refusals import Refused, bad_parameter, die
from nixops_proxmox.lab.replication import refuse_other_target
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.mapped import has_device, local_resources, mapping_of


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
    """Which nodes are allowed is told of a stopped VM; from 9.0 on, also of one that runs."""
    vm.check_lock()
    locals_ = local_volumes(cluster, vm)
    resources, mapped = local_resources(vm)
    found: dict[str, Any] = {
        "running": int(vm.running is not None),
        "local_disks": [_described(vm, key, stored) for key, stored in locals_],
        "local_resources": resources,
    }
    if cluster.release.since(8):
        found["mapped-resources"] = mapped
        found["mapped-resource-info"] = {key: {"name": key} for key in mapped}
    if not vm.running or cluster.release.since(9):
        lacking = {name: _lacks(cluster, vm, name) for name in cluster.nodes if name != vm.node}
        found |= {
            "allowed_nodes": [name for name, lacks in lacking.items() if not lacks],
            "not_allowed_nodes": {name: lacks for name, lacks in lacking.items() if lacks},
        }
    return found


def _lacks(cluster: Cluster, vm: Vm, node: str) -> dict[str, list[str]]:
    """What a node does not have, in PVE's words; mapped devices are told from 8 on."""
    storages, devices = missing_storages(cluster, vm, node), _missing_devices(cluster, vm, node)
    found = {"unavailable_storages": storages} if storages else {}
    return found | ({"unavailable-resources": devices} if devices and cluster.release.since(8) else {})


def _missing_devices(cluster: Cluster, vm: Vm, node: str) -> list[str]:
    """Keys of devices whose mapping names none on the node."""
    return [key for key in local_resources(vm)[1] if not has_device(cluster, node, *mapping_of(vm, key))]


def missing_storages(cluster: Cluster, vm: Vm, node: str) -> list[str]:
    """Storages of the VM that the cluster's configuration does not have on that node."""
    names = {volume_of(vm.config[key]).partition(":")[0] for key in disk_keys(vm.config)}
    storages = cluster.stores.storages
    return sorted(
        name
        for name in names
        if name in storages and (storages[name].disabled or not cluster.stores.is_on(storages[name], node))
    )


def start_migration(cluster: Cluster, auth: Auth, vm: Vm, params: Mapping[str, Any]) -> str:
    target = params["target"]
    if target not in cluster.nodes:
        die(f"no such cluster node '{target}'")
    if target == vm.node:
        raise bad_parameter("target", "target is local node.")
    if not cluster.nodes[target].online:
        die(f"node '{target}' is not online")
    cluster.check_quorum()
    if vm.is_managed:
        return _ask_ha(cluster, auth, vm, target)
    if vm.running and not params.get("online"):
        die("can't migrate running VM without --online")
    if vm.running and not params.get("force"):
        refuse_other_target(cluster, vm.vmid, target)
    vm.check_lock()
    for storage in missing_storages(cluster, vm, target) if "targetstorage" not in params else ():
        die(f"storage '{storage}' is not available on node '{target}'")
    return _start_task(cluster, auth, vm, params)


def _start_task(cluster: Cluster, auth: Auth, vm: Vm, params: Mapping[str, Any]) -> str:
    async def work(log: Log) -> None:
        async with cluster.flocked(vm):
            await migrate(cluster, vm, params["target"], params, log)

    return cluster.tasks.start(vm.node, "qmigrate", str(vm.vmid), auth, work)


def _ask_ha(cluster: Cluster, auth: Auth, vm: Vm, target: str) -> str:
    """Only a request is queued; the node's own HA manager moves the VM a little later, with whatever it has."""

    async def work(log: Log) -> None:
        log.say(f"Requesting HA migration for VM {vm.vmid} to node {target}")
        params = {"target": target, "online": vm.running is not None, "with-local-disks": True}
        _start_task(cluster, Auth(ROOT), vm, params)

    return cluster.tasks.start(vm.node, "hamigrate", str(vm.vmid), auth, work)


async def migrate(cluster: Cluster, vm: Vm, target: str, params: Mapping[str, Any], log: Log) -> None:
    """The VM is locked meanwhile: a worker that is killed leaves the lock, one that fails does not."""
    vm.check_lock()
    vm.config["lock"] = "migrate"
    try:
        await _migrate(cluster, vm, target, params, log)
    except Refused:
        vm.config.pop("lock", None)
        raise
    vm.config.pop("lock", None)
    vm.started.pop("lock", None)


async def _migrate(cluster: Cluster, vm: Vm, target: str, params: Mapping[str, Any], log: Log) -> None:
    log.say(f"starting migration of VM {vm.vmid} to node '{target}' ({cluster.nodes[target].address})")
    resources, mapped = local_resources(vm)
    blocking = [key for key in resources if key not in mapped]
    if blocking:
        die(f"can't migrate VM which uses local devices: {', '.join(blocking)}")
    if mapped and vm.running:
        die(f"can't migrate running VM which uses following mapped devices: {', '.join(mapped)}")
    locals_ = local_volumes(cluster, vm)
    refused = [(stored.volid, why) for key, stored in locals_ if (why := _why_not(vm, key, stored, params))]
    if refused:
        for volid, why in refused:
            log.say(f"can't migrate '{volid}': {why}")
        die("can't migrate VM - check log")
    for key, stored in locals_:
        await _take_along(cluster, vm, key, stored, target, params, log)
    await cluster.clock.sleep(cluster.latency.of_task("qmigrate"))
    cluster.replications.turn(vm.vmid, vm.node, target)
    vm.node = target
    if vm.running:
        log.say("migration status: completed")
    log.say("migration finished successfully (duration 00:00:01)")


def _why_not(vm: Vm, key: str, stored: Stored, params: Mapping[str, Any]) -> str:
    attached = not UNUSED.match(key)
    if attached and is_cdrom(parse_disk(key, vm.config[key])) and "cloudinit" not in stored.volid:
        return "local cdrom image"
    if vm.running and attached and not params.get("with-local-disks"):
        return "can't live migrate attached local disks without with-local-disks option"
    if vm.running and stored.snapshots:
        return "online storage migration not possible if non-replicated snapshot exists"
    return ""


async def _take_along(
    cluster: Cluster, vm: Vm, key: str, stored: Stored, target: str, params: Mapping[str, Any], log: Log
) -> None:
    storage = cluster.stores.get_usable(params.get("targetstorage", stored.storage), target)
    new = await cluster.stores.allocate(
        storage, target, vm.vmid, stored.size, stored.format if stored.format in storage.formats() else "raw"
    )
    live = vm.running and not UNUSED.match(key)
    await (cluster.driver.mirror if live else cluster.driver.copy)(stored.volume, new.volume)
    log.say(f"volume '{stored.volid}' is '{new.volid}' on the target")
    await cluster.stores.free(stored)
    if UNUSED.match(key):
        vm.config[key] = new.volid
    else:
        vm.config[key] = format_disk({**parse_disk(key, vm.config[key]), "file": new.volid})
        if vm.running:
            vm.started[key] = vm.config[key]
