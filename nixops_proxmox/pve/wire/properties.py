"""PVE's property strings ("virtio=AA:…,bridge=vmbr0,tag=20") and sizes: reading and writing.

Ours, because proxmoxer hands them on as text, and PVE's own parser is Perl.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DISK_BUSES = ("ide", "sata", "scsi", "virtio")
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1 << 40}
_TRUE, _FALSE = frozenset({"1", "on", "yes", "true"}), frozenset({"0", "off", "no", "false"})
NIC_MODELS = frozenset(
    {"e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82551", "i82557b", "i82559er"}
    | {"ne2k_isa", "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3"}
)


def parse_properties(text: str, default_key: str = "") -> dict[str, str]:
    """The parts in their order. A part without `=` belongs to the default key. Of a repeated key, the last one
    counts."""
    properties: dict[str, str] = {}
    for part in text.split(","):
        key, separator, value = part.strip().partition("=")
        if separator and key:
            properties[key] = value
        elif key:
            properties[default_key or key] = key if default_key else ""
    return properties


def print_properties(properties: Mapping[str, str], default_key: str = "") -> str:
    """As PVE prints them: the default key's value bare and first, then the rest."""
    first = [properties[default_key]] if default_key in properties else []
    return ",".join(first + [f"{key}={value}" for key, value in properties.items() if key != default_key])


def parse_nic(text: str) -> dict[str, str]:
    """A netN in any of its spellings, with keys `model` and `macaddr` (upper case, if there is one)."""
    properties = parse_properties(text, "model")
    for model in NIC_MODELS & properties.keys():
        properties |= {"model": model, "macaddr": properties.pop(model)}
    if properties.get("macaddr"):
        properties["macaddr"] = properties["macaddr"].upper()
    return properties


def print_nic(properties: Mapping[str, str]) -> str:
    """`<model>=<MAC>,bridge=…`, as PVE prints it."""
    rest = {key: value for key, value in properties.items() if key not in ("model", "macaddr")}
    model, mac = properties.get("model", "virtio"), properties.get("macaddr", "")
    return print_properties({"": f"{model}={mac}" if mac else model, **rest})


def parse_drive(text: str) -> dict[str, str]:
    """A disk or CD drive. The volume is `file`."""
    return parse_properties(text, "file")


def print_drive(properties: Mapping[str, str]) -> str:
    return print_properties(properties, "file")


def is_cdrom(drive: Mapping[str, str]) -> bool:
    return drive.get("media") == "cdrom"


def has_medium(drive: Mapping[str, str]) -> bool:
    return is_cdrom(drive) and drive.get("file", "none") not in ("none", "")


def is_cloud_init(drive: Mapping[str, str]) -> bool:
    """PVE writes its content again at every start."""
    return re.search(r"[:/]vm-[0-9]+-cloudinit(\.|$)|:cloudinit$", drive.get("file", "")) is not None


def is_disk_slot(key: str) -> bool:
    return any(key.startswith(bus) and key[len(bus) :].isdecimal() for bus in DISK_BUSES)


def drives_of(config: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """A VM's disks and CD drives, parsed, by slot; in the order of the configuration."""
    return {key: parse_drive(text) for key, text in config.items() if is_disk_slot(key)}


def set_aside(config: Mapping[str, str]) -> dict[str, str]:
    """Volumes that were detached and keep their data, by key."""
    return {key: config[key].partition(",")[0] for key in sorted(config) if re.fullmatch(r"unused[0-9]+", key)}


def storage_of(volume: str) -> str:
    return volume.partition(":")[0] if ":" in volume else ""


def parse_size(text: str) -> int | None:
    """Bytes of "32G", "4608M", "1048578K", "540672". None if it is no size."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,24})?)([KMGT]?)", text)
    return int(Decimal(match[1]) * _UNITS[match[2]]) if match else None


def print_size(size: int) -> str:
    """As PVE prints a size: the largest unit that divides it."""
    for unit in ("T", "G", "M", "K"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def gib(size: int) -> str:
    """Bytes as the GiB number of PVE's allocation syntax, rounded up to whole KiB (exact: a fraction of 2^20)."""
    kib = -(-size // KIB)
    text = format(Decimal(kib) / Decimal(1 << 20), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_flag(text: str) -> bool | None:
    """PVE's booleans inside of property strings, in all their spellings."""
    lowered = text.lower()
    return True if lowered in _TRUE else False if lowered in _FALSE else None


def macs_of(config: Mapping[str, str]) -> tuple[str, ...]:
    """The MACs of a VM or a container: lower case, in the order of the NICs."""
    slots = sorted(
        (key for key in config if key.startswith("net") and key[3:].isdecimal()), key=lambda key: int(key[3:])
    )
    nics = [parse_nic(config[slot]) for slot in slots]
    return tuple((nic.get("macaddr") or nic.get("hwaddr", "")).lower() for nic in nics)
