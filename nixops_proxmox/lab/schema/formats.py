"""PVE's named formats: each a check that returns the text of what is wrong, or nothing."""

import re
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    NetmaskValueError,
    ip_address,
)
from urllib.parse import quote, unquote

from nixops_proxmox.lab.schema import firewall
from nixops_proxmox.lab.schema.types import Check

DNS_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
CONFIG_ID = r"[a-zA-Z][a-zA-Z0-9_-]+"
STORAGE_ID = r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]"
TAG = r"[a-z0-9_][a-z0-9_+.-]*"
DISK_KEY = re.compile(r"^((ide[0-3]|sata[0-5]|scsi([12]?\d|30)|virtio(1[0-5]|\d))|efidisk0|tpmstate0)$")
BOOTABLE = re.compile(
    r"^(ide[0-3]|sata[0-5]|scsi([12]?\d|30)|virtio(1[0-5]|\d)|net([12]?\d|3[01])|usb(1[0-3]|\d)|hostpci(1[0-5]|\d))$"
)
CONTENT_TYPES = ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import")
HOTPLUG = ("network", "disk", "cpu", "memory", "usb", "cloudinit")


def _pattern(pattern: str, wrong: str) -> Check:
    compiled = re.compile(pattern)

    def check(value: str) -> str | None:
        return None if compiled.fullmatch(value) else wrong.replace("%s", value)

    return check


def _vmid(value: str) -> str | None:
    return None if re.fullmatch(r"[1-9][0-9]{2,8}", value) else "value does not look like a valid VM ID\n"


def _mac(value: str) -> str | None:
    good = re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value) and not int(value[1], 16) & 1
    return None if good else "value does not look like a valid unicast MAC address\n"


def _tag(value: str) -> str | None:
    return None if re.fullmatch(TAG, value, re.IGNORECASE) else "invalid characters in tag\n"


def _urlencoded(value: str) -> str | None:
    ok = re.fullmatch(r"[-%a-zA-Z0-9_.!~*'()]*", value)
    return None if ok else f"invalid urlencoded string: {value}\n"


def _hotplug(value: str) -> str | None:
    if value in ("0", "1"):
        return None
    for feature in split_list(value):
        if feature not in HOTPLUG:
            return f"invalid hotplug feature '{feature}'\n"
    return None


def _startup(value: str) -> str | None:
    for part in value.split(","):
        if not re.fullmatch(r"(order=)?\d+|(up|down)=\d+", part):
            return "unable to parse startup options\n"
    return None


def _boot_devices(value: str) -> str | None:
    for device in re.split(r"\s*;\s*", value):
        if device and not BOOTABLE.match(device):
            return f"invalid boot device '{device}'\n"
    return None


def _content(value: str) -> str | None:
    return None if value in CONTENT_TYPES else f"invalid content type '{value}'\n"


def _ipv4_config(value: str) -> str | None:
    return (
        None
        if value in ("dhcp", "manual") or _is_cidr(value, 4)
        else "value does not look like a valid ipv4 network configuration\n"
    )


def _ipv6_config(value: str) -> str | None:
    good = value in ("dhcp", "manual", "auto") or _is_cidr(value, 6)
    return None if good else "value does not look like a valid ipv6 network configuration\n"


def _is_cidr(value: str, family: int) -> bool:
    if "/" not in value:
        return False
    try:
        (IPv4Interface if family == 4 else IPv6Interface)(value)
    except (AddressValueError, NetmaskValueError, ValueError):
        return False
    return True


def _address(family: int) -> Check:
    def check(value: str) -> str | None:
        try:
            (IPv4Address if family == 4 else IPv6Address)(value)
        except AddressValueError:
            return f"value does not look like a valid ipv{family} address\n"
        return None

    return check


def _any_address(value: str) -> str | None:
    try:
        ip_address(value)
    except ValueError:
        return (
            None
            if re.fullmatch(rf"{DNS_LABEL}(\.{DNS_LABEL})*", value)
            else "value does not look like a valid address: " + value + "\n"
        )
    return None


def _cpu_model(value: str) -> str | None:
    from nixops_proxmox.lab.schema.cpus import CPU_MODELS

    model = value.split(",")[0].removeprefix("cputype=")
    if model in CPU_MODELS or model.startswith("custom-"):
        return None
    return f"Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)\n"


def _volume_or_path(value: str) -> str | None:
    if (
        value in ("none", "cdrom")
        or value.startswith("/")
        or re.fullmatch(rf"(({STORAGE_ID}):)?(\d+(\.\d+)?|cloudinit|\S+)", value)
    ):
        return None
    return "invalid volume ID\n"


FORMATS: dict[str, Check] = {
    "pve-vmid": _vmid,
    "pve-node": _pattern(DNS_LABEL, "value does not look like a valid node name\n"),
    "dns-name": _pattern(rf"{DNS_LABEL}(\.{DNS_LABEL})*", "value does not look like a valid DNS name\n"),
    "pve-configid": _pattern(CONFIG_ID, "invalid configuration ID '%s'\n"),
    "pve-storage-id": _pattern(STORAGE_ID, "storage ID '%s' contains illegal characters\n"),
    "pve-poolid": _pattern(
        r"[A-Za-z0-9.\-_]+(/[A-Za-z0-9.\-_]+){0,2}", "value '%s' does not look like a valid pool name\n"
    ),
    "pve-bridge-id": _pattern(r"[-_.\w\d]+", "invalid bridge ID '%s'\n"),
    "pve-userid": lambda _value: None,  # checked by the handler, which answers 500
    "pve-roleid": _pattern(r"[A-Za-z0-9.\-_]+", "value '%s' does not look like a valid role name\n"),
    "pve-tokenid": _pattern(r"[A-Za-z][A-Za-z0-9.\-_]+", "value '%s' does not look like a valid token ID\n"),
    "pve-realm": _pattern(r"[A-Za-z][A-Za-z0-9.\-_]+", "value '%s' does not look like a valid realm\n"),
    "pve-tag": _tag,
    "pve-storage-content": _content,
    "mac-addr": _mac,
    "urlencoded": _urlencoded,
    "pve-hotplug-features": _hotplug,
    "pve-startup-order": _startup,
    "boot-devices": _boot_devices,
    "pve-ipv4-config": _ipv4_config,
    "pve-ipv6-config": _ipv6_config,
    "ipv4": _address(4),
    "ipv6": _address(6),
    "address": _any_address,
    "pve-vm-cpu-conf": _cpu_model,
    "pve-volume-id": _pattern(rf"{STORAGE_ID}:\S+", "unable to parse volume ID '%s'\n"),
    "pve-volume-id-or-qm-path": _volume_or_path,
    "pve-volume-id-or-absolute-path": lambda _value: None,
    "disk-size": _pattern(r"\d+(\.\d+)?[KMGT]?", "not a valid size: %s\n"),
    "pve-cpuset": _pattern(r"\s*\d+(-\d+)?(\s*,\s*\d+(-\d+)?)*\s*", "unable to parse cpuset '%s'\n"),
    "pve-iface": _pattern(r"[a-zA-Z][a-zA-Z0-9_.:-]{1,20}", "invalid network interface name '%s'\n"),
    "pve-lxc-mp-string": _pattern(r"[^\x00-\x1f,]+", "unable to parse LXC mount point '%s'\n"),
    "pve-lxc-dev-string": _pattern(r"/dev/[^\s,]+", "%s is not a valid device path\n"),
    "string": lambda _value: None,
    **firewall.FORMATS,
}


def split_list(value: str) -> list[str]:
    """PVE's `-list` formats: comma, semicolon, space or NUL."""
    return [part for part in re.split(r"[,;\s\0]+", value.strip()) if part]


def check_format(name: str, value: str) -> str | None:
    if name.endswith("-list"):
        return next((wrong for part in split_list(value) if (wrong := check_format(name[:-5], part))), None)
    if name.endswith("-opt"):
        return check_format(name[:-4], value) if value else None
    return FORMATS[name](value)


def encode(value: str) -> str:
    return quote(value, safe="")


def decode(value: str) -> str:
    return unquote(value)
