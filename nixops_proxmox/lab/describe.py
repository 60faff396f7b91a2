"""How nodes, VMs and storages look in lists and status calls."""

from typing import Any

from nixops_proxmox.lab.cluster import Cluster, Node
from nixops_proxmox.lab.config import (
    agent_enabled,
    cores_of,
    disk_keys,
    is_cdrom,
    is_nic,
    memory_of,
    parse_boot,
    parse_disk,
    parse_size,
)
from nixops_proxmox.lab.container import Container, mounts_of
from nixops_proxmox.lab.storage import Storage
from nixops_proxmox.lab.vm import Vm

MIB = 1024**2


def disk_size(vm: Vm) -> int:
    """`maxdisk`: the first hard disk of the boot order."""
    if isinstance(vm, Container):
        return parse_size(mounts_of(vm.config).get("rootfs", {}).get("size", "0")) or 0
    hard = [
        key
        for key in disk_keys(vm.config)
        if key not in ("efidisk0", "tpmstate0") and not is_cdrom(parse_disk(key, vm.config[key]))
    ]
    first = next((key for key in parse_boot(vm.config) if key in hard), hard[0] if hard else None)
    return parse_size(parse_disk(first, vm.config[first]).get("size", "0")) or 0 if first else 0


async def vm_figures(cluster: Cluster, vm: Vm) -> dict[str, Any]:
    """What status and list have in common."""
    live = dict(await vm.running.status()) if vm.running else {}
    figures: dict[str, Any] = {
        "vmid": vm.vmid,
        "name": vm.name,
        "status": vm.status,
        "cpus": cores_of(vm.config),
        "cpu": live.get("cpu", 0),
        "mem": live.get("mem", 0),
        "maxmem": memory_of(vm.config) * MIB,
        "disk": 0,
        "maxdisk": disk_size(vm),
        "uptime": max(1, int(cluster.clock.time() - vm.running.started)) if vm.running else 0,
        "netin": live.get("netin", 0),
        "netout": live.get("netout", 0),
    }
    if vm.running:
        figures["pid"] = vm.running.pid
    if isinstance(vm, Container):
        figures |= {"type": "lxc", "swap": 0, "maxswap": int(vm.config.get("swap", "512")) * MIB}
    for key in ("tags", "lock"):
        if key in vm.config:
            figures[key] = vm.config[key]
    if vm.is_template:
        figures["template"] = 1
    return figures


def describe_ha(vm: Vm) -> dict[str, Any]:
    return {"managed": 1, "state": vm.ha.crm} if vm.ha else {"managed": 0}


async def describe_vm_status(cluster: Cluster, vm: Vm) -> dict[str, Any]:
    live = dict(await vm.running.status()) if vm.running else {}
    status = await vm_figures(cluster, vm)
    inner = live.get("qmpstatus", "running")
    status["qmpstatus"] = vm.qmpstatus if vm.qmpstatus != "running" else inner
    status["ha"] = describe_ha(vm)
    if agent_enabled(vm.config):
        status["agent"] = 1
    if any(key.startswith("serial") and value == "socket" for key, value in vm.config.items()):
        status["serial"] = 1
    if vm.running:
        status["nics"] = {
            f"tap{vm.vmid}i{key[3:]}": {"netin": live.get("netin", 0), "netout": live.get("netout", 0)}
            for key in vm.started
            if is_nic(key)
        }
    if cluster.release.since(9):
        status["memhost"] = status["mem"]
        status |= {
            name: 0
            for name in (
                "pressurecpufull",
                "pressurecpusome",
                "pressureiofull",
                "pressureiosome",
                "pressurememoryfull",
                "pressurememorysome",
            )
        }
    return status


async def describe_vm_resource(cluster: Cluster, vm: Vm, *, with_pool: bool = True) -> dict[str, Any]:
    """/cluster/resources: what pvestatd has broadcast; until then the status is unknown and the name missing."""
    base: dict[str, Any] = {"id": f"{vm.kind}/{vm.vmid}", "type": vm.kind, "vmid": vm.vmid, "node": vm.node}
    fresh: dict[str, Any] = {key: vm.config[key] for key in ("tags", "lock") if key in vm.config}
    pool = cluster.pool_of(vm.vmid) if with_pool else None
    if pool:
        base["pool"] = pool
    if vm.ha:
        base["hastate"] = vm.ha.crm
    if not cluster.nodes[vm.node].online or cluster.clock.time() - vm.created < cluster.latency.statistics:
        return {**base, "status": "unknown", **fresh}
    figures = await vm_figures(cluster, vm)
    return {
        **base,
        **{
            key: figures[key]
            for key in ("name", "cpu", "mem", "maxmem", "disk", "maxdisk", "uptime", "netin", "netout")
        },
        "maxcpu": figures["cpus"],
        "template": int(vm.is_template),
        "status": vm.qmpstatus if vm.suspended or vm.paused else vm.status,
        "diskread": 0,
        "diskwrite": 0,
        **fresh,
    }


def node_memory(cluster: Cluster, node: Node) -> int:
    return node.base_memory + sum(memory_of(vm.started) * MIB for vm in cluster.vms_on(node.name) if vm.running)


def describe_node(cluster: Cluster, node: Node, *, stats: bool, resource: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": f"node/{node.name}",
        "node": node.name,
        "type": "node",
        "level": "",
        "status": "online" if node.online else "offline",
    }
    if resource and cluster.release.since(8):
        found["cgroup-mode"] = 2
    if resource and node.maintenance and cluster.release.since(9):
        found["hastate"] = "maintenance"
    if not resource:
        found["ssl_fingerprint"] = cluster.fingerprint
    if stats and node.online:
        found |= {
            "cpu": 0.03,
            "maxcpu": node.cpus,
            "mem": node_memory(cluster, node),
            "maxmem": node.memory,
            "disk": 8 * 1024**3,
            "maxdisk": node.disk,
            "uptime": int(cluster.clock.time() - cluster.started) + 86400,
        }
    return found


def describe_storage_resource(cluster: Cluster, storage: Storage, node: str) -> dict[str, Any]:
    online = cluster.nodes[node].online
    return {
        "id": f"storage/{node}/{storage.name}",
        "type": "storage",
        "storage": storage.name,
        "node": node,
        "plugintype": storage.kind,
        "status": "available" if online else "unknown",
        "content": ",".join(storage.content),
        "shared": int(storage.shared),
        "maxdisk": storage.total if online else 0,
        "disk": cluster.stores.used(storage, node) if online else 0,
    }


def describe_storage(cluster: Cluster, storage: Storage, node: str) -> dict[str, Any]:
    """GET /nodes/{n}/storage and …/status."""
    active = not storage.disabled
    used = cluster.stores.used(storage, node) if active else 0
    return {
        "storage": storage.name,
        "type": storage.kind,
        "content": ",".join(storage.content),
        "shared": int(storage.shared),
        "enabled": int(active),
        "active": int(active),
        "total": storage.total if active else 0,
        "used": used,
        "avail": storage.total - used if active else 0,
    }
