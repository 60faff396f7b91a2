"""Backups (vzdump) of a node's VMs into archives on a storage, and restoring them."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import render_section
from nixops_proxmox.lab.container import Container, is_bound, mounts_of
from nixops_proxmox.lab.exports import archive_size, notes_of
from nixops_proxmox.lab.machines.base import Volume
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.storage import Storage, Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.snapshots import hard_disks

KINDS = ("qemu", "lxc")
PACKED = {"0": "", "1": ".zst", "gzip": ".gz", "lzo": ".lzo", "zstd": ".zst"}
_ONE_AT_A_TIME = "vzdump"


def start_backup(cluster: Cluster, auth: Auth, node: str, params: Mapping[str, Any]) -> str:
    """The UPID, or "OK" where no guest of this node is selected."""
    vms = _chosen(cluster, node, params)
    storage = cluster.stores.get_usable(params.get("storage", "local"), node)
    if "backup" not in storage.content:
        die(
            f"could not get storage information for '{storage.name}': storage '{storage.name}' does not support backups"
        )
    for vm in vms:
        cluster.require(auth, f"/vms/{vm.vmid}", "VM.Backup")
    cluster.require(auth, f"/storage/{storage.name}", "Datastore.AllocateSpace")
    if not vms:
        return "OK"

    async def work(log: Log) -> None:
        failed = 0
        async with cluster.node_lock(_ONE_AT_A_TIME, node):
            for vm in vms:
                if not await _backup_one(cluster, vm, storage, params, log):
                    failed += 1
        if failed:
            die("job errors")
        log.say("INFO: Backup job finished successfully")

    return cluster.tasks.start(node, "vzdump", str(vms[0].vmid) if len(vms) == 1 else "", auth, work)


def _chosen(cluster: Cluster, node: str, params: Mapping[str, Any]) -> list[Vm]:
    """Guests of other nodes are passed over in silence."""
    here = list(cluster.vms_on(node))
    if params.get("all"):
        excluded = _ids(params.get("exclude", ""))
        return [vm for vm in here if vm.vmid not in excluded]
    if "pool" in params:
        return [vm for vm in here if cluster.pool_of(vm.vmid) == params["pool"]]
    wanted = _ids(params.get("vmid", ""))
    return [vm for vm in here if vm.vmid in wanted]


def _ids(text: str) -> set[int]:
    return {int(part) for part in text.replace(";", ",").replace(" ", ",").split(",") if part.isdigit()}


async def _backup_one(cluster: Cluster, vm: Vm, storage: Storage, params: Mapping[str, Any], log: Log) -> bool:
    log.say(f"INFO: Starting Backup of VM {vm.vmid} ({vm.kind})")
    try:
        vm.check_lock()
        vm.config["lock"] = "backup"
        try:
            stored = await _write_archive(cluster, vm, storage, params)
        finally:
            vm.config.pop("lock", None)
    except Refused as refusal:
        log.say(f"ERROR: Backup of VM {vm.vmid} failed - {refusal.text}")
        return False
    log.say(f"INFO: creating vzdump archive '{stored.shown}'\nINFO: archive file size: {stored.size}")
    log.say(f"INFO: Finished Backup of VM {vm.vmid} (00:00:01)")
    return True


async def _write_archive(cluster: Cluster, vm: Vm, storage: Storage, params: Mapping[str, Any]) -> Stored:
    """A folder beside the archive's name holds the disks; the archive itself is the configuration."""
    name = _archive_name(cluster, vm, params)
    while cluster.stores.place(storage, vm.node, name)[0].exists():
        await cluster.clock.sleep(0.1)  # PVE's names have whole seconds, and no backup of PVE's is that quick
        name = _archive_name(cluster, vm, params)
    stored = cluster.stores.record(
        storage, vm.node, name, size=0, format=name.partition(".")[2], content="backup", vmid=vm.vmid
    )
    folder = _disks_folder(stored)
    folder.mkdir(parents=True, exist_ok=True)
    disks: dict[str, dict[str, Any]] = {}
    for key, disk in _saved(cluster, vm).items():
        copy = Volume(disk.volid, folder / key, disk.size, disk.format)
        await cluster.driver.allocate(copy)
        await cluster.driver.copy(disk.volume, copy)
        disks[key] = {"size": disk.size, "format": disk.format}
    config = {
        key: value for key, value in vm.config.items() if key not in ("lock", "parent") and not key.startswith("unused")
    }
    firewall = {"firewall": asdict(cluster.vm_firewalls[vm.vmid])} if vm.vmid in cluster.vm_firewalls else {}
    stored.notes = (
        str(params.get("notes-template", "")).replace("{{guestname}}", vm.name).replace("{{vmid}}", str(vm.vmid))
    )
    notes_of(stored.path).write_text(stored.notes)
    stored.path.write_text(json.dumps({"config": config, "disks": disks, **firewall}))
    stored.size, stored.written = archive_size(stored.path), True
    stored.protected = params.get("protected", False)
    return stored


def _archive_name(cluster: Cluster, vm: Vm, params: Mapping[str, Any]) -> str:
    stamp = datetime.datetime.fromtimestamp(cluster.clock.time(), datetime.UTC).strftime("%Y_%m_%d-%H_%M_%S")
    ending = f"{'vma' if vm.kind == Vm.kind else 'tar'}{PACKED[params.get('compress', '0')]}"
    return f"backup/vzdump-{vm.kind}-{vm.vmid}-{stamp}.{ending}"


def _saved(cluster: Cluster, vm: Vm) -> dict[str, Stored]:
    """What goes into the archive. A disk does, unless it is left out; a mount point does not, unless it is named."""
    if isinstance(vm, Container):
        mounts = {key: mount for key, mount in mounts_of(vm.config).items() if not is_bound(mount)}
        named = {key: mount for key, mount in mounts.items() if key == "rootfs" or mount.get("backup") == "1"}
        return {key: cluster.stores.get_volume(mount["volume"], vm.node) for key, mount in named.items()}
    disks = hard_disks(cluster, vm).items()
    return {key: disk for key, disk in disks if "backup=0" not in vm.config[key].split(",")}


def find_archive(cluster: Cluster, auth: Auth, node: str, volid: str) -> Stored:
    """For a restore, by somebody who may read it."""
    archive = cluster.stores.find(volid, node)
    if archive is None or archive.content != "backup":
        die(f"volume '{volid}' does not exist")
    if not cluster.allows(auth, f"/storage/{archive.storage}", "Datastore.Allocate"):
        cluster.require(auth, f"/storage/{archive.storage}", "Datastore.AllocateSpace")
        cluster.require(auth, f"/vms/{archive.vmid}", "VM.Backup")
    return archive


def kind_of(stored: Stored) -> str:
    """The kind of the guest that is in the archive; empty: it is neither."""
    return next((kind for kind in KINDS if f"backup/vzdump-{kind}-" in stored.volid), "")


def _disks_folder(stored: Stored) -> Path:
    return stored.path.with_name(f"{stored.path.name}.disks")


def read_archive(stored: Stored) -> dict[str, Any]:
    try:
        found = json.loads(stored.path.read_text())
    except (OSError, ValueError):
        die(f"unable to restore '{stored.volid}': not an archive of this lab")
    return dict(found) if isinstance(found, dict) else {}


def archived_config(stored: Stored) -> str:
    """The configuration file in the archive, with the map of its disks that vzdump adds."""
    content = read_archive(stored)
    config: dict[str, str] = content["config"]
    if kind_of(stored) == "lxc":
        return f"{render_section(config)}\n"
    maps = [f"#qmdump#map:{key}:drive-{key}::{disk['format']}:" for key, disk in content["disks"].items()]
    return "\n".join([render_section(config), *maps, ""])


def archived_disk(stored: Stored, key: str, disk: Mapping[str, Any]) -> Volume:
    return Volume(f"{stored.volid}/{key}", _disks_folder(stored) / key, int(disk["size"]), str(disk["format"]))
