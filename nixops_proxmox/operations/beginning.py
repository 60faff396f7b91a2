"""What a cluster offers to a first machine, what we choose of it, and the description that follows."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.pve.api.answers import StorageSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.parse import parse_machine

FIRST = "web"  # the machine of the starter network
ISO = "local:iso/nixops-proxmox-installer.iso"  # as `nix build .#installer-iso` calls it
USUAL_STORAGES = ("local-lvm", "local-zfs")  # where PVE's own installer puts disks
USUAL_BRIDGE = "vmbr0"
INSTALLERS = ("nixops-proxmox-installer", "lab-installer")  # what the names of our ISOs begin with


@dataclass(frozen=True)
class NodeOffered:
    name: str
    online: bool
    memory_free: int | None  # bytes


@dataclass(frozen=True)
class StorageOffered:
    """`nodes`: those that see it. `free`: bytes, on the node that has least."""

    name: str
    kind: str
    content: tuple[str, ...]
    nodes: tuple[str, ...]
    free: int


@dataclass(frozen=True)
class ClusterOffer:
    """`bridges` and `isos`: the nodes that have each, by name."""

    release: str
    nodes: tuple[NodeOffered, ...]
    storages: tuple[StorageOffered, ...]
    bridges: Mapping[str, tuple[str, ...]]
    isos: Mapping[str, tuple[str, ...]]

    def storages_for(self, content: str) -> tuple[str, ...]:
        return tuple(one.name for one in self.storages if content in one.content)


@dataclass(frozen=True)
class FirstChoice:
    """`storage` and `bridge` are empty where the cluster offers none. `has_iso`: the ISO is there already."""

    storage: str
    bridge: str
    iso: str
    has_iso: bool


def find_offer(client: PveClient) -> ClusterOffer:
    """As far as PVE shows it to us. What it refuses to tell is missing."""
    seen = client.get_resources(0.0)
    online = [node.name for node in seen.nodes if node.online]
    return ClusterOffer(
        str(client.get_version()),
        tuple(NodeOffered(node.name, node.online, node.memory_free) for node in seen.nodes),
        _gather(seen.storages),
        _invert((node, _told(client, node)) for node in online),
        _invert((one.node, _isos(client, one)) for one in seen.storages if one.available and "iso" in one.content),
    )


def _gather(storages: Iterable[StorageSeen]) -> tuple[StorageOffered, ...]:
    found: dict[str, list[StorageSeen]] = {}
    for one in storages:
        if one.available:
            found.setdefault(one.storage, []).append(one)
    return tuple(
        StorageOffered(
            name,
            some[0].kind,
            tuple(sorted(some[0].content)),
            tuple(sorted(one.node for one in some)),
            min(one.free for one in some),
        )
        for name, some in sorted(found.items())
    )


def _told(client: PveClient, node: str) -> Collection[str]:
    try:
        return client.list_bridges(node)
    except PveRefused:
        return ()


def _isos(client: PveClient, storage: StorageSeen) -> Collection[str]:
    try:
        return [volume.volid for volume in client.list_volumes(storage.node, storage.storage, "iso")]
    except PveRefused:
        return ()


def _invert(having: Iterable[tuple[str, Collection[str]]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node, names in having:
        for name in names:
            found.setdefault(name, []).append(node)
    return {name: tuple(sorted(set(nodes))) for name, nodes in sorted(found.items())}


def choose(offer: ClusterOffer) -> FirstChoice:
    """What most would choose: what PVE's installer made, else what most nodes have and has most room."""
    disks = [one for one in offer.storages if "images" in one.content]
    storage = max(disks, key=lambda one: (one.name in USUAL_STORAGES, len(one.nodes), one.free), default=None)
    bridge = max(offer.bridges, key=lambda name: (name == USUAL_BRIDGE, len(offer.bridges[name])), default="")
    known = [iso for iso in offer.isos if iso.partition(":iso/")[2].startswith(INSTALLERS)]
    iso = max(known, key=lambda name: len(offer.isos[name]), default="") or _expected_iso(offer)
    return FirstChoice("" if storage is None else storage.name, bridge, iso, iso in offer.isos)


def _expected_iso(offer: ClusterOffer) -> str:
    """Where the installer will be, once it is uploaded."""
    taking = offer.storages_for("iso")
    storage = "local" if not taking or "local" in taking else taking[0]
    return f"{storage}:iso/{ISO.rpartition('/')[2]}"


def options_of(choice: FirstChoice, profile: str) -> dict[str, Any]:
    """`deployment.proxmox` of the first machine."""
    return {
        "profile": profile,
        "memory": 2048,
        "cpu": {"cores": 2},
        "disks": [{"storage": choice.storage, "size": "16G"}],
        "network": [{"bridge": choice.bridge}],
        "install": {"iso": choice.iso},
    }


def first_machine(choice: FirstChoice, profile: str) -> MachineSpec:
    """What `doctor` would read of the starter network, without a Nix: which rights it needs, and where it fits."""
    return parse_machine(FIRST, {"deployment": {"proxmox": options_of(choice, profile)}})
