"""Tools that change disks: wipefs, sgdisk, parted, mkfs, mkswap, mount, umount."""

from __future__ import annotations

import getopt
import os
import re
import subprocess
from typing import Any

from nixops_proxmox.lab.guestfs.disks import (
    SECTOR,
    Device,
    Disk,
    ToolError,
    become,
    find_device,
    get_device,
    load_disks,
    mounts,
    new_uuid,
    read_lab,
    refresh,
    refuse_mounted,
    say,
    tag,
)

ALIGN = 2048  # sectors
FACTORS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def get_disk(name: str, disks: list[Disk], tool: str) -> Disk:
    device = get_device(name, disks, tool, 2)
    if device.part != "0" or device.disk.rom:
        raise ToolError(f"{tool}: {name}: not a disk", 2)
    return device.disk


def wipefs(argv: list[str]) -> None:
    options, named = getopt.gnu_getopt(
        argv, "afnqt:o:Jp", ["all", "force", "no-act", "quiet", "types=", "offset=", "json", "noheadings"]
    )
    disks = load_disks()
    wiping = any(name in ("-a", "--all") for name, _ in options)
    for name in named:
        device = get_device(name, disks, "wipefs")
        fs, table = device.fs, device.disk.content["table"] if device.part == "0" else None
        if not wiping:
            for kind in filter(None, (fs and fs["type"], table)):
                say(f"{os.path.basename(device.path)} 0x200 {kind}")
            continue
        refuse_mounted(device, disks, f"wipefs: error: {name}: probing initialization failed: Device or resource busy")
        if fs:
            say(f"{name}: 2 bytes were erased at offset 0x00000438 ({fs['type']}): 53 ef")
        device.disk.drop_fs(device.part)
        if table:
            say(f"{name}: 8 bytes were erased at offset 0x00000200 ({table}): 45 46 49 20 50 41 52 54")
            device.disk.drop_table()
        device.disk.save()
    refresh(disks)


def sectors(text: str, base: int) -> int:
    """A sgdisk position: a sector, or a size with a suffix; "+": from `base`, "-": back from `base`."""
    match = re.fullmatch(r"([+-]?)(\d+)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise ToolError(f"Could not parse position {text!r}", 4)
    sign, number, unit = match.groups()
    count: int = int(number) * FACTORS.get(unit.upper(), SECTOR) // SECTOR
    return base + count if sign == "+" else base - count if sign == "-" else count


def free_start(disk: Disk) -> int:
    """The start of the largest gap."""
    taken = sorted((part["start"], part["end"]) for part in disk.content["parts"].values())
    best, best_start, at = -1, ALIGN, ALIGN
    for start, end in [*taken, (disk.size // SECTOR - 33, 0)]:
        if start - at > best:
            best, best_start = start - at, at
        at = max(at, -(-(end + 1) // ALIGN) * ALIGN)
    return best_start


def free_end(disk: Disk, start: int) -> int:
    later: list[int] = [part["start"] for part in disk.content["parts"].values() if part["start"] > start]
    return min([*later, disk.size // SECTOR - 33]) - 1


def add_part(disk: Disk, number: str, start: str, end: str) -> str:
    parts = disk.content["parts"]
    if number == "0":
        number = str(next(n for n in range(1, 129) if str(n) not in parts))
    if number in parts:
        raise ToolError(f"Could not create partition {number} from {start} to {end}: it is in use", 4)
    first = free_start(disk) if start in ("0", "") else sectors(start, free_start(disk))
    first = -(-first // ALIGN) * ALIGN
    limit = free_end(disk, first)
    last = limit if end in ("0", "") else sectors(end, limit if end.startswith("-") else first)
    if end.startswith("+"):
        last -= 1
    overlaps = any(first <= part["end"] and part["start"] <= last for part in parts.values())
    if overlaps or last > limit or last <= first:
        raise ToolError(
            f"Could not create partition {number} from {first} to {last}\nError encountered; not saving changes.", 4
        )
    parts[number] = {"start": first, "end": last, "type": "8300", "name": "", "uuid": new_uuid()}
    return number


SGDISK_LONG = {
    "zap-all": "Z", "zap": "z", "clear": "o", "new": "n", "typecode": "t", "change-name": "c", "delete": "d",
    "print": "p",
    "verify": "v", "info": "i", "set-alignment": "a", "attributes": "A", "largest-new": "N", "randomize-guids": "G",
    "move-second-header": "e", "mbrtogpt": "g", "partition-guid": "u", "disk-guid": "U", "sort": "s",
}  # fmt: skip


def sgdisk(argv: list[str]) -> None:
    takes = "ntcdiaANuU"
    longs = [name + ("=" if letter in takes else "") for name, letter in SGDISK_LONG.items()]
    try:
        options, named = getopt.gnu_getopt(argv, "Zzopvegs" + "G" + "".join(f"{letter}:" for letter in takes), longs)
    except getopt.GetoptError as error:
        raise ToolError(f"sgdisk: {error}", 1) from error
    disks = load_disks()
    if not named:
        raise ToolError("Usage: sgdisk [OPTION...] <device>", 1)
    disk = find_device(named[0], disks)
    if disk is None or disk.part != "0" or disk.disk.rom:
        raise ToolError(f"Problem opening {named[0]} for reading! Error is 2.\nThe specified file does not exist!", 2)
    content = disk.disk.content
    last = "1"
    wrote = False
    for name, value in options:
        letter = SGDISK_LONG.get(name[2:], name[1]) if name.startswith("--") else name[1]
        if letter in "Zzo":
            disk.disk.drop_fs("0")
            disk.disk.drop_table()
            if letter == "o":
                content.update({"table": "gpt", "ptuuid": new_uuid()})
            else:
                say("GPT data structures destroyed! You may now partition the disk using fdisk or\nother utilities.")
        elif letter in "pi":
            show(disk.disk)
            continue
        elif letter in "vaegGusU":
            pass
        else:
            if content["table"] is None:
                content.update({"table": "gpt", "ptuuid": new_uuid()})
            last = sgdisk_change(disk.disk, letter, value, last)
        wrote = True
    if wrote:
        disk.disk.save()
        refresh(disks)
        say("The operation has completed successfully.")


def sgdisk_change(disk: Disk, letter: str, value: str, last: str) -> str:
    """One option that changes a partition; gives the number that `0` means in the next one."""
    fields = value.split(":")
    if letter == "n":
        return add_part(disk, fields[0], *[*fields[1:], "", ""][:2])
    if letter == "N":
        return add_part(disk, fields[0], "0", "0")
    number = last if fields[0] == "0" else fields[0]
    if number not in disk.content["parts"]:
        raise ToolError(f"Partition {number} does not exist!\nError encountered; not saving changes.", 4)
    if letter == "d":
        disk.drop_fs(number)
        del disk.content["parts"][number]
    elif letter == "t":
        disk.content["parts"][number]["type"] = fields[1]
    elif letter == "c":
        disk.content["parts"][number]["name"] = ":".join(fields[1:])
    return number


def show(disk: Disk) -> None:
    say(f"Disk /dev/{disk.name}: {disk.size // SECTOR} sectors, {disk.size / (1 << 30):.1f} GiB")
    say(f"Number of partitions: {len(disk.content['parts'])}")
    say("Number  Start (sector)    End (sector)  Size       Code  Name")
    for number, part in sorted(disk.content["parts"].items(), key=lambda item: int(item[0])):
        say(
            f"{number:>4}  {part['start']:>14}  {part['end']:>14}   {disk.part_size(number) >> 20} MiB"
            f"  {part['type']:>6}  {part['name']}"
        )


def parted(argv: list[str]) -> None:
    """`parted -s DEVICE COMMAND…`, several commands after one another."""
    options, words = getopt.getopt(argv, "sma:lf", ["script", "machine", "align=", "list", "fix"])
    disks = load_disks()
    while words and words[0] in ("-s", "--script", "--", "-a", "optimal"):
        words = words[1:]
    del options
    if not words:
        raise ToolError("Error: no device", 1)
    disk, words = get_disk(words[0], disks, "parted"), [word for word in words[1:] if word != "--"]
    table = {
        "mklabel": 1,
        "mktable": 1,
        "rm": 1,
        "print": 0,
        "name": 2,
        "set": 3,
        "disk_set": 2,
        "align-check": 2,
        "unit": 1,
    }
    while words:
        command, words = words[0], words[1:]
        if command == "mkpart":
            words = parted_mkpart(disk, words)
            continue
        if command not in table:
            raise ToolError(f"Error: unknown command {command}", 1)
        arguments, words = words[: table[command]], words[table[command] :]
        parted_command(disk, command, arguments)
    disk.save()
    refresh(disks)


def parted_command(disk: Disk, command: str, arguments: list[str]) -> None:
    content = disk.content
    if command in ("mklabel", "mktable"):
        disk.drop_fs("0")
        disk.drop_table()
        content.update({"table": "dos" if arguments[0] == "msdos" else arguments[0], "ptuuid": new_uuid()})
    elif command == "print":
        show(disk)
    elif command in ("rm", "name", "set"):
        if arguments[0] not in content["parts"]:
            raise ToolError("Error: Partition doesn't exist.", 1)
        part = content["parts"][arguments[0]]
        if command == "rm":
            disk.drop_fs(arguments[0])
            del content["parts"][arguments[0]]
        elif command == "name":
            part["name"] = arguments[1].strip("'\"")
        elif arguments[1] in ("esp", "boot") and arguments[2] == "on":
            part["type"] = "ef00"
        elif arguments[1] == "bios_grub" and arguments[2] == "on":
            part["type"] = "ef02"


def parted_mkpart(disk: Disk, words: list[str]) -> list[str]:
    """`mkpart NAME|primary [FS-TYPE] START END`; gives the words that are left."""
    if disk.content["table"] is None:
        raise ToolError(f"Error: /dev/{disk.name}: unrecognised disk label", 1)
    name, words = words[0], words[1:]
    if words and not re.match(r"-?[\d.]+", words[0]):
        words = words[1:]
    start, end = parted_position(disk, words[0]), parted_position(disk, words[1])
    number = add_part(disk, "0", str(max(start, ALIGN)), str(min(end, disk.size // SECTOR - 34)))
    disk.content["parts"][number]["name"] = "" if name in ("primary", "logical", "extended") else name.strip("'\"")
    return words[2:]


def parted_position(disk: Disk, text: str) -> int:
    match = re.fullmatch(r"(-?)([\d.]+)(s|%|B|[kMGT]i?B|)", text)
    if match is None:
        raise ToolError(f"Error: Invalid number {text}", 1)
    back, number, unit = match.groups()
    value, total = float(number), disk.size // SECTOR
    powers = {"k": 1, "M": 2, "G": 3, "T": 4}
    if unit == "%":
        count = int(total * value / 100)
    elif unit == "s":
        count = int(value)
    elif unit == "B":
        count = int(value) // SECTOR
    else:
        base = 1024 if "i" in unit else 1000
        count = int(value * base ** powers.get(unit[:1] or "M", 2)) // SECTOR
    return total - count if back else (count - 1 if unit != "s" and 0 < count < total and count % ALIGN == 0 else count)


def make_fs(argv: list[str], tool: str, kind: str) -> None:
    """mkfs.*: the labels and forces of each; what else they take is accepted."""
    takes = {"ext4": "LUEbCDdgGiIJmMNoOrtTez", "vfat": "nFiSsRrfhbDgm", "btrfs": "LUdmnsAbOrR", "swap": "LUpv"}[kind]
    named, label, force, uuid, words = [], "", False, new_uuid(), list(argv)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            key, _, value = word.partition("=")
            value = value or (words.pop(0) if key in ("--label", "--uuid") else "")
            label, uuid = (value if key == "--label" else label), (value if key == "--uuid" else uuid)
            force = force or key == "--force"
        elif word.startswith("-") and len(word) > 1:
            letter = word[1]
            value = (word[2:] or (words.pop(0) if words else "")) if letter in takes else ""
            label = value if letter == ("n" if kind == "vfat" else "L") else label
            uuid = value if letter == "U" else uuid
            force = force or "f" in word or "F" in word
        elif not word.isdigit():
            named.append(word)
    if len(named) != 1:
        raise ToolError(f"Usage: {tool} [options] device", 1)
    disks = load_disks()
    device = get_device(named[0], disks, tool)
    refuse_mounted(device, disks, "{device} is mounted; will not make a filesystem here!")
    if device.part == "0" and device.disk.content["table"]:
        if not force:
            raise ToolError(f"{tool}: {named[0]} contains a partition table; use the force option", 1)
        device.disk.drop_table()
    if kind == "btrfs" and device.fs and not force:
        raise ToolError(
            f"ERROR: {named[0]} appears to contain an existing filesystem ({device.fs['type']})\n"
            f"ERROR: use the -f option to force overwrite of {named[0]}",
            1,
        )
    device.disk.drop_fs(device.part)
    if kind == "vfat":
        uuid = f"{uuid[:4]}-{uuid[4:8]}".upper()
    device.disk.content["fs"][device.part] = {
        "type": kind,
        "uuid": uuid,
        "label": label,
        "size": device.disk.part_size(device.part),
    }
    os.makedirs(device.tree)
    device.disk.save()
    refresh(disks)


def mount(argv: list[str]) -> None:
    words, kept, kind, options = list(argv), [], "", []
    make = False
    while words:
        word = words.pop(0)
        if word in ("-t", "--types") and words:
            kind = words.pop(0)
        elif word in ("-o", "--options") and words:
            options += words.pop(0).split(",")
        elif word in ("--mkdir", "-m"):
            make = True
        elif word in ("-v", "-r", "-w", "--read-only"):
            options += ["ro"] if word in ("-r", "--read-only") else []
        elif word.startswith("-"):
            become("mount", argv)
        else:
            kept.append(word)
    disks = load_disks()
    if len(kept) != 2 or {"bind", "rbind", "remount"} & set(options):
        become("mount", argv)
    source, target = kept
    device = find_device(source, disks)
    if device is None:
        if source.startswith("/dev/") or "=" in source:
            raise ToolError(f"mount: {target}: special device {source} does not exist.", 32)
        become("mount", argv)
    mount_device(device, target, kind, options, disks, make=make)


def mount_device(
    device: Device, target: str, kind: str, options: list[str], disks: list[Disk], *, make: bool = False
) -> None:
    if make:
        os.makedirs(target, exist_ok=True)
    if not os.path.isdir(target):
        raise ToolError(f"mount: {target}: mount point does not exist.", 32)
    if device.fs is None or device.fs["type"] == "swap" or kind not in ("", "auto", device.fs["type"]):
        raise ToolError(
            f"mount: {target}: wrong fs type, bad option, bad superblock on {device.path},"
            " missing codepage or helper program, or other error.",
            32,
        )
    real = os.path.realpath(target)
    if (device, real) in mounts(disks):
        raise ToolError(f"mount: {target}: {device.path} already mounted on {real}.", 32)
    tree = device.tree
    volume = next((option.split("=", 1)[1].lstrip("/") for option in options if option.startswith("subvol=")), "")
    if volume:
        tree = f"{tree}/{volume}"
        if not os.path.isdir(tree):
            raise ToolError(f"mount: {target}: mount(2) system call failed: No such file or directory.", 32)
    subprocess.run(["/bin/mount", "--bind", tree, real], check=True)
    if "ro" in options or device.disk.read_only:
        subprocess.run(["/bin/mount", "-o", "remount,bind,ro", real], check=True)


def umount(argv: list[str]) -> None:
    disks = load_disks()
    words = []
    for word in argv:
        device = find_device(word, disks) if word.startswith("/dev/") else None
        points = [point for mounted, point in mounts(disks) if device == mounted]
        if device is not None and not points:
            raise ToolError(f"umount: {word}: not mounted.", 32)
        words.append(points[-1] if points else word)
    become("umount", words)


def swapon(argv: list[str]) -> None:
    disks = load_disks()
    for word in (word for word in argv if not word.startswith("-")):
        device = get_device(word, disks, "swapon", 255)
        if tag(device, "TYPE") != "swap":
            raise ToolError(f"swapon: {word}: read swap header failed", 255)


def mount_all(_: list[str]) -> None:
    """At boot: the links, and the file systems that were mounted below the target when the system was installed."""
    disks = load_disks()
    refresh(disks)
    root = find_device("/dev/" + read_lab()["root_device"], disks)
    if root is None:
        return
    boot: dict[str, Any] = root.disk.content["boot"]
    missing = []
    for target, fs_uuid in sorted(boot["mounts"].items()):
        device = find_device(f"UUID={fs_uuid}", disks)
        if device is None:
            missing.append(f"{target} (UUID={fs_uuid})")
            continue
        mount_device(device, target, "", [], disks, make=True)
    if missing:
        raise ToolError(f"mount-all: not found: {', '.join(missing)}", 1)
