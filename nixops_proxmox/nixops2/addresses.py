"""Which of a machine's addresses NixOps is told, and by which one machine reaches another; pure."""

from collections.abc import Iterator

from nixops_proxmox.model import Address, Facts, Family, Reach
from nixops_proxmox.spec import MachineSpec

Segment = tuple[str, str, int]  # hypervisor, bridge, VLAN (0: none)


def find_ipv4(facts: Facts, reach: Reach) -> str | None:
    """The IPv4 address of that reach on one of our NICs (not of a container's bridge); the proven one first."""
    found = [a for a in facts.addresses if a.family is Family.IPV4 and a.reach is reach and a.mac in facts.macs]
    proven = facts.endpoint.host if facts.endpoint is not None else ""
    return next((str(a.ip) for a in sorted(found, key=lambda a: str(a.ip) != proven)), None)


def find_common(spec: MachineSpec, facts: Facts, other_spec: MachineSpec, other: Facts) -> str | None:
    """The best address by which a machine reaches another: on a segment that both are on, of a family that both have
    there (IPv4 first: NixOps's users expect it), else a public one, else whatever proved to be reachable."""
    here = {(segment, a.family) for segment, a in _placed(spec, facts)}
    common = [a for segment, a in _placed(other_spec, other) if (segment, a.family) in here]
    public = [a for a in other.addresses if a.reach is Reach.PUBLIC]
    for candidates in (common, public):
        if candidates:
            return str(min(candidates, key=_rank).ip)
    return other.endpoint.host if other.endpoint is not None else None


def _rank(address: Address) -> tuple[bool, bool]:
    return address.family is Family.IPV6, address.reach is Reach.PUBLIC


def _placed(spec: MachineSpec, facts: Facts) -> Iterator[tuple[Segment, Address]]:
    """Each address with the segment its NIC is on."""
    segments = {
        mac: (spec.profile, nic.bridge, nic.tag or 0) for mac, nic in zip(facts.macs, spec.network, strict=False)
    }
    for address in facts.addresses:
        if address.mac in segments:
            yield segments[address.mac], address
