"""Which privilege a key of a container needs, as `check_ct_modify_config_perm` of pve-container has it."""

import re
from collections.abc import Iterable, Mapping

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.container import is_bound, parse_mount
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.vms.disks import NEW
from nixops_proxmox.lab.vms.rights import require

OWNER = re.compile(r"(?:vm|subvol|base)-(\d+)-")
ANY_CONFIG = tuple(f"VM.Config.{part}" for part in ("Disk", "CPU", "Memory", "Network", "Options"))
FAMILIES = (
    (re.compile(r"cores|cpuunits|cpulimit"), "VM.Config.CPU"),
    (re.compile(r"rootfs|mp\d+"), "VM.Config.Disk"),
    (re.compile(r"memory|swap"), "VM.Config.Memory"),
    (re.compile(r"net\d+|nameserver|searchdomain|hostname"), "VM.Config.Network"),
)


def check_rights(
    cluster: Cluster,
    auth: Auth,
    vmid: int,
    values: Mapping[str, str],
    *,
    have: Mapping[str, str] | None = None,
    pool: str | None = None,
    deleted: Iterable[str] = (),
    unprivileged: bool = True,
) -> None:
    """Every key that is set or deleted. `have`: the configuration until now; None: the container is being made."""
    if auth.is_root:
        return
    for key in [*values, *deleted]:
        _check_key(cluster, auth, vmid, key, values.get(key), have or {}, pool, unprivileged=unprivileged)


def _check_key(
    cluster: Cluster,
    auth: Auth,
    vmid: int,
    key: str,
    value: str | None,
    have: Mapping[str, str],
    pool: str | None,
    *,
    unprivileged: bool,
) -> None:
    if key == "features":
        _check_features(cluster, auth, vmid, value or "", have.get(key, ""), pool, unprivileged=unprivileged)
        return
    if re.fullmatch(r"dev\d+", key):
        raise _only_root("configuring device passthrough is only allowed for root@pam")
    if key == "hookscript":
        raise _only_root("changing the hookscript is only allowed for root@pam")
    if key == "tags":
        return  # has rules of its own
    name = next((name for pattern, name in FAMILIES if pattern.fullmatch(key)), "VM.Config.Options")
    require(cluster, auth, vmid, pool, (name,))
    if name == "VM.Config.Disk" and value is not None:
        _check_volume(cluster, auth, vmid, key, value)


def _check_volume(cluster: Cluster, auth: Auth, vmid: int, key: str, value: str) -> None:
    mount = parse_mount(key, value)
    if is_bound(mount):
        raise _only_root("mount point type bind is only allowed for root@pam")
    if new := NEW.match(mount["volume"]):
        cluster.require(auth, f"/storage/{new[1]}", "Datastore.AllocateSpace")
    else:
        _check_existing(cluster, auth, vmid, mount["volume"])


def _check_existing(cluster: Cluster, auth: Auth, vmid: int, volid: str) -> None:
    """`check_volume_access`: one of its own, else the rights to the container whose it is."""
    name, volume = cluster.stores.split(volid)
    content = cluster.stores.check_name(cluster.stores.get(name), volume)
    if content != "images":
        die(f"unable to use volume {volid} - content type needs to be 'rootdir'")
    owner = int(match[1]) if (match := OWNER.search(volume)) is not None else 0
    if owner == vmid or cluster.allows(auth, f"/storage/{name}", "Datastore.Allocate"):
        return
    if not owner:
        die(f"missing privileges to access {volid}")
    cluster.require(auth, f"/storage/{name}", "Datastore.Audit")
    cluster.require(auth, f"/vms/{owner}", "VM.Config.Disk")


def _check_features(
    cluster: Cluster, auth: Auth, vmid: int, value: str, old: str, pool: str | None, *, unprivileged: bool
) -> None:
    if not unprivileged:
        raise _only_root("changing feature flags for privileged container is only allowed for root@pam")
    before, after = properties.split(old), properties.split(value)
    changed = {name for name in {*before, *after} if before.get(name, "0") != after.get(name, "0")}
    if changed - {"nesting"}:
        raise _only_root("changing feature flags (except nesting) is only allowed for root@pam")
    if changed:
        require(cluster, auth, vmid, pool, ("VM.Allocate",))


def _only_root(text: str) -> Refused:
    return Refused(403, f"Permission check failed ({text})")
