"""Which of a machine's addresses NixOps is told, and by which one machine reaches another. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address

from nixops_proxmox.model import Address, Facts, Family, Phase, Reach
from nixops_proxmox.reach.classify import find_reach
from nixops_proxmox.spec import MachineSpec

Segment = tuple[str, str, int]  # hypervisor, bridge, VLAN (0: none)


def own_addresses(phase: Phase, spec: MachineSpec | None, facts: Facts) -> tuple[Address, ...]:
    """The addresses of the installed system. While the installer runs, the guest shows the installer's lease, so only
    what is declared counts."""
    if phase in (Phase.READY, Phase.DRIFTED, Phase.STOPPED, Phase.LOST) and not facts.installer_keys:
        return facts.addresses
    nics = zip(facts.macs, spec.network if spec is not None else (), strict=False)
    declared = [(mac, address) for mac, nic in nics for address in nic.addresses]
    return tuple(Address(ip, find_reach(ip) or Reach.PRIVATE, mac=mac) for mac, ip in declared)


def find_ipv4(addresses: Sequence[Address], facts: Facts, reach: Reach) -> str | None:
    """The IPv4 address of that reach on one of our NICs (not of a container's bridge). The proven one first."""
    found = [a for a in addresses if a.family is Family.IPV4 and a.reach is reach and a.mac in facts.macs]
    proven = facts.endpoint.host if facts.endpoint is not None else ""
    return next((str(a.ip) for a in sorted(found, key=lambda a: str(a.ip) != proven)), None)


PlacedMachine = tuple[MachineSpec, Facts, Sequence[Address]]
"""A machine and its own addresses."""


def find_common(one: PlacedMachine, other: PlacedMachine) -> str | None:
    """The best address by which a machine reaches another: on a segment that both are on, of a family that both have
    there (IPv4 first: NixOps's users expect it), else a public one, else whatever proved to be reachable."""
    here = {(segment, a.family) for segment, a in _placed(*one)}
    common = [a for segment, a in _placed(*other) if (segment, a.family) in here]
    facts, addresses = other[1], other[2]
    public = [a for a in addresses if a.reach is Reach.PUBLIC]
    for candidates in (common, public):
        if candidates:
            return str(min(candidates, key=_rank).ip)
    proven = facts.endpoint.host if facts.endpoint is not None and not facts.installer_keys else ""
    return proven or next((str(a.ip) for a in sorted(addresses, key=_rank) if a.mac in facts.macs), None)


def hosts_of(addresses: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Names by address, as `networking.hosts` has them. Without machines that have no address yet, or only a name."""
    hosts: dict[str, list[str]] = {}
    for name, address in sorted(addresses.items()):
        with suppress(ValueError):
            hosts.setdefault(str(ip_address(address or "")), []).append(name)
    return hosts


def _rank(address: Address) -> tuple[bool, bool]:
    return address.family is Family.IPV6, address.reach is Reach.PUBLIC


def _placed(spec: MachineSpec, facts: Facts, addresses: Sequence[Address]) -> Iterator[tuple[Segment, Address]]:
    """Each address with the segment its NIC is on."""
    segments = {
        mac: (spec.profile, nic.bridge, nic.tag or 0) for mac, nic in zip(facts.macs, spec.network, strict=False)
    }
    for address in addresses:
        if address.mac in segments:
            yield segments[address.mac], address
