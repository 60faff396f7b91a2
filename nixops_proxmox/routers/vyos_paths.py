"""What VyOS is told of routing, as paths of its configuration: pure, for 1.3, 1.4 and 1.5.

A unit is a part of the configuration that is ours as a whole, or not at all: a VLAN, a route, a rule.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from nixops_proxmox.errors import ConfigError
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
from nixops_proxmox.spec.marks import bears_mark, is_marked, with_mark

Path = tuple[str, ...]
Leaves = frozenset[Path]

NAMES = "by-nixops-"  # how the aliases begin by which names in DNS are ours; reservations have others
TYPES = (("eth", "ethernet"), ("bond", "bonding"), ("br", "bridge"))
BASE_CHAINS = ("forward", "input", "output")
HIGHEST = {"1.3": 9999}  # of a rule of the firewall; later, 999999
SECTIONS: Sequence[Path] = (
    *(("interfaces", kind) for _, kind in TYPES),
    ("nat",),
    ("nat66",),
    ("firewall",),
    ("protocols", "static"),
    ("service", "dhcp-server"),
    ("system", "static-host-mapping"),
)
# Where units are. `*`: any name.
PLACES: Sequence[Path] = (
    *(("interfaces", kind, "*", "vif", "*") for _, kind in TYPES),
    ("protocols", "static", "route", "*"),
    ("protocols", "static", "route6", "*"),
    ("service", "dhcp-server", "shared-network-name", "*"),
    ("system", "static-host-mapping", "host-name", "*"),
    ("nat", "source", "rule", "*"),
    ("nat", "destination", "rule", "*"),
    ("nat66", "source", "rule", "*"),
    ("nat66", "destination", "rule", "*"),
    ("firewall", "group", "*", "*"),
    *(("firewall", family, chain, "filter", "rule", "*") for family in ("ipv4", "ipv6") for chain in BASE_CHAINS),
    *(("firewall", family, "name", "*", "rule", "*") for family in ("ipv4", "ipv6")),
    ("firewall", "name", "*", "rule", "*"),
    ("firewall", "ipv6-name", "*", "rule", "*"),
)
SHARED = ("vif", "shared-network-name")  # units in which others may have set more
SINGLE = (
    "description",
    "default-router",
    "domain-name",
    "lease",
    "subnet-id",
    "start",
    "stop",
    "action",
    "protocol",
    "port",
    "address",
    "prefix",
    "name",
    "inbound-interface",
    "outbound-interface",
)  # leaves with one value


@dataclass(frozen=True)
class Unit:
    """`leaves`: below `path`, each with its value. `title`: in plain words."""

    path: Path
    leaves: Leaves
    title: str

    @property
    def is_shared(self) -> bool:
        return self.path[-2] in SHARED


def units_of(parts: RouterParts, version: str, mark: str) -> list[Unit]:
    """Raises ConfigError for what this release cannot have."""
    numbers = _Numbers(parts)
    found = [
        *(_vlan(one, mark) for one in parts.vlans),
        *(_route(one, version, mark) for one in parts.routes),
        *(_dhcp(one, version, mark) for one in parts.dhcp),
        *(_host(one, version, mark) for one in parts.hosts),
        *(_source(one, numbers, version, mark) for one in parts.masquerade),
        *(_forward(one, numbers, version, mark) for one in parts.forwards),
        *(unit for one in parts.groups for unit in _group(one, mark)),
    ]
    return [*found, *(_rule(one, parts, numbers, version, mark) for one in parts.rules)]


class _Numbers:
    """Gives each rule its number, in each list from the first of ours on."""

    def __init__(self, parts: RouterParts) -> None:
        self._first, self._last, self._next = parts.first, parts.last, dict[Path, int]()

    def take(self, where: Path, highest: int = 999_999) -> str:
        number = self._next.get(where, self._first)
        if number > min(self._last, highest):
            raise ConfigError(
                f"there are more rules for {' '.join(where)} than numbers of ours, {self._first} to {self._last}",
                hint=f"set `numbers` to a wider range; the highest number there is {highest}",
            )
        self._next[where] = number + 1
        return str(number)


def _described(mark: str, comment: str) -> Path:
    return ("description", with_mark(comment, mark))


def _vlan(one: VlanPart, mark: str) -> Unit:
    kind = next((kind for start, kind in TYPES if re.fullmatch(rf"{start}[0-9]+", one.interface)), None)
    if kind is None:
        raise ConfigError(f"VyOS has no VLANs on {one.interface}", hint="name an interface such as eth1, bond0 or br0")
    leaves = {_described(mark, one.comment), *(("address", address) for address in one.addresses)}
    title = f"VLAN {one.vlan} on {one.interface}" + (f", {', '.join(one.addresses)}" if one.addresses else "")
    return Unit(("interfaces", kind, one.interface, "vif", str(one.vlan)), frozenset(leaves), title)


def _route(one: StaticRoute, version: str, mark: str) -> Unit:
    """1.3 has no room for our mark: the record knows whose it is."""
    leaves: set[Path] = set() if version == "1.3" else {_described(mark, one.comment)}
    way: Path = ("next-hop", one.via) if one.via else ("blackhole",)
    leaves.add((*way, "distance", str(one.distance)) if one.distance else way)
    where = "route6" if ":" in one.to else "route"
    title = f"route to {one.to} {f'by {one.via}' if one.via else 'into nothing'}"
    return Unit(("protocols", "static", where, one.to), frozenset(leaves), title)


def _dhcp(one: Dhcp, version: str, mark: str) -> Unit:
    place, options = ("subnet", one.subnet), ("option",) if version == "1.5" else ()
    leaves = {_described(mark, one.comment), place}
    leaves |= {(*place, *options, "name-server", address) for address in one.dns}
    for value, key in ((one.router, "default-router"), (one.domain, "domain-name")):
        leaves |= {(*place, *options, key, value)} if value else set()
    leaves |= {(*place, "lease", str(one.lease))} if one.lease else set()
    leaves |= {(*place, "range", "0", "start", one.first), (*place, "range", "0", "stop", one.last)}
    if version == "1.5":
        leaves |= {(*place, "subnet-id", str(int(ip_network(one.subnet).network_address)))}
    title = f"DHCP {one.name} for {one.subnet}, {one.first} to {one.last}"
    return Unit(("service", "dhcp-server", "shared-network-name", one.name), _without_parents(leaves), title)


def _without_parents(leaves: Iterable[Path]) -> Leaves:
    """What has something below it is no leaf."""
    found = set(leaves)
    return frozenset(one for one in found if not any(len(o) > len(one) and o[: len(one)] == one for o in found))


def alias_of(mark: str) -> str:
    """Letters, digits, dots and hyphens stay; `_2f` is the slash."""
    return NAMES + re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found[0]):02x}", mark.partition(":")[2])


def _host(one: HostName, version: str, mark: str) -> Unit:
    addresses = one.addresses[:1] if version == "1.3" else one.addresses
    leaves = {("alias", alias_of(mark)), *(("inet", address) for address in addresses)}
    path = ("system", "static-host-mapping", "host-name", one.name)
    return Unit(path, frozenset(leaves), f"name {one.name} is {' and '.join(addresses)}")


def _interface(which: str, name: str, version: str) -> Path:
    return (which, name) if version == "1.3" else (which, "name", name)


def _nat(family: int, side: str, version: str) -> Path:
    """Where the rules are. 1.3 has none for IPv6."""
    if family == 6 and version == "1.3":
        raise ConfigError("VyOS 1.3 has no NAT of IPv6", hint='leave out what has family = "ipv6", or use 1.4')
    return ("nat66" if family == 6 else "nat", side)


def _from(one: SourceNat) -> set[Path]:
    if not one.source:
        return set()
    if one.family == 4:
        return {("source", "address", one.source)}
    if "-" in one.source:
        raise ConfigError(f"VyOS: NAT of IPv6 cannot have the range {one.source}", hint="name networks or addresses")
    return {("source", "prefix", one.source if "/" in one.source else f"{one.source}/128")}


def _source(one: SourceNat, numbers: _Numbers, version: str, mark: str) -> Unit:
    leaves = {
        _described(mark, one.comment),
        _interface("outbound-interface", one.interface, version),
        ("translation", "address", one.address or "masquerade"),
    }
    leaves |= _from(one)
    title = f"{one.source or 'all'} leaves by {one.interface} as {one.address or 'the router itself'}"
    where = _nat(one.family, "source", version)
    return Unit((*where, "rule", numbers.take(where)), frozenset(leaves), title)


def _forward(one: Forward, numbers: _Numbers, version: str, mark: str) -> Unit:
    leaves = {
        _described(mark, one.comment),
        _interface("inbound-interface", one.interface, version),
        ("translation", "address", one.to),
    }
    leaves |= {("protocol", one.proto), ("destination", "port", one.port)} if one.port else set()
    leaves |= {("destination", "address", one.address)} if one.address else set()
    leaves |= {("translation", "port", one.to_port)} if one.to_port else set()
    where = _nat(one.family, "destination", version)
    return Unit((*where, "rule", numbers.take(where)), frozenset(leaves), one.title)


def group_type(family: int, *, networks: bool) -> str:
    return f"{'ipv6-' if family == 6 else ''}{'network' if networks else 'address'}-group"


def _group(one: GroupPart, mark: str) -> Iterator[Unit]:
    """One for each family that it has members of."""
    of_family = {family: [m for m in one.members if (6 if ":" in m else 4) == family] for family in (4, 6)}
    leaf = "network" if one.networks else "address"
    for family, members in of_family.items():
        if members or (family == 4 and not one.members):
            leaves = {_described(mark, ""), *((leaf, member) for member in members)}
            path = ("firewall", "group", group_type(family, networks=one.networks), one.name)
            yield Unit(path, frozenset(leaves), f"group {one.name} of {', '.join(members) or 'no address yet'}")


def _rule(one: FilterRule, parts: RouterParts, numbers: _Numbers, version: str, mark: str) -> Unit:
    path = _rule_set(one, version)
    leaves = {("action", one.action), _described(mark, one.comment)}
    leaves |= {("protocol", _protocol(one, version))} if one.proto != "all" else set()
    leaves |= {("destination", "port", one.port)} if one.port else set()
    leaves |= {("disable",)} if not one.enable else set()
    for side, end in (("source", one.source), ("destination", one.to)):
        leaves |= _end(side, end, parts)
    if version == "1.3" and (one.from_interface or one.to_interface):
        raise ConfigError(
            "VyOS 1.3 has no interfaces in rules", hint="it binds whole rule sets to interfaces: do that by hand"
        )
    for which, name in (("inbound-interface", one.from_interface), ("outbound-interface", one.to_interface)):
        leaves |= {(which, "name", name)} if name else set()
    leaves |= {("state", state, *(("enable",) if version == "1.3" else ())) for state in one.states}
    number = numbers.take(path, HIGHEST.get(version, 999_999))
    return Unit((*path, "rule", number), frozenset(leaves), f"rule {number} of {one.rule_set}: {rule_text(one)}")


def _rule_set(one: FilterRule, version: str) -> Path:
    if version == "1.3":
        if one.rule_set in BASE_CHAINS:
            raise ConfigError(
                f"VyOS 1.3 has no rule set {one.rule_set}: its rule sets have names, and interfaces use them",
                hint="set `ruleSet` of the rules to the name of one that an interface uses",
            )
        return ("firewall", "ipv6-name" if one.family == 6 else "name", one.rule_set)
    family = f"ipv{one.family}"
    return (
        ("firewall", family, one.rule_set, "filter")
        if one.rule_set in BASE_CHAINS
        else ("firewall", family, "name", one.rule_set)
    )


def _protocol(one: FilterRule, version: str) -> str:
    six = "icmpv6" if version == "1.3" else "ipv6-icmp"
    return six if (one.proto, one.family) == ("icmp", 6) else one.proto


def _end(side: str, end: End, parts: RouterParts) -> set[Path]:
    if end.address:
        return {(side, "address", end.address)}
    if end.group:
        kind = "network-group" if parts.grouped[end.group].networks else "address-group"
        return {(side, "group", kind, end.group)}
    return set()


def rule_text(one: FilterRule) -> str:
    """In plain words: accept tcp 443 from 192.0.2.0/24 to group db"""
    words = [one.action, "" if one.proto == "all" else one.proto, one.port]
    for word, end in (("from", one.source), ("to", one.to)):
        words += [f"{word} {end.address}"] if end.address else [f"{word} group {end.group}"] if end.group else []
    words += [f"in by {one.from_interface}"] if one.from_interface else []
    words += [f"out by {one.to_interface}"] if one.to_interface else []
    words += [f"if {' or '.join(one.states)}"] if one.states else []
    return " ".join(filter(None, words)) + ("" if one.enable else " (off)")


# What is there.


def leaves_in(tree: object) -> Leaves:
    """All of a part of the configuration, as showConfig tells it, each path with its value."""
    return frozenset(_leaves(tree))


def _leaves(tree: object) -> Iterator[Path]:
    if isinstance(tree, dict):
        if not tree:
            yield ()
        yield from ((str(name), *rest) for name, below in tree.items() for rest in _leaves(below))
    elif isinstance(tree, list):
        yield from ((str(one),) for one in tree)
    else:
        yield (str(tree),)


def units_in(section: Path, tree: object) -> Iterator[tuple[Path, Leaves]]:
    """The units in what showConfig tells of a section."""
    for place in PLACES:
        if place[: len(section)] == section:
            yield from _walk(section, place[len(section) :], tree)


def _walk(path: Path, place: Path, tree: object) -> Iterator[tuple[Path, Leaves]]:
    if not place:
        yield path, leaves_in(tree) - {()}
    elif isinstance(tree, dict):
        names = list(tree) if place[0] == "*" else [place[0]] if place[0] in tree else []
        for name in names:
            yield from _walk((*path, str(name)), place[1:], tree[name])


def has_room(path: Path, version: str) -> bool:
    """Can the unit say whose it is?"""
    return version != "1.3" or path[0] != "protocols"


def bears(leaves: Leaves, mark: str) -> bool:
    """Does the unit with these leaves say that it is ours?"""
    told = [leaf[1] for leaf in leaves if len(leaf) == 2 and leaf[0] == "description"]
    return any(bears_mark(text, mark) for text in told) or ("alias", alias_of(mark)) in leaves


def unclaimed(wanted: Sequence[Unit], there: Mapping[Path, Leaves]) -> Iterator[tuple[Path, Unit]]:
    """The units without a mark that stand for these: by their path, or, for rules, by what they say."""
    free = {path: leaves for path, leaves in there.items() if not any(is_mark(leaf) for leaf in leaves)}
    for unit in wanted:
        if not _is_rule(unit.path):
            found = unit.path if unit.path in free else None
        else:
            same = (path for path in sorted(free, key=sort_key) if path[:-1] == unit.path[:-1])
            found = next((path for path in same if _plain(free[path]) == _plain(unit.leaves)), None)
        if found is not None:
            del free[found]
            yield found, unit


def is_mark(leaf: Path) -> bool:
    """Does it say whose something is, ours or another deployment's?"""
    described = len(leaf) == 2 and leaf[0] == "description" and is_marked(leaf[1])
    return described or (len(leaf) == 2 and leaf[0] == "alias" and leaf[1].startswith(NAMES))


def _plain(leaves: Leaves) -> Leaves:
    """Without the text for people."""
    return frozenset(leaf for leaf in leaves if leaf[0] != "description")


def marked_leaves(path: Path, leaves: Leaves, mark: str) -> Leaves:
    """As they are with our mark beside what they say."""
    if path[-2] == "host-name":
        return leaves | {("alias", alias_of(mark))}
    said = next((leaf[1] for leaf in leaves if len(leaf) == 2 and leaf[0] == "description"), "")
    return (leaves - {("description", said)}) | {_described(mark, said)}


def replaced(unit: Path, leaf: Path, there: Leaves) -> Leaves:
    """Those that go when this one is set: a leaf with one value has another."""
    if len(leaf) < 2 or leaf[-2] not in SINGLE or (leaf[-2] == "address" and not _is_rule(unit)):
        return frozenset()
    return frozenset(one for one in there if one != leaf and one[:-1] == leaf[:-1])


def _is_rule(unit: Path) -> bool:
    return unit[-2] == "rule"


def within(leaf: Path, others: Iterable[Path]) -> bool:
    """Is it an empty node that one of them would be in?"""
    return any(len(one) > len(leaf) and one[: len(leaf)] == leaf for one in others)


def sort_key(path: Path) -> tuple[object, ...]:
    """Rules by number, the rest by name."""
    return tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in path)
