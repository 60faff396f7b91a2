"""The single values of a description: what each may be, as types that check themselves."""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from nixops_proxmox.texts import DNS_LABEL, DNS_NAME

TextCheck = Callable[[str], str]
FILE_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
FILE = "file"  # marks what may also be written as a path of Nix, which stays where it is


def _matching(pattern: str, expected: str) -> TextCheck:
    """A whole match, where `$` would let a newline through."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return check


def parse_mac(text: str) -> str:
    """PVE refuses multicast addresses (pve-common, mac-addr)."""
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}", text):
        raise ValueError("expected a MAC address such as BC:24:11:00:00:01")
    if int(text[:2], 16) & 1:
        raise ValueError("expected a unicast MAC address: its first byte must be even")
    return text.upper()


def _tag(text: str) -> str:
    """PVE lower-cases tags when a configuration is changed, so they are compared in lower case."""
    return _matching(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*", "a tag: letters, digits and _ + - . inside")(text).lower()


def _trunk(text: str) -> str:
    expected = "expected a VLAN (1 to 4094) or a range such as 5-7"
    found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", text)
    if not found:
        raise ValueError(expected)
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= 4094:
        raise ValueError(expected)
    return text


def _hotplug(text: str) -> str:
    parts = text.split(",")
    known = {"network", "disk", "cpu", "memory", "usb", "cloudinit"}
    if text not in ("0", "1") and (set(parts) - known or len(parts) != len(set(parts))):
        raise ValueError(f"expected 0, 1 or a list such as network,disk,usb of {', '.join(sorted(known))}")
    return text


def _interface_address(text: str) -> str:
    """An address with the length of its network, as it stands on an interface."""
    try:
        if "/" not in text:
            raise ValueError
        return str(ip_interface(text))
    except ValueError:
        raise ValueError("expected an address with its length, such as 10.20.0.1/24") from None


def _router_ports(text: str) -> str:
    first, dash, last = text.partition("-")
    numbers = [int(one) if re.fullmatch(r"[0-9]{1,5}", one) else 0 for one in ([first, last] if dash else [first])]
    if not all(1 <= one <= 65535 for one in numbers) or numbers != sorted(numbers):
        raise ValueError("expected a port such as 443, or a range such as 8000-8100")
    return text


def check_group_name(text: str) -> str:
    return _matching(r"[A-Za-z][A-Za-z0-9_]{0,30}", "letters, digits and _, with a letter first, at most 31")(text)


def _server_url(text: str) -> str:
    """The value itself is never shown: it might hold a password."""
    host = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?"
    if not re.fullmatch(rf"(?:https://)?{host}(?:/[A-Za-z0-9/]*)?", text):
        raise ValueError("expected https://host:8006 without user and password")
    return text


def refuse_store_path(text: str) -> str:
    return _outside_of_store(text, "a private key")


def _outside_of_store(text: str, what: str) -> str:
    if "/nix/store/" in text:
        raise ValueError(f"{what} must not be in the Nix store, which everybody can read: give its path as a string")
    return _matching(r"[^\x00-\x1f]+", f"the path of {what}")(text)


def _secret_file(text: str) -> str:
    return _outside_of_store(text, "a secret")


def _path_in_system(text: str) -> str:
    """A file that is still there after a boot."""
    parts = text.split("/")
    if not text.startswith("/") or set(parts[1:]) & {"", ".", ".."} or len(text) > 1000 or not _PLAIN.fullmatch(text):
        raise ValueError("expected the absolute path of a file, such as /persist/etc/ssh/ssh_host_ed25519_key")
    for place in ("/dev", "/nix/store", "/proc", "/run", "/sys", "/tmp"):  # noqa: S108  # they are refused
        if text.startswith(f"{place}/"):
            raise ValueError(f"{place} is no place for a file that stays")
    return text


_PLAIN = re.compile(r"[A-Za-z0-9/._+@-]+")


def _public_key(text: str) -> str:
    if "PRIVATE KEY" in text:
        raise ValueError("this is a private key; give the public one")
    stripped = text.strip()
    if not re.fullmatch(r"(?:\S.*\s)?(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}(?: [^\r\n]*)?", stripped):
        raise ValueError("expected a public SSH key such as ssh-ed25519 AAAA…")
    return stripped


def _description(text: str) -> str:
    if len(text.encode()) > 7 * 1024:
        raise ValueError("expected at most 7 KiB: PVE keeps 8, and the lines that say whose VM it is need some")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _unique(values: tuple[object, ...]) -> tuple[object, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"expected each value once, and '{value}' is there {values.count(value)} times")
    return values


def _not_empty(values: tuple[object, ...]) -> tuple[object, ...]:
    if not values:
        raise ValueError("expected at least one value")
    return _unique(values)


def _some(values: tuple[object, ...] | None) -> tuple[object, ...] | None:
    if values == ():
        raise ValueError("expected at least one value")
    return values


def _address(value: Any) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        found = ip_address(value if isinstance(value, str) else repr(value))
        if getattr(found, "scope_id", None):
            raise ValueError("a scope is only known inside the guest")
        return found
    except ValueError:
        raise ValueError("expected an IPv4 or IPv6 address") from None


def _network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(value if isinstance(value, str) else repr(value))
    except ValueError as error:
        detail = " (it has host bits set)" if "host bits" in str(error) else ""
        raise ValueError(f"expected a network such as 10.0.0.0/8 or fd00::/8{detail}") from None


# PVE's own ranges and patterns: pve-common JSONSchema.pm, qemu-server Drive.pm and QemuServer.pm, 8.4 and 9.1.
DnsName = Annotated[str, AfterValidator(_matching(DNS_NAME, "a DNS name"))]
NodeName = Annotated[str, AfterValidator(_matching(DNS_LABEL, "the name of a node"))]
Vmid = Annotated[int, Field(ge=100, le=999_999_999)]
Storage = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]", "the name of a storage such as local-lvm"))
]
SdnId = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9]{1,7}", "2 to 8 letters and digits, with a letter first"))
]
_BRIDGE = r"[A-Za-z][A-Za-z0-9._-]{0,31}"
Bridge = Annotated[str, AfterValidator(_matching(_BRIDGE, "a bridge such as vmbr0"))]
BridgeIfAny = Annotated[str, AfterValidator(_matching(f"(?:{_BRIDGE})?", "a bridge such as vmbr0"))]
_OF_FIREWALLS = "2 to {} letters, digits, - and _, with a letter first"
FirewallName = Annotated[str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9_-]{1,63}", _OF_FIREWALLS.format(64)))]
ConfigId = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9_-]+", "a name of letters, digits, - and _, with a letter first"))
]
GroupName = Annotated[str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9_-]{1,17}", _OF_FIREWALLS.format(18)))]
GroupRef = Annotated[
    str, AfterValidator(_matching(r"(pve:)?[A-Za-z0-9][A-Za-z0-9._-]*", "a security group, or pve:NAME for one of PVE"))
]
Ports = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9:,-]{1,200}", "ports such as 443, 8000:8100 or 80,443"))]
FirewallWord = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9._-]{1,128}", "one word of PVE such as SSH or tcp"))]
VolumeId = Annotated[
    str,
    AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9._-]*:[^\s,]+", "a volume such as local:iso/installer.iso")),
]
DiskSlot = Annotated[
    str,
    AfterValidator(
        _matching(
            r"scsi(?:[12]?[0-9]|30)|virtio(?:1[0-5]|[0-9])|sata[0-5]",
            "a slot: scsi0 to scsi30, virtio0 to virtio15 or sata0 to sata5",
        )
    ),
]
MountSlot = Annotated[
    str, AfterValidator(_matching(r"mp(?:1?[0-9]?[0-9]|2[0-4][0-9]|25[0-5])", "a slot: mp0 to mp255"))
]
MountPath = Annotated[
    str, AfterValidator(_matching(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._@+-]+)+", "a folder such as /var/lib/data"))
]
NicSlot = Annotated[str, AfterValidator(_matching(r"net(?:[12]?[0-9]|3[01])", "a slot: net0 to net31"))]
Serial = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9_.-]{1,20}", "1 to 20 letters, digits and _ . -"))]
Mac = Annotated[str, AfterValidator(parse_mac)]
Vlan = Annotated[int, Field(ge=1, le=4094)]
Trunk = Annotated[str, AfterValidator(_trunk)]
Tag = Annotated[str, AfterValidator(_tag)]
Pool = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+){0,2}", "the name of a pool"))]
ProfileName = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "the name of a profile"))]
CpuType = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9_.+,;=-]*", "a CPU type such as host"))]
MachineType = Annotated[str, AfterValidator(_matching(r"[a-z0-9][A-Za-z0-9_.+,=-]*", "a machine type such as q35"))]
Display = Annotated[
    str,
    AfterValidator(
        _matching(
            r"(?:cirrus|qxl[234]?|none|serial[0-3]|std|virtio(?:-gl)?|vmware)(?:,[a-z]+=[a-z0-9]+)*",
            "a display such as std, serial0, virtio or qxl",
        )
    ),
]
Startup = Annotated[
    str,
    AfterValidator(
        _matching(
            r"(?:order=)?[0-9]+(?:,(?:up|down)=[0-9]+)*|(?:up|down)=[0-9]+(?:,(?:up|down)=[0-9]+)*", "order=1,up=30"
        )
    ),
]
Hotplug = Annotated[str, AfterValidator(_hotplug)]
VmNotes = Annotated[str, AfterValidator(_description)]
ConfigKey = Annotated[str, AfterValidator(_matching(r"[a-z][a-z-]*[0-9]*", "a key of PVE such as memory or net0"))]
Group = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "the name of a group such as web"))]
Script = Annotated[str, AfterValidator(_not_blank)]
SharedFile = Annotated[str, AfterValidator(_not_blank), FILE]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
UserName = Annotated[str, AfterValidator(_matching(r"[^\s:/@!]+(?:@[^\s:/@!]+)*", "a user such as deploy@pve"))]
TokenName = Annotated[str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9._-]+", "the name of an API token"))]
UnixUser = Annotated[str, AfterValidator(_matching(r"[A-Za-z_][A-Za-z0-9_.-]*\$?", "a user's name"))]
Port = Annotated[int, Field(ge=1, le=65535)]
UnitName = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9@:_.\\-]{0,254}", "a unit such as nginx.service"))
]
Batch = Annotated[
    str,
    AfterValidator(
        _matching(r"[1-9][0-9]{0,5}|(?:100|[1-9][0-9]?)%", "a number of machines, or a percentage such as 25%")
    ),
]
Argument = Annotated[str, AfterValidator(_matching(r"[^\x00]*", "text without null characters"))]
HttpPath = Annotated[
    str, AfterValidator(_matching(r"/[!-~]{0,1000}", "a path such as /health, in ASCII and without spaces"))
]
_URL_REST = r"://(?![^/@]*:[^/@]*@)[^\s'\"\\<>`^{|}]+"
CacheStore = Annotated[
    str,
    AfterValidator(_matching(f"(?:file|https?|s3|ssh|ssh-ng){_URL_REST}", "a store such as s3://cache, no password")),
]
CacheUrl = Annotated[
    str,
    AfterValidator(_matching(f"(?:file|https?|s3){_URL_REST}", "a URL such as https://cache.lan, without a password")),
]
PathInSystem = Annotated[str, AfterValidator(_path_in_system)]
KeyFile = Annotated[str, AfterValidator(refuse_store_path)]
SecretFile = Annotated[str, AfterValidator(_secret_file)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
Host = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9.:_%\[\]-]*[A-Za-z0-9\]][.]?", "an address or a host name"))]
Jump = Annotated[str, AfterValidator(_matching(r"(?!-)[^\s,-][^\s]*", "a jump host such as gate.example.org:22"))]
Pattern = Annotated[str, AfterValidator(_matching(r"!?[^\s!]+", "a pattern for interface names such as docker*"))]

_AS_TEXT = (PlainSerializer(str, when_used="json"), WithJsonSchema({"type": "string"}))
IpAddress = Annotated[IPv4Address | IPv6Address, PlainValidator(_address), *_AS_TEXT]
Cidr = Annotated[IPv4Network | IPv6Network, PlainValidator(_network), *_AS_TEXT]
RouterInterface = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9._-]{0,31}", "an interface of the router such as eth1"))
]
RouterName = Annotated[str, AfterValidator(check_group_name)]
RouterWord = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z][A-Za-z0-9._-]{0,27}", "a name of the router's: letters, digits, . _ -"))
]
RouterPorts = Annotated[str, AfterValidator(_router_ports)]
InterfaceAddress = Annotated[str, AfterValidator(_interface_address)]
Unique = AfterValidator(_unique)
OneOrMore = AfterValidator(_not_empty)
NotEmpty = AfterValidator(_some)
