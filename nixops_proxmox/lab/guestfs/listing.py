"""Tools that look: lsblk, blkid, findmnt, mountpoint, blockdev."""

from __future__ import annotations

import getopt
import json
import os
from typing import Any

from nixops_proxmox.lab.guestfs.disks import (
    Device,
    ToolError,
    devices,
    find_device,
    load_disks,
    mounts,
    refresh,
    say,
    tag,
)

UNITS = "BKMGTP"


def human(size: int) -> str:
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + UNITS[unit]


def row(device: Device, points: list[str], *, plain: bool) -> dict[str, Any]:
    disk, whole = device.disk, device.part == "0"
    size = disk.part_size(device.part)
    name = os.path.basename(device.path)
    part = disk.content["parts"].get(device.part, {})
    return {
        "NAME": name, "KNAME": name, "PATH": device.path, "PKNAME": None if whole else disk.name,
        "SIZE": size if plain else human(size), "TYPE": "rom" if disk.rom else "disk" if whole else "part",
        "SERIAL": (disk.serial or None) if whole else None, "WWN": None,
        "MODEL": ("QEMU DVD-ROM" if disk.rom else "QEMU HARDDISK") if whole and name[0] == "s" else None,
        "VENDOR": "QEMU    " if whole and name[0] == "s" else None,
        "FSTYPE": "iso9660" if disk.rom else tag(device, "TYPE") or None, "LABEL": tag(device, "LABEL") or None,
        "UUID": tag(device, "UUID") or None, "PARTLABEL": tag(device, "PARTLABEL") or None,
        "PARTUUID": tag(device, "PARTUUID") or None, "PARTTYPE": part.get("type"),
        "PTTYPE": disk.content["table"], "PTUUID": disk.content["ptuuid"] or None,
        "MOUNTPOINT": points[0] if points else None, "MOUNTPOINTS": points or [None],
        "RO": disk.read_only, "RM": disk.rom, "ROTA": True, "TRAN": None, "HOTPLUG": False, "MAJ:MIN": "8:0",
    }  # fmt: skip


def lsblk(argv: list[str]) -> None:
    longs = [
        "bytes",
        "json",
        "pairs",
        "output=",
        "noheadings",
        "nodeps",
        "paths",
        "raw",
        "list",
        "all",
        "fs",
        "exclude=",
        "include=",
    ]
    try:
        options, named = getopt.gnu_getopt(argv, "bJPo:ndprlafe:I:", longs)
    except getopt.GetoptError as error:
        raise ToolError(f"lsblk: {error}") from error
    given = {name.lstrip("-")[0] if name != "--pairs" else "P": value for name, value in options}
    if any(name in ("-J", "--json") for name, _ in options):
        given["J"] = ""
    flat = any(name in ("-d", "--nodeps") for name, _ in options)
    paths = any(name in ("-p", "--paths") for name, _ in options)
    default = "NAME,FSTYPE,LABEL,UUID,MOUNTPOINTS" if "f" in given else "NAME,MAJ:MIN,RM,SIZE,RO,TYPE,MOUNTPOINTS"
    columns = (given.get("o") or default).upper().lstrip("+").split(",")
    disks = load_disks()
    where = mounts(disks)
    wanted = []
    for name in named:
        found = find_device(name, disks)
        if found is None:
            raise ToolError(f"lsblk: {name}: not a block device", 32)
        wanted.append(found)
    rows = []
    for device in devices(disks):
        if (flat and device.part != "0") or (
            wanted and not any(w.disk is device.disk and w.part in ("0", device.part) for w in wanted)
        ):
            continue
        full = row(device, [point for mounted, point in where if mounted == device], plain="b" in given)
        unknown = [column for column in columns if column not in full]
        if unknown:
            raise ToolError(f"lsblk: unknown column: {unknown[0]}")
        if paths:
            full["NAME"] = device.path
        rows.append((device, {column: full[column] for column in columns}))
    if "J" in given:
        say(json.dumps({"blockdevices": nested(rows)}, indent=3))
        return
    if not ("n" in given or "P" in given):
        say(" ".join(columns))
    for _, shown in rows:
        texts = {column: cell(value) for column, value in shown.items()}
        say(
            " ".join(f'{column}="{text}"' for column, text in texts.items())
            if "P" in given
            else " ".join(texts.values()).rstrip()
        )


def cell(value: Any) -> str:
    if isinstance(value, list):
        return "\\x0a".join(str(item) for item in value if item is not None)
    return "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)


def nested(rows: list[tuple[Device, dict[str, Any]]]) -> list[dict[str, Any]]:
    tops: list[dict[str, Any]] = []
    for device, shown in rows:
        entry = {column.lower(): value for column, value in shown.items()}
        if device.part == "0" or not tops:
            tops.append(entry)
        else:
            tops[-1].setdefault("children", []).append(entry)
    return tops


def blkid(argv: list[str]) -> None:
    options, named = getopt.gnu_getopt(argv, "o:s:t:L:U:pc:l", ["output=", "match-tag=", "probe", "label=", "uuid="])
    given = {name.lstrip("-")[0]: value for name, value in options}
    disks = load_disks()
    if "L" in given or "U" in given:
        found = find_device(f"LABEL={given['L']}" if "L" in given else f"UUID={given['U']}", disks)
        if found is None:
            raise ToolError("", 2)
        say(found.path)
        return
    asked = [find_device(name, disks) for name in named] if named else list(devices(disks))
    keys = (
        given["s"].split(",")
        if "s" in given
        else ["LABEL", "UUID", "TYPE", "PTTYPE", "PTUUID", "PARTLABEL", "PARTUUID"]
    )
    some = False
    for device in asked:
        if device is None:
            continue
        tags = {
            key: tag(device, key) for key in keys if tag(device, key) and not (key == "PTUUID" and device.part != "0")
        }
        if "t" in given and tag(device, given["t"].split("=")[0]) != given["t"].split("=", 1)[1]:
            continue
        if not tags:
            continue
        some = True
        form = given.get("o", "full")
        if form == "value":
            for value in tags.values():
                say(value)
        elif form == "device":
            say(device.path)
        elif form in ("export", "udev"):
            say("\n".join([f"DEVNAME={device.path}", *(f"{key}={value}" for key, value in tags.items())]))
        else:
            say(f"{device.path}: " + " ".join(f'{key}="{value}"' for key, value in tags.items()))
    if not some:
        raise ToolError("", 2)


def findmnt(argv: list[str]) -> None:
    longs = [
        "noheadings",
        "output=",
        "target=",
        "mountpoint=",
        "source=",
        "json",
        "raw",
        "pairs",
        "list",
        "submounts",
        "types=",
        "first-only",
        "real",
        "bytes",
    ]
    options, named = getopt.gnu_getopt(argv, "no:T:M:S:JrPlRt:fekb", longs)
    given = {name.lstrip("-"): value for name, value in options}
    disks = load_disks()
    entries = [mount_row(device, point) for device, point in mounts(disks)]
    target = given.get("T") or given.get("target")
    if target:
        real = os.path.realpath(target)
        inside = [
            entry for entry in entries if real == entry["TARGET"] or real.startswith(entry["TARGET"].rstrip("/") + "/")
        ]
        entries = sorted(inside, key=lambda entry: len(entry["TARGET"]))[-1:]
    point = given.get("M") or given.get("mountpoint")
    if point:
        entries = [entry for entry in entries if entry["TARGET"] == os.path.realpath(point)]
    source = given.get("S") or given.get("source")
    recursive = "R" in given or "submounts" in given
    for wanted in filter(None, [*named, source]):
        device = find_device(wanted, disks)
        real = os.path.realpath(wanted)
        prefix = real.rstrip("/") + "/"
        entries = [
            entry for entry in entries
            if (device and entry["SOURCE"] == device.path)
            or entry["TARGET"] == real
            or (recursive and entry["TARGET"].startswith(prefix))
        ]  # fmt: skip
    if not entries:
        raise ToolError("", 1)
    columns = (given.get("o") or given.get("output") or "TARGET,SOURCE,FSTYPE,OPTIONS").upper().split(",")
    if "J" in given or "json" in given:
        say(
            json.dumps({"filesystems": [{c.lower(): entry.get(c, "") for c in columns} for entry in entries]}, indent=3)
        )
        return
    if not ("n" in given or "noheadings" in given):
        say(" ".join(columns))
    for entry in entries:
        say(" ".join(entry.get(column, "") for column in columns))


def mount_row(device: Device, point: str) -> dict[str, str]:
    fs = device.fs or {}
    return {
        "TARGET": point, "SOURCE": device.path, "FSTYPE": fs.get("type", ""), "OPTIONS": "rw,relatime",
        "SIZE": str(fs.get("size", device.disk.part_size(device.part))),
        "UUID": fs.get("uuid", ""), "LABEL": fs.get("label", ""), "PARTUUID": tag(device, "PARTUUID"), "FSROOT": "/",
    }  # fmt: skip


def mountpoint(argv: list[str]) -> None:
    quiet = bool({"-q", "--quiet"} & set(argv))
    path = os.path.realpath(next((word for word in argv if not word.startswith("-")), ""))
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        there = any(line.split()[4] == path for line in file)
    if not quiet:
        say(f"{path} is a mountpoint" if there else f"{path} is not a mountpoint")
    if not there:
        raise ToolError("", 32)


def blockdev(argv: list[str]) -> None:
    disks = load_disks()
    words = [word for word in argv if word.startswith("--")]
    for name in (word for word in argv if not word.startswith("--")):
        device = find_device(name, disks)
        if device is None:
            raise ToolError(f"blockdev: cannot open {name}: No such file or directory")
        size = device.disk.part_size(device.part)
        answers = {
            "--getsize64": size,
            "--getsz": size // 512,
            "--getss": 512,
            "--getpbsz": 512,
            "--getro": int(device.disk.read_only),
        }
        for word in words:
            if word in answers:
                say(str(answers[word]))
            elif word in ("--setro", "--setrw"):
                set_read_only(device.disk.name, on=word == "--setro")
            elif word in ("--rereadpt", "--flushbufs"):
                refresh(disks)
            else:
                raise ToolError(f"blockdev: Unknown command: {word}")


def set_read_only(name: str, *, on: bool) -> None:
    os.makedirs("/run/lab/read-only", exist_ok=True)
    path = f"/run/lab/read-only/{name}"
    if on:
        with open(path, "w", encoding="utf-8"):
            pass
    elif os.path.exists(path):
        os.unlink(path)


def settle(_: list[str]) -> None:
    """udevadm, partprobe: whatever it is asked, the links are up to date afterwards."""
    refresh(load_disks())
