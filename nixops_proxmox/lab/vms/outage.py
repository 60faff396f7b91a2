"""A node without power is gone with its guests and its tasks. One that is only lost goes on running them."""

import asyncio

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.container import Container
from nixops_proxmox.lab.containers import power as container_power
from nixops_proxmox.lab.permissions import ROOT
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import power
from nixops_proxmox.lab.vms.ha import wake


async def cut_power(cluster: Cluster, node: str) -> None:
    """Off before its guests are: nothing there starts one again."""
    cluster.set_online(node, online=False)
    await cluster.tasks.end(node)
    await asyncio.gather(*(power.stop(vm) for vm in cluster.vms_on(node)))
    wake(cluster)


async def give_power(cluster: Cluster, node: str) -> None:
    """As a node that boots: it starts the guests that say `onboot`. HA decides of those that it manages."""
    if cluster.nodes[node].online:
        return
    cluster.set_online(node, online=True)
    for vm in cluster.vms_on(node):
        if _starts_at_boot(vm):
            begin = container_power.start_task if isinstance(vm, Container) else power.start_task
            begin(cluster, Auth(ROOT), vm.node, vm.vmid)
    wake(cluster)


def _starts_at_boot(vm: Vm) -> bool:
    return bool(int(vm.config.get("onboot", 0))) and vm.running is None and not vm.is_managed
