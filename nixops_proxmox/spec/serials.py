"""The serials of disks, by which a guest tells them apart, and where it finds them. Nix has the same:
nix/disk-paths.nix."""

import hashlib

from nixops_proxmox.spec.machine import Disk


def serials_of(deployment: str, machine: str) -> str:
    """What the serials of a new machine's disks follow from. Nix knows it before the machine is there."""
    return f"{deployment}/{machine}"


def disk_serial(base: str, disk: Disk) -> str:
    """What the guest sees as lsblk's SERIAL: the declared one, or 16 hex digits that follow from `base` and slot."""
    return disk.serial or derived_serial(base, disk.slot)


def derived_serial(base: str, slot: str) -> str:
    return hashlib.sha256(f"{base.lower()}/{slot}".encode()).hexdigest()[:16]


def disk_path(slot: str, serial: str) -> str:
    """The name that a disk has in every guest of ours: udev's, or one that we make where QEMU tells udev no serial."""
    if slot.startswith("virtio"):
        return f"/dev/disk/by-id/virtio-{serial}"
    kind = "ata-QEMU_HARDDISK" if slot.startswith("sata") else "scsi-0QEMU_QEMU_HARDDISK"
    return f"/dev/disk/by-id/{kind}_{serial}"
