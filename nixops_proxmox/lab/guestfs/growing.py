"""Tools that grow: sfdisk, partx, resize2fs, xfs_growfs, btrfs. As on Linux, a partition that is in use keeps its size
for the kernel until partx tells it."""

from __future__ import annotations

import getopt
import json
import os
import sys
from typing import Any

from nixops_proxmox.lab.guestfs.disks import (
    SECTOR,
    Device,
    Disk,
    ToolError,
    find_device,
    get_device,
    load_disks,
    mounts,
    say,
    seen_size_file,
)

BACKUP = 33  # sectors at the end of a disk, for GPT's second table


def sfdisk(argv: list[str]) -> None:
    options, named = getopt.gnu_getopt(argv, "JN:qd", ["json", "no-reread", "no-tell-kernel", "dump", "force"])
    given = dict(options)
    device = get_device(named[0] if named else "", load_disks(), "sfdisk")
    if device.part != "0" or not device.disk.content["table"]:
        raise ToolError(f"sfdisk: {device.path}: does not contain a recognized partition table")
    if "-J" in given or "--json" in given:
        say(json.dumps({"partitiontable": table_of(device.disk)}, indent=3))
    elif "-N" in given:
        grow_partition(device, given["-N"], sys.stdin.read(), given)
    else:
        raise ToolError("sfdisk: only -J and -N are known here")


def table_of(disk: Disk) -> dict[str, Any]:
    parts = [
        {"node": disk.device(number), "start": part["start"], "size": part["end"] - part["start"] + 1}
        for number, part in sorted(disk.content["parts"].items(), key=lambda item: int(item[0]))
    ]
    return {"label": disk.content["table"], "device": disk.device("0"), "sectorsize": SECTOR, "partitions": parts}


def grow_partition(device: Device, number: str, given: str, options: dict[str, str]) -> None:
    disk = device.disk
    if given.strip() != ", +":
        raise ToolError(f"sfdisk: only `, +` is known here, not {given!r}")
    used = any(mounted.disk is disk for mounted, _ in mounts([disk]))
    if used and not {"--no-reread", "--no-tell-kernel"} <= options.keys():
        raise ToolError("This disk is currently in use - repartitioning is probably a bad idea.")
    if number not in disk.content["parts"]:
        raise ToolError(f"sfdisk: {device.path}: partition {number}: failed to find")
    before = disk.part_size(number)
    part = disk.content["parts"][number]
    later = [other["start"] for other in disk.content["parts"].values() if other["start"] > part["start"]]
    part["end"] = min([*later, disk.size // SECTOR - BACKUP]) - 1
    if not os.path.exists(seen_size_file(disk.name, number)):
        os.makedirs(os.path.dirname(seen_size_file(disk.name, number)), exist_ok=True)
        with open(seen_size_file(disk.name, number), "w", encoding="utf-8") as file:
            file.write(str(before))
    disk.save()


def partx(argv: list[str]) -> None:
    options, named = getopt.gnu_getopt(argv, "un:", ["update", "nr="])
    given = dict(options)
    device = get_device(named[0] if named else "", load_disks(), "partx")
    number = given.get("--nr", given.get("-n", ""))
    if not {"-u", "--update"} & given.keys() or number not in device.disk.content["parts"]:
        raise ToolError(f"partx: {device.path}: error updating partition {number}")
    file = seen_size_file(device.disk.name, number)
    if os.path.exists(file):
        os.unlink(file)


def resize2fs(argv: list[str]) -> None:
    """To the size that the kernel knows of the device; only while it is mounted, as here nothing checks it before."""
    grow_fs(get_device(argv[-1], load_disks(), "resize2fs"), ("ext2", "ext3", "ext4"), "resize2fs")


def xfs_growfs(argv: list[str]) -> None:
    grow_fs(mounted_at(argv[-1], "xfs_growfs"), ("xfs",), "xfs_growfs")


def btrfs(argv: list[str]) -> None:
    if argv[:2] == ["filesystem", "show"]:
        device = mounted_at(argv[2], "btrfs")
        say(f"Label: none  uuid: {(device.fs or {}).get('uuid', '')}")
        say("\tTotal devices 1 FS bytes used 1.00MiB")
        say(f"\tdevid    1 size 1.00GiB used 1.00GiB path {device.path}")
    elif argv[:2] == ["filesystem", "resize"] and argv[2:3] == ["1:max"]:
        grow_fs(mounted_at(argv[3], "btrfs"), ("btrfs",), "btrfs")
    else:
        raise ToolError(f"btrfs: unknown here: {' '.join(argv)}")


def mounted_at(point: str, tool: str) -> Device:
    for device, where in mounts(load_disks()):
        if where == os.path.realpath(point):
            return device
    raise ToolError(f"{tool}: {point} is not a mounted file system")


def grow_fs(device: Device, kinds: tuple[str, ...], tool: str) -> None:
    disks = load_disks()
    found = find_device(device.path, disks)
    if found is None or found.fs is None or found.fs["type"] not in kinds:
        raise ToolError(f"{tool}: Bad magic number in super-block while trying to open {device.path}")
    if not any(mounted == found for mounted, _ in mounts(disks)):
        raise ToolError(f"Please run 'e2fsck -f {device.path}' first.")
    found.disk.content["fs"][found.part]["size"] = found.disk.part_size(found.part)
    found.disk.save()
