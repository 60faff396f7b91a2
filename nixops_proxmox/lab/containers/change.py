"""PUT …/config of a container: checked, then made pending, then applied as far as it can be now."""

from collections.abc import Mapping, Sequence
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import check_digest, is_nic
from nixops_proxmox.lab.container import VOLUME_KEY, Container, is_bound, parse_mount, parse_net
from nixops_proxmox.lab.containers.create import config_values, new_volume, with_address
from nixops_proxmox.lab.containers.pending import apply_pending, plug
from nixops_proxmox.lab.containers.rights import check_rights
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.schema.container import CONFIG
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.disks import Made
from nixops_proxmox.lab.vms.rights import check_bridges, check_tags

REQUIRED = ("memory", "rootfs", "ostype")


async def change(cluster: Cluster, auth: Auth, container: Container, params: Mapping[str, Any]) -> None:
    """Within the flock."""
    values = config_values(params)
    deleted, reverted = (split_list(str(params.get(word, ""))) for word in ("delete", "revert"))
    if params.get("description") is not None and "description" not in values:
        deleted.append("description")
    if not values and not deleted and not reverted and "unprivileged" not in params:
        die("no options specified")
    container.check_lock()
    check_digest(params.get("digest"), container.digest, cluster.release)
    unprivileged = container.config.get("unprivileged") == "1"
    have = container.merged()
    check_rights(
        cluster, auth, container.vmid, values, have=have, deleted=[*deleted, *reverted], unprivileged=unprivileged
    )
    check_bridges(cluster, auth, values, parse_net)
    tags = have.get("tags", "")
    check_tags(cluster, auth, tags, values.get("tags", "" if "tags" in deleted else tags))
    if "unprivileged" in params:
        die("unable to modify read-only option: 'unprivileged'")
    await set_values(cluster, container, values, deleted, reverted)


async def set_values(
    cluster: Cluster,
    container: Container,
    values: Mapping[str, str],
    deleted: Sequence[str] = (),
    reverted: Sequence[str] = (),
) -> None:
    """What `update_pct_config` does: a volume that comes from another container is taken by it, too."""
    _check_names(container, values, deleted, reverted)
    await _queue(cluster, container, values, deleted, reverted)
    touched = {*values, *deleted}
    if container.running is None:
        await apply_pending(cluster, container)
    else:
        await plug(cluster, container, touched)


def _check_names(
    container: Container, values: Mapping[str, str], deleted: Sequence[str], reverted: Sequence[str]
) -> None:
    for word, keys in (("revert", reverted), ("delete", deleted)):
        for key in keys:
            if key not in CONFIG:
                raise bad_parameter(word, f"unknown option '{key}'")
            if key in values:
                dash = "-delete" if word == "delete" else "'-revert"
                raise bad_parameter(word, f"you can't use '-{key}' and {dash} {key}' at the same time")
    protected = container.config.get("protection") == "1"
    for key in deleted:
        if key in REQUIRED:
            die(f"unable to delete required option '{key}'")
        if key == "unprivileged":
            die(f"unable to delete read-only option: '{key}'")
        if protected and (key.startswith("unused") or VOLUME_KEY.match(key)):
            die(f"can't remove CT {container.vmid} drive '{key}' - protection mode enabled")
    for key in values:
        if protected and VOLUME_KEY.match(key):
            die(f"can't update CT {container.vmid} drive '{key}' - protection mode enabled")


async def _queue(
    cluster: Cluster, container: Container, values: Mapping[str, str], deleted: Sequence[str], reverted: Sequence[str]
) -> None:
    for key in reverted:
        container.pending.pop(key, None)
        container.deleted.pop(key, None)
    for key in deleted:
        container.pending.pop(key, None)
        if key in container.config:
            container.deleted[key] = False
    for key, value in values.items():
        container.deleted.pop(key, None)
        value = await _made(cluster, container, key, value)
        if container.config.get(key) == value:
            container.pending.pop(key, None)
        else:
            container.pending[key] = value


async def _made(cluster: Cluster, container: Container, key: str, value: str) -> str:
    if is_nic(key):
        return with_address(cluster, value)
    if not VOLUME_KEY.match(key) or is_bound(mount := parse_mount(key, value)):
        return value
    storage = cluster.stores.get(cluster.stores.split(mount["volume"])[0])
    if "rootdir" not in storage.content:
        die(f"storage '{storage.name}' does not allow content type 'rootdir' (Container)")
    return await new_volume(cluster, container, key, value, Made(), Log())
