"""Clones, templates, and disks that move between storages."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import (
    UNUSED,
    disk_keys,
    format_disk,
    format_nic,
    format_size,
    is_cdrom,
    is_nic,
    parse_disk,
    parse_nic,
)
from nixops_proxmox.lab.refusals import PARAMETERS, Refused, bad_parameter, die
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.storage import Storage, Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.change import Change, apply_change, raise_problems
from nixops_proxmox.lab.vms.create import join_pool
from nixops_proxmox.lab.vms.disks import Made, allocation_line, firmware_size, say_transfer
from nixops_proxmox.lab.vms.leases import take_addresses
from nixops_proxmox.lab.vms.pending import add_unused, is_in_snapshot
from nixops_proxmox.lab.vms.rights import check_bridges
from nixops_proxmox.lab.vms.snapshots import hard_disks

DROPPED = ("lock", "parent", "template", "snaptime", "vmstate", "description")


def start_clone(cluster: Cluster, auth: Auth, source: Vm, params: Mapping[str, Any]) -> str:
    newid, target = int(params["newid"]), params.get("target", source.node)
    full = params.get("full", not source.is_template) or (not source.is_template and "full" not in params)
    if target not in cluster.nodes:
        die(f"no such cluster node '{target}'")
    cluster.check_quorum()
    source.check_lock()
    config = _source_config(source, params.get("snapname"))
    _check_storages(cluster, auth, source, config, params, target, full=full)
    check_bridges(cluster, auth, config)
    if newid in cluster.vms:
        die(f"unable to create VM {newid}: config file already exists")
    vm = cluster.claim(newid, target, lock="clone")
    if source.vmid in cluster.vm_firewalls:
        cluster.vm_firewalls[newid] = cluster.vm_firewalls[source.vmid].copy()
    else:
        cluster.vm_firewalls.pop(newid, None)

    async def work(log: Log) -> None:
        await _clone(cluster, source, vm, config, params, log, full=full)

    return cluster.tasks.start(source.node, "qmclone", str(source.vmid), auth, work)


def _source_config(source: Vm, snapshot: str | None) -> dict[str, str]:
    if snapshot is None or snapshot == "current":
        return dict(source.config)
    if snapshot not in source.snapshots:
        die(f"snapshot '{snapshot}' does not exist")
    return dict(source.snapshots[snapshot].config)


def _check_storages(
    cluster: Cluster,
    auth: Auth,
    source: Vm,
    config: Mapping[str, str],
    params: Mapping[str, Any],
    target: str,
    *,
    full: bool,
) -> None:
    stores = cluster.stores
    for name in ("storage", "format"):
        if name in params and not full:
            die(f"parameter '{name}' not allowed for linked clones")
    if "storage" in params:
        storage = stores.get_usable(params["storage"], target)
        if "images" not in storage.content:
            raise bad_parameter("storage", f"storage '{storage.name}' does not support vm images")
        if target != source.node and not storage.shared:
            die("can't clone to non-shared storage '" + storage.name + "'")
    for key in disk_keys(config):
        disk = parse_disk(key, config[key])
        stored = stores.find(disk["file"], source.node)
        if stored is None:
            continue
        if target != source.node and not stores.get(stored.storage).shared:
            die(f"can't clone VM to node '{target}' (VM uses local storage)")
        if is_cdrom(disk) and "cloudinit" not in stored.volid:
            continue
        if (
            not full
            and key not in ("efidisk0", "tpmstate0")
            and "cloudinit" not in stored.volid
            and not stores.can_link(stored)
        ):
            die(f"Linked clone feature is not supported for '{stored.volid}' ({key})")
        cluster.require(auth, f"/storage/{params.get('storage', stored.storage)}", "Datastore.AllocateSpace")


async def _clone(
    cluster: Cluster, source: Vm, vm: Vm, config: dict[str, str], params: Mapping[str, Any], log: Log, *, full: bool
) -> None:
    made = Made()
    new = {key: value for key, value in config.items() if key not in DROPPED and not UNUSED.match(key)}
    try:
        async with cluster.flocked(source, 1.0):
            for key in disk_keys(config):
                new[key] = await _clone_disk(
                    cluster, source, vm, key, parse_disk(key, config[key]), params, made, log, full=full
                )
    except Refused as refusal:
        await made.undo(cluster)
        cluster.drop(vm)
        raise Refused(500, f"clone failed: {refusal.text}") from refusal
    for key in [key for key in new if is_nic(key)]:
        new[key] = format_nic({**parse_nic(new[key]), "macaddr": cluster.new_mac()})
    smbios = properties.split(new.get("smbios1", ""))
    smbios["uuid"] = cluster.new_uuid()
    new["smbios1"] = ",".join(f"{key}={smbios[key]}" for key in sorted(smbios))
    new["vmgenid"] = cluster.new_uuid()
    new["name"] = params.get("name") or f"Copy-of-VM-{source.config.get('name', source.vmid)}"
    if params.get("description"):
        new["description"] = str(params["description"]).rstrip()
    vm.config = new
    take_addresses(cluster, vm, log)
    join_pool(cluster, vm, params.get("pool"))


async def _clone_disk(
    cluster: Cluster,
    source: Vm,
    vm: Vm,
    key: str,
    disk: dict[str, str],
    params: Mapping[str, Any],
    made: Made,
    log: Log,
    *,
    full: bool,
) -> str:
    stores = cluster.stores
    old = stores.find(disk["file"], source.node)
    if old is None or (is_cdrom(disk) and "cloudinit" not in old.volid):
        return format_disk(disk)
    link = not full and key not in ("efidisk0", "tpmstate0") and "cloudinit" not in old.volid
    if link:
        log.say(f"create linked clone of drive {key} ({old.volid})")
        stored = await link_volume(cluster, old, vm, log)
    else:
        storage = stores.get_usable(params.get("storage", old.storage), vm.node)
        log.say(f"create full clone of drive {key} ({old.volid})")
        stem = "cloudinit" if "cloudinit" in old.volid else ""
        stored = await copy_volume(cluster, old, storage, vm, params.get("format"), log, stem=stem)
    made.volumes.append(stored)
    return format_disk({**disk, "file": stored.volid, **({} if is_cdrom(disk) else {"size": format_size(stored.size)})})


async def copy_volume(
    cluster: Cluster,
    old: Stored,
    storage: Storage,
    vm: Vm,
    format: str | None,
    log: Log,
    *,
    stem: str = "",
    size: int = 0,
    live: bool = False,
) -> Stored:
    """`size`: the copy's, if it is not that of the original. `live`: the running VM goes on with the copy."""
    wanted = format or (old.format if old.format in storage.formats() else "raw")
    stored = await cluster.stores.allocate(
        storage, vm.node, vm.vmid, size or old.size, wanted if storage.on_files else "raw", stem=stem
    )
    log.say(allocation_line(storage, stored))
    await (cluster.driver.mirror if live else cluster.driver.copy)(old.volume, stored.volume)
    say_transfer(log, stored.size)
    return stored


async def link_volume(cluster: Cluster, base: Stored, vm: Vm, log: Log) -> Stored:
    """Directories keep the base in the new volume's name; LVM-thin does not."""
    stores = cluster.stores
    storage = stores.get(base.storage)
    async with stores.locked(storage, vm.node):
        name = stores.free_name(storage, vm.node, vm.vmid, base.format)
        base_name = base.volid.partition(":")[2]
        stored = stores.record(
            storage,
            vm.node,
            f"{base_name}/{name}" if storage.on_files else name,
            size=base.size,
            format=base.format,
            content="images",
            vmid=vm.vmid,
        )
        stored.parent = base.volid
        await cluster.driver.link(base.volume, stored.volume)
    if storage.on_files:
        file = name.partition("/")[2]
        log.say(f"clone {base_name}: images, {file}, {vm.vmid} to {file} (base=../{base_name})")
        log.say(
            f"Formatting '{stored.shown}', fmt=qcow2 cluster_size=65536 extended_l2=off compression_type=zlib "
            f"size={stored.size} backing_file=../{base_name} backing_fmt=qcow2 lazy_refcounts=off refcount_bits=16"
        )
    else:
        log.say(f'  Logical volume "{name}" created.')
    return stored


# Templates.


def start_template(cluster: Cluster, auth: Auth, vm: Vm, only: str | None) -> str:
    cluster.check_quorum()
    vm.check_lock()
    if vm.snapshots:
        die("unable to create template, because VM contains snapshots")
    if vm.is_template and not only:
        die("you can't convert a template to a template")
    if vm.running:
        die("you can't convert a VM to template if VM is running")

    async def work(log: Log) -> None:
        async with cluster.flocked(vm):
            vm.config["template"] = "1"
            for key, stored in hard_disks(cluster, vm).items():
                if only in (None, key) and cluster.stores.can_snapshot(stored):
                    base = cluster.stores.make_base(stored)
                    vm.config[key] = format_disk({**parse_disk(key, vm.config[key]), "file": base.volid})
                    if not cluster.stores.get(base.storage).on_files:
                        before, after = stored.volid.partition(":")[2], base.volid.partition(":")[2]
                        log.say(f'  Renamed "{before}" to "{after}" in volume group "pve"')

    return cluster.tasks.start(vm.node, "qmtemplate", str(vm.vmid), auth, work)


# Moving one disk.


def start_move(cluster: Cluster, auth: Auth, vm: Vm, params: Mapping[str, Any]) -> str:
    if "target-vmid" in params:
        return _start_reassign(cluster, auth, vm, params)
    if "storage" not in params:
        text = "both 'storage' and 'target-vmid' missing, either needs to be set"
        raise Refused(400, PARAMETERS, {"target-vmid": text, "storage": text})
    storage = cluster.stores.get(params["storage"])
    if "images" not in storage.content:
        raise bad_parameter("storage", f"storage '{storage.name}' does not support vm images")
    _check_move(cluster, vm, storage, params)

    async def work(log: Log) -> None:
        async with cluster.flocked(vm):
            await _move(cluster, vm, storage, params, log)

    return cluster.tasks.start(vm.node, "qmmove", str(vm.vmid), auth, work)


def _check_move(cluster: Cluster, vm: Vm, storage: Storage, params: Mapping[str, Any]) -> Stored:
    key = params["disk"]
    if params.get("digest") not in (None, vm.digest):
        die("detected modified configuration - file changed by other user? Try again.")
    vm.check_lock()
    if key not in vm.config:
        die(f"disk '{key}' does not exist")
    disk = parse_disk(key, vm.config[key])
    if is_cdrom(disk):
        die("you can't move a cdrom")
    old = cluster.stores.get_volume(disk["file"], vm.node)
    if old.storage == storage.name and params.get("format", old.format) == old.format:
        die("you can't move to the same storage with same format")
    if old.snapshots and params.get("delete"):
        die("you can't move a disk with snapshots and delete the source")
    return old


async def _move(cluster: Cluster, vm: Vm, storage: Storage, params: Mapping[str, Any], log: Log) -> None:
    key = params["disk"]
    old = _check_move(cluster, vm, storage, {**params, "digest": None})
    if vm.running and key == "tpmstate0":
        die("storage migration failed: cannot move TPM state while VM is running")
    log.say(f"create full clone of drive {key} ({old.volid})")
    usable = cluster.stores.get_usable(storage.name, vm.node)
    size = firmware_size(key, parse_disk(key, vm.config[key]))
    stored = await copy_volume(cluster, old, usable, vm, params.get("format"), log, size=size, live=bool(vm.running))
    vm.config[key] = format_disk(
        {**parse_disk(key, vm.config[key]), "file": stored.volid, "size": format_size(stored.size)}
    )
    if vm.running:
        vm.started[key] = vm.config[key]
    if params.get("delete"):
        await cluster.stores.free(old)
    else:
        add_unused(vm, old.volid)


def _start_reassign(cluster: Cluster, auth: Auth, vm: Vm, params: Mapping[str, Any]) -> str:
    """A volume becomes another VM's: renamed, out of one configuration, and into the other as a change of it."""
    if "storage" in params:
        text = "either set 'storage' or 'target-vmid', but not both"
        raise Refused(400, PARAMETERS, {"target-vmid": text, "storage": text})
    key, target_vmid = params["disk"], int(params["target-vmid"])
    cluster.require(auth, f"/vms/{target_vmid}", "VM.Config.Disk")
    if target_vmid == vm.vmid:
        raise bad_parameter("target-vmid", "must be different than source VMID to reassign disk")
    target_key = params.get("target-disk", key)
    target, stored, _ = _check_reassign(cluster, vm, params)
    cluster.require(auth, f"/storage/{stored.storage}", "Datastore.AllocateSpace")

    async def work(log: Log) -> None:
        async with cluster.flocked(vm), cluster.flocked(target):
            await _reassign(cluster, vm, params, log)

    task = f"{vm.vmid}-{key}>{target_vmid}-{target_key}"
    return cluster.tasks.start(vm.node, "qmmove", task, auth, work)


def _check_reassign(cluster: Cluster, vm: Vm, params: Mapping[str, Any]) -> tuple[Vm, Stored, dict[str, str]]:
    key, target_vmid = params["disk"], int(params["target-vmid"])
    target_key, target = params.get("target-disk", key), cluster.vms.get(target_vmid)
    if target is None:
        die(f"could not find target VM {target_vmid}")
    if target.node != vm.node:
        die(f"Both VMs need to be on the same node ({vm.node} != {target.node})")
    vm.check_lock()
    target.check_lock()
    if vm.is_template or target.is_template:
        die("Can't move disks from or to template VMs")
    for one, digest in ((vm, params.get("digest")), (target, params.get("target-digest"))):
        if digest not in (None, one.digest):
            die(f"VM {one.vmid}: detected modified configuration - file changed by other user? Try again.")
    if key not in vm.config:
        die(f"Disk '{key}' for VM '{vm.vmid}' does not exist")
    if target_key in target.config:
        die(f"Target disk key '{target_key}' is already in use for VM '{target_vmid}'")
    disk = {"file": vm.config[key]} if UNUSED.match(key) else parse_disk(key, vm.config[key])
    if is_cdrom(disk):
        die("CD drive contents can't be moved to another VM")
    stored = cluster.stores.get_volume(disk["file"], vm.node)
    if is_in_snapshot(vm, stored.volid):
        die("Can't move disk used by a snapshot to another VM")
    if vm.running and not UNUSED.match(key):
        die("Cannot move disk to another VM while the source VM is running - detach first")
    return target, stored, disk


async def _reassign(cluster: Cluster, vm: Vm, params: Mapping[str, Any], log: Log) -> None:
    """PVE does not put the volume back where the last step fails: what the target could not plug stays pending."""
    key, target_vmid = params["disk"], int(params["target-vmid"])
    target_key = params.get("target-disk", key)
    target, stored, disk = _check_reassign(cluster, vm, params)
    stores = cluster.stores
    log.say(f"reassign disk '{key}' from VM '{vm.vmid}' as '{target_key}' to VM '{target_vmid}'")
    name = stores.free_name(stores.get(stored.storage), vm.node, target_vmid, stored.format)
    moved = stores.rename_owner(stored, vm.node, target_vmid, name)
    _leave_boot_order(vm, key, log)
    del vm.config[key]
    log.say(f"removing disk '{key}' from VM '{vm.vmid}' config")
    drive = format_disk({**disk, "file": moved.volid})
    if UNUSED.match(target_key):
        target.config[target_key] = moved.volid
        return
    log.say(f"update disk '{target_key}' in VM '{target_vmid}' config")
    raise_problems(await apply_change(cluster, target, Change({target_key: drive}), log))


def _leave_boot_order(vm: Vm, key: str, log: Log) -> None:
    order = properties.split(vm.config.get("boot", "")).get("order", "").split(";")
    if key in order:
        log.say(f"removing disk '{key}' from boot order config")
        vm.config["boot"] = "order=" + ";".join(device for device in order if device != key)
