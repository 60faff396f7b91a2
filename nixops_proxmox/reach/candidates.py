"""Which addresses of a machine to try, in which order, and why each of the others is left out. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_interface
from itertools import zip_longest

from nixops_proxmox.model import Address, Endpoint, Family, Reach
from nixops_proxmox.reach.classify import Ip, classify, find_reach
from nixops_proxmox.spec import EndpointPolicy, IpSpec, MachineSpec

# Interfaces that containers, tunnels and overlays make inside a guest. What answers there is rarely the guest.
DENIED_INTERFACES = (
    "lo", "docker*", "br-*", "veth*", "podman*", "cni*", "flannel*", "cali*", "cilium*", "lxc*", "lxdbr*", "weave*",
    "kube-*", "nodelocaldns", "virbr*", "vnet*", "tailscale*", "wg*", "zt*", "nebula*", "tun*", "tap*", "vxlan*",
    "geneve*", "dummy*", "ifb*", "sit*", "gre*", "erspan*", "ip6tnl*", "teql*",
)  # fmt: skip


# A bridge of the guest's own over the NIC has the NIC's MAC address, and the guest's address.
OVER_THE_NIC = ("br-*", "lxdbr*", "vnet*", "virbr*")


@dataclass(frozen=True)
class Candidate:
    """An endpoint worth trying. `origin` says where it was learnt: agent, declared, remembered, or explicit."""

    endpoint: Endpoint
    origin: str
    reach: Reach | None = None  # None: a name, whose addresses are not known here
    interface: str = ""


@dataclass(frozen=True)
class LeftOut:
    """An address that is not tried, and why."""

    address: str
    reason: str
    interface: str = ""


@dataclass(frozen=True)
class Choice:
    """What to try, best first, and what not."""

    candidates: tuple[Candidate, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Criteria:
    """What decides: the user's policy, the VM's NICs (`macs`; empty: not known), and sshd's port and user."""

    policy: EndpointPolicy
    macs: tuple[str, ...] = ()
    port: int = 22
    user: str = "root"


def wanted_of(spec: MachineSpec, macs: Iterable[str]) -> Criteria:
    return Criteria(spec.endpoint, tuple(macs), spec.ssh.port, spec.ssh.user)


def declared_addresses(spec: MachineSpec) -> tuple[Address, ...]:
    """The addresses of the description, in the order of the NICs: static ones, and those that DHCP is expected to
    give."""
    found = []
    for nic in spec.network:
        for ip in (_declared(nic.ipv6), _declared(nic.ipv4)):
            reach = ip and find_reach(ip)
            if ip and reach:
                found.append(Address(ip, reach, "", (nic.mac or "").lower()))
    return tuple(found)


def _declared(ip: IpSpec) -> Ip | None:
    if ip.address is None:
        return None
    return ip_interface(str(ip.address)).ip


def choose_candidates(
    seen: Sequence[Address],
    wanted: Criteria,
    *,
    spec: MachineSpec | None = None,
    remembered: Endpoint | None = None,
) -> Choice:
    """Order the guest's addresses, and those that `spec` declares, by the policy.

    Reach is the first criterion. Within one reach the families take turns, the preferred one first (RFC 8305 §4). The
    remembered winner comes first if the machine still has it, or if nothing was seen. An explicit address is the only
    candidate.
    """
    policy = wanted.policy
    if policy.through and not policy.jump:
        text = f"the way leads through {policy.through}, and we do not know where that is"
        return Choice(left_out=(LeftOut("all addresses", text),))
    if policy.address:
        return Choice((_explicit(policy.address, wanted),))
    kept: dict[Ip, Candidate] = {}
    left: list[LeftOut] = []
    declared = declared_addresses(spec) if spec is not None else ()
    origins = [(address, "agent") for address in seen] + [(address, "declared") for address in declared]
    for address, origin in origins:
        if address.ip in kept:
            continue
        reason = find_objection(address, wanted, declared=origin == "declared")
        if reason:
            left.append(LeftOut(str(address.ip), reason, address.interface))
        else:
            endpoint = Endpoint(str(address.ip), wanted.port, wanted.user, policy.jump or "")
            kept[address.ip] = Candidate(endpoint, origin, classify(address.ip).reach, address.interface)
    left = [entry for entry in left if ip_address(entry.address) not in kept]
    return Choice(_remember(_ordered(kept, policy), remembered, wanted, blind=not origins), tuple(left))


def find_objection(address: Address, wanted: Criteria, *, declared: bool = False) -> str | None:
    """Why this address is not to be tried. None when it may be."""
    kind = classify(address.ip)
    if kind.reach is None:
        return kind.name
    objection = None if declared else _interface_objection(address, wanted)
    return objection or _policy_objection(address, wanted)


def _interface_objection(address: Address, wanted: Criteria) -> str | None:
    """A pattern with `!` in front lets an interface in that the built-in list denies, and that may have no NIC."""
    name, patterns = address.interface, wanted.policy.deny_interfaces
    if any(fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return None
    macs = {mac.lower() for mac in wanted.macs}
    over_the_nic = address.mac.lower() in macs and any(fnmatchcase(name, pattern) for pattern in OVER_THE_NIC)
    for pattern in (*patterns, *(() if over_the_nic else DENIED_INTERFACES)):
        if name and fnmatchcase(name, pattern):
            return f"interface {name} is denied ({pattern})"
    if not macs:
        return None
    if not address.mac:
        return f"interface {name or '?'} has no MAC address, so it is not a NIC of the VM"
    if address.mac.lower() not in macs:
        return f"MAC address {address.mac} is not one of the VM's NICs"
    return None


def _policy_objection(address: Address, wanted: Criteria) -> str | None:
    policy, ip, reach = wanted.policy, address.ip, classify(address.ip).reach
    if address.family.value not in policy.families:
        return f"the policy has no {address.family.value}"
    if reach is None or reach.value not in policy.reaches:
        return f"the policy has no {reach} addresses"
    for network in policy.deny:
        if ip.version == network.version and ip in network:
            return f"denied by {network}"
    if policy.allow and not any(ip.version == network.version and ip in network for network in policy.allow):
        return "in none of the allowed networks"
    return None


def _ordered(kept: dict[Ip, Candidate], policy: EndpointPolicy) -> tuple[Candidate, ...]:
    """By reach. Within one reach the families take turns."""
    result: list[Candidate] = []
    for reach in policy.reaches:
        columns = [
            [c for ip, c in kept.items() if c.reach == Reach(reach) and _family(ip) == Family(family)]
            for family in policy.families
        ]
        result += [c for row in zip_longest(*columns) for c in row if c is not None]
    return tuple(result)


def _family(ip: Ip) -> Family:
    return Family.IPV4 if ip.version == 4 else Family.IPV6


def _remember(
    ordered: tuple[Candidate, ...], remembered: Endpoint | None, wanted: Criteria, *, blind: bool
) -> tuple[Candidate, ...]:
    """Put the remembered winner in front. If the machine no longer has it, it is only tried when nothing was seen."""
    if remembered is None:
        return ordered
    first = [c for c in ordered if c.endpoint.host == remembered.host]
    if not first and blind:
        endpoint = replace(remembered, port=wanted.port, user=wanted.user, jump=wanted.policy.jump or "")
        first = [Candidate(endpoint, "remembered", _reach_of_host(remembered.host))]
    return (*(replace(c, origin="remembered") for c in first), *(c for c in ordered if c not in first))


def _explicit(host: str, wanted: Criteria) -> Candidate:
    bare = host.removeprefix("[").removesuffix("]")
    endpoint = Endpoint(bare, wanted.port, wanted.user, wanted.policy.jump or "")
    return Candidate(endpoint, "explicit", _reach_of_host(bare))


def _reach_of_host(host: str) -> Reach | None:
    try:
        return find_reach(ip_address(host))
    except ValueError:  # a name
        return None
