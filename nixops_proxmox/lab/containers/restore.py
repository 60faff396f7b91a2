"""A container as it is in an archive: new, or over one that stands still (`restore`, `force`)."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import parse_size
from nixops_proxmox.lab.container import Container, is_bound, mounts_of, parse_net, print_mount
from nixops_proxmox.lab.containers.create import config_values, new_volume
from nixops_proxmox.lab.containers.rights import check_rights
from nixops_proxmox.lab.firewall import Firewall
from nixops_proxmox.lab.refusals import Refused, bad_parameter, die, no_permission
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.backup import archived_disk, find_archive, kind_of, read_archive
from nixops_proxmox.lab.vms.create import join_pool
from nixops_proxmox.lab.vms.disks import Made
from nixops_proxmox.lab.vms.rights import check_bridges


def may_restore(cluster: Cluster, auth: Auth, params: Mapping[str, Any]) -> None:
    """VM.Allocate, or VM.Backup for one that is there."""
    vmid, pool = params["vmid"], params.get("pool")
    paths = [f"/vms/{vmid}", *([f"/pool/{pool}"] if pool else [])]
    over = isinstance(cluster.vms.get(int(vmid)), Container) and params.get("force")
    if any(cluster.allows(auth, path, "VM.Allocate") for path in paths):
        return
    if not over or not cluster.allows(auth, f"/vms/{vmid}", "VM.Backup"):
        raise no_permission()


def start_restore(cluster: Cluster, auth: Auth, node: str, params: Mapping[str, Any]) -> str:
    vmid = int(params["vmid"])
    old = _check_overwritten(cluster, node, vmid, params)
    values = config_values(params)
    check_rights(cluster, auth, vmid, values, pool=params.get("pool"))
    archive = _find_archive(cluster, auth, node, str(params["ostemplate"]))
    values = _with_volumes(values, read_archive(archive), str(params.get("storage", "local")))
    for mount in mounts_of(values).values():
        storage = cluster.stores.get_usable(cluster.stores.split(mount["volume"])[0], node)
        if "rootdir" not in storage.content:
            raise bad_parameter("storage", f"storage '{storage.name}' does not support container directories")
        cluster.require(auth, f"/storage/{storage.name}", "Datastore.AllocateSpace")
    if old is not None:
        old.check_lock()
        old.config["lock"] = "create"
    container = old or cluster.claim_container(vmid, node)

    async def work(log: Log) -> None:
        try:
            if old is None:  # for the NICs that the archive brings along
                check_bridges(cluster, auth, {**read_archive(archive)["config"], **values}, parse_net)
            await _restore(cluster, container, archive, values, log, new=old is None)
        except Refused as refusal:
            cluster.drop(container)  # PVE leaves nothing of it, the old one neither
            raise Refused(500, f"unable to restore CT {vmid} - {refusal.text}") from refusal
        join_pool(cluster, container, params.get("pool"))

    return cluster.tasks.start(node, "vzrestore", str(vmid), auth, work)


def _check_overwritten(cluster: Cluster, node: str, vmid: int, params: Mapping[str, Any]) -> Container | None:
    old = cluster.vms.get(vmid)
    if old is None:
        return None
    if not (isinstance(old, Container) and params.get("force") and old.node == node):
        word = "CT" if isinstance(old, Container) else "VM"
        die(f"{word} {vmid} already exists on node '{old.node}'")
    if old.running:
        die("can't overwrite running container")
    if old.config.get("protection") == "1":
        die(f"unable to restore CT {vmid} - protection mode enabled")
    return old


def _find_archive(cluster: Cluster, auth: Auth, node: str, volid: str) -> Stored:
    archive = find_archive(cluster, auth, node, volid)
    if kind_of(archive) != "lxc":
        die(f"unable to restore CT - '{volid}' is no backup of a container")
    return archive


def _with_volumes(values: dict[str, str], content: Mapping[str, Any], storage: str) -> dict[str, str]:
    """Unless the call names the root, all volumes of the archive are made, on one storage: `local` by default."""
    if "rootfs" in values:
        return values
    if mounts_of(values):
        die("mount points configured, but 'rootfs' not set - aborting")
    mounts = {key: mount for key, mount in mounts_of(content["config"]).items() if not is_bound(mount)}
    made = {}
    for key, mount in mounts.items():
        size = mount.get("size", "4G")
        rest = {name: text for name, text in mount.items() if name not in ("size", "volume")}
        made[key] = print_mount({**rest, "volume": f"{storage}:{(parse_size(size) or 0) / 2**30:g}"})
    return {**values, **made}


async def _restore(
    cluster: Cluster, container: Container, archive: Stored, values: dict[str, str], log: Log, *, new: bool
) -> None:
    """The new volumes first, then the old ones go, then the archive is unpacked."""
    log.say(f"recovering backed-up configuration from '{archive.volid}'")
    content, made = read_archive(archive), Made()
    volumes: dict[str, str] = {}
    old = [] if new else container.volids()
    try:
        for key in mounts_of(values):
            volumes[key] = await new_volume(cluster, container, key, values[key], made, log)
        for stored in (cluster.stores.find(volid, container.node) for volid in old):
            if stored is not None and stored.vmid == container.vmid:
                await cluster.stores.free(stored)
        log.say(f"restoring '{archive.volid}' now..")
        for key, stored in zip(volumes, made.volumes, strict=True):
            if key in content["disks"]:
                await cluster.driver.copy(archived_disk(archive, key, content["disks"][key]), stored.volume)
    except Refused:
        await made.undo(cluster)
        raise
    if "firewall" in content:
        cluster.vm_firewalls[container.vmid] = Firewall(**content["firewall"])
    log.say("merging backed-up and given configuration..")
    merged = {key: text for key, text in content["config"].items() if key not in mounts_of(content["config"])}
    container.snapshots.clear()
    container.pending.clear()
    container.deleted.clear()
    container.config = {**merged, **values, **volumes}
