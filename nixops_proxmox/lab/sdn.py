"""Software-defined networks: what is configured, what runs, and which nodes have already been told (PVE::Network::SDN).

Every write changes only what is configured. A commit makes it what runs; the nodes take it over one after the other.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.lab.refusals import bad_parameter, die

KINDS = ("zones", "vnets", "subnets")
LISTS = ("nodes", "exitnodes", "dhcp-range")  # their order says nothing
WITH_DHCP = "simple"
WORDS = {"zones": "", "vnets": " vnet", "subnets": " subnet"}  # in what PVE says of one that is missing
TAGGED = {"vlan": "vlan", "vxlan": "vxlan", "evpn": "vxlan"}
Section = dict[str, Any]
Objects = dict[str, dict[str, Section]]


def no_objects() -> Objects:
    return {kind: {} for kind in KINDS}


def encoded(key: str, value: Any) -> str:
    if key in LISTS:
        return ",".join(sorted(value if isinstance(value, list) else str(value).split(",")))
    return str(value)


@dataclass
class Sdn:
    """One cluster's. `told`: node → the version that its interfaces are at."""

    configured: Objects = field(default_factory=no_objects)
    running: Objects = field(default_factory=no_objects)
    version: int = 0
    told: dict[str, int] = field(default_factory=dict)
    lock: str = ""
    bridges: set[str] = field(default_factory=set)  # vnets that a node has a bridge for

    # Reading.

    def digest(self, kind: str) -> str:
        text = repr(sorted(self.configured[kind].items())).encode()
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()

    def get(self, kind: str, name: str, objects: Objects | None = None) -> Section:
        found = (objects or self.configured)[kind].get(name)
        return found if found is not None else die(f"sdn{WORDS[kind]} '{name}' does not exist")

    def pending(self, kind: str) -> dict[str, Section]:
        """`?pending=1`: what runs, and beside it what is to come (pending_config)."""
        found: dict[str, Section] = {}
        names = dict.fromkeys([*sorted(self.running[kind]), *sorted(self.configured[kind])])
        for name in names:
            found[name] = _compared(self.running[kind].get(name), self.configured[kind].get(name))
        return found

    def waiting(self) -> Iterator[tuple[str, str, str]]:
        """Kind, name and state of what is not applied yet."""
        for kind in KINDS:
            for name, section in self.pending(kind).items():
                if "state" in section:
                    yield kind, name, section["state"]

    def vnets_of(self, zone: str, objects: Objects | None = None) -> list[str]:
        return [name for name, vnet in (objects or self.configured)["vnets"].items() if vnet["zone"] == zone]

    def subnets_of(self, vnet: str, objects: Objects | None = None) -> dict[str, Section]:
        return {name: one for name, one in (objects or self.configured)["subnets"].items() if one["vnet"] == vnet}

    def has_node(self, zone: Mapping[str, Any], node: str) -> bool:
        return "nodes" not in zone or node in zone["nodes"].split(",")

    def zone_of(self, vnet: str) -> str:
        """The zone of a vnet that runs; "" if none does."""
        return str(self.running["vnets"].get(vnet, {}).get("zone", ""))

    # Locks.

    def check_lock(self, token: str | None, failed: str) -> None:
        if self.lock and token != self.lock:
            die(f"{failed}: invalid lock token provided!")

    def take_lock(self, *, allow_pending: bool) -> str:
        self.check_lock(None, "could not acquire lock for SDN config")
        if not allow_pending and any(self.waiting()):
            die("could not acquire lock for SDN config: configuration has pending changes")
        self.lock = str(uuid.uuid4())
        return self.lock

    # Writing.

    def add(self, kind: str, name: str, section: Section) -> None:
        if name in self.configured[kind]:
            die(f"create sdn {kind[:-1]} object failed: sdn {kind[:-1]} object ID '{name}' already defined")
        self.configured[kind][name] = section
        try:
            self.check(kind, name)
        except BaseException:
            del self.configured[kind][name]
            raise

    def change(self, kind: str, name: str, values: Mapping[str, Any], deleted: list[str]) -> None:
        section = self.get(kind, name)
        before = dict(section)
        for key in deleted:
            section.pop(key, None)
        section |= values
        try:
            self.check(kind, name, before)
        except BaseException:
            self.configured[kind][name] = before
            raise

    def check(self, kind: str, name: str, before: Section | None = None) -> None:
        match kind:
            case "vnets":
                self._check_vnet(name, before)
            case "subnets":
                from nixops_proxmox.lab.ipam import check_subnet

                check_subnet(self, name)

    def _check_vnet(self, name: str, before: Section | None) -> None:
        vnet = self.configured["vnets"][name]
        if before and before["zone"] != vnet["zone"] and self.subnets_of(name):
            raise bad_parameter("zone", "can't change zone if subnets exist")
        kind = self.get("zones", vnet["zone"])["type"]
        if kind == WITH_DHCP and "tag" in vnet:
            raise bad_parameter("tag", "vlan tag is not allowed on simple zone")
        if kind in TAGGED and "tag" not in vnet:
            raise bad_parameter("tag", f"missing {TAGGED[kind]} tag")
        if kind == "vlan" and vnet["tag"] > 4096:
            raise bad_parameter("tag", "vlan tag max value is 4096")
        for other in self.vnets_of(vnet["zone"]):
            if other != name and "tag" in vnet and self.configured["vnets"][other].get("tag") == vnet["tag"]:
                raise bad_parameter("tag", f"tag {vnet['tag']} already exist in vnet {other}")
        if vnet.get("vlanaware") and self.subnets_of(name):
            raise bad_parameter("vlanaware", "vlanaware vnet is not compatible with subnets")

    def remove_zone(self, name: str) -> None:
        self.get("zones", name)
        for vnet in self.vnets_of(name):
            die(f"delete sdn zone object failed: zone {name} is used by vnet {vnet}")
        del self.configured["zones"][name]

    def remove_vnet(self, name: str) -> None:
        self.get("vnets", name)
        if self.subnets_of(name):
            raise bad_parameter("vnet", "Can't delete vnet if subnets exists")
        del self.configured["vnets"][name]

    # Applying.

    def commit(self) -> None:
        self.running = deepcopy(self.configured)
        self.version += 1

    def rollback(self) -> None:
        self.configured = deepcopy(self.running)

    def status(self, node: str) -> str:
        return "available" if self.told.get(node, 0) == self.version else "pending"


def _compared(running: Section | None, configured: Section | None) -> Section:
    if configured is None:
        return {**(running or {}), "state": "deleted", "pending": {}}
    if running is None:
        fixed = {key: value for key, value in configured.items() if key in ("type", "vnet")}
        return {**fixed, "state": "new", "pending": {key: v for key, v in configured.items() if key not in fixed}}
    found: Section = dict(running)
    coming = {
        key: value
        for key, value in configured.items()
        if key not in ("type", "vnet") and encoded(key, value) != encoded(key, running.get(key, ""))
    }
    coming |= dict.fromkeys((key for key in running if key not in configured), "deleted")
    return {**found, "state": "changed", "pending": coming} if coming else found
