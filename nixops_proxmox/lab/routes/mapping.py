"""/cluster/mapping: devices (since 8.0) and folders (since 8.4) of nodes by a name of the cluster's."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, either, needs
from nixops_proxmox.lab.ha import check_digest, digest
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import Param, Table, boolean, integer, matching, named, text

routes = Routes()
DEVICE = r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}"
ADDRESS = r"[a-f0-9]{4,}:[a-f0-9]{2}:[a-f0-9]{2}(\.[a-f0-9])?"
NODE, COMMENT, COUNT = named("pve-node", optional=False), text(4096), integer(0)
# What one entry may say.
ENTRY: dict[str, Table] = {
    "pci": {
        "node": NODE,
        "path": matching(rf"({ADDRESS};)*{ADDRESS}", optional=False),
        "id": matching(DEVICE, optional=False),
        "subsystem-id": matching(DEVICE),
        "iommugroup": COUNT,
        "description": COMMENT,
    },
    "usb": {
        "node": NODE,
        "path": matching(r"(\d+)-(\d+(\.\d+)*)"),
        "id": matching(DEVICE, optional=False),
        "description": COMMENT,
    },
    "dir": {"node": NODE, "path": matching(r"/.*", optional=False)},
}
MORE: dict[str, Table] = {"pci": {"mdev": boolean(), "live-migration-capable": boolean(since=(8, 4))}}
SINCE = {"dir": (8, 4)}


def add_routes(kind: str) -> None:
    base, since = f"/cluster/mapping/{kind}", SINCE.get(kind, (8, 0))
    rows = Param("array", optional=False, items=named(ENTRY[kind]))
    table: Table = {"map": rows, "description": COMMENT, **MORE.get(kind, {})}
    own = f"/mapping/{kind}/{{id}}"
    sees = either(*(needs(own, name) for name in ("Mapping.Use", "Mapping.Modify", "Mapping.Audit")))

    def of_kind(call: Call) -> dict[str, dict[str, Any]]:
        return {name: one for (which, name), one in sorted(call.cluster.mappings.items()) if which == kind}

    def told(call: Call) -> dict[str, Any]:
        given = {key: call.params[key] for key in table if key in call.params and key != "map"}
        flags = {key: int(value) if isinstance(value, bool) else value for key, value in given.items()}
        rows = call.params["map"]
        return {**flags, "map": rows if isinstance(rows, list) else [rows]}

    @routes.get(base, {"check-node": named("pve-node")}, since=since)
    async def index(call: Call) -> Any:
        """Those that the caller may use, change or see."""
        there = of_kind(call)
        return [
            {**one, "digest": digest(there)}
            for name, one in there.items()
            if call.allows(f"/mapping/{kind}/{name}", "Mapping.Use", "Mapping.Modify", "Mapping.Audit", any_of=True)
        ]

    @routes.get(f"{base}/{{id}}", permission=sees, since=since)
    async def show(call: Call) -> Any:
        there, name = of_kind(call), call.params["id"]
        if name not in there:
            die(f"mapping '{name}' not found")
        return {key: value for key, value in there[name].items() if key != "id"} | {"digest": digest(there)}

    made = {"id": named("pve-configid", optional=False)}

    @routes.post(base, {**table, **made}, needs(f"/mapping/{kind}", "Mapping.Modify"), since=since)
    async def make(call: Call) -> Any:
        call.cluster.check_quorum()
        name = call.params["id"]
        if name in of_kind(call):
            die(f"create hardware mapping failed: {kind} ID '{name}' already defined")
        call.cluster.mappings[kind, name] = {"id": name, "type": kind, **told(call)}

    changed = {"digest": text(64), "delete": named("pve-configid-list")}

    @routes.put(f"{base}/{{id}}", {**table, **changed}, needs(own, "Mapping.Modify"), since=since)
    async def change(call: Call) -> Any:
        there, name = of_kind(call), call.params["id"]
        check_digest(call.get("digest"), there)
        if name not in there:
            die(f"update hardware mapping failed: {kind} ID '{name}' does not exist")
        gone = split_list(call.get("delete", ""))
        kept = {key: value for key, value in there[name].items() if key not in gone}
        call.cluster.mappings[kind, name] = {**kept, **told(call)}

    @routes.delete(f"{base}/{{id}}", permission=needs(f"/mapping/{kind}", "Mapping.Modify"), since=since)
    async def remove(call: Call) -> Any:
        """Whether VMs use it or not; one that is not there is removed, too."""
        call.cluster.mappings.pop((kind, call.params["id"]), None)


for one in ENTRY:
    add_routes(one)
