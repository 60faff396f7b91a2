"""A volume that becomes another container's (`move_volume` with `target-vmid`), as pve-container does it."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import UNUSED
from nixops_proxmox.lab.container import Container, is_bound, parse_mount, print_mount
from nixops_proxmox.lab.containers.change import set_values
from nixops_proxmox.lab.refusals import PARAMETERS, Refused, die
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.pending import is_in_snapshot

CHANGED = "Container {}: detected modified configuration - file changed by other user? Try again."
IN_USE = "Cannot move in-use volume while the source CT is running - detach or shutdown first"


def start_reassign(cluster: Cluster, auth: Auth, container: Container, params: Mapping[str, Any]) -> str:
    _check_words(params)
    key, target_vmid = params["volume"], int(params["target-vmid"])
    target_key = params.get("target-volume", key)
    cluster.require(auth, f"/vms/{target_vmid}", "VM.Config.Disk")
    _, stored, _ = _check(cluster, container, params)
    cluster.require(auth, f"/storage/{stored.storage}", "Datastore.AllocateSpace")

    async def work(log: Log) -> None:
        async with cluster.flocked(container), cluster.flocked(cluster.vms[target_vmid]):
            await _reassign(cluster, container, params, log)

    task = f"{container.vmid}-{key}>{target_vmid}-{target_key}"
    return cluster.tasks.start(container.node, "move_volume", task, auth, work)


def _check_words(params: Mapping[str, Any]) -> None:
    if "storage" in params and "target-vmid" in params:
        text = "either set 'storage' or 'target-vmid', but not both"
        raise Refused(400, PARAMETERS, {"target-vmid": text, "storage": text})
    if "target-vmid" not in params:
        if "storage" in params:
            die("the lab does not copy volumes of containers to another storage")
        text = "both 'storage' and 'target-vmid' missing, either needs to be set"
        raise Refused(400, PARAMETERS, {"target-vmid": text, "storage": text})


def _check(
    cluster: Cluster, container: Container, params: Mapping[str, Any]
) -> tuple[Container, Stored, dict[str, str]]:
    key = params["volume"]
    target_key = params.get("target-volume", key)
    target = _check_pair(cluster, container, params)
    if key not in container.config:
        die(f"volume '{key}' for container '{container.vmid}' does not exist")
    if target_key in target.config:
        die(f"Target volume key '{target_key}' is already in use for container '{target.vmid}'")
    mount = {"volume": container.config[key]} if UNUSED.match(key) else parse_mount(key, container.config[key])
    if is_bound(mount):
        die("Storage does not support moving of this disk to another container")
    stored = cluster.stores.get_volume(mount["volume"], container.node)
    if is_in_snapshot(container, stored.volid):
        die("Cannot move volume used by a snapshot to another container")
    if container.running and not UNUSED.match(key):
        die(IN_USE)
    return target, stored, mount


def _check_pair(cluster: Cluster, container: Container, params: Mapping[str, Any]) -> Container:
    """The other container."""
    key, vmid = params["volume"], int(params["target-vmid"])
    target_key, target = params.get("target-volume", key), cluster.vms.get(vmid)
    if "rootfs" in (key, target_key):
        die("Cannot move to/from 'rootfs'")
    if UNUSED.match(key) and not UNUSED.match(target_key):
        die("Moving an unused volume to a used one is not possible")
    if target is None:
        die(f"could not find CT {vmid}")
    if target.node != container.node:
        die(f"Both containers need to be on the same node ({container.node} != {target.node})")
    container.check_lock()
    if not isinstance(target, Container):
        die(f"Configuration file 'nodes/{target.node}/lxc/{vmid}.conf' does not exist")
    target.check_lock()
    if container.is_template or target.is_template:
        die("Can't move volumes from or to template CTs")
    for one, digest in ((container, params.get("digest")), (target, params.get("target-digest"))):
        if digest not in (None, one.digest):
            die(CHANGED.format(one.vmid))
    return target


async def _reassign(cluster: Cluster, container: Container, params: Mapping[str, Any], log: Log) -> None:
    """PVE takes the volume out of the source before it asks whether the target may have it: one that is refused then
    is in no configuration."""
    key = params["volume"]
    target_key = params.get("target-volume", key)
    target, stored, mount = _check(cluster, container, params)
    log.say(f"moving volume '{key}' from container '{container.vmid}' to '{target.vmid}'")
    name = cluster.stores.free_name(cluster.stores.get(stored.storage), container.node, target.vmid, stored.format)
    moved = cluster.stores.rename_owner(stored, container.node, target.vmid, name)
    del container.config[key]
    log.say(f"removing volume '{key}' from container '{container.vmid}' config")
    if UNUSED.match(target_key):
        target.config[target_key] = moved.volid
    else:
        await set_values(cluster, target, {target_key: print_mount({**mount, "volume": moved.volid})})
    log.say(f"target container '{target.vmid}' updated with '{target_key}'")
