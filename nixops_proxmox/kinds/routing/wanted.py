"""From a description to what a router is to have: names are filled in with the addresses that are known now. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.kinds.resource import KnownNic
from nixops_proxmox.routers.parts import (
    Dhcp,
    End,
    FilterRule,
    Forward,
    GroupPart,
    HostName,
    RouterParts,
    SourceNat,
    StaticRoute,
    VlanPart,
)
from nixops_proxmox.spec.firewall import parse_word
from nixops_proxmox.spec.routing import GROUP, DhcpNetwork, Masquerade, PortForward, Route, RouterRule, RoutingSpec


def parts_of(spec: RoutingSpec, around: Neighbourhood, *, whole: bool = True) -> RouterParts:
    """What names only what has no address yet stands for nothing: a rule without its addresses would be open to all.
    `whole` False: only what a machine needs before it boots for the first time."""
    vlans = [VlanPart(one.interface, one.vlan, one.addresses, one.comment) for one in spec.vlans]
    dhcp = [_dhcp(one) for one in spec.dhcp]
    first, last = spec.numbers.first, spec.numbers.last
    if not whole:
        return RouterParts(first, last, vlans, dhcp=dhcp, whole=False)
    groups = {name: _group(name, members, around) for name, members in spec.groups.items()}
    return RouterParts(
        first,
        last,
        vlans,
        [_route(one) for one in spec.routes],
        dhcp,
        [HostName(name, found) for name, words in spec.hosts.items() if (found := _plain(words, around))],
        [part for one in spec.masquerade for part in _masquerade(one, around)],
        [part for one in spec.forwards for part in _forward(one, around)],
        list(groups.values()),
        [part for rule in spec.rules for part in _rule(rule, groups, around)],
    )


def idle(spec: RoutingSpec, around: Neighbourhood) -> Iterator[str]:
    """What stands for nothing now, a line each."""
    for forward in spec.forwards:
        if not list(_forward(forward, around)):
            what = f"port {forward.port}" if forward.port else f"the address {forward.address}"
            yield f"{what} waits: {forward.to} has no {_family(forward)} address yet"
    yield from (f"the name {name} waits: nothing that it names has an address yet" for name in _nameless(spec, around))
    for one in spec.masquerade:
        if not list(_masquerade(one, around)):
            yield f"what leaves by {one.interface} waits: nothing that it names has an {_family(one)} address yet"
    groups = {name: _group(name, members, around) for name, members in spec.groups.items()}
    for rule in spec.rules:
        if not list(_rule(rule, groups, around)):
            words = " ".join((*rule.sources, *rule.to))
            yield f"a rule waits: nothing that it names has an address yet ({words})"


def foresee(spec: RoutingSpec, deployment: str, nics: Sequence[KnownNic]) -> Iterator[str]:
    """What the router is told when the machine with these NICs is made, a line each."""
    del deployment
    for one in spec.forwards:
        addresses = [text for nic in nics for text in nic.addresses if _fits(text, one)]
        if addresses and one.to == f"machine:{nics[0].machine}":
            what = f"{one.proto} {one.port}" if one.port else f"all for {one.address}"
            where = f"{one.to_port or one.port} of {addresses[0]}" if one.port else addresses[0]
            yield f"forward {what} on {one.interface} to {where} on the router {spec.router_name}"


def _nameless(spec: RoutingSpec, around: Neighbourhood) -> list[str]:
    return [name for name, words in spec.hosts.items() if not _plain(words, around)]


def _texts(words: Iterable[str], around: Neighbourhood) -> list[str]:
    return list(dict.fromkeys(text for word in words for text in around.texts(parse_word(word))))


def _plain(words: Iterable[str], around: Neighbourhood) -> tuple[str, ...]:
    """Single addresses alone."""
    return tuple(text for text in _texts(words, around) if "/" not in text and "-" not in text)


def _route(one: Route) -> StaticRoute:
    return StaticRoute(str(one.to), str(one.via or ""), one.distance or 0, one.comment)


def _dhcp(one: DhcpNetwork) -> Dhcp:
    return Dhcp(
        one.name,
        str(one.subnet),
        str(one.first),
        str(one.last),
        str(one.router or ""),
        tuple(map(str, one.dns)),
        one.domain or "",
        one.lease or 0,
        one.comment,
    )


def _masquerade(one: Masquerade, around: Neighbourhood) -> Iterator[SourceNat]:
    sources = [text for text in _texts(one.sources, around) if _fits(text, one)] if one.sources else [""]
    address, family = str(one.address or one.prefix or ""), 6 if one.family == "ipv6" else 4
    yield from (SourceNat(one.interface, source, address, one.comment, family) for source in sources)


def _fits(text: str, one: Masquerade | PortForward) -> bool:
    """Is it of the family?"""
    return (":" in text) == (one.family == "ipv6")


def _family(one: Masquerade | PortForward) -> str:
    return "IPv6" if one.family == "ipv6" else "IPv4"


def _forward(one: PortForward, around: Neighbourhood) -> Iterator[Forward]:
    """To the first address of the family."""
    for to in [text for text in _plain((one.to,), around) if _fits(text, one)][:1]:
        address = str(one.address or "")
        yield Forward(one.interface, one.proto, one.port or "", to, address, one.to_port or "", one.comment)


def _group(name: str, words: Sequence[str], around: Neighbourhood) -> GroupPart:
    """What is written decides whether it is a group of networks, so that it stays one when members come and go."""
    networks = any(word.startswith("network:") or "/" in word for word in words)
    members = _texts(words, around)
    if networks:
        members = [text if "/" in text or "-" in text else f"{text}/{128 if ':' in text else 32}" for text in members]
    return GroupPart(name, tuple(members), networks)


def _rule(rule: RouterRule, groups: dict[str, GroupPart], around: Neighbourhood) -> Iterator[FilterRule]:
    """A rule for each pair of addresses, and for each family that it can be of."""
    for source, to in product(_ends(rule.sources, around), _ends(rule.to, around)):
        families = _families(source, groups) & _families(to, groups)
        for family in sorted(families):
            yield FilterRule(
                rule.rule_set,
                family,
                rule.action,
                rule.proto,
                rule.port or "",
                source,
                to,
                rule.from_interface or "",
                rule.to_interface or "",
                rule.states,
                rule.enable,
                rule.comment,
            )


def _ends(words: Sequence[str], around: Neighbourhood) -> list[End]:
    if not words:
        return [End()]
    if words[0].startswith(GROUP):
        return [End(group=words[0].removeprefix(GROUP))]
    return [End(text) for text in _texts(words, around)]


def _families(end: End, groups: dict[str, GroupPart]) -> set[int]:
    """A group has the families of its members; one without members is of IPv4."""
    if end.address:
        return {6 if ":" in end.address else 4}
    if end.group:
        return {6 if ":" in text else 4 for text in groups[end.group].members} or {4}
    return {4, 6}
