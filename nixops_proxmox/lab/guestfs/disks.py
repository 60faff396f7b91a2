"""The guest's disks as its tools see them: names, partition tables, file systems, and where they are mounted.

A disk is `/run/lab/disks/<name>/`: `disk.json`, and a tree for each file system in `parts/<N>` (N 0: there is no
partition table).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from typing import Any, NoReturn

ROOT = "/run/lab/disks"
SECTOR = 512


def seen_size_file(disk: str, part: str) -> str:
    """What the kernel of this boot knows of a partition's size, where the table on the disk has another one already."""
    return f"/run/lab/seen/{disk}{part}"


class ToolError(Exception):
    """What the tool says on stderr, and its exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def become(program: str, argv: list[str]) -> NoReturn:
    """The real tool of the host, for what is not about a simulated disk."""
    for folder in ("/usr/bin", "/usr/sbin", "/bin", "/sbin"):
        if os.access(f"{folder}/{program}", os.X_OK):
            os.execv(f"{folder}/{program}", [program, *argv])  # noqa: S606 -- no shell is wanted
    raise ToolError(f"{program}: command not found", 127)


def read_lab() -> dict[str, Any]:
    with open("/run/lab/lab.json", encoding="utf-8") as file:
        lab: dict[str, Any] = json.load(file)
    return lab


@dataclass
class Disk:
    name: str
    size: int
    serial: str
    by_id: str
    rom: bool
    content: dict[str, Any]

    @property
    def folder(self) -> str:
        return f"{ROOT}/{self.name}"

    def tree(self, part: str) -> str:
        return f"{self.folder}/parts/{part}"

    @property
    def read_only(self) -> bool:
        """Until the next boot, by `blockdev --setro`."""
        return self.rom or os.path.exists(f"/run/lab/read-only/{self.name}")

    def refuse_read_only(self) -> None:
        if self.read_only:
            raise ToolError(
                f"/dev/{self.name}: cannot open for writing: Operation not permitted (the device is read-only)"
            )

    def save(self) -> None:
        self.refuse_read_only()
        fresh = f"{self.folder}/disk.new"
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump(self.content, file, indent=1)
        os.replace(fresh, f"{self.folder}/disk.json")

    def drop_fs(self, part: str) -> None:
        """What was on it is gone."""
        self.refuse_read_only()
        self.content["fs"].pop(part, None)
        shutil.rmtree(self.tree(part), ignore_errors=True)
        boot = self.content["boot"]
        if boot and str(boot["root"]) == part:
            self.content["boot"] = None

    def drop_table(self) -> None:
        self.refuse_read_only()
        for part in list(self.content["parts"]):
            self.drop_fs(part)
        self.content.update({"table": None, "ptuuid": "", "parts": {}, "boot": None})

    def part_size(self, part: str) -> int:
        if part == "0":
            return self.size
        found = self.content["parts"][part]
        size = int((found["end"] - found["start"] + 1) * SECTOR)
        try:
            with open(seen_size_file(self.name, part), encoding="utf-8") as file:
                return min(size, int(file.read() or 0))
        except FileNotFoundError:
            return size

    def device(self, part: str) -> str:
        return f"/dev/{self.name}" + ("" if part == "0" else part)


def load_disks() -> list[Disk]:
    disks = []
    for told in read_lab()["disks"]:
        content: dict[str, Any] = {"table": None, "ptuuid": "", "parts": {}, "fs": {}, "boot": None}
        if not told["rom"]:
            with open(f"{ROOT}/{told['name']}/disk.json", encoding="utf-8") as file:
                content = json.load(file)
        disks.append(Disk(told["name"], told["size"], told["serial"], told["by_id"], told["rom"], content))
    return disks


@dataclass(frozen=True)
class Device:
    """A disk (part "0") or a partition."""

    disk: Disk
    part: str

    @property
    def path(self) -> str:
        return self.disk.device(self.part)

    @property
    def fs(self) -> dict[str, str] | None:
        found: dict[str, str] | None = self.disk.content["fs"].get(self.part)
        return found

    @property
    def tree(self) -> str:
        return self.disk.tree(self.part)


def devices(disks: list[Disk]) -> list[Device]:
    return [Device(disk, part) for disk in disks for part in ["0", *sorted(disk.content["parts"], key=int)]]


def find_device(spec: str, disks: list[Disk]) -> Device | None:
    """By path, link, LABEL=, UUID=, PARTLABEL=, PARTUUID=."""
    if "=" in spec and not spec.startswith("/"):
        key, value = spec.split("=", 1)
        return next((device for device in devices(disks) if tag(device, key) == value.strip('"')), None)
    real = os.path.realpath(spec) if spec.startswith("/") else f"/dev/{spec}"
    return next((device for device in devices(disks) if device.path == real), None)


def get_device(spec: str, disks: list[Disk], tool: str, status: int = 1) -> Device:
    found = find_device(spec, disks)
    if found is None:
        raise ToolError(f"{tool}: {spec}: No such file or directory", status)
    return found


def tag(device: Device, key: str) -> str:
    part = device.disk.content["parts"].get(device.part, {})
    fs = device.fs or {}
    known = {
        "LABEL": fs.get("label", ""), "UUID": fs.get("uuid", ""), "TYPE": fs.get("type", ""),
        "PARTLABEL": part.get("name", ""), "PARTUUID": part.get("uuid", ""),
        "PTTYPE": device.disk.content["table"] or "" if device.part == "0" else "",
        "PTUUID": device.disk.content["ptuuid"] or "",
    }  # fmt: skip
    return str(known.get(key, ""))


def mounts(disks: list[Disk]) -> list[tuple[Device, str]]:
    """(device, mount point) of every simulated file system that is mounted, in the order of the kernel's table."""
    trees: dict[tuple[int, int], Device] = {}
    for device in devices(disks):
        if device.fs:
            try:
                stat = os.stat(device.tree)
            except FileNotFoundError:
                continue
            trees[stat.st_dev, stat.st_ino] = device
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    for point in points:
        try:
            stat = os.stat(point)
        except OSError:
            continue
        if (stat.st_dev, stat.st_ino) in trees and not point.startswith(ROOT):
            found.append((trees[stat.st_dev, stat.st_ino], point))
    return found


def refuse_mounted(device: Device, disks: list[Disk], text: str) -> None:
    for mounted, point in mounts(disks):
        if mounted.disk is device.disk and device.part in ("0", mounted.part):
            raise ToolError(text.format(device=mounted.path, point=point))


def is_made_here(link: str) -> bool:
    """udev takes away its own links alone: those that lead to a node by a relative path."""
    return os.path.islink(link) and os.readlink(link).startswith("../../")


def refresh(disks: list[Disk]) -> None:  # noqa: C901 -- one flat case for each kind of link
    """What udev does: nodes of partitions, and the links by id, UUID, label."""
    wanted: dict[str, str] = {}
    for device in devices(disks):
        disk, suffix = device.disk, "" if device.part == "0" else f"-part{device.part}"
        if device.part != "0":
            make_node(device.path)
        wanted[f"by-id/{disk.by_id}{suffix}"] = device.path
        for key, folder in (
            ("UUID", "by-uuid"),
            ("LABEL", "by-label"),
            ("PARTLABEL", "by-partlabel"),
            ("PARTUUID", "by-partuuid"),
        ):
            value = tag(device, key)
            if value:
                wanted.setdefault(f"{folder}/{value}", device.path)
    for folder in ("by-id", "by-uuid", "by-label", "by-partlabel", "by-partuuid"):
        os.makedirs(f"/dev/disk/{folder}", exist_ok=True)
        for name in os.listdir(f"/dev/disk/{folder}"):
            if f"{folder}/{name}" not in wanted and is_made_here(f"/dev/disk/{folder}/{name}"):
                os.unlink(f"/dev/disk/{folder}/{name}")
    paths = {device.path for device in devices(disks)}
    for disk in disks:
        for name in os.listdir("/dev"):
            if name.startswith(disk.name) and name != disk.name and f"/dev/{name}" not in paths:
                os.unlink(f"/dev/{name}")
    for link, path in wanted.items():
        target = f"../../{os.path.basename(path)}"
        full = f"/dev/disk/{link}"
        if not os.path.islink(full) or os.readlink(full) != target:
            if os.path.lexists(full):
                os.unlink(full)
            os.symlink(target, full)


def make_node(path: str) -> None:
    if os.path.lexists(path):
        return
    try:
        os.mknod(path, 0o60660, os.makedev(240, 16 + sum(path.encode()) % 200))
    except PermissionError:
        with open(path, "w", encoding="utf-8"):
            pass


def new_uuid() -> str:
    return str(uuid.uuid4())
