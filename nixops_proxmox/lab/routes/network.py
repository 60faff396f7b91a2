"""/nodes/{node}/network: bridges. Changes wait, as in interfaces.new, until they are applied or dropped."""

from dataclasses import replace
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.cluster import LOCAL_ZONE, Bridge
from nixops_proxmox.lab.refusals import Refused, bad_parameter
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, integer, matching, named, one_of, text
from nixops_proxmox.lab.tasks import Log

routes = Routes()
AUDIT, MODIFY = needs("/nodes/{node}", "Sys.Audit"), needs("/nodes/{node}", "Sys.Modify")


def _bridge(bridge: Bridge) -> dict[str, Any]:
    if bridge.zone != LOCAL_ZONE:
        return {"iface": bridge.iface, "type": "vnet", "active": "1", "comments": bridge.comment}
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
        and (bridge.zone == LOCAL_ZONE or call.get("type") in ("any_bridge", "include_sdn"))
        and (not newer or call.allows(f"/sdn/zones/{bridge.zone}/{bridge.iface}", "SDN.Audit", "SDN.Use", any_of=True))
    ]


@routes.get("/nodes/{node}/network/{iface}", permission=AUDIT)
async def one_network(call: Call) -> Any:
    bridge = call.cluster.bridges.get(call.params["iface"])
    if bridge is None:
        raise bad_parameter("iface", "interface does not exist")
    found = _bridge(bridge)
    del found["iface"]
    return found


CONFIG = {
    "type": one_of(
        "bridge", "bond", "eth", "alias", "vlan", "OVSBridge", "OVSBond", "OVSPort", "OVSIntPort", optional=False
    ),
    "address": text(requires="netmask"),
    "autostart": boolean(),
    "bridge_ports": named("string-list"),
    "bridge_vids": text(since=(8, 4)),
    "bridge_vlan_aware": boolean(),
    "cidr": matching(r"[0-9.]+/[0-9]{1,2}"),
    "comments": text(),
    "gateway": text(),
    "mtu": integer(1280, 65520),
    "netmask": text(requires="address"),
}


def _planned(call: Call) -> dict[str, Bridge]:
    """The node's bridges as they will be when what is staged is applied."""
    cluster = call.cluster
    now = {name: bridge for name, bridge in cluster.bridges.items() if not bridge.nodes or call.node in bridge.nodes}
    return cluster.staged_bridges.get(call.node, now)


def _described(call: Call, name: str) -> Bridge:
    if call.params["type"] != "bridge":
        raise Refused(501, f"the lab has bridges only, and makes no interface of type {call.params['type']}")
    address = call.get("cidr") or (
        f"{call.params['address']}/{call.params['netmask']}" if "address" in call.params else ""
    )
    return Bridge(
        name,
        address,
        vlan_aware=call.get("bridge_vlan_aware", False),
        ports=" ".join(split_list(call.get("bridge_ports", ""))),
        nodes=(call.node,),
        comment=call.get("comments", "").rstrip("\n"),
    )


@routes.post("/nodes/{node}/network", {**CONFIG, "iface": named("pve-iface", optional=False)}, MODIFY)
async def add_network(call: Call) -> Any:
    planned, name = _planned(call), call.params["iface"]
    if name in planned:
        raise bad_parameter("iface", "interface already exists")
    call.cluster.staged_bridges[call.node] = {**planned, name: _described(call, name)}


@routes.put("/nodes/{node}/network/{iface}", {**CONFIG, "delete": named("pve-configid-list")}, MODIFY)
async def change_network(call: Call) -> Any:
    planned, name = _planned(call), call.params["iface"]
    if name not in planned:
        raise bad_parameter("iface", "interface does not exist")
    call.cluster.staged_bridges[call.node] = {**planned, name: _described(call, name)}


@routes.delete("/nodes/{node}/network/{iface}", permission=MODIFY)
async def delete_network(call: Call) -> Any:
    planned, name = _planned(call), call.params["iface"]
    if name not in planned:
        raise bad_parameter("iface", "interface does not exist")
    call.cluster.staged_bridges[call.node] = {key: bridge for key, bridge in planned.items() if key != name}


@routes.delete("/nodes/{node}/network", permission=MODIFY)
async def revert_network(call: Call) -> Any:
    call.cluster.staged_bridges.pop(call.node, None)


@routes.put("/nodes/{node}/network", {"regenerate-frr": boolean(since=(9, 0))}, MODIFY)
async def apply_network(call: Call) -> Any:
    cluster, node = call.cluster, call.node

    async def work(_: Log) -> None:
        staged = cluster.staged_bridges.pop(node, None)
        if staged is not None:
            _apply(cluster.bridges, staged, node, tuple(cluster.nodes))

    return cluster.tasks.start(node, "srvreload", "networking", call.auth, work)


def _apply(bridges: dict[str, Bridge], staged: dict[str, Bridge], node: str, nodes: tuple[str, ...]) -> None:
    """The lab keeps one bridge for all nodes that have it; what one node does changes which nodes those are."""
    for name in [name for name, bridge in bridges.items() if node in (bridge.nodes or nodes) and name not in staged]:
        left = tuple(other for other in (bridges[name].nodes or nodes) if other != node)
        if left:
            bridges[name] = replace(bridges[name], nodes=left)
        else:
            del bridges[name]
    for name, bridge in staged.items():
        before = bridges.get(name)
        others = set((before.nodes or nodes) if before else ()) | {node}
        bridges[name] = replace(bridge, nodes=() if others == set(nodes) else tuple(sorted(others)))
