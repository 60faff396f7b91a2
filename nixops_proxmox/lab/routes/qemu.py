"""/nodes/{node}/qemu: the list, creating, deleting, and the index."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.describe import vm_figures
from nixops_proxmox.lab.refusals import bad_parameter, no_permission
from nixops_proxmox.lab.schema.types import boolean, integer, named, text
from nixops_proxmox.lab.schema.vm import CONFIG
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.create import start_create
from nixops_proxmox.lab.vms.remove import start_remove

routes = Routes()
INDEX = [
    "config",
    "cloudinit",
    "pending",
    "status",
    "unlink",
    "vncproxy",
    "termproxy",
    "migrate",
    "resize",
    "move",
    "rrd",
    "rrddata",
    "monitor",
    "agent",
    "snapshot",
    "spiceproxy",
    "sendkey",
    "firewall",
    "mtunnel",
    "remote_migrate",
]
CREATE = {
    **CONFIG,
    "vmid": integer(100, 999999999, format="pve-vmid", optional=False),
    "archive": text(255),
    "force": boolean(requires="archive"),
    "unique": boolean(requires="archive"),
    "live-restore": boolean(),
    "bwlimit": integer(0),
    "storage": named("pve-storage-id"),
    "import-working-storage": named("pve-storage-id", since=(8, 2)),
    "pool": named("pve-poolid"),
    "start": boolean(),
    "ha-managed": boolean(since=(9, 1)),
}


@routes.get("/nodes/{node}/qemu", {"full": boolean()})
async def vms(call: Call) -> Any:
    here = [vm for vm in call.cluster.vms_on(call.node) if vm.kind == Vm.kind]
    mine = [vm for vm in here if call.allows(f"/vms/{vm.vmid}", "VM.Audit")]
    found = []
    for vm in mine:
        figures = await vm_figures(call.cluster, vm)
        found.append(figures | ({"qmpstatus": vm.qmpstatus} if call.get("full") else {}))
    return found


def may_create(call: Call) -> None:
    """VM.Allocate on the id or on the pool; the refusal names neither. A restore over a VM needs VM.Backup."""
    pool, vmid = call.get("pool"), call.get("vmid", "")
    if pool and pool not in call.cluster.pools:
        raise no_permission(f"pool '{pool}' does not exist")
    if call.get("archive") and call.get("force") in ("1", True) and call.allows(f"/vms/{vmid}", "VM.Backup"):
        return
    paths = [f"/vms/{vmid}"] + ([f"/pool/{pool}"] if pool else [])
    if not any(call.allows(path, "VM.Allocate") for path in paths):
        raise no_permission()


@routes.post("/nodes/{node}/qemu", CREATE, may_create)
async def create(call: Call) -> Any:
    if call.get("archive"):
        from nixops_proxmox.lab.vms.restore import start_restore

        return start_restore(call.cluster, call.auth, call.node, call.params)
    return start_create(call.cluster, call.auth, call.node, call.params)


@routes.get("/nodes/{node}/qemu/{vmid}")
async def index(_: Call) -> Any:
    return [{"subdir": name} for name in INDEX]


@routes.delete(
    "/nodes/{node}/qemu/{vmid}",
    {"purge": boolean(), "destroy-unreferenced-disks": boolean(), "skiplock": boolean()},
    needs("/vms/{vmid}", "VM.Allocate"),
)
async def delete(call: Call) -> Any:
    refuse_skiplock(call)
    return start_remove(
        call.cluster,
        call.auth,
        call.vm,
        purge=call.get("purge", False),
        unreferenced=call.get("destroy-unreferenced-disks", False),
        skip_lock=call.get("skiplock", False),
    )


def refuse_skiplock(call: Call, *more: str) -> None:
    """Options that only root@pam itself may use."""
    for name in ("skiplock", *more):
        if call.get(name) and not call.auth.is_root:
            raise bad_parameter(name, "Only root may use this option.")
