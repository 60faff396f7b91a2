"""Disk parameters: what they ask for, whether the caller may, and making it so on the storages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import disk_keys, format_disk, format_size, gib_to_bytes, is_disk, parse_disk
from nixops_proxmox.lab.refusals import Refused, bad_parameter, die
from nixops_proxmox.lab.storage import Storage, Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.cloud_init import refuse_second

NEW = re.compile(r"^(?:([^:\s]+):)?(\d+(?:\.\d+)?)$")
CLOUD_INIT = re.compile(r"^([^:\s]+):cloudinit$")
ONLY_ROOT_PATHS = "Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 581."
NO_DEFAULT = "no storage ID specified (and no default storage)"
EFI_SIZE = {"4m": 528 * 1024, "2m": 128 * 1024}
TPM_SIZE = CLOUD_INIT_SIZE = 4 * 1024**2


def check_disks(
    cluster: Cluster, auth: Auth, node: str, vmid: int, values: Mapping[str, str], default: str = ""
) -> None:
    """Everything that PVE refuses at once, before a task is made."""
    for key in disk_keys(values):
        disk = parse_disk(key, values[key])
        if CLOUD_INIT.match(disk["file"]):
            refuse_second(cluster.vms.get(vmid), values, key)
        if disk["file"] not in ("none", "cdrom"):
            _check_disk(cluster, auth, node, vmid, key, disk, default)


def _check_disk(
    cluster: Cluster, auth: Auth, node: str, vmid: int, key: str, disk: Mapping[str, str], default: str
) -> None:
    file = disk["file"]
    if file.startswith("/"):
        die(ONLY_ROOT_PATHS)
    if new := NEW.match(file):
        _check_target(cluster, auth, new[1] or default)
        if "import-from" in disk:
            _check_import(cluster, auth, node, key, float(new[2]), disk["import-from"])
    elif "import-from" in disk:
        raise bad_parameter(key, _IMPORT_SYNTAX)
    elif cloud := CLOUD_INIT.match(file):
        _check_target(cluster, auth, cloud[1])
    else:
        _check_existing(cluster, auth, node, vmid, key, disk)


_IMPORT_SYNTAX = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"


def _check_target(cluster: Cluster, auth: Auth, name: str) -> None:
    if not name:
        die(NO_DEFAULT)
    storage = cluster.stores.get(name)
    cluster.require(auth, f"/storage/{name}", "Datastore.AllocateSpace")
    if "images" not in storage.content:
        raise bad_parameter("storage", f"storage '{name}' does not support vm images")


def _check_import(cluster: Cluster, auth: Auth, node: str, key: str, size: float, source: str) -> None:
    if size != 0:
        raise bad_parameter(key, _IMPORT_SYNTAX)
    if source.startswith("/"):
        die(ONLY_ROOT_PATHS)
    name, volume = cluster.stores.split(source)
    content = cluster.stores.check_name(cluster.stores.get(name), volume)
    if content not in ("images", "import"):
        raise bad_parameter(key, f"{source} has wrong type '{content}' - needs to be 'images' or 'import'")
    stored = cluster.stores.find(source, node)
    if stored is not None and stored.vmid:
        cluster.require(auth, f"/vms/{stored.vmid}", "VM.Clone")
    else:
        cluster.require(auth, f"/storage/{name}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)


def _check_existing(cluster: Cluster, auth: Auth, node: str, vmid: int, key: str, disk: Mapping[str, str]) -> None:
    volid = disk["file"]
    name, volume = cluster.stores.split(volid)
    content = cluster.stores.check_name(cluster.stores.get(name), volume)
    if content == "iso":
        if disk.get("media") != "cdrom":
            raise bad_parameter(key, "explicit 'media=cdrom' is required for iso images")
        cluster.require(auth, f"/storage/{name}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
        return
    stored = cluster.stores.find(volid, node)
    owner = stored.vmid if stored else 0
    if owner != vmid:
        cluster.require(auth, f"/storage/{name}", "Datastore.Audit")
        if owner:
            cluster.require(auth, f"/vms/{owner}", "VM.Config.Disk")


@dataclass
class Made:
    """What has been allocated so far, so that a failure can take it back."""

    values: dict[str, str] = field(default_factory=dict)
    volumes: list[Stored] = field(default_factory=list)

    async def undo(self, cluster: Cluster) -> None:
        for stored in self.volumes:
            if cluster.stores.find(stored.volid, stored.node) is not None:
                await cluster.stores.free(stored)


async def make_disks(
    cluster: Cluster, node: str, vmid: int, values: Mapping[str, str], made: Made, log: Log, default: str = ""
) -> None:
    """Allocate, import or look up every disk, in key order; `made` grows as it goes."""
    for key in disk_keys(values):
        disk = parse_disk(key, values[key])
        made.values[key] = format_disk(await _make_disk(cluster, node, vmid, key, disk, made, log, default))


async def _make_disk(
    cluster: Cluster, node: str, vmid: int, key: str, disk: dict[str, str], made: Made, log: Log, default: str
) -> dict[str, str]:
    file = disk["file"]
    if file in ("none", "cdrom"):
        return disk
    if new := NEW.match(file):
        storage = cluster.stores.get_usable(new[1] or default, node)
        return await _new_disk(cluster, storage, node, vmid, key, disk, gib_to_bytes(new[2]), made, log)
    if cloud := CLOUD_INIT.match(file):
        storage = cluster.stores.get_usable(cloud[1], node)
        return await _cloud_init_drive(cluster, storage, node, vmid, key, made, log)
    cluster.stores.get_usable(cluster.stores.split(file)[0], node)
    stored = cluster.stores.get_volume(file, node)
    return {**disk, "size": format_size(stored.size)}


async def _new_disk(
    cluster: Cluster,
    storage: Storage,
    node: str,
    vmid: int,
    key: str,
    disk: dict[str, str],
    size: int,
    made: Made,
    log: Log,
) -> dict[str, str]:
    options = {name: text for name, text in disk.items() if name not in ("format", "import-from", "size")}
    format = disk.get("format", "raw") if storage.on_files else "raw"
    size = firmware_size(key, disk) or size
    format = "raw" if key == "tpmstate0" else format
    source = disk.get("import-from")
    if source:
        stored = await import_volume(cluster, storage, node, vmid, source, format, log)
    else:
        stored = await cluster.stores.allocate(
            storage, node, vmid, size, format, announce=lambda stored: log.say(allocation_line(storage, stored))
        )
    made.volumes.append(stored)
    result = {**options, "file": stored.volid, "size": format_size(stored.size)}
    log.say(f"{key}: successfully created disk '{format_disk(result)}'")
    return result


def firmware_size(key: str, disk: Mapping[str, str]) -> int:
    """What PVE gives an EFI disk and TPM state, whatever was asked for. 0: a disk like any other."""
    if key == "efidisk0":
        return EFI_SIZE[disk.get("efitype", "2m")]
    return TPM_SIZE if key == "tpmstate0" else 0


async def import_volume(
    cluster: Cluster, storage: Storage, node: str, vmid: int, source: str, format: str, log: Log
) -> Stored:
    origin = cluster.stores.find(source, node)
    if origin is None:
        name, volume = cluster.stores.split(source)
        die(f"failed to stat '{cluster.stores.place(cluster.stores.get(name), node, volume)[1]}'")
    log.say(f"create full clone of drive ({source})")
    stored = await cluster.stores.allocate(storage, node, vmid, origin.extra.get("virtual", origin.size), format)
    log.say(allocation_line(storage, stored))
    await cluster.driver.copy(origin.volume, stored.volume)
    say_transfer(log, stored.size)
    log.say(f"transferred {human(stored.size)} of {human(stored.size)} (100.00%)")
    return stored


async def _cloud_init_drive(
    cluster: Cluster, storage: Storage, node: str, vmid: int, key: str, made: Made, log: Log
) -> dict[str, str]:
    stem = "cloudinit"
    format = "qcow2" if storage.on_files else "raw"
    stored = await cluster.stores.allocate(storage, node, vmid, CLOUD_INIT_SIZE, format, stem=stem)
    made.volumes.append(stored)
    log.say(allocation_line(storage, stored))
    result = {"file": stored.volid, "media": "cdrom"}
    log.say(f"{key}: successfully created disk '{format_disk(result)}'")
    return result


def allocation_line(storage: Storage, stored: Stored) -> str:
    """What qemu-img or lvcreate would print."""
    if not storage.on_files:
        return f'  Logical volume "{stored.volid.partition(":")[2]}" created.'
    if stored.format == "qcow2":
        return (
            f"Formatting '{stored.shown}', fmt=qcow2 cluster_size=65536 extended_l2=off preallocation=metadata "
            f"compression_type=zlib size={stored.size} lazy_refcounts=off refcount_bits=16"
        )
    return f"Formatting '{stored.shown}', fmt={stored.format} size={stored.size} preallocation=off"


def say_transfer(log: Log, size: int) -> None:
    log.say(f"transferred 0.0 B of {human(size)} (0.00%)")
    log.say(f"transferred {human(size)} of {human(size)} (100.00%)")


def human(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def refuse_disks_with_archive(values: Mapping[str, str]) -> None:
    for key in values:
        if is_disk(key):
            raise Refused(400, "Parameter verification failed.", {key: "option conflicts with option 'archive'"})
