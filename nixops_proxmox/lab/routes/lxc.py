"""/nodes/{node}/lxc: the list, creating, deleting, the index, and what the host sees of a container's network."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.containers.create import start_create
from nixops_proxmox.lab.containers.remove import start_remove
from nixops_proxmox.lab.containers.restore import may_restore, start_restore
from nixops_proxmox.lab.describe import vm_figures
from nixops_proxmox.lab.refusals import bad_parameter, no_permission
from nixops_proxmox.lab.schema.container import CREATE
from nixops_proxmox.lab.schema.types import boolean

routes = Routes()
BASE = "/nodes/{node}/lxc/{vmid}"
AUDIT = needs("/vms/{vmid}", "VM.Audit")
INDEX = [
    "config",
    "pending",
    "status",
    "vncproxy",
    "termproxy",
    "vncwebsocket",
    "spiceproxy",
    "migrate",
    "clone",
    "rrd",
    "rrddata",
    "firewall",
    "snapshot",
    "resize",
    "interfaces",
]


@routes.get("/nodes/{node}/lxc")
async def containers(call: Call) -> Any:
    here = [vm for vm in call.cluster.vms_on(call.node) if vm.kind == "lxc"]
    return [await vm_figures(call.cluster, vm) for vm in here if call.allows(f"/vms/{vm.vmid}", "VM.Audit")]


def may_create(call: Call) -> None:
    """VM.Allocate on the id or on the pool; the refusal names neither."""
    if call.get("restore"):
        may_restore(call.cluster, call.auth, call.params)
        return
    pool, vmid = call.get("pool"), call.get("vmid", "")
    if pool and pool not in call.cluster.pools:
        raise no_permission(f"pool '{pool}' does not exist")
    paths = [f"/vms/{vmid}"] + ([f"/pool/{pool}"] if pool else [])
    if not any(call.allows(path, "VM.Allocate") for path in paths):
        raise no_permission()


@routes.post("/nodes/{node}/lxc", CREATE, may_create)
async def create(call: Call) -> Any:
    call.cluster.check_quorum()
    start = start_restore if call.get("restore") else start_create
    return start(call.cluster, call.auth, call.node, call.params)


@routes.get(BASE)
async def index(call: Call) -> Any:
    assert call.container is not None
    return [{"subdir": name} for name in INDEX]


@routes.delete(
    BASE,
    {"purge": boolean(), "force": boolean(), "destroy-unreferenced-disks": boolean()},
    needs("/vms/{vmid}", "VM.Allocate"),
)
async def delete(call: Call) -> Any:
    return start_remove(
        call.cluster,
        call.auth,
        call.container,
        purge=call.get("purge", False),
        force=call.get("force", False),
        unreferenced=call.get("destroy-unreferenced-disks", False),
    )


def refuse_skiplock(call: Call) -> None:
    if call.get("skiplock") and not call.auth.is_root:
        raise bad_parameter("skiplock", "Only root may use this option.")


@routes.get(f"{BASE}/interfaces", permission=AUDIT, since=(8, 0))
async def interfaces(call: Call) -> Any:
    """As the host sees them; null for a container that does not run. All addresses of each since 8.4."""
    container = call.container
    if container.running is None:
        return None
    found = []
    for one in await container.running.interfaces():
        addresses = one.get("ip-addresses", [])
        told: dict[str, Any] = {"name": one["name"], "hwaddr": one["hardware-address"]}
        for address in addresses:
            family = "inet" if address["ip-address-type"] == "ipv4" else "inet6"
            told[family] = f"{address['ip-address']}/{address['prefix']}"
        if call.cluster.release.since(8, 4):
            kinds = {"ipv4": "inet", "ipv6": "inet6"}
            told["hardware-address"] = told["hwaddr"]
            told["ip-addresses"] = [
                {**address, "ip-address-type": kinds[address["ip-address-type"]]} for address in addresses
            ]
        found.append(told)
    return found
