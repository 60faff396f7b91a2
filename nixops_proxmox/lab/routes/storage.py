"""/nodes/{node}/storage: storages, their content, allocating and deleting volumes."""

import re
from typing import Any
from urllib.parse import unquote

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.config import parse_size
from nixops_proxmox.lab.describe import describe_storage
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.routes.statistics import TIMEFRAME, series
from nixops_proxmox.lab.schema.types import boolean, integer, matching, named, one_of, text
from nixops_proxmox.lab.storage import Storage, Stored, written
from nixops_proxmox.lab.tasks import Log

routes = Routes()
BASE = "/nodes/{node}/storage/{storage}"
SEE = needs("/storage/{storage}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)
INDEX = [
    "content",
    "download-url",
    "file-restore",
    "import-metadata",
    "prunebackups",
    "rrd",
    "rrddata",
    "status",
    "upload",
]


def _sees(call: Call, storage: Storage) -> bool:
    return call.allows(f"/storage/{storage.name}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)


FILTERS = {
    "content": named("pve-storage-content-list"),
    "enabled": boolean(),
    "format": boolean(),
    "storage": named("pve-storage-id"),
    "target": named("pve-node"),
}


@routes.get("/nodes/{node}/storage", FILTERS)
async def storages(call: Call) -> Any:
    stores = call.cluster.stores
    wanted = set(str(call.get("content", "")).replace(";", ",").split(",")) - {""}
    found = []
    for storage in stores.storages.values():
        if (
            not stores.is_on(storage, call.node)
            or not _sees(call, storage)
            or call.get("storage", storage.name) != storage.name
        ):
            continue
        if (wanted and (storage.disabled or not wanted & set(storage.content))) or (
            call.get("enabled") and storage.disabled
        ):
            continue
        if "target" in call.params and not storage.shared and call.params["target"] != call.node:
            continue
        entry = describe_storage(call.cluster, storage, call.node)
        if entry["total"]:
            entry["used_fraction"] = entry["used"] / entry["total"]
        if call.get("format"):
            entry["formats" if call.cluster.release.since(9) else "format"] = (
                {"supported": list(storage.formats()), "default": "raw"}
                if call.cluster.release.since(9)
                else [{name: 1 for name in storage.formats()}, "raw"]
            )
        found.append(entry)
    return found


@routes.get(BASE, permission=SEE)
async def index(_: Call) -> Any:
    return [{"subdir": name} for name in INDEX]


@routes.get(f"{BASE}/status", permission=SEE)
async def status(call: Call) -> Any:
    storage = call.cluster.stores.storages.get(call.params["storage"])
    if storage is None:
        raise bad_parameter("storage", "No such storage.")
    entry = describe_storage(call.cluster, storage, call.node)
    del entry["storage"]
    return entry


@routes.get(f"{BASE}/rrddata", TIMEFRAME, SEE)
async def statistics(call: Call) -> Any:
    entry = describe_storage(call.cluster, call.cluster.stores.get(call.params["storage"]), call.node)
    return series(call, {"total": entry["total"], "used": entry["used"]})


# Content.


def _item(stored: Stored) -> dict[str, Any]:
    found: dict[str, Any] = {
        "volid": stored.volid,
        "content": stored.content,
        "format": stored.format,
        "size": stored.size,
        "ctime": stored.ctime,
    }
    if stored.vmid:
        found["vmid"] = stored.vmid
    if stored.content == "images":
        found |= {"used": written(stored), "parent": stored.parent or None}
    if stored.content == "backup":
        found["subtype"] = "qemu"
        if stored.notes:
            found["notes"] = stored.notes
        if stored.protected:
            found["protected"] = 1
    return found


def _may_see(call: Call, stored: Stored) -> bool:
    path = f"/storage/{stored.storage}"
    if call.allows(path, "Datastore.Allocate"):
        return True
    if stored.content in ("iso", "vztmpl", "import"):
        return _sees(call, call.cluster.stores.get(stored.storage))
    if stored.content == "backup":
        return call.allows(path, "Datastore.AllocateSpace") and call.allows(f"/vms/{stored.vmid}", "VM.Backup")
    return call.allows(path, "Datastore.Audit") and call.allows(f"/vms/{stored.vmid}", "VM.Config.Disk")


@routes.get(
    f"{BASE}/content",
    {"content": named("pve-storage-content"), "vmid": integer(100, 999999999, format="pve-vmid")},
    SEE,
)
async def content(call: Call) -> Any:
    stores = call.cluster.stores
    storage = stores.get_usable(call.params["storage"], call.node)
    return [
        _item(stored)
        for stored in stores.on(storage.name, call.node)
        if call.get("content", stored.content) == stored.content
        and call.get("vmid", stored.vmid) == stored.vmid
        and _may_see(call, stored)
    ]


ALLOCATE = {
    "vmid": integer(100, 999999999, format="pve-vmid", optional=False),
    "filename": text(optional=False),
    "size": matching(r"\d+[MG]?", optional=False),
    "format": one_of("raw", "qcow2", "subvol", "vmdk"),
}


@routes.post(f"{BASE}/content", ALLOCATE, needs("/storage/{storage}", "Datastore.AllocateSpace"))
async def allocate(call: Call) -> Any:
    """A size without a unit is in KiB here."""
    stores = call.cluster.stores
    storage = stores.get_usable(call.params["storage"], call.node)
    given = call.params["size"]
    size = int(given) * 1024 if given.isdigit() else parse_size(given) or 0
    name, vmid = call.params["filename"], call.params["vmid"]
    format = name.rpartition(".")[2] if storage.on_files else "raw"
    full = f"{vmid}/{name}" if storage.on_files else name
    return (
        await stores.allocate(
            storage, call.node, vmid, size, format if format in storage.formats() else "raw", name=full
        )
    ).volid


def _volid(call: Call) -> str:
    """With or without the storage's name in front."""
    name, given = call.params["storage"], unquote(call.params["volume"])
    return given if re.match(r"^[^/]+:", given) else f"{name}:{given}"


@routes.get(f"{BASE}/content/{{volume}}")
async def volume(call: Call) -> Any:
    volid = _volid(call)
    stored = call.cluster.stores.find(volid, call.node)
    if stored is None:
        die(f"volume_size_info on '{volid}' failed - no format")
    if not _may_see(call, stored):
        call.require(f"/storage/{stored.storage}", "Datastore.Audit")
    return {
        "path": stored.shown,
        "size": stored.size,
        "used": written(stored),
        "format": "raw" if stored.content == "iso" else stored.format,
    }


@routes.put(f"{BASE}/content/{{volume}}", {"notes": text(), "protected": boolean()})
async def change_volume(call: Call) -> Any:
    stored = call.cluster.stores.get_volume(_volid(call), call.node)
    call.require(f"/storage/{stored.storage}", "Datastore.Allocate")
    stored.notes = call.get("notes", stored.notes)
    stored.protected = call.get("protected", stored.protected)


@routes.delete(f"{BASE}/content/{{volume}}", {"delay": integer(1, 30)})
async def delete(call: Call) -> Any:
    stores, volid = call.cluster.stores, _volid(call)
    storage = stores.get_usable(stores.split(volid)[0], call.node)
    stored = stores.find(volid, call.node)
    if stored is not None and stored.content == "backup":
        call.require(f"/storage/{storage.name}", "Datastore.AllocateSpace")
        call.require(f"/vms/{stored.vmid}", "VM.Backup")
        if stored.protected:
            die(f"cannot remove protected archive '{volid}'")
    else:
        call.require(f"/storage/{storage.name}", "Datastore.Allocate")
    owner = stored.vmid if stored else _owner(volid)
    shown = stores.place(storage, call.node, stores.split(volid)[1])[1]

    async def work(log: Log) -> None:
        found = stores.find(volid, call.node)
        if found is None:
            log.say(f"disk image '{shown}' does not exist")
        else:
            stores.check_unused_base(found)
            async with stores.locked(storage, call.node):
                await stores.free(found)
        log.say(f"Removed volume '{volid}'")

    upid = call.cluster.tasks.start(
        call.node, "imgdel", f"{owner}@{storage.name}" if owner else storage.name, call.auth, work
    )
    if "delay" not in call.params:
        return upid
    await call.cluster.clock.sleep(0)
    job = call.cluster.tasks.tasks[upid].job
    if job is not None:
        await job
    return None


def _owner(volid: str) -> int:
    found = re.search(r":(?:.*/)?(?:vm|base)-(\d+)-|:(\d+)/", volid)
    return int(found[1] or found[2]) if found else 0
