"""Option names: ours (the fields in camel case), those of the original plugin, and those that are refused."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from nixops_proxmox.spec.machine import Disk, InstallSpec, IpSpec, MachineSpec, Nic
from nixops_proxmox.spec.macs import MacPoolSpec, MacSchemeSpec
from nixops_proxmox.spec.placed_file import PlacedFile
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.sent_key import SentKey
from nixops_proxmox.spec.tree import Mistakes, Node, below
from nixops_proxmox.spec.volume import VolumeSpec

# Where the original plugin's options went. Dots lead into a section.
ALIASES: Mapping[type[BaseModel], Mapping[str, str]] = {
    MachineSpec: {
        "nbCpus": "cpu.sockets",
        "nbCores": "cpu.cores",
        "cpuType": "cpu.type",
        "cpuLimit": "cpu.limit",
        "cpuUnits": "cpu.units",
        "startOnBoot": "onboot",
        "protectVM": "protection",
        "hotplugFeatures": "hotplug",
        "installISO": "install.iso",
        "partitions": "install.partition",
    },
    Disk: {"volume": "storage", "enableSSDEmulation": "ssd", "enableDiscard": "discard"},
    Nic: {"ip.v4": "ipv4", "ip.v6": "ipv6"},
    IpSpec: {"prefixLength": "prefix"},
}

# These mean something else than one option of ours, so that they are read by a function of their own.
REWRITTEN: Mapping[type[BaseModel], tuple[str, ...]] = {
    MachineSpec: ("uefi", "usePrivateIPAddress", "verifySSL", "useSSH"),
    Disk: ("bus",),
}

# In the NixOS module only: what it configures in the guest.
OF_RESOURCES = {"firewall": "firewalls", "ha": "ha"}  # options of machines that stand for one of `resources`
NIX_ONLY = frozenset({"guest"}) | OF_RESOURCES.keys()

_SECRET = frozenset(
    {"password", "tokenValue", "tokenSecret", "token", "apiToken", "otp", "totp", "ticket", "secret", "privateKey"}
)
SECRETS: Mapping[type[BaseModel], frozenset[str]] = {MachineSpec: _SECRET, ResourceSpec: _SECRET}
WHERE_SECRETS_GO = (
    "secrets go into the profile file, or into its password_command or token_command: "
    "whatever is set in Nix ends up in the store, which everybody can read"
)

# Fields that the place of the attribute set says, not an option.
UNNAMED: Mapping[type[BaseModel], frozenset[str]] = {
    MachineSpec: frozenset({"name"}),
    InstallSpec: frozenset({"described"}),
    VolumeSpec: frozenset({"name"}),
    MacPoolSpec: frozenset({"name"}),
    MacSchemeSpec: frozenset({"name"}),
    SentKey: frozenset({"name"}),
    PlacedFile: frozenset({"name"}),
}


def secrets_of(model: type[BaseModel]) -> frozenset[str]:
    """Names that look like an option, and may not be one."""
    return SECRETS.get(ResourceSpec if issubclass(model, ResourceSpec) else model, frozenset())


def option_name(field: str) -> str:
    """`scsi_controller` is written `scsiController`."""
    first, *others = field.split("_")
    return first + "".join(word.capitalize() for word in others)


def options_of(model: type[BaseModel]) -> dict[str, str]:
    """Field name by option name."""
    unnamed = UNNAMED.get(model, frozenset({"name"}) if issubclass(model, ResourceSpec) else frozenset())
    return {option_name(key_of(model, field)): field for field in model.model_fields if field not in unnamed}


def key_of(model: type[BaseModel], field: str) -> str:
    """The field's name in JSON: it differs where Python keeps the word for itself (`from`)."""
    return model.model_fields[field].serialization_alias or field


def all_names(model: type[BaseModel]) -> Iterator[str]:
    """Every name that may be written, the old ones too."""
    yield from options_of(model)
    yield from (alias.split(".")[0] for alias in ALIASES.get(model, {}))
    yield from REWRITTEN.get(model, ())


def with_our_names(model: type[BaseModel], node: Node, mistakes: Mistakes) -> Node:
    """The same attribute set, with values under old names moved to the new ones. Each value keeps its own path."""
    fields = dict(_fields(node))
    for old, new in ALIASES.get(model, {}).items():
        moved = _take(fields, old.split("."))
        if moved is not None:
            _put(fields, new.split("."), moved, new, node.path, mistakes)
    return Node(node.path, fields)


def _fields(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}


def _take(fields: dict[str, Node], names: list[str]) -> Node | None:
    """Take a value out, and a section that is empty then."""
    first, *rest = names
    if first not in fields:
        return None
    if not rest:
        return fields.pop(first)
    if not isinstance(fields[first].value, dict):
        return None
    inner = dict(_fields(fields[first]))
    found = _take(inner, rest)
    if inner:
        fields[first] = Node(fields[first].path, dict(inner))
    else:
        del fields[first]
    return found


def _put(fields: dict[str, Node], names: list[str], moved: Node, new: str, path: str, mistakes: Mistakes) -> None:
    first, *rest = names
    if not rest:
        there = fields.get(first)
        if there is None:
            fields[first] = moved
            mistakes.warn(moved.path, f"is now called {new}")
        elif there.plain() != moved.plain():
            mistakes.add(moved.path, f"is the old name of {there.path}, and they differ: set only one")
        return
    section = fields.get(first) or Node(below(path, first), {})
    if isinstance(section.value, dict):
        inner = dict(section.value)
        _put(inner, rest, moved, new, section.path, mistakes)
        fields[first] = Node(section.path, inner)
