"""/nodes: the nodes themselves."""

import hashlib
import ipaddress
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from nixops_proxmox.lab.call import Call, Routes, either, needs
from nixops_proxmox.lab.describe import describe_node, node_memory
from nixops_proxmox.lab.refusals import Refused, bad_parameter
from nixops_proxmox.lab.routes.statistics import TIMEFRAME, series
from nixops_proxmox.lab.schema.cpus import VENDOR
from nixops_proxmox.lab.schema.types import boolean, matching, text

routes = Routes()
AUDIT, MODIFY = needs("/nodes/{node}", "Sys.Audit"), needs("/nodes/{node}", "Sys.Modify")
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
        describe_node(cluster, node, stats=call.allows(f"/nodes/{node.name}", "Sys.Audit"))
        for node in cluster.nodes.values()
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
            "flags": node.flags,
        },
        "kversion": f"Linux {kernel} #1 SMP",
        "current-kernel": {"sysname": "Linux", "release": kernel, "version": "#1 SMP", "machine": node.arch},
        "boot-info": {"mode": "efi", "secureboot": 0},
        "pveversion": f"pve-manager/{cluster.release.version}/{cluster.release.repoid}",
    }


@routes.get("/nodes/{node}/time", permission=AUDIT)
async def time(call: Call) -> Any:
    """`localtime` is the wall clock, counted as if it was UTC."""
    now, zone = int(call.cluster.clock.time()), call.cluster.nodes[call.node].timezone
    offset = datetime.fromtimestamp(now, ZoneInfo(zone)).utcoffset() or timedelta()
    return {"time": now, "localtime": now + int(offset.total_seconds()), "timezone": zone}


@routes.put("/nodes/{node}/time", {"timezone": text(optional=False)}, MODIFY)
async def set_time(call: Call) -> Any:
    if call.params["timezone"] not in available_timezones():
        raise bad_parameter("timezone", "No such timezone.")
    call.cluster.nodes[call.node].timezone = call.params["timezone"]


@routes.get("/nodes/{node}/dns", permission=AUDIT)
async def dns(call: Call) -> Any:
    return dict(call.cluster.nodes[call.node].dns)


@routes.put(
    "/nodes/{node}/dns", {"search": text(optional=False), "dns1": text(), "dns2": text(), "dns3": text()}, MODIFY
)
async def set_dns(call: Call) -> Any:
    """The whole of resolv.conf: a server that is not named is gone."""
    given: dict[str, str] = {key: call.params[key] for key in ("search", "dns1", "dns2", "dns3") if key in call.params}
    for key, value in given.items():
        if key != "search" and not _is_address(value):
            raise bad_parameter(key, "invalid format - value does not look like a valid IP address\n")
    call.cluster.nodes[call.node].dns = given


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


@routes.get("/nodes/{node}/hosts", permission=AUDIT)
async def hosts(call: Call) -> Any:
    lines = [
        "127.0.0.1 localhost",
        *(f"{node.address} {name}.lab.test {name}" for name, node in call.cluster.nodes.items()),
    ]
    text = "\n".join([*lines, ""])
    return {"data": text, "digest": hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()}


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


# What clients ask on their way to something else.


@routes.get("/nodes/{node}/subscription")
async def subscription(call: Call) -> Any:
    found: dict[str, Any] = {"status": "notfound", "message": "There is no subscription key"}
    if call.allows(f"/nodes/{call.node}", "Sys.Audit"):
        found |= {"serverid": hashlib.md5(call.node.encode(), usedforsecurity=False).hexdigest().upper()}
    return found | {"url": "https://www.proxmox.com/en/proxmox-virtual-environment/pricing"}


@routes.get("/nodes/{node}/report", permission=AUDIT)
async def report(call: Call) -> Any:
    release = call.cluster.release
    node = call.cluster.nodes[call.node]
    sections = {
        "general system info": [f"# hostname\n{node.name}", f"# pveversion\npve-manager/{release.version}"],
        "overall node status": [f"# guests\n{len(list(call.cluster.vms_on(node.name)))}"],
    }
    lines = [line for title, texts in sections.items() for line in (f"==== {title} ====", "", *texts, "")]
    return "\n".join(lines)


@routes.get("/nodes/{node}/rrddata", TIMEFRAME, AUDIT)
async def node_statistics(call: Call) -> Any:
    node = call.cluster.nodes[call.node]
    used = node_memory(call.cluster, node)
    return series(
        call, {"cpu": 0.03, "maxcpu": node.cpus, "memtotal": node.memory, "memused": used, "roottotal": node.disk}
    )


@routes.get(
    "/nodes/{node}/query-url-metadata",
    {"url": matching(r"https?://.*", optional=False), "verify-certificates": boolean()},
    either(needs("/", "Sys.Audit", "Sys.Modify"), needs("/nodes/{node}", "Sys.AccessNetwork")),
)
async def url_metadata(call: Call) -> Any:
    """The lab downloads nothing, so it can look at no URL: as a node without a network answers."""
    host = call.params["url"].split("/")[2]
    raise Refused(500, f"invalid server response: '500 Can't connect to {host} (the lab reaches no other network)'")
