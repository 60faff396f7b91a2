"""Snapshots of containers: of volumes through the storages, and of the configuration. There is no RAM in them."""

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.container import Container, mounts_of
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Snapshot
from nixops_proxmox.lab.vms.power import stop
from nixops_proxmox.lab.vms.snapshots import adopt_children, get_snapshot, return_config, saved_config


def _volumes(cluster: Cluster, container: Container, config: dict[str, str]) -> list[Stored]:
    found = (cluster.stores.find(mount["volume"], container.node) for mount in mounts_of(config).values())
    return [stored for stored in found if stored is not None]


def can_snapshot(cluster: Cluster, container: Container) -> bool:
    return all(cluster.stores.can_snapshot(one) for one in _volumes(cluster, container, container.config))


async def take(cluster: Cluster, container: Container, name: str, description: str, log: Log) -> None:
    """Within the flock."""
    container.check_lock()
    if container.is_template:
        die("you can't take a snapshot if it's a template")
    if name in container.snapshots:
        die(f"snapshot name '{name}' already used")
    if not can_snapshot(cluster, container):
        die("snapshot feature is not available")
    for stored in _volumes(cluster, container, container.config):
        log.say(f"snapshotting '{stored.volid}'")
        await cluster.stores.take_snapshot(stored, name)
    container.snapshots[name] = Snapshot(saved_config(container, cluster.clock.time()), description)
    container.config["parent"] = name


async def rollback(cluster: Cluster, container: Container, name: str) -> None:
    """Within the flock. A container that runs is stopped."""
    snapshot = get_snapshot(container, name)
    container.check_lock()
    await stop(container)
    for stored in _volumes(cluster, container, snapshot.config):
        await cluster.stores.rollback(stored, name)
    return_config(container, name)


async def drop(cluster: Cluster, container: Container, name: str) -> None:
    snapshot = get_snapshot(container, name)
    container.check_lock()
    for stored in _volumes(cluster, container, snapshot.config):
        await cluster.stores.drop_snapshot(stored, name)
    del container.snapshots[name]
    adopt_children(container, name, snapshot.config.get("parent"))
