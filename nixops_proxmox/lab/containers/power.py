"""Power of containers: start, stop, shut down, reboot; each a task that says what PVE's says."""

from functools import partial

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import memory_of
from nixops_proxmox.lab.container import Container, mounts_of
from nixops_proxmox.lab.containers.pending import apply_pending
from nixops_proxmox.lab.hardware import hardware_of_container
from nixops_proxmox.lab.machines.base import Hardware, StartFailed
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.sdn_nodes import wire_of
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.power import MIB, find_volume, forget_machine, has_bridge, stop, switch_on


def start_task(cluster: Cluster, auth: Auth, node: str, vmid: int) -> str:
    async def work(log: Log) -> None:
        container = cluster.get_container(node, vmid)
        async with cluster.flocked(container):
            await start(cluster, container, log)

    return cluster.tasks.start(node, "vzstart", str(vmid), auth, work)


async def start(cluster: Cluster, container: Container, log: Log) -> None:
    """Within the container's flock."""
    container.check_lock()
    if container.is_template:
        die("you can't start a CT if it's a template")
    if container.running:
        die(f"CT {container.vmid} already running")
    await apply_pending(cluster, container)
    _check(cluster, container)
    features = container.config.get("features", "")
    if cluster.release.since(9) and "nesting=1" not in features:
        log.warn("Systemd 257 detected. You may need to enable nesting.")
    await switch_on(cluster, container, hardware(cluster, container))


def hardware(cluster: Cluster, container: Container) -> Hardware:
    return hardware_of_container(container, partial(find_volume, cluster, container), partial(wire_of, cluster))


def _check(cluster: Cluster, container: Container) -> None:
    from nixops_proxmox.lab.containers.create import nets_of

    failed = f"startup for container '{container.vmid}' failed"
    for key, net in nets_of(container.config).items():
        if not has_bridge(cluster, container.node, net.get("bridge", "")):
            device = f"veth{container.vmid}i{key[3:]}"
            raise StartFailed(failed, (f"unable to open {device}: bridge '{net.get('bridge')}' does not exist",))
    if memory_of(container.config) * MIB > cluster.nodes[container.node].memory * 4:
        raise StartFailed(failed, ("cannot allocate memory",))
    for mount in mounts_of(container.config).values():
        if ":" in mount["volume"]:
            find_volume(cluster, container, mount["volume"])


def get_running(container: Container, word: str = "CT") -> Container:
    if container.running is None:
        die(f"{word} {container.vmid} not running")
    return container


async def stop_now(container: Container) -> None:
    """Within the flock. What is pending stays so until the next start."""
    container.check_lock()
    await stop(container)


async def shut_down(container: Container, timeout: float, *, force: bool) -> None:
    """Within the flock, all the time that the container takes."""
    container.check_lock()
    if container.running is None or await container.running.shut_down(timeout):
        forget_machine(container)
        return
    if not force:
        die("container did not stop")
    await stop_now(container)


async def reboot(cluster: Cluster, container: Container, timeout: float, log: Log) -> None:
    async with cluster.flocked(container):
        await shut_down(container, timeout, force=False)
        await start(cluster, container, log)
