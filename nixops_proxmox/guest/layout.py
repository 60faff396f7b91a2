"""What lies on a guest's disks, layer by layer, as the guest tells it. It may say anything, so all of it is parsed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.guest.disks import parse_sections
from nixops_proxmox.texts import script_marker, tail

HEADER = "nixops-proxmox-layout"
SEARCH = "PATH=$PATH:/run/current-system/sw/bin:/usr/sbin:/sbin; export PATH\n"
TOOLS = (
    *("sfdisk", "partx", "cryptsetup", "pvresize", "lvextend", "resize2fs", "xfs_growfs", "btrfs", "zpool"),
    *("mkswap", "swapoff", "swapon"),
)
_NAME = re.compile(r"[A-Za-z0-9._+:@-]{1,128}")
_TARGET = re.compile(r"/[^\x00-\x1f\x7f]{0,4095}")
_RESCAN = """\
for file in /sys/class/block/*/device/rescan; do
  if [ -w "$file" ]; then echo 1 >"$file" || true; fi
done
"""
# lsblk knows from udev what is on a device, and a small system has none; blkid looks itself.
_LOOK = f"""\
say() {{ echo "{HEADER} $*"; }}
say lsblk
lsblk -b -J -o NAME,TYPE,SIZE,FSTYPE,LABEL,PTTYPE,MOUNTPOINTS || exit 1
say probes
lsblk -n -l -o NAME,TYPE | while read -r name type; do
  case $type in crypt|lvm) path=/dev/mapper/$name;; *) path=/dev/$name;; esac
  blkid -p -o export "$path" 2>/dev/null | while read -r line; do echo "$name $line"; done
done
say mounts
findmnt -b -l -J -o TARGET,FSTYPE,SIZE
lsblk -d -n -o NAME | while read -r name; do
  say "table $name"
  sfdisk -J "/dev/$name" 2>/dev/null
done
say luks
lsblk -n -l -o NAME,TYPE | while read -r name type; do
  [ "$type" = crypt ] || continue
  echo "$name $(cryptsetup status "$name" 2>/dev/null | sed -n 's/^ *offset: *\\([0-9]*\\).*/\\1/p')"
done
say pvs
pvs --units b --nosuffix --reportformat json \\
  -o pv_name,vg_name,pv_size,dev_size,pe_start,vg_extent_size,vg_free 2>/dev/null
say lvs
lvs --units b --nosuffix --reportformat json -o lv_name,vg_name,lv_dm_path,segtype 2>/dev/null
say swaps
cat /proc/swaps 2>/dev/null
say zpools
zpool list -Hp -o name,expandsize 2>/dev/null
say tools
for tool in {" ".join(TOOLS)}; do
  if command -v "$tool" >/dev/null; then echo "$tool"; fi
done
say end
"""


def look_script(*, rescan: bool = False) -> str:
    """`rescan`: the kernel looks again how large its disks are. Changes nothing else."""
    words = ("rescan",) if rescan else ()
    return script_marker("grow-look", *words) + SEARCH + (_RESCAN if rescan else "") + _LOOK


@dataclass(frozen=True)
class Block:
    """A block device. `kind`: disk, part, crypt, lvm, …. `holds`: the file system or the like that is on it."""

    name: str
    kind: str
    size: int  # bytes
    holds: str = ""
    label: str = ""
    table: str = ""  # gpt, dos; empty: it has no partition table
    mounts: tuple[str, ...] = ()
    children: "tuple[Block, ...]" = ()

    @property
    def device(self) -> str:
        return f"/dev/mapper/{self.name}" if self.kind in ("crypt", "lvm") else f"/dev/{self.name}"


@dataclass(frozen=True)
class Part:
    """A row of a partition table, in bytes."""

    name: str  # sda2
    start: int
    size: int
    kind: str = ""

    @property
    def number(self) -> int:
        found = re.search(r"[0-9]+$", self.name)
        return int(found[0]) if found else 0

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class PhysicalVolume:
    device: str
    group: str
    size: int
    room: int  # of the device, without LVM's own data at its beginning
    extent: int
    free: int  # in the whole group


@dataclass(frozen=True)
class LogicalVolume:
    name: str
    group: str
    device: str
    kind: str  # linear, thin, …


@dataclass(frozen=True)
class Layout:
    """One look."""

    blocks: tuple[Block, ...]
    tables: Mapping[str, Sequence[Part]] = field(default_factory=dict)  # by disk
    mounted: Mapping[str, int] = field(default_factory=dict)  # by mount point: the bytes that statfs tells
    offsets: Mapping[str, int] = field(default_factory=dict)  # by LUKS device: bytes before its data
    volumes: tuple[PhysicalVolume, ...] = ()
    logical: tuple[LogicalVolume, ...] = ()
    swaps: Mapping[str, int] = field(default_factory=dict)  # by device: bytes that are in use as swap
    pools: Mapping[str, int] = field(default_factory=dict)  # by ZFS pool: bytes by which it can be expanded
    tools: frozenset[str] = frozenset()


def parse_layout(text: str) -> Layout:
    """What `look_script` printed. Raises CommandFailed for anything else."""
    parts = parse_sections(text, HEADER)
    try:
        if "end" not in parts:
            raise KeyError("end")
        return _layout(parts)
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CommandFailed("what lies on the guest's disks cannot be read", status=0, output=tail(text, 2000)) from (
            error
        )


def _layout(parts: Mapping[str, list[str]]) -> Layout:
    told, probed = json.loads("\n".join(parts["lsblk"]))["blockdevices"], _probes(parts.get("probes", []))
    tables = {name.removeprefix("table "): lines for name, lines in parts.items() if name.startswith("table ")}
    return Layout(
        tuple(_block(row, probed) for row in told),
        {_name(name): tuple(_parts(lines)) for name, lines in tables.items() if "".join(lines).strip()},
        dict(_mounts(parts.get("mounts", []))),
        {_name(name): _bytes(sectors) * 512 for name, sectors in _pairs(parts.get("luks", []))},
        tuple(_physical(row) for row in _report(parts.get("pvs", []), "pv")),
        tuple(_logical(row) for row in _report(parts.get("lvs", []), "lv")),
        dict(_swaps(parts.get("swaps", []))),
        {_name(name): _bytes(more) for name, more in _pairs(parts.get("zpools", []))},
        frozenset(parts.get("tools", [])) & frozenset(TOOLS),
    )


def _name(text: object) -> str:
    if not _NAME.fullmatch(str(text)):
        raise ValueError(f"{text!r} is no device's name")
    return str(text)


def _bytes(value: object) -> int:
    text = "0" if value in (None, "", "-") else str(value)
    number = int(text)
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{number} bytes")
    return number


def _probes(lines: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """By device: what blkid tells, in lsblk's words."""
    words = {"TYPE": "fstype", "PTTYPE": "pttype", "LABEL": "label"}
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        name, _, pair = line.partition(" ")
        key, _, value = pair.partition("=")
        if key in words:
            found.setdefault(name, {})[words[key]] = value
    return found


def _block(row: Any, probed: Mapping[str, Mapping[str, str]]) -> Block:
    row = {**row, **probed.get(str(row["name"]), {})}
    mounts = tuple(str(one) for one in row.get("mountpoints") or () if one and _TARGET.fullmatch(str(one)))
    word = {key: str(row.get(key) or "") for key in ("type", "fstype", "label", "pttype")}
    children = tuple(_block(child, probed) for child in row.get("children") or ())
    table = word["pttype"] if word["type"] == "disk" else ""  # a partition's is the one of its disk
    size = _bytes(row["size"])
    return Block(_name(row["name"]), word["type"], size, word["fstype"], word["label"], table, mounts, children)


def _parts(lines: Sequence[str]) -> Iterator[Part]:
    table = json.loads("\n".join(lines))["partitiontable"]
    sector = _bytes(table.get("sectorsize") or 512)
    for row in table.get("partitions") or ():
        name = _name(str(row["node"]).removeprefix("/dev/"))
        yield Part(name, _bytes(row["start"]) * sector, _bytes(row["size"]) * sector, str(row.get("type", "")).lower())


def _mounts(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    if not "".join(lines).strip():
        return
    for row in json.loads("\n".join(lines))["filesystems"]:
        if row.get("size") is not None:
            yield str(row["target"]), _bytes(row["size"])


def _pairs(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        words = line.split()
        if len(words) == 2:
            yield words[0], words[1]


def _report(lines: Sequence[str], kind: str) -> Iterator[Any]:
    if "".join(lines).strip():
        for report in json.loads("\n".join(lines))["report"]:
            yield from report[kind]


def _physical(row: Any) -> PhysicalVolume:
    device = str(row["pv_name"])
    return PhysicalVolume(
        device,
        str(row["vg_name"]),
        _bytes(row["pv_size"]),
        max(0, _bytes(row["dev_size"]) - _bytes(row["pe_start"])),
        _bytes(row["vg_extent_size"]),
        _bytes(row["vg_free"]),
    )


def _logical(row: Any) -> LogicalVolume:
    return LogicalVolume(str(row["lv_name"]), str(row["vg_name"]), str(row["lv_dm_path"]), str(row["segtype"]))


def _swaps(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    for line in lines[1:]:
        words = line.split()
        if len(words) >= 3 and words[1] == "partition":
            yield words[0], _bytes(words[2]) * 1024
