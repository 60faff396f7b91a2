"""What HA does with what it manages, in rounds: start, stop, fence, recover. PVE's CRM and LRM as one."""

import asyncio
from collections.abc import Mapping
from functools import partial

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.ha import MOVES, HaResource, members, priorities
from nixops_proxmox.lab.machines.base import StartFailed
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import managed, power


def refuse_in_error(vm: Vm, wanted: str = "") -> None:
    """What failed for good must be disabled before anything else is asked of it."""
    if vm.ha is not None and vm.ha.crm == "error" and wanted != "disabled":
        die(f"service '{vm.sid}' in error state, must be disabled and fixed first")


def request(cluster: Cluster, auth: Auth, node: str, vm: Vm | None, what: str, patience: float = 0.0) -> str | None:
    """What HA manages is only asked for: the task ends before anything has happened. None: HA does not manage it."""
    if vm is None or vm.ha is None or not vm.is_managed:
        return None
    resource = vm.ha

    async def ask(log: Log) -> None:
        log.say(f"Requesting HA {what} for {vm.word} {vm.vmid}")
        refuse_in_error(vm)
        resource.state, resource.patience = "started" if what == "start" else "stopped", patience
        wake(cluster)

    return cluster.tasks.start(node, f"ha{what}", str(vm.vmid), auth, ask)


def wake(cluster: Cluster) -> None:
    """Something has changed: the manager goes through its rounds until nothing is left to do."""
    cluster.ha.again, cluster.ha.changed = True, partial(wake, cluster)
    if (cluster.ha.work is None or cluster.ha.work.done()) and any(vm.ha for vm in cluster.vms.values()):
        cluster.ha.work = asyncio.get_running_loop().create_task(_rounds(cluster))


async def _rounds(cluster: Cluster) -> None:
    while cluster.ha.again:
        cluster.ha.again = False
        await cluster.clock.sleep(cluster.latency.ha)
        for vm in list(cluster.vms.values()):
            if vm.ha is not None and await _step(cluster, vm, vm.ha):
                cluster.ha.again = True


async def _step(cluster: Cluster, vm: Vm, resource: HaResource) -> bool:
    """One round of one resource. Is more to be done in the next?"""
    if resource.state == "ignored":
        resource.crm = "ignored"
        return False
    if not cluster.nodes[vm.node].online:
        return await _lost(cluster, vm, resource)
    if resource.crm == MOVES or (resource.crm == "error" and resource.state != "disabled"):
        return False
    if resource.state in ("started", "enabled"):
        return await _keep_running(cluster, vm, resource)
    if vm.running:
        resource.crm = "request_stop"
        try:
            await _stop(cluster, vm, resource.patience)
        except Refused:
            return True  # its lock is taken
    resource.crm, resource.failures = "stopped", 0
    return False


async def _stop(cluster: Cluster, vm: Vm, patience: float) -> None:
    async with cluster.flocked(vm):
        await managed.stop(cluster, vm, patience)


async def _keep_running(cluster: Cluster, vm: Vm, resource: HaResource) -> bool:
    """A guest that powered itself off is started again: what was asked for has not changed."""
    if vm.running:
        resource.crm, resource.failures = "started", 0
        return False
    resource.crm, resource.patience = "starting", 60.0
    try:
        async with cluster.flocked(vm):
            if not vm.running:
                await managed.start(cluster, vm)
    except (Refused, StartFailed):
        resource.failures += 1
        if resource.failures > int(resource.settings.get("max_restart", 1)):
            resource.crm = "error"
            return False
    return True


async def _lost(cluster: Cluster, vm: Vm, resource: HaResource) -> bool:
    """Its node is gone: nothing is started elsewhere before the node is fenced, which ends what ran there."""
    if resource.crm not in ("fence", "recovery"):
        if resource.state in ("started", "enabled"):
            resource.crm = "fence"
            return True
        return False
    if resource.crm == "fence":
        if cluster.clock.time() < cluster.nodes[vm.node].seen + cluster.latency.fence:
            return True
        await power.stop(vm)
        resource.crm = "recovery"
        return True
    target = find_recovery_node(cluster, vm)
    if target is None:
        return False  # it stays in recovery until a node is there
    vm.node, resource.crm = target, "starting"
    vm.config.pop("lock", None)
    return True


def find_recovery_node(cluster: Cluster, vm: Vm) -> str | None:
    """The best that groups and rules allow, and that has its storages. Local volumes stay behind, so there is none."""
    if managed.is_tied(cluster, vm):
        return None
    wanted, strict = _wanted_nodes(cluster, vm)
    kept = _kept_apart(cluster, vm)
    free = [
        node.name
        for node in cluster.nodes.values()
        if node.online and not node.maintenance and not managed.lacks_storage(cluster, vm, node.name)
    ]
    allowed = [name for name in free if name not in kept and (not strict or name in wanted)]
    return max(allowed, key=lambda name: wanted.get(name, -1), default=None)


def _wanted_nodes(cluster: Cluster, vm: Vm) -> tuple[Mapping[str, int], bool]:
    """The nodes with their priorities, and whether it may be on no others."""
    group = cluster.ha.groups.get(str(vm.ha.settings.get("group", ""))) if vm.ha else None
    if group is not None:
        return priorities(group["nodes"]), bool(group.get("restricted"))
    for rule in cluster.ha.rules.values():
        if rule["type"] == "node-affinity" and vm.sid in members(rule) and not rule.get("disable"):
            return priorities(rule["nodes"]), bool(rule.get("strict"))
    return {}, False


def _kept_apart(cluster: Cluster, vm: Vm) -> set[str]:
    """The nodes of those that a rule keeps it away from."""
    apart = {
        sid
        for rule in cluster.ha.rules.values()
        if rule.get("affinity") == "negative" and vm.sid in members(rule) and not rule.get("disable")
        for sid in members(rule)
    }
    return {other.node for other in cluster.vms.values() if other.sid in apart and other is not vm}
