"""Deleting a container and what belongs to it."""

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.container import Container
from nixops_proxmox.lab.containers.power import stop_now
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.replication import refuse_replicated
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.remove import purge_guest, remove_guest


def start_remove(
    cluster: Cluster, auth: Auth, container: Container, *, purge: bool, force: bool, unreferenced: bool
) -> str:
    cluster.check_quorum()
    _check(cluster, container, purge=purge, force=force)

    async def work(log: Log) -> None:
        async with cluster.flocked(container):
            if cluster.vms.get(container.vmid) is not container:
                die(f"Configuration file 'nodes/{container.node}/lxc/{container.vmid}.conf' does not exist")
            _check(cluster, container, purge=purge, force=force)
            if container.running:
                log.warn(f"forced to stop CT {container.vmid} before destroying!")
                await stop_now(container)
            await remove_guest(cluster, container, log, unreferenced=unreferenced)
            if purge:
                log.say(f"purging CT {container.vmid} from related configurations..")
                purge_guest(cluster, container)
                if container.ha:
                    log.say(f"NOTE: removed CT {container.vmid} from HA resource configuration.")

    return cluster.tasks.start(container.node, "vzdestroy", str(container.vmid), auth, work)


def _check(cluster: Cluster, container: Container, *, purge: bool, force: bool) -> None:
    if container.config.get("protection") == "1":
        die(f"can't remove CT {container.vmid} - protection mode enabled")
    container.check_lock()
    if container.ha and not purge:
        die(f"unable to remove CT {container.vmid} - used in HA resources and purge parameter not set.")
    if not purge:
        refuse_replicated(cluster, container.vmid)
    if container.running and not force:
        die(f"unable to destroy CT {container.vmid} - container is running")
