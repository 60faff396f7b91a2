"""/storage: storage.cfg. Which storages there are, for which content, on which nodes."""

from typing import Any

from nixops_proxmox.lab.call import STORAGE, Call, Routes, needs
from nixops_proxmox.lab.exports import export_of
from nixops_proxmox.lab.refusals import Refused, bad_parameter, die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, matching, named, text
from nixops_proxmox.lab.storage import Storage, config_digest

routes = Routes()
ALLOCATE = needs("/storage", "Datastore.Allocate")
FIXED = {  # plugin type → what it must be told, and cannot be told otherwise later
    "dir": ("path",),
    "nfs": ("server", "export"),
    "lvm": ("vgname",),
    "lvmthin": ("vgname", "thinpool"),
    "zfspool": ("pool",),
}
CONTENT = {
    "dir": ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import"),
    "nfs": ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import"),
    "lvm": ("images", "rootdir"),
    "lvmthin": ("images", "rootdir"),
    "zfspool": ("images", "rootdir"),
}


def _sees(call: Call, storage: Storage) -> bool:
    return call.allows(f"/storage/{storage.name}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)


@routes.get("/storage", {"type": text()})
async def definitions(call: Call) -> Any:
    storages = list(call.cluster.stores.storages.values())
    digest = config_digest(storages)
    return [
        _definition(storage, digest)
        for storage in storages
        if _sees(call, storage) and call.get("type", storage.kind) == storage.kind
    ]


def _definition(storage: Storage, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "storage": storage.name,
        "type": storage.kind,
        "content": ",".join(storage.content),
        "digest": digest,
    }
    if storage.path:
        found["path"] = storage.path
    if storage.kind == "lvmthin":
        found |= {"vgname": "pve", "thinpool": "data"}
    if storage.kind == "nfs":
        found["server"], found["export"] = export_of(storage)
    found |= storage.settings
    if storage.disabled:
        found["disable"] = 1
    if storage.nodes:
        found["nodes"] = ",".join(storage.nodes)
    return found


@routes.get("/storage/{storage}", permission=needs("/storage/{storage}", "Datastore.Allocate"))
async def definition(call: Call) -> Any:
    stores = call.cluster.stores
    return _definition(stores.get(call.params["storage"]), config_digest(stores.storages.values()))


CHANGEABLE = {
    "content": named("pve-storage-content-list"),
    "disable": boolean(),
    "nodes": named("pve-node-list"),
    "prune-backups": text(),
    "shared": boolean(),
    "sparse": boolean(),
    "options": text(),
    "mountpoint": text(),
}
SETTINGS = ("prune-backups", "sparse", "options", "mountpoint")


@routes.post(
    "/storage",
    {
        **CHANGEABLE,
        "storage": matching(STORAGE.pattern or "", optional=False),
        "type": text(optional=False),
        "path": matching(r"/.*"),
        "server": text(),
        "export": matching(r"/.*"),
        "vgname": text(),
        "thinpool": text(),
        "pool": text(),
        "preallocation": text(),
    },
    ALLOCATE,
)
async def create(call: Call) -> Any:
    name, kind = call.params["storage"], call.params["type"]
    stores = call.cluster.stores
    if kind not in FIXED:
        raise Refused(501, f"the lab has no storage of type {kind}: it knows {', '.join(FIXED)}")
    for key in FIXED[kind]:
        if key not in call.params:
            raise bad_parameter(key, "property is missing and it is not optional")
    if name in stores.storages:
        die(f"create storage failed: storage ID '{name}' already defined")
    path = call.params["path"] if kind == "dir" else f"/mnt/pve/{name}" if kind == "nfs" else ""
    shared = kind == "nfs" or call.get("shared", False)
    storage = Storage(name, kind, ("images",) if kind in ("dir", "nfs") else ("images", "rootdir"), shared, path)
    storage.settings |= {key: call.params[key] for key in FIXED[kind] if key != "path"}
    _change(call, storage)
    stores.storages[name] = storage
    return {"storage": name, "type": kind}


def _change(call: Call, storage: Storage) -> None:
    if "content" in call.params:
        wanted = tuple(split_list(call.params["content"]))
        if "import" in wanted and not call.cluster.release.since(8, 3):
            raise bad_parameter("content", "invalid format - invalid content type 'import'\n")
        for content in wanted:
            if content not in (*CONTENT[storage.kind], "none"):
                wrong = f"unable to use content type '{content}' with storage type '{storage.kind}'"
                die(f"storage '{storage.name}' - {wrong}")
        storage.content = tuple(content for content in wanted if content != "none")
    if "nodes" in call.params:
        storage.nodes = tuple(split_list(call.params["nodes"]))
    storage.disabled = call.get("disable", storage.disabled)
    storage.shared = call.get("shared", storage.shared)
    storage.settings |= {
        key: int(call.params[key]) if isinstance(call.params[key], bool) else call.params[key]
        for key in SETTINGS
        if key in call.params
    }


def _check_deletion(call: Call, storage: Storage, key: str) -> None:
    failed = "update storage failed: "
    if key in FIXED[storage.kind]:
        die(f"{failed}unable to delete required option '{key}'")
    if key not in CHANGEABLE:
        die(f"{failed}no such option '{key}'")
    if key in call.params:
        die(failed + f"cannot set and delete property '{key}' at the same time!")


@routes.put("/storage/{storage}", {**CHANGEABLE, "delete": named("pve-configid-list"), "digest": text(64)}, ALLOCATE)
async def change(call: Call) -> Any:
    stores = call.cluster.stores
    storage = stores.get(call.params["storage"])
    digest = config_digest(stores.storages.values())
    if call.get("digest", digest) != digest:
        die("update storage failed: detected modified configuration - file changed by other user? Try again.")
    gone = split_list(call.get("delete", ""))
    for key in gone:
        _check_deletion(call, storage, key)
    _change(call, storage)
    for key in gone:
        storage.settings.pop(key, None)
    if "nodes" in gone:
        storage.nodes = ()
    if "disable" in gone:
        storage.disabled = False
    return {"storage": storage.name, "type": storage.kind}


@routes.delete("/storage/{storage}", permission=ALLOCATE)
async def delete(call: Call) -> Any:
    """The definition and the ACLs on it; what is on the storage stays there, and PVE no longer shows it."""
    name, cluster = call.params["storage"], call.cluster
    cluster.stores.get(name)
    del cluster.stores.storages[name]
    entries = cluster.access.permissions.entries
    cluster.access.permissions.entries = [entry for entry in entries if entry.path != f"/storage/{name}"]
