"""What lies on a scripted guest's disks, and how it grows: partitions and plain file systems, by the markers."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nixops_proxmox.lab.machines.simulated.body import GuestDisk, Output

LAYOUT = "nixops-proxmox-layout"
SECTOR = 512
END = 33  # sectors at a disk's end, for GPT's second table
TOOLS = "sfdisk\npartx\nresize2fs\nxfs_growfs\nbtrfs\n"
Told = Iterator[str]


def _load(disk: GuestDisk) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((disk.path / "disk.json").read_text(encoding="utf-8"))
    return content


def _save(disk: GuestDisk, content: dict[str, Any]) -> None:
    (disk.path / "disk.json").write_text(json.dumps(content), encoding="utf-8")


def _size(disk: GuestDisk, content: dict[str, Any], number: str) -> int:
    if number == "0":
        return disk.size
    part = content["parts"][number]
    return int((part["end"] - part["start"] + 1) * SECTOR)


def _mount(content: dict[str, Any], number: str) -> str:
    """The root of what boots from it; each other file system is mounted, too."""
    root = str((content.get("boot") or {}).get("root", ""))
    return "/" if number == root else f"/mnt/{number}"


def tell_layout(disks: Sequence[GuestDisk], words: Sequence[str]) -> Output:
    if tuple(words) not in ((), ("rescan",)):
        return _failed(f"grow-look: {words}")
    loaded = [(disk, _load(disk)) for disk in disks if not disk.rom]
    parts = [
        f"{LAYOUT} lsblk",
        json.dumps({"blockdevices": [_row(disk, content) for disk, content in loaded]}),
        f"{LAYOUT} mounts",
        json.dumps({"filesystems": [row for disk, content in loaded for row in _mounted(disk, content)]}),
        *(line for disk, content in loaded if content["table"] for line in _table(disk, content)),
        f"{LAYOUT} tools",
        f"{TOOLS}{LAYOUT} end",
    ]
    return Output(0, ("\n".join(parts) + "\n").encode())


def _row(disk: GuestDisk, content: dict[str, Any]) -> dict[str, Any]:
    def block(number: str) -> dict[str, Any]:
        found = content["fs"].get(number)
        return {
            "name": disk.name if number == "0" else f"{disk.name}{number}",
            "type": "disk" if number == "0" else "part",
            "size": _size(disk, content, number),
            "fstype": found and found["type"],
            "label": (found and found["label"]) or None,
            "pttype": content["table"],
            "mountpoints": [_mount(content, number)] if found else [None],
        }

    numbers = sorted(content["parts"], key=int)
    return block("0") | ({"children": [block(number) for number in numbers]} if numbers else {})


def _mounted(disk: GuestDisk, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, found in content["fs"].items():
        size = found.get("size", _size(disk, content, number))
        yield {"target": _mount(content, number), "fstype": found["type"], "size": size}


def _table(disk: GuestDisk, content: dict[str, Any]) -> Told:
    rows = [
        {"node": f"/dev/{disk.name}{number}", "start": part["start"], "size": part["end"] - part["start"] + 1}
        for number, part in content["parts"].items()
    ]
    yield f"{LAYOUT} table {disk.name}"
    yield json.dumps({"partitiontable": {"label": content["table"], "sectorsize": SECTOR, "partitions": rows}})


def grow_partition(disks: Sequence[GuestDisk], words: Sequence[str]) -> Output:
    """Words: the disk's device, and the partition's number."""
    device, number = words
    found = next((disk for disk in disks if f"/dev/{disk.name}" == device and not disk.rom), None)
    content = _load(found) if found is not None else {"parts": {}}
    if found is None or number not in content["parts"]:
        return _failed(f"sfdisk: {device}: partition {number}: failed to find")
    part = content["parts"][number]
    later = [other["start"] for other in content["parts"].values() if other["start"] > part["start"]]
    part["end"] = min([*later, found.size // SECTOR - END]) - 1
    _save(found, content)
    return Output(0)


def grow_fs(disks: Sequence[GuestDisk], words: Sequence[str]) -> Output:
    """Words: the kind of file system, its device, and where it is mounted."""
    kind, device, mount = words
    for disk in (disk for disk in disks if not disk.rom):
        content = _load(disk)
        for number, found in content["fs"].items():
            named = f"/dev/{disk.name}" + ("" if number == "0" else number)
            if (found["type"], named, _mount(content, number)) == (kind, device, mount):
                found["size"] = _size(disk, content, number)
                _save(disk, content)
                return Output(0)
    return _failed(f"resize2fs: {device}: no {kind} is mounted on {mount}")


def _failed(text: str) -> Output:
    return Output(1, b"", f"{text}\n".encode())


GROW: dict[str, Callable[[Sequence[GuestDisk], Sequence[str]], Output]] = {
    "grow-look": tell_layout,
    "grow-partition": grow_partition,
    "grow-fs": grow_fs,
}
