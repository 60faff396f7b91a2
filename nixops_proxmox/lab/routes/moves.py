"""Clone, template, move_disk, migrate, and vzdump."""

from typing import Any

from nixops_proxmox.lab.call import DIGEST, Call, Routes, needs
from nixops_proxmox.lab.refusals import bad_parameter, die, no_permission
from nixops_proxmox.lab.routes.config import RESIZE
from nixops_proxmox.lab.schema.types import boolean, integer, named, one_of, text
from nixops_proxmox.lab.vms.backup import archived_config, start_backup
from nixops_proxmox.lab.vms.clone import start_clone, start_move, start_template
from nixops_proxmox.lab.vms.migrate import preconditions, start_migration

routes = Routes()
BASE = "/nodes/{node}/qemu/{vmid}"
CLONE = {
    "newid": integer(100, 999999999, format="pve-vmid", optional=False),
    "name": named("dns-name"),
    "description": text(),
    "pool": named("pve-poolid"),
    "snapname": named("pve-configid", max_length=40),
    "storage": named("pve-storage-id"),
    "format": one_of("raw", "qcow2", "vmdk"),
    "full": boolean(),
    "target": named("pve-node"),
    "bwlimit": integer(0),
}


def may_clone(call: Call) -> None:
    pool = call.get("pool")
    call.require(f"/vms/{call.params['vmid']}", "VM.Clone")
    if pool and pool not in call.cluster.pools:
        raise no_permission(f"pool '{pool}' does not exist")
    paths = [f"/vms/{call.get('newid', '')}"] + ([f"/pool/{pool}"] if pool else [])
    if not any(call.allows(path, "VM.Allocate") for path in paths):
        raise no_permission()


@routes.post(f"{BASE}/clone", CLONE, may_clone)
async def clone(call: Call) -> Any:
    source = call.cluster.find_running_config(call.node, call.vmid)
    return start_clone(call.cluster, call.auth, source, call.params)


@routes.post(
    f"{BASE}/template",
    {"disk": RESIZE["disk"].__class__("string", enum=RESIZE["disk"].enum)},
    needs("/vms/{vmid}", "VM.Allocate"),
)
async def template(call: Call) -> Any:
    return start_template(call.cluster, call.auth, call.vm, call.get("disk"))


MOVE = {
    "disk": one_of(*RESIZE["disk"].enum, *(f"unused{n}" for n in range(256)), optional=False),
    "storage": named("pve-storage-id"),
    "format": one_of("raw", "qcow2", "vmdk"),
    "delete": boolean(),
    "digest": DIGEST,
    "bwlimit": integer(0),
    "target-vmid": integer(100, 999999999, format="pve-vmid"),
    "target-disk": text(),
    "target-digest": DIGEST,
}


def may_move(call: Call) -> None:
    call.require(f"/vms/{call.params['vmid']}", "VM.Config.Disk")
    if "storage" in call.params:
        call.require(f"/storage/{call.params['storage']}", "Datastore.AllocateSpace")


@routes.post(f"{BASE}/move_disk", MOVE, may_move)
async def move_disk(call: Call) -> Any:
    return start_move(call.cluster, call.auth, call.vm, call.params)


MIGRATE = {
    "target": named("pve-node", optional=False),
    "online": boolean(),
    "force": boolean(),
    "migration_type": one_of("secure", "insecure"),
    "migration_network": text(),
    "with-local-disks": boolean(),
    "targetstorage": text(),
    "bwlimit": integer(0),
    "with-conntrack-state": boolean(since=(9, 0)),
}


@routes.get(f"{BASE}/migrate", {"target": named("pve-node")}, needs("/vms/{vmid}", "VM.Migrate"))
async def migration_preconditions(call: Call) -> Any:
    return preconditions(call.cluster, call.vm)


@routes.post(f"{BASE}/migrate", MIGRATE, needs("/vms/{vmid}", "VM.Migrate"))
async def migrate(call: Call) -> Any:
    refuse_root_only(call)
    return start_migration(call.cluster, call.auth, call.vm, call.params)


def refuse_root_only(call: Call) -> None:
    for name in ("force", "migration_type", "migration_network"):
        if call.get(name) and not call.auth.is_root:
            raise bad_parameter(name, "Only root may use this option.")


VZDUMP = {
    "vmid": named("pve-vmid-list"),
    "all": boolean(),
    "exclude": named("pve-vmid-list"),
    "pool": text(),
    "storage": named("pve-storage-id"),
    "mode": one_of("snapshot", "suspend", "stop"),
    "compress": one_of("0", "1", "gzip", "lzo", "zstd"),
    "remove": boolean(),
    "prune-backups": text(),
    "notes-template": text(1024, requires="storage"),
    "protected": boolean(requires="storage"),
    "quiet": boolean(),
    "bwlimit": integer(0),
    "ionice": integer(0, 8),
    "zstd": integer(),
    "stop": boolean(),
    "stopwait": integer(0),
    "lockwait": integer(0),
    "mailto": text(),
    "mailnotification": one_of("always", "failure"),
    "notification-mode": text(since=(8, 0)),
    "fleecing": text(since=(8, 2)),
    "performance": text(),
    "stdexcludes": boolean(),
    "exclude-path": text(),
    "tmpdir": text(),
    "dumpdir": text(),
    "script": text(),
    "job-id": text(since=(8, 0)),
    "pigz": integer(),
}


@routes.post("/nodes/{node}/vzdump", VZDUMP)
async def vzdump(call: Call) -> Any:
    for name in ("tmpdir", "dumpdir", "script", "job-id"):
        if name in call.params and not call.auth.is_root:
            raise bad_parameter(name, "Only root may set this option.")
    return start_backup(call.cluster, call.auth, call.node, call.params)


@routes.get("/nodes/{node}/vzdump/extractconfig", {"volume": text(optional=False)})
async def extract_config(call: Call) -> Any:
    """An archive's own configuration, as a file. The rights are those of making it."""
    archive = call.cluster.stores.find(call.params["volume"], call.node)
    if archive is None or archive.content != "backup":
        die(f"volume '{call.params['volume']}' does not exist")
    if not call.allows(f"/storage/{archive.storage}", "Datastore.Allocate"):
        call.require(f"/storage/{archive.storage}", "Datastore.AllocateSpace")
    call.require(f"/vms/{archive.vmid}", "VM.Backup")
    return archived_config(archive)
