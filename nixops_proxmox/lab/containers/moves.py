"""A container that goes to another node: while it stands still, or stopped and started for it. There is no live way."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import volume_of
from nixops_proxmox.lab.container import Container, is_bound, mounts_of, volumes_in
from nixops_proxmox.lab.containers import power
from nixops_proxmox.lab.ha import MOVES
from nixops_proxmox.lab.permissions import ROOT
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.tasks import Log

HA_PATIENCE = 60.0  # seconds that HA gives a container to shut down
TAKEN_ALONG = ("zfspool", "btrfs")  # storages whose snapshots are copied with their volumes


def start_migration(cluster: Cluster, auth: Auth, container: Container, params: Mapping[str, Any]) -> str:
    target = str(params["target"])
    if target == container.node:
        raise bad_parameter("target", "target is local node.")
    cluster.check_quorum()
    if target not in cluster.nodes:
        die(f"no such cluster node '{target}'")
    online, restart = bool(params.get("online")), bool(params.get("restart"))
    if container.running and not online and not restart:
        die("can't migrate running container without --online or --restart")
    if container.is_managed:
        return _ask_ha(cluster, auth, container, target)

    async def work(log: Log) -> None:
        async with cluster.flocked(container):
            container.check_lock()
            if container.running and online:
                die("lxc live migration is currently not implemented")
            _check_mounts(cluster, container, target)
            was_running = container.running is not None
            if was_running:
                log.say(f"shutdown CT {container.vmid}")
                await power.shut_down(container, float(params.get("timeout", 180)), force=True)
            try:
                await _go(cluster, container, target, log)
            finally:  # where it is then
                if was_running:
                    log.say(f"start container on target node '{target}'")
                    await power.start(cluster, container, log)

    return cluster.tasks.start(container.node, "vzmigrate", str(container.vmid), auth, work)


def _ask_ha(cluster: Cluster, auth: Auth, container: Container, target: str) -> str:
    """Only a request is queued. HA's own manager shuts the container down, takes it there, and starts it later."""

    async def work(log: Log) -> None:
        log.say(f"Requesting HA migration for CT {container.vmid} to node {target}")
        cluster.tasks.start(container.node, "vzmigrate", str(container.vmid), Auth(ROOT), partial(_relocate, target))

    async def _relocate(target: str, log: Log) -> None:
        resource = container.ha or die(f"cannot migrate service '{container.sid}', not HA managed!")
        resource.crm = MOVES
        try:
            async with cluster.flocked(container):
                container.check_lock()
                _check_mounts(cluster, container, target)
                await power.shut_down(container, HA_PATIENCE, force=True)
                await _go(cluster, container, target, log)
        finally:
            resource.crm = "started"
            cluster.ha.changed()

    return cluster.tasks.start(container.node, "hamigrate", str(container.vmid), auth, work)


def _check_mounts(cluster: Cluster, container: Container, target: str) -> None:
    """In PVE's `prepare`: before the container is shut down."""
    for key, mount in mounts_of(container.config).items():
        if is_bound(mount):
            if mount.get("shared") != "1":
                die(f"cannot migrate local bind mount point '{key}'")
            continue
        name, _ = cluster.stores.split(mount["volume"])
        cluster.stores.get_usable(name, target)


def _check_snapshots(cluster: Cluster, container: Container) -> None:
    for snapshot in container.snapshots.values():
        for mount in mounts_of(snapshot.config).values():
            storage = cluster.stores.storages[cluster.stores.split(mount["volume"])[0]]
            if not storage.shared and storage.kind not in TAKEN_ALONG:
                die(f"can't migrate '{mount['volume']}' - non-migratable snapshot exists")


async def _go(cluster: Cluster, container: Container, target: str, log: Log) -> None:
    _check_snapshots(cluster, container)
    for key, volid in list(volumes_in(container.config)):
        stored = cluster.stores.get_volume(volid, container.node)
        storage = cluster.stores.storages[stored.storage]
        if storage.shared:
            continue
        if not cluster.stores.is_on(storage, target):
            die(f"storage '{storage.name}' is not available on node '{target}'")
        log.say(f"copying local disk image {volid}")
        new = await cluster.stores.allocate(storage, target, container.vmid, stored.size, stored.format)
        await cluster.driver.copy(stored.volume, new.volume)
        await cluster.stores.free(stored)
        container.config[key] = container.config[key].replace(volume_of(container.config[key]), new.volid, 1)
    container.node = target
