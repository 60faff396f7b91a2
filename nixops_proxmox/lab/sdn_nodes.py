"""What applying does on each node: bridges appear, change and go; and how that is told."""

import difflib

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Bridge, Cluster
from nixops_proxmox.lab.sdn import Objects, Sdn
from nixops_proxmox.lab.tasks import Log


def vnets_on(sdn: Sdn, node: str, objects: Objects) -> list[str]:
    """The vnets that a node has a bridge for."""
    zones = {name for name, zone in objects["zones"].items() if sdn.has_node(zone, node)}
    return sorted(name for name, vnet in objects["vnets"].items() if vnet["zone"] in zones)


def interfaces(sdn: Sdn, node: str, objects: Objects, version: int) -> list[str]:
    """/etc/network/interfaces.d/sdn, in short."""
    lines = [f"#version:{version}"] if objects["zones"] else []
    for name in vnets_on(sdn, node, objects):
        vnet = objects["vnets"][name]
        zone = objects["zones"][vnet["zone"]]
        lines += ["", f"auto {name}", f"iface {name}"]
        for subnet in sdn.subnets_of(name, objects).values():
            if "gateway" in subnet and zone["type"] == "simple":
                lines.append(f"\taddress {subnet['gateway']}")
        ports = f"{zone['bridge']}.{vnet['tag']}" if "bridge" in zone else "none"
        lines += [f"\tbridge_ports {ports}", "\tbridge_stp off", "\tbridge_fd 0"]
        lines += [f"\talias {vnet['alias']}"] if vnet.get("alias") else []
    return lines


def interfaces_diff(sdn: Sdn, node: str) -> str | None:
    before = interfaces(sdn, node, sdn.running, sdn.version)
    after = interfaces(sdn, node, sdn.configured, sdn.version)
    path = "/etc/network/interfaces.d/sdn"
    return "\n".join(difflib.unified_diff(before, after, path, path, lineterm="")) or None


def start_apply(cluster: Cluster, entry: str, auth: Auth) -> str:
    """The parent: it starts a reload on each node, and ends well whatever those do."""

    async def work(log: Log) -> None:
        cluster.check_quorum()
        for node in cluster.nodes.values():
            log.say(f"{node.name}: reloading network config")
            if node.online:
                _start_reload(cluster, node.name, auth)
            else:
                log.warn(f"command 'pvesh set /nodes/{node.name}/network' failed")

    return cluster.tasks.start(entry, "reloadnetworkall", "", auth, work)


def _start_reload(cluster: Cluster, node: str, auth: Auth) -> None:
    async def work(_: Log) -> None:
        reload(cluster, node)

    cluster.tasks.start(node, "srvreload", "networking", auth, work)


def reload(cluster: Cluster, node: str) -> None:
    """The node takes over what runs. Of bridges that are no vnets of ours it knows nothing."""
    sdn, every = cluster.sdn, tuple(cluster.nodes)
    if sdn.version == 0:
        return
    wanted = vnets_on(sdn, node, sdn.running)
    for name in sdn.bridges - set(wanted):
        _leave(cluster, name, node, every)
    for name in wanted:
        vnet = sdn.running["vnets"][name]
        before = cluster.bridges.get(name)
        nodes = {*(before.nodes or every if before else ()), node}
        cluster.bridges[name] = Bridge(
            name,
            vlan_aware=bool(vnet.get("vlanaware")),
            nodes=() if nodes == set(every) else tuple(sorted(nodes)),
            comment=vnet.get("alias", ""),
            zone=vnet["zone"],
        )
        sdn.bridges.add(name)
    sdn.told[node] = sdn.version


def put_vnet(cluster: Cluster, zone: str, vnet: str) -> None:
    """A simple zone with one vnet, applied on every node: for tests."""
    cluster.sdn.add("zones", zone, {"type": "simple"})
    cluster.sdn.add("vnets", vnet, {"type": "vnet", "zone": zone})
    cluster.sdn.commit()
    for node in cluster.nodes:
        reload(cluster, node)


def _leave(cluster: Cluster, name: str, node: str, every: tuple[str, ...]) -> None:
    bridge = cluster.bridges.get(name)
    if bridge is None or node not in (bridge.nodes or every):
        return
    left = tuple(one for one in (bridge.nodes or every) if one != node)
    if left:
        bridge.nodes = left
    else:
        del cluster.bridges[name]
        cluster.sdn.bridges.discard(name)


def wire_of(cluster: Cluster, bridge: str, tag: int) -> tuple[str, int]:
    """The bridge and the VLAN that a NIC's frames are really on: a vnet of a VLAN zone is one of its bridge's VLANs."""
    vnet = cluster.sdn.running["vnets"].get(bridge)
    zone = cluster.sdn.running["zones"].get(vnet["zone"], {}) if vnet else {}
    if vnet and "bridge" in zone:
        return str(zone["bridge"]), int(vnet["tag"])
    return bridge, tag
