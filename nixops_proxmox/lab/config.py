"""A VM's configuration as PVE keeps it: strings by key, property strings re-printed, a digest over the whole text."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.release import Release
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.schema.formats import DISK_KEY
from nixops_proxmox.lab.schema.types import Param
from nixops_proxmox.lab.schema.vm import CONFIG, DISKS, NET

GIB = 1024**3
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": GIB, "T": 1024**4}
NIC = re.compile(r"^net\d+$")
UNUSED = re.compile(r"^unused\d+$")
# Kept in the configuration, but not parameters of create or update.
MASK = "**********"  # what a cipassword reads back as


def is_disk(key: str) -> bool:
    return DISK_KEY.match(key) is not None


def is_nic(key: str) -> bool:
    return NIC.match(key) is not None


def disk_keys(config: Iterable[str]) -> list[str]:
    """In the plain string order in which PVE walks them: efidisk0, ide0, scsi0, scsi1, scsi10, scsi2, …"""
    return sorted(key for key in config if is_disk(key))


# Sizes.


def format_size(size: int) -> str:
    """The largest of K, M, G, T that divides evenly; bytes when none does."""
    for unit in ("T", "G", "M", "K"):
        if size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)


def parse_size(text: str) -> int | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return math.ceil(float(found[1]) * UNITS[found[2]]) if found else None


def gib_to_bytes(text: str) -> int:
    """`local-lvm:4.5`: GiB, rounded up to KiB."""
    return math.ceil(float(text) * 1024 * 1024) * 1024


# Property strings.


def parse_disk(key: str, value: str) -> dict[str, str]:
    grammar = DISKS[key].format
    assert isinstance(grammar, Mapping)
    return properties.parse(grammar, value)


def format_disk(disk: Mapping[str, str]) -> str:
    return properties.format_properties(disk, "file")


def is_cdrom(disk: Mapping[str, str]) -> bool:
    return disk.get("media") == "cdrom" or disk.get("file") in ("none", "cdrom")


def parse_nic(value: str) -> dict[str, str]:
    return properties.parse(NET, value)


def format_nic(nic: Mapping[str, str]) -> str:
    """<model>=<MAC>, then the rest by name."""
    rest = [f"{key}={nic[key]}" for key in sorted(nic) if key not in ("model", "macaddr")]
    return ",".join([f"{nic['model']}={nic['macaddr']}", *rest])


def parse_boot(config: Mapping[str, str]) -> list[str]:
    """The boot order; legacy letters and no order at all mean every disk, CD-ROM and NIC that there is."""
    boot = properties.split(config.get("boot", ""), "legacy")
    if "order" in boot:
        return [device for device in re.split(r"\s*;\s*", boot["order"]) if device]
    return default_boot_order(config)


def default_boot_order(config: Mapping[str, str]) -> list[str]:
    """The first hard disk (ide, scsi, virtio, sata), the first CD-ROM, the first NIC."""
    disks = [key for key in disk_keys(config) if key not in ("efidisk0", "tpmstate0")]
    cdroms = [key for key in disks if is_cdrom(parse_disk(key, config[key]))]
    hard = [
        key
        for bus in ("ide", "scsi", "virtio", "sata")
        for key in sorted(disks, key=_index)
        if key.startswith(bus) and key not in cdroms
    ]
    nics = sorted((key for key in config if is_nic(key)), key=_index)
    return [*hard[:1], *sorted(cdroms, key=_index)[:1], *nics[:1]]


def _index(key: str) -> int:
    return int(re.sub(r"\D", "", key) or 0)


# Tags.


def normalise_tags(text: str) -> str:
    """What an update makes of them: lower case, no duplicates, sorted, joined with `;`."""
    return ";".join(sorted({tag.lower() for tag in re.split(r"[,;\s]+", text) if tag}))


# Reading back.


def typed(key: str, value: str, release: Release) -> Any:
    """As JSON shows it: integers and booleans are numbers; memory is a string since 8.0."""
    if key == "memory" and not release.since(8):
        return int(value)
    param = CONFIG.get(key)
    if key in ("snaptime",) or (param is not None and param.kind in ("integer", "boolean")):
        return int(value)
    return value


def shown(config: Mapping[str, str], release: Release) -> dict[str, Any]:
    return {key: MASK if key == "cipassword" else typed(key, value, release) for key, value in config.items()}


def stored(value: Any) -> str:
    """How a checked parameter is written down; an empty one reads back as a space, as PVE's file format has it."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) or " "


def cores_of(config: Mapping[str, str]) -> int:
    return int(config.get("vcpus") or int(config.get("cores", 1)) * int(config.get("sockets", 1)))


def memory_of(config: Mapping[str, str]) -> int:
    """MiB."""
    return int(properties.split(config.get("memory", "512"), "current").get("current", "512"))


def agent_enabled(config: Mapping[str, str]) -> bool:
    return properties.split(config.get("agent", "0"), "enabled").get("enabled") == "1"


def uuid_of(config: Mapping[str, str]) -> str:
    return properties.split(config.get("smbios1", "")).get("uuid", "")


# The file.


def render_section(config: Mapping[str, str]) -> str:
    lines = [f"#{quote(line, safe=' ')}" for line in config.get("description", "").splitlines()]
    lines += [f"{key}: {config[key]}" for key in sorted(config) if key != "description"]
    return "\n".join(lines)


def digest_of(sections: Mapping[str, Mapping[str, str]]) -> str:
    text = "\n\n".join(f"[{name}]\n{render_section(section)}" for name, section in sections.items())
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def check_digest(given: str | None, actual: str, release: Release) -> None:
    if given is not None and given != actual:
        die(f"checksum {'mismatch' if release.since(8) else 'missmatch'} (file change by other user?)")


def volume_of(value: str) -> str:
    """The volid a disk's (or unused disk's) string begins with; "" where there is none."""
    file = properties.split(value, "file").get("file", "")
    return file if ":" in file else ""


def decode_keys(value: str) -> list[str]:
    """The SSH keys in a percent-encoded `sshkeys`."""
    return [line for line in unquote(value).splitlines() if line.strip()]


def kind_of(key: str) -> Param | None:
    return CONFIG.get(key)
