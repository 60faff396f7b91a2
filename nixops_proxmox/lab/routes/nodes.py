"""/nodes: the nodes themselves."""

import hashlib
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.cluster import Bridge
from nixops_proxmox.lab.describe import describe_node, node_memory
from nixops_proxmox.lab.refusals import bad_parameter
from nixops_proxmox.lab.schema.cpus import VENDOR
from nixops_proxmox.lab.schema.types import one_of

routes = Routes()
AUDIT = needs("/nodes/{node}", "Sys.Audit")
GIB = 1024**3
INDEX = [
    "aplinfo",
    "apt",
    "capabilities",
    "ceph",
    "certificates",
    "config",
    "disks",
    "dns",
    "firewall",
    "hardware",
    "hosts",
    "journal",
    "lxc",
    "migrateall",
    "netstat",
    "network",
    "qemu",
    "query-url-metadata",
    "replication",
    "report",
    "rrd",
    "rrddata",
    "scan",
    "sdn",
    "services",
    "spiceshell",
    "startall",
    "status",
    "stopall",
    "storage",
    "subscription",
    "suspendall",
    "syslog",
    "tasks",
    "termproxy",
    "time",
    "version",
    "vncshell",
    "vzdump",
    "wakeonlan",
]


@routes.get("/nodes")
async def nodes(call: Call) -> Any:
    cluster = call.cluster
    return [
        describe_node(cluster, node, call.allows(f"/nodes/{node.name}", "Sys.Audit")) for node in cluster.nodes.values()
    ]


@routes.get("/nodes/{node}")
async def index(_: Call) -> Any:
    return [{"name": name} for name in INDEX]


@routes.get("/nodes/{node}/version")
async def version(call: Call) -> Any:
    release = call.cluster.release
    return {"version": release.version, "release": release.name, "repoid": release.repoid}


@routes.get("/nodes/{node}/status", permission=AUDIT)
async def status(call: Call) -> Any:
    cluster = call.cluster
    node = cluster.nodes[call.node]
    used = node_memory(cluster, node)
    memory = {"total": node.memory, "used": used, "free": node.memory - used}
    if cluster.release.since(9):
        memory["available"] = node.memory - used
    kernel = {7: "5.15.158-2-pve", 8: "6.8.12-10-pve", 9: "6.14.8-2-pve"}[cluster.release.number[0]]
    return {
        "uptime": int(cluster.clock.time() - cluster.started) + 86400,
        "idle": 0,
        "wait": 0,
        "cpu": 0.03,
        "loadavg": ["0.12", "0.08", "0.05"],
        "memory": memory,
        "swap": {"total": 8 * GIB, "used": 0, "free": 8 * GIB},
        "rootfs": {"total": node.disk, "used": 8 * GIB, "free": node.disk - 8 * GIB, "avail": node.disk - 8 * GIB},
        "ksm": {"shared": 0},
        "cpuinfo": {
            "cpus": node.cpus,
            "cores": node.cpus // 2,
            "sockets": 1,
            "model": "Lab CPU",
            "mhz": "2400.000",
            "hvm": "1",
            "user_hz": 100,
            "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep vmx",
        },
        "kversion": f"Linux {kernel} #1 SMP",
        "current-kernel": {"sysname": "Linux", "release": kernel, "version": "#1 SMP", "machine": "x86_64"},
        "boot-info": {"mode": "efi", "secureboot": 0},
        "pveversion": f"pve-manager/{cluster.release.version}/{cluster.release.repoid}",
    }


@routes.get("/nodes/{node}/time", permission=AUDIT)
async def time(call: Call) -> Any:
    now = int(call.cluster.clock.time())
    return {"time": now, "localtime": now, "timezone": "Etc/UTC"}


@routes.get("/nodes/{node}/dns", permission=AUDIT)
async def dns(_: Call) -> Any:
    return {"dns1": "192.0.2.53"}


@routes.get("/nodes/{node}/hosts", permission=AUDIT)
async def hosts(call: Call) -> Any:
    lines = [
        "127.0.0.1 localhost",
        *(f"{node.address} {name}.lab.test {name}" for name, node in call.cluster.nodes.items()),
    ]
    text = "\n".join([*lines, ""])
    return {"data": text, "digest": hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()}


def _bridge(bridge: Bridge) -> dict[str, Any]:
    found: dict[str, Any] = {
        "iface": bridge.iface,
        "type": "bridge",
        "active": 1,
        "autostart": 1,
        "bridge_fd": "0",
        "bridge_stp": "off",
        "bridge_ports": bridge.ports,
        "method": "static" if bridge.cidr else "manual",
        "method6": "manual",
        "families": ["inet"],
        "priority": 3,
    }
    if bridge.vlan_aware:
        found |= {"bridge_vlan_aware": 1, "bridge_vids": "2-4094"}
    if bridge.cidr:
        address, _, prefix = bridge.cidr.partition("/")
        found |= {"cidr": bridge.cidr, "address": address, "netmask": prefix}
    if bridge.comment:
        found["comments"] = f"{bridge.comment}\n"
    return found


TYPES = one_of(
    "bridge",
    "bond",
    "eth",
    "alias",
    "vlan",
    "fabric",
    "OVSBridge",
    "OVSBond",
    "OVSPort",
    "OVSIntPort",
    "vnet",
    "any_bridge",
    "any_local_bridge",
    "include_sdn",
)


@routes.get("/nodes/{node}/network", {"type": TYPES})
async def network(call: Call) -> Any:
    if call.get("type", "bridge") not in ("bridge", "any_bridge", "any_local_bridge", "include_sdn"):
        return []
    newer = call.cluster.release.since(8)
    return [
        _bridge(bridge)
        for bridge in call.cluster.bridges.values()
        if (not bridge.nodes or call.node in bridge.nodes)
        and (not newer or call.allows(f"/sdn/zones/localnetwork/{bridge.iface}", "SDN.Audit", "SDN.Use", any_of=True))
    ]


@routes.get("/nodes/{node}/network/{iface}", permission=AUDIT)
async def one_network(call: Call) -> Any:
    bridge = call.cluster.bridges.get(call.params["iface"])
    if bridge is None:
        raise bad_parameter("iface", "interface does not exist")
    found = _bridge(bridge)
    del found["iface"]
    return found


@routes.get("/nodes/{node}/capabilities")
async def capabilities(_: Call) -> Any:
    return [{"name": "qemu"}]


@routes.get("/nodes/{node}/capabilities/qemu/cpu")
async def cpu_models(_: Call) -> Any:
    return [{"name": name, "vendor": vendor, "custom": 0} for name, vendor in VENDOR.items()]


@routes.get("/nodes/{node}/capabilities/qemu/machines")
async def machines(call: Call) -> Any:
    versions = {7: ["7.2", "7.1"], 8: ["9.2", "9.0", "8.1"], 9: ["10.0+pve1", "9.2+pve1", "9.0"]}[
        call.cluster.release.number[0]
    ]
    return [
        {"id": f"pc-{long}-{version}", "type": kind, "version": version}
        for long, kind in (("i440fx", "i440fx"), ("q35", "q35"))
        for version in versions
    ]


@routes.get("/nodes/{node}/certificates/info")
async def certificates(call: Call) -> Any:
    return [
        {
            "filename": "pve-ssl.pem",
            "fingerprint": call.cluster.fingerprint,
            "pem": call.cluster.certificate,
            "subject": f"/OU=PVE Cluster Node/O=Proxmox Virtual Environment/CN={call.node}.lab.test",
            "issuer": "/CN=Proxmox Virtual Environment/OU=PVE Cluster Manager CA",
            "san": ["127.0.0.1", "::1", "localhost", call.node],
        }
    ]
