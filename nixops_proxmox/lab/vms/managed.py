"""What HA does to a guest with its own hands, whether it is a VM or a container."""

from collections.abc import Iterator

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.container import Container, is_bound, mounts_of, volumes_in
from nixops_proxmox.lab.containers import power as containers
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import migrate, power


async def start(cluster: Cluster, vm: Vm) -> None:
    """Within the guest's flock, as the rest here."""
    if isinstance(vm, Container):
        await containers.start(cluster, vm, Log())
    else:
        await power.start(cluster, vm, Log())


async def stop(cluster: Cluster, vm: Vm, patience: float) -> None:
    """`patience`: seconds that the guest is given; 0: none."""
    if isinstance(vm, Container):
        await (containers.shut_down(vm, patience, force=True) if patience else containers.stop_now(vm))
    elif patience:
        await power.shut_down(cluster, vm, patience, force=True, log=Log())
    else:
        await power.stop_and_tidy(cluster, vm)


def is_tied(cluster: Cluster, vm: Vm) -> bool:
    """Does it have volumes, folders or devices that no other node has?"""
    if not isinstance(vm, Container):
        return bool(migrate.local_volumes(cluster, vm))
    bound = any(is_bound(mount) and mount.get("shared") != "1" for mount in mounts_of(vm.config).values())
    return bound or any(not cluster.stores.get(name).shared for name in _storages(cluster, vm))


def lacks_storage(cluster: Cluster, vm: Vm, node: str) -> bool:
    if not isinstance(vm, Container):
        return bool(migrate.missing_storages(cluster, vm, node))
    storages = [cluster.stores.get(name) for name in _storages(cluster, vm)]
    return any(one.disabled or not cluster.stores.is_on(one, node) for one in storages)


def _storages(cluster: Cluster, container: Container) -> Iterator[str]:
    for _, volid in volumes_in(container.config):
        if not volid.startswith("/"):
            yield cluster.stores.split(volid)[0]
