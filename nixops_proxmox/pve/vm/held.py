"""Pure: the volumes that a guest's configuration names, and which of them a backup of it has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nixops_proxmox.pve.vm.container import ROOT, mounts_of
from nixops_proxmox.pve.wire.properties import drives_of, is_cdrom, parse_size, storage_of


@dataclass(frozen=True)
class HeldVolume:
    """`storage`: empty for a folder or a device of the node. `saved`: a backup has it. `size`: bytes, as PVE says."""

    key: str
    storage: str
    size: int
    saved: bool


def held_by_vm(config: Mapping[str, str]) -> Sequence[HeldVolume]:
    """A backup has all disks but those that say otherwise."""
    return [
        HeldVolume(
            key, storage_of(drive.get("file", "")), parse_size(drive.get("size", "")) or 0, drive.get("backup") != "0"
        )
        for key, drive in sorted(drives_of(config).items())
        if not is_cdrom(drive)
    ]


def held_by_container(config: Mapping[str, str]) -> Sequence[HeldVolume]:
    """A backup has the root, and no mount points but those that say so."""
    return [
        HeldVolume(
            key,
            there,
            parse_size(mount.get("size", "")) or 0,
            key == ROOT or (mount.get("backup") == "1" and bool(there)),
        )
        for key, mount in mounts_of(config).items()
        for there in (storage_of(mount.get("volume", "")),)
    ]
