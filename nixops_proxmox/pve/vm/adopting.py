"""Pure: a VM that somebody else made, in the words of a description. What equals PVE's default is left out, and what no
option says is left alone."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from nixops_proxmox.pve.vm.diff import is_default
from nixops_proxmox.pve.wire.properties import (
    is_cdrom,
    is_cloud_init,
    is_disk_slot,
    parse_drive,
    parse_flag,
    parse_nic,
    parse_properties,
    parse_size,
    print_properties,
    set_aside,
    storage_of,
)
from nixops_proxmox.spec.extra import objection
from nixops_proxmox.spec.volume import is_volume_serial

_NUMBERS = {"balloon": "balloon", "cores": "cpu.cores", "sockets": "cpu.sockets", "cpuunits": "cpu.units"}
_FLAGS = {"numa": "cpu.numa", "onboot": "onboot", "protection": "protection"}
_TEXTS = {
    "bios": "bios", "machine": "machine", "scsihw": "scsiController", "startup": "startup", "hotplug": "hotplug",
    "cpu": "cpu.type",
}  # fmt: skip
# What says whose the VM is, what PVE makes, and what only counts while a VM is made.
_NOT_SAID = frozenset(
    {"name", "description", "tags", "boot", "bootdisk", "smbios1", "meta", "vmgenid", "digest", "lock"}
)
_SECRET = frozenset({"sshkeys", "cipassword", "ciuser", "cicustom"})
_DISK_SLOT = re.compile(r"(?:scsi(?:[12]?[0-9]|30)|virtio(?:1[0-5]|[0-9])|sata[0-5])")
_SERIAL = re.compile(r"[A-Za-z0-9_.-]{1,20}")
_DISK_TEXTS = {"cache": "cache", "aio": "aio"}
_DISK_FLAGS = {"ssd": "ssd", "iothread": "iothread", "backup": "backup"}


@dataclass
class Adopted:
    """`options`: below `deployment.proxmox`, as JSON has them. `left`: what stays as it is, and no option says: a line
    each. `nameless`: some disks have no serial."""

    options: dict[str, object] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    nameless: bool = False

    def put(self, path: str, value: object) -> None:
        """`cpu.cores` leads into a section."""
        *sections, name = path.split(".")
        place = self.options
        for section in sections:
            inner = place.setdefault(section, {})
            assert isinstance(inner, dict)
            place = inner
        place[name] = value


def describe_vm(config: Mapping[str, str], pool: str = "") -> Adopted:
    """The configuration as PVE prints it, without what is pending."""
    found = Adopted()
    if pool:
        found.put("pool", pool)
    for key in sorted(config):
        _describe(found, key, config[key], config)
    _describe_channels(found, config)
    return found


def _describe(found: Adopted, key: str, value: str, config: Mapping[str, str]) -> None:
    if key in _NOT_SAID or key in ("agent", "serial0"):
        return
    if key in ("efidisk0", "tpmstate0"):
        _describe_firmware(found, key, value, config)
    elif is_disk_slot(key):
        _describe_drive(found, key, value)
    elif re.fullmatch(r"net[0-9]+", key):
        _describe_nic(found, key, value)
    elif key in set_aside(config):
        found.left.append(f"{key}: {value.partition(',')[0]} is detached, and stays so")
    elif not is_default(key, value):
        _describe_setting(found, key, value)


def _describe_setting(found: Adopted, key: str, value: str) -> None:
    if key == "memory":
        found.put("memory", f"{parse_properties(value, 'current').get('current', value)}M")
    elif key in _NUMBERS and value.isdecimal():
        found.put(_NUMBERS[key], int(value))
    elif key == "cpulimit":
        found.put("cpu.limit", float(value))
    elif key in _FLAGS:
        found.put(_FLAGS[key], parse_flag(value) is True)
    elif key in _TEXTS:
        found.put(_TEXTS[key], value)
    elif key == "vga":
        found.put("display", print_properties(parse_properties(value, "type"), "type"))
    elif key not in _SECRET and not objection(key) and value.isascii() and value.isprintable():
        found.put(f"extra.{key}", value)
    else:
        found.left.append(f"{key}: no option says it")


def _describe_channels(found: Adopted, config: Mapping[str, str]) -> None:
    """Ours are on where nothing is said, and PVE's are off."""
    enabled = parse_properties(config.get("agent", "0"), "enabled").get("enabled", "0")
    if parse_flag(enabled) is not True:
        found.put("agent", False)
    if config.get("serial0", "") != "socket":
        found.put("serialPort", False)
        if "serial0" in config:
            found.left.append("serial0: it is a device of the host")


def _describe_firmware(found: Adopted, key: str, value: str, config: Mapping[str, str]) -> None:
    drive = parse_drive(value)
    storage = storage_of(drive.get("file", ""))
    if not storage or (key == "efidisk0" and config.get("bios") != "ovmf"):
        found.left.append(f"{key}: no option says it")
    elif key == "tpmstate0":
        found.put("tpm", {"storage": storage, "version": drive.get("version", "v1.2")})
    else:
        keys = parse_flag(drive.get("pre-enrolled-keys", "0")) is True
        kind = drive.get("efitype", "2m")
        found.put("efi", {"storage": storage, "type": kind} | ({"secureBootKeys": True} if keys else {}))


def _describe_drive(found: Adopted, slot: str, value: str) -> None:
    drive = parse_drive(value)
    storage, size = storage_of(drive.get("file", "")), parse_size(drive.get("size", ""))
    if is_cloud_init(drive):
        found.left.append(f"{slot}: the cloud-init drive")
    elif is_cdrom(drive):
        found.left.append(f"{slot}: a CD drive")
    elif is_volume_serial(unquote(drive.get("serial", ""))):
        found.left.append(f"{slot}: a volume; `volume adopt` records it")
    elif not _DISK_SLOT.fullmatch(slot) or not storage or not size:
        found.left.append(f"{slot}: {drive.get('file', '')} is a disk that no option says")
    else:
        found.put(f"disks.{slot}", dict(_disk_options(found, drive, storage, drive["size"])))


def _disk_options(found: Adopted, drive: Mapping[str, str], storage: str, size: str) -> Iterator[tuple[str, object]]:
    yield "storage", storage
    yield "size", size
    serial = unquote(drive.get("serial", ""))
    if _SERIAL.fullmatch(serial):
        yield "serial", serial
    else:
        found.nameless = True
    for key, option in _DISK_TEXTS.items():
        if drive.get(key, "none") != "none":
            yield option, drive[key]
    for key, option in _DISK_FLAGS.items():
        flag = parse_flag(drive.get(key, "1" if key == "backup" else "0"))
        if flag is not (key == "backup"):
            yield option, flag is True
    if drive.get("discard") == "on":
        yield "discard", True


def _describe_nic(found: Adopted, slot: str, value: str) -> None:
    nic = parse_nic(value)
    if "bridge" not in nic:
        found.left.append(f"{slot}: it has no bridge")
        return
    options: dict[str, object] = {"bridge": nic["bridge"]}
    if nic["model"] != "virtio":
        options["model"] = nic["model"]
    if nic.get("macaddr"):
        options["mac"] = nic["macaddr"]
    for key in ("tag", "mtu", "queues"):
        if nic.get(key, "").isdecimal():
            options[key] = int(nic[key])
    if "rate" in nic:
        options["rate"] = float(nic["rate"])
    if "firewall" in nic:
        options["firewall"] = parse_flag(nic["firewall"]) is True
    if nic.get("trunks"):
        options["trunks"] = nic["trunks"].split(";")
    if parse_flag(nic.get("link_down", "0")) is True:
        found.left.append(f"{slot}: its link is down, and stays so")
    found.put(f"network.{slot}", options)
