"""What a guest finds when it looks around: its disks by name and serial, and the root that it starts from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.machines.base import DiskSlot, Hardware, Volume
from nixops_proxmox.lab.machines.simulated import volumes
from nixops_proxmox.lab.machines.simulated.body import GuestDisk
from nixops_proxmox.lab.machines.simulated.options import Options

FIRMWARE_SLOTS = ("efidisk", "tpmstate", "unused")


def guest_disks(hardware: Hardware, options: Options) -> tuple[GuestDisk, ...]:
    """In the order of the slots (or against it); SCSI, SATA and IDE share the sd names, virtio has its own."""
    slots = [slot for slot in hardware.disks if slot.volume is not None and not slot.key.startswith(FIRMWARE_SLOTS)]
    if options.disk_order == "reversed":
        slots.reverse()
    counts = {"sd": 0, "vd": 0, "sr": 0}
    disks = []
    for slot in slots:
        kind = "sr" if slot.cdrom else "vd" if slot.key.startswith("virtio") else "sd"
        suffix = str(counts[kind]) if kind == "sr" else chr(ord("a") + counts[kind])
        counts[kind] += 1
        disks.append(guest_disk(slot, kind + suffix, options, names_drives=hardware.names_drives))
    return tuple(disks)


def plugged(old: Sequence[GuestDisk], hardware: Hardware, options: Options) -> tuple[GuestDisk, ...]:
    """Disks come and go while the guest runs: those that stay keep their names, those that come take free ones."""
    named = {(disk.key, disk.path): disk.name for disk in old}
    disks: list[GuestDisk] = []
    for disk in guest_disks(hardware, options):
        name = named.get((disk.key, disk.path), "")
        taken = {*named.values(), *(one.name for one in disks)}
        kind = disk.name[:2]
        free = (kind + (str(number) if kind == "sr" else chr(ord("a") + number)) for number in range(26))
        disks.append(replace(disk, name=name or next(one for one in free if one not in taken)))
    return tuple(disks)


def guest_disk(slot: DiskSlot, name: str, options: Options, *, names_drives: bool) -> GuestDisk:
    assert slot.volume is not None
    serial = dict(slot.options).get("serial", "")
    if slot.key in options.wrong_serial:
        serial = hashlib.sha256(slot.key.encode()).hexdigest()[:12]
    size = slot.volume.size // (2 if slot.key in options.wrong_size else 1)
    path = slot.volume.path if slot.cdrom else volumes.now(slot.volume)
    told = "" if names_drives and slot.key.startswith("scsi") else serial
    return GuestDisk(slot.key, name, size, serial, by_id(slot, told), path, slot.cdrom)


def by_id(slot: DiskSlot, serial: str) -> str:
    """udev's name under QEMU; the drive's id stands in for a missing serial."""
    if slot.cdrom:
        return f"scsi-0QEMU_QEMU_CD-ROM_drive-{slot.key}"
    if slot.key.startswith("virtio"):
        return f"virtio-{serial or f'drive-{slot.key}'}"
    return f"scsi-0QEMU_QEMU_HARDDISK_{serial or f'drive-{slot.key}'}"


def resolve_in(root: Path, path: str, depth: int = 40) -> Path | None:
    """`path` as it would be found with `root` as `/`: links never lead out. None if it leads nowhere."""
    at, parts = root, [part for part in path.split("/") if part]
    while parts:
        part = parts.pop(0)
        if part == ".":
            continue
        if part == "..":
            at = at if at == root else at.parent
            continue
        step = at / part
        if step.is_symlink():
            depth -= 1
            if depth < 0:
                return None
            target = str(step.readlink())
            at = root if target.startswith("/") else at
            parts = [more for more in target.split("/") if more] + parts
            continue
        at = step
    return at if at.exists() else None


def read_in(root: Path, path: str) -> str | None:
    found = resolve_in(root, path)
    return found.read_text(encoding="utf-8", errors="replace") if found is not None and found.is_file() else None


def declared_network(root: Path) -> dict[str, Any]:
    """network.json of the system, else of /etc; what cannot be read declares nothing."""
    for path in ("/nix/var/nix/profiles/system/etc/nixops-proxmox/network.json", "/etc/nixops-proxmox/network.json"):
        text = read_in(root, path)
        if text is not None:
            try:
                said = json.loads(text)
            except json.JSONDecodeError:
                return {}
            return said if isinstance(said, dict) else {}
    return {}


def mounted(hardware: Hardware) -> tuple[tuple[str, Path], ...]:
    """Where a container's mount points are, and the trees that are there."""
    found = []
    for slot in hardware.disks[1:] if hardware.container else ():
        if slot.volume is not None:
            tree = volumes.now(slot.volume) / "parts" / "0"
            tree.mkdir(parents=True, exist_ok=True)
            found.append((dict(slot.options)["mp"], tree))
    return tuple(found)


def root_of(volume: Volume) -> Path:
    """The tree that becomes `/` when this disk boots."""
    number = volumes.load(volume)["boot"]["root"]
    return volumes.now(volume) / "parts" / str(number)
