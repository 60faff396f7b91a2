"""What a router is to have of a deployment, with all addresses filled in. Each router has its own words for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VlanPart:
    """`addresses`: of the router in it, with their lengths."""

    interface: str
    vlan: int
    addresses: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True)
class StaticRoute:
    """`via` empty: what goes there is thrown away. `distance` 0: as the router has it."""

    to: str
    via: str = ""
    distance: int = 0
    comment: str = ""


@dataclass(frozen=True)
class Dhcp:
    """`lease` 0: as the router has it."""

    name: str
    subnet: str
    first: str
    last: str
    router: str = ""
    dns: tuple[str, ...] = ()
    domain: str = ""
    lease: int = 0
    comment: str = ""


@dataclass(frozen=True)
class HostName:
    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class SourceNat:
    """`source` empty: all that leaves there. `address` empty: that of the interface; with a length, it is a prefix.
    `family`: 4 or 6."""

    interface: str
    source: str = ""
    address: str = ""
    comment: str = ""
    family: int = 4


@dataclass(frozen=True)
class Forward:
    """`address` empty: any of the router's. `port` empty: all that comes for `address`. `to_port` empty: the same
    port."""

    interface: str
    proto: str
    port: str
    to: str
    address: str = ""
    to_port: str = ""
    comment: str = ""

    @property
    def family(self) -> int:
        return 6 if ":" in self.to else 4

    @property
    def title(self) -> str:
        """In plain words: tcp 8443 on eth0 goes to 10.9.0.23 443"""
        what = f"{self.proto} {self.port}" if self.port else f"all for {self.address}"
        return f"{what} on {self.interface} goes to {self.to}" + (f" {self.to_port}" if self.to_port else "")


@dataclass(frozen=True)
class GroupPart:
    """`networks`: does it have networks, and not addresses alone? It has them even while it has no members."""

    name: str
    members: tuple[str, ...]
    networks: bool = False


@dataclass(frozen=True)
class End:
    """One end of a rule: one address, network or range, or a group. `family` 0: both."""

    address: str = ""
    group: str = ""


@dataclass(frozen=True)
class FilterRule:
    """`family`: 4 or 6."""

    rule_set: str
    family: int
    action: str
    proto: str = "all"
    port: str = ""
    source: End = End()
    to: End = End()
    from_interface: str = ""
    to_interface: str = ""
    states: tuple[str, ...] = ()
    enable: bool = True
    comment: str = ""


@dataclass(frozen=True)
class RouterParts:
    """`first`, `last`: which numbers of rules are ours. `whole`: is this all, or only what machines need before they
    boot for the first time?"""

    first: int
    last: int
    vlans: Sequence[VlanPart] = ()
    routes: Sequence[StaticRoute] = ()
    dhcp: Sequence[Dhcp] = ()
    hosts: Sequence[HostName] = ()
    masquerade: Sequence[SourceNat] = ()
    forwards: Sequence[Forward] = ()
    groups: Sequence[GroupPart] = ()
    rules: Sequence[FilterRule] = ()
    whole: bool = True

    @property
    def grouped(self) -> Mapping[str, GroupPart]:
        return {one.name: one for one in self.groups}
