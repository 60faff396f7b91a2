"""/cluster/mapping: devices of nodes by a name of the cluster's, which others than root may use (since 8.0)."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.types import Param, named, text

routes = Routes()
SINCE = (8, 0)
MADE = {
    "id": named("pve-configid", optional=False),
    "map": Param("array", optional=False, items=text()),
    "description": text(4096),
}


def add_routes(kind: str) -> None:
    @routes.get(f"/cluster/mapping/{kind}", {"check-node": named("pve-node")}, since=SINCE)
    async def index(call: Call) -> Any:
        """Those that the caller may use, change or see."""
        return [
            mapping
            for (of, name), mapping in sorted(call.cluster.mappings.items())
            if of == kind
            and call.allows(f"/mapping/{kind}/{name}", "Mapping.Use", "Mapping.Modify", "Mapping.Audit", any_of=True)
        ]

    @routes.post(f"/cluster/mapping/{kind}", MADE, needs(f"/mapping/{kind}", "Mapping.Modify"), since=SINCE)
    async def make(call: Call) -> Any:
        key = (kind, call.params["id"])
        if key in call.cluster.mappings:
            die(f"{kind} ID '{key[1]}' already defined")
        given = call.params["map"]
        rows = given if isinstance(given, list) else [given]
        call.cluster.mappings[key] = {"id": key[1], "type": kind, "map": rows, "digest": "0" * 40}


for one in ("pci", "usb"):
    add_routes(one)
