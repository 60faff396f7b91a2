"""/cluster/sdn: reading works, and finds the vnets that a test has put there; the rest is a 501."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes
from nixops_proxmox.lab.cluster import LOCAL_ZONE
from nixops_proxmox.lab.schema.types import boolean, one_of

routes = Routes()
STATE = {"pending": boolean(), "running": boolean()}
ZONE = one_of("evpn", "faucet", "qinq", "simple", "vlan", "vxlan")


@routes.get("/cluster/sdn")
async def index(_: Call) -> Any:
    return [{"id": name} for name in ("vnets", "zones", "controllers", "ipams", "dns")]


@routes.get("/cluster/sdn/zones", {**STATE, "type": ZONE})
async def zones(_: Call) -> Any:
    return []


@routes.get("/cluster/sdn/vnets", STATE)
async def vnets(call: Call) -> Any:
    """The right to use a vnet is not enough to be told of it here."""
    return [
        {"vnet": bridge.iface, "zone": bridge.zone, "type": "vnet"}
        for bridge in call.cluster.bridges.values()
        if bridge.zone != LOCAL_ZONE
        and call.allows(f"/sdn/zones/{bridge.zone}/{bridge.iface}", "SDN.Audit", "SDN.Allocate", any_of=True)
    ]
