"""What a change of a container's configuration does: at once where PVE can, else at the next start."""

import re

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import UNUSED, format_size, is_nic, volume_of
from nixops_proxmox.lab.container import Container, is_bound, parse_mount, parse_net, print_mount
from nixops_proxmox.lab.ipam import give_back, take
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.vms.pending import add_unused, forget_unused, is_in_snapshot

AT_ONCE = frozenset(["description", "onboot", "startup", "protection", "hostname", "hookscript", "cores", "tags"])
LIVE = re.compile(r"cpulimit|cpuunits|memory|swap|net\d+|unused\d+")


async def apply_pending(cluster: Cluster, container: Container, keys: set[str] | None = None) -> None:
    """Make pending deletions and values active; `keys`: only these."""
    for key in [key for key in container.deleted if keys is None or key in keys]:
        del container.deleted[key]
        await _delete(cluster, container, key)
    for key in [key for key in container.pending if keys is None or key in keys]:
        value = container.pending.pop(key)
        old = container.config.get(key, "")
        if is_nic(key):
            _move_address(cluster, container, old, value)
        if key.startswith("mp"):
            if volume_of(old) not in ("", volume_of(value)):
                add_unused(container, volume_of(old))
            forget_unused(container, volume_of(value))
            value = _with_size(cluster, container, key, value)
        container.config[key] = value


def _with_size(cluster: Cluster, container: Container, key: str, value: str) -> str:
    """`$rescan_volume`: of a volume whose size was not told, the storage is asked."""
    mount = parse_mount(key, value)
    if is_bound(mount) or "size" in mount:
        return value
    stored = cluster.stores.get_volume(mount["volume"], container.node)
    return print_mount({**mount, "size": format_size(stored.size)})


async def plug(cluster: Cluster, container: Container, touched: set[str]) -> None:
    """Make active what PVE plugs into a running container. The rest stays pending."""
    now = {key for key in touched if key in AT_ONCE or LIVE.fullmatch(key)}
    now |= {key for key in touched if key.startswith("mp") and key not in container.config}
    await apply_pending(cluster, container, now)
    for key in now & set(container.config):
        container.started[key] = container.config[key]


async def _delete(cluster: Cluster, container: Container, key: str) -> None:
    value = container.config.get(key)
    if value is None:
        return
    volid = volume_of(value)
    if UNUSED.match(key):
        if is_in_snapshot(container, volid):
            die(f"unable to delete '{volid}' - volume is still in use (snapshot?)")
        stored = cluster.stores.find(volid, container.node)
        if stored is not None:
            await cluster.stores.free(stored)
    elif key.startswith("mp") and volid:
        add_unused(container, volid)
    elif is_nic(key):
        _move_address(cluster, container, value, "")
    del container.config[key]


def _move_address(cluster: Cluster, container: Container, before: str, after: str) -> None:
    old, new = (parse_net(value) if value else {} for value in (before, after))
    if (old.get("bridge"), old.get("hwaddr")) == (new.get("bridge"), new.get("hwaddr")):
        return
    if "hwaddr" in old:
        give_back(cluster.sdn, cluster.ipam, old.get("bridge", ""), old["hwaddr"])
    if "hwaddr" in new:
        take(cluster.sdn, cluster.ipam, new.get("bridge", ""), new["hwaddr"], container.vmid, container.name)
