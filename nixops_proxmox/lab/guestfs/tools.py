"""The stand-in tools by name. Started in the guest as `python … NAME ARGUMENT…`."""

from __future__ import annotations

import importlib
import sys

PACKAGE = "nixops_proxmox.lab.guestfs"
TOOLS = {
    "blkid": "listing:blkid", "blockdev": "listing:blockdev", "findmnt": "listing:findmnt", "lsblk": "listing:lsblk",
    "mountpoint": "listing:mountpoint", "partprobe": "listing:settle", "udevadm": "listing:settle",
    "wipefs": "writing:wipefs", "sgdisk": "writing:sgdisk", "parted": "writing:parted", "mount": "writing:mount",
    "umount": "writing:umount", "swapon": "writing:swapon", "mount-all": "writing:mount_all",
    "mkfs.ext4": "writing:make_fs:ext4", "mkfs.vfat": "writing:make_fs:vfat", "mkfs.fat": "writing:make_fs:vfat",
    "mkfs.btrfs": "writing:make_fs:btrfs", "mkswap": "writing:make_fs:swap",
    "sfdisk": "growing:sfdisk", "partx": "growing:partx", "resize2fs": "growing:resize2fs",
    "xfs_growfs": "growing:xfs_growfs", "btrfs": "growing:btrfs",
    "nixos-generate-config": "install:nixos_generate_config", "nixos-install": "install:nixos_install",
    "nixos-enter": "install:nixos_enter", "nixos-version": "install:nixos_version",
    "reboot": "power:reboot", "poweroff": "power:poweroff", "halt": "power:poweroff", "shutdown": "power:shutdown",
    "systemctl": "power:systemctl", "serve-http": "web:serve", "fetch-http": "web:fetch",
    "grub-editenv": "grub:edit", "lab-boot-menu": "grub:install", "lab-boot-choose": "grub:choose",
    "lab-user": "users:lab_user", "sudo": "users:sudo",
}  # fmt: skip


def run(name: str, argv: list[str]) -> int:
    """Exit status of the tool; what it has to complain about is on stderr."""
    module, function, *more = TOOLS[name].split(":")
    tool = getattr(importlib.import_module(f"{PACKAGE}.{module}"), function)
    errors = importlib.import_module(f"{PACKAGE}.disks")
    try:
        tool(argv, name, *more) if more else tool(argv)
    except errors.ToolError as error:
        if str(error):
            sys.stderr.write(f"{error}\n")
        return int(error.status)
    except BrokenPipeError:
        return 141
    return 0


def main() -> None:
    sys.exit(run(sys.argv[1], sys.argv[2:]))
