"""A guest's disks: the script that lists them, what it printed, and the proof that they are the declared ones."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nixops_proxmox.errors import CommandFailed, WrongDisk
from nixops_proxmox.model import Completed, GuestDisk
from nixops_proxmox.spec import Disk
from nixops_proxmox.texts import script_marker, tail

HEADER = "nixops-proxmox-disks"
NOTHING: Mapping[str, str] = MappingProxyType({})
_DRIVE = re.compile(r"(drive-(?:scsi|sata|ide|virtio)[0-9]+)")
_DRIVE_LINK = re.compile(rf"scsi-[0S]QEMU_QEMU_HARDDISK_{_DRIVE.pattern}")
_UUID = re.compile(r"[0-9a-f-]{8,64}")
SLACK = 1 << 30  # a storage rounds a size up to its own unit: 4 MiB, or a whole GiB

# wipefs probes the disk itself. lsblk's FSTYPE, PTTYPE and SERIAL come from udev, which a small installer may not have.
# The kernel has a SCSI disk's serial (its page 0x80).
LIST_DISKS = f"""{script_marker("list-disks")}set -u
echo {HEADER} lsblk
lsblk -b -J -o NAME,TYPE,SIZE,SERIAL,WWN,FSTYPE,PTTYPE,PTUUID,UUID || exit 1
echo {HEADER} signatures
for name in $(lsblk -d -n -o NAME); do
  wipefs -n "/dev/$name" 2>/dev/null | while read -r device offset type rest; do
    case $offset in 0x*) echo "$name $type";; esac
  done
done
echo {HEADER} serials
for name in $(lsblk -d -n -o NAME); do
  page=/sys/block/$name/device/vpd_pg80
  [ -r "$page" ] && echo "$name $(tail -c +5 "$page" | tr -cd '!-~')"
done
echo {HEADER} links
for link in /dev/disk/by-id/*; do
  [ -e "$link" ] && echo "$(readlink -f "$link") $link"
done
echo {HEADER} end
"""


def parse_disks(text: str) -> tuple[GuestDisk, ...]:
    """What LIST_DISKS printed. Raises CommandFailed for anything else."""
    parts = parse_sections(text, HEADER)
    try:
        rows = json.loads("\n".join(parts["lsblk"]))["blockdevices"]
        if "end" not in parts:
            raise KeyError("end")
        return tuple(_disks(rows, parts["signatures"], parts["links"], parts.get("serials", ())))
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CommandFailed("the guest's list of disks cannot be read", status=0, output=tail(text, 2000)) from error


def parse_sections(text: str, header: str) -> dict[str, list[str]]:
    """The lines of each section, by its name. `header`: begins the line before a section, followed by its name."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(f"{header} "):
            lines = parts.setdefault(line.removeprefix(f"{header} ").strip(), [])
        else:
            lines.append(line)
    return parts


def _disks(rows: Any, signatures: Sequence[str], links: Sequence[str], serials: Sequence[str]) -> Iterable[GuestDisk]:
    said = dict(line.split(maxsplit=1) for line in serials if len(line.split()) == 2)
    probed = [tuple(line.split(maxsplit=1)) for line in signatures if len(line.split()) > 1]
    linked = [tuple(line.split(maxsplit=1)) for line in links if len(line.split()) > 1]
    for row in rows:
        name, size = str(row["name"]), int(row["size"])
        if not 0 <= size < 1 << 63:
            raise ValueError(f"{name} has {size} bytes")
        if row["type"] != "disk" or not size or name.startswith(("zram", "ram", "fd", "nbd")):
            continue
        device = f"/dev/{name}"
        kinds = [kind for probed_name, kind in probed if probed_name == name] + [*_kinds(row)]
        by_id = tuple(sorted(link for target, link in linked if target == device))
        serial = said.get(name) or str(row.get("serial") or "").strip()
        yield GuestDisk(device, size, serial, by_id, tuple(dict.fromkeys(kinds)), _content(row))


def _content(row: Any) -> str:
    """What is on the disk, by a number that was drawn for it."""
    told = str(row.get("ptuuid") or row.get("uuid") or "").lower()
    return told if _UUID.fullmatch(told) else ""


def _kinds(row: Any) -> Iterable[str]:
    """What lsblk knows to be on a disk, its partitions included."""
    for key in ("pttype", "fstype"):
        if row.get(key):
            yield str(row[key])
    for child in row.get("children") or ():
        yield from _kinds(child)
        if child.get("type") == "part" and not child.get("fstype"):
            yield "partition"


DeclaredDisks = Sequence[tuple[Disk, str]]
"""The declared disks, each with the serial that PVE gives it (declared, or derived from the machine's UUID)."""


def list_disks(run: Callable[[str], Completed]) -> tuple[GuestDisk, ...]:
    """Ask the guest. `run` runs a shell script there."""
    done = run(LIST_DISKS)
    if done.status:
        raise CommandFailed(
            f"the guest's disks could not be listed: {done.stderr.strip()}", status=done.status, output=done.stderr
        )
    return parse_disks(done.stdout)


def check_disks(
    machine: str,
    wanted: DeclaredDisks,
    found: Sequence[GuestDisk],
    *,
    accounted: Collection[str],
    contents: Mapping[str, str] = NOTHING,
    nameless: bool = False,
) -> tuple[GuestDisk, ...]:
    """Return the guest's disks in the order of `wanted`, and prove that they are those. A disk must be blank, unless
    our record explains its content (`accounted`, slots), or the content is what we put there (`contents`, by slot).
    Raises WrongDisk before anything is written."""
    disks = match_disks(machine, wanted, found, nameless=nameless)
    for (disk, _), seen in zip(wanted, disks, strict=True):
        ours = bool(seen.content) and contents.get(disk.slot) == seen.content
        if seen.signatures and disk.slot not in accounted and not ours:
            raise WrongDisk(
                f"{machine}: disk {disk.slot} ({seen.device}) is not blank: it holds {', '.join(seen.signatures)},"
                " and the machine's record does not explain that; nothing was written",
                hint="put the machine's own disk back; if the data on this one may go, `wipefs -a"
                f" {seen.device}` in the installer, which runs now, wipes it; then run the same command again",
            )
    return disks


def match_disks(
    machine: str, wanted: DeclaredDisks, found: Sequence[GuestDisk], *, nameless: bool = False
) -> tuple[GuestDisk, ...]:
    """Each declared disk's counterpart in the guest, told apart by serial, the size being right. Raises WrongDisk.
    Names like /dev/sda come in the order of probing and say nothing. `nameless`: somebody else made the disks, without
    serials. Those that have none are told apart by what else they have."""
    result: dict[str, GuestDisk] = {}
    for disk, serial in wanted:
        seen = find_disk(machine, (disk, serial), wanted, found, nameless=nameless)
        _refuse_size(machine, disk, seen)
        other = next((slot for slot, taken in result.items() if taken.device == seen.device), None)
        if other is not None:
            raise WrongDisk(f"{machine}: disks {other} and {disk.slot} are the same in the guest: {seen.device}")
        result[disk.slot] = seen
    return tuple(result.values())


def find_disk(
    machine: str,
    one: tuple[Disk, str],
    wanted: DeclaredDisks,
    found: Sequence[GuestDisk],
    *,
    nameless: bool = False,
) -> GuestDisk:
    """One declared disk's counterpart in the guest, whatever its size. Raises WrongDisk."""
    disk, serial = one
    seen = _find_by_name(machine, disk, serial, found)
    if seen is None and nameless and not disk.serial:
        seen = _find_nameless(machine, disk, wanted, found)
    if seen is None:
        raise _missing(machine, disk, serial, found)
    return seen


def _missing(machine: str, disk: Disk, serial: str, found: Sequence[GuestDisk]) -> WrongDisk:
    return WrongDisk(
        f"{machine}: disk {disk.slot}: no disk in the guest has the serial {serial}; it sees {_names(found)}",
        hint="did somebody exchange the disk? If it was added to a running VM, stop and start the VM",
    )


def _refuse_size(machine: str, disk: Disk, seen: GuestDisk) -> None:
    if not disk.size <= seen.size < disk.size + SLACK:
        raise WrongDisk(
            f"{machine}: disk {disk.slot} ({seen.device}) has {seen.size} bytes, not the declared {disk.size};"
            " nothing was written",
            hint="correct the size in the description, or find out whose disk it is",
        )


def _find_by_name(machine: str, disk: Disk, serial: str, found: Sequence[GuestDisk]) -> GuestDisk | None:
    named = [seen for seen in found if _has_serial(seen, serial)]
    if len(named) > 1:
        raise WrongDisk(
            f"{machine}: disk {disk.slot}: several disks have the serial {serial}: {_names(named)}",
            hint="give each disk a different serial",
        )
    return named[0] if named else None


def _has_serial(seen: GuestDisk, serial: str) -> bool:
    """The whole of it. A small installer's lsblk may tell none. Then udev's links do. On PVE 9, those have PVE's name
    of the drive, and lsblk tells the serial beside."""
    if seen.serial and not _DRIVE.fullmatch(seen.serial):
        return seen.serial == serial
    return any(link.rpartition("/")[2] in _links(serial) for link in seen.by_id)


def _links(serial: str) -> tuple[str, ...]:
    kinds = ("scsi-0QEMU_QEMU_HARDDISK", "scsi-SQEMU_QEMU_HARDDISK", "ata-QEMU_HARDDISK")
    return (f"virtio-{serial}", *(f"{kind}_{serial}" for kind in kinds))


def _drive_name(seen: GuestDisk) -> str:
    """PVE's own name of the drive, which virtio-scsi shows if there is no serial. All of the text must match, because
    a serial may end in the same way."""
    links = [_DRIVE_LINK.fullmatch(link.rpartition("/")[2]) for link in seen.by_id]
    return next((found[1] for found in (_DRIVE.fullmatch(seen.serial), *links) if found), "")


def _find_nameless(machine: str, disk: Disk, wanted: DeclaredDisks, found: Sequence[GuestDisk]) -> GuestDisk | None:
    """By PVE's name of the drive, or the only one of its size (virtio-blk and SATA have no other name)."""
    by_drive = [seen for seen in found if _drive_name(seen) == f"drive-{disk.slot}"]
    if len(by_drive) == 1:
        return by_drive[0]
    unnamed = [other for other, serial in wanted if not any(_is_known(seen, other, serial) for seen in found)]
    rivals = [other for other in unnamed if other.size == disk.size]
    free = [seen for seen in found if not seen.serial and not any(_is_known(seen, *other) for other in wanted)]
    fitting = [seen for seen in free if disk.size <= seen.size < disk.size + SLACK]
    if len(rivals) == 1 and len(fitting) == 1:
        return fitting[0]
    raise WrongDisk(
        f"{machine}: disk {disk.slot} is not there, or cannot be told apart: none has its serial, and the guest sees"
        f" {_names(found)}",
        hint=f"set `serial` for {disk.slot} in the description",
    )


def _is_known(seen: GuestDisk, disk: Disk, serial: str) -> bool:
    return _has_serial(seen, serial) or _drive_name(seen) == f"drive-{disk.slot}"


def _names(disks: Sequence[GuestDisk]) -> str:
    names = [f"{disk.device} ({disk.size} bytes, serial {disk.serial or 'none'})" for disk in disks]
    return ", ".join(names) or "no disks at all"
