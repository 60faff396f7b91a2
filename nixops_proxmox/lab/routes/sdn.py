"""/cluster/sdn: a cluster without software-defined networks. Reading works and finds none; the rest is a 501."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes
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
async def vnets(_: Call) -> Any:
    return []
