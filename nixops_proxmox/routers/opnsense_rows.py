"""What OPNsense is told of routing, as rows of its tables: pure, for 26.1 and later. Each row says whose it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.routers.parts import End, FilterRule, Forward, GroupPart, HostName, RouterParts
from nixops_proxmox.spec.marks import bears_mark, with_mark

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """Where its rows are in the API. `mark`: the field that says whose a row is. `keys`: the fields that tell rows
    apart. `loose`: those whose case OPNsense changes."""

    place: str
    item: str  # with a capital, as in searchItem
    key: str
    mark: str
    keys: tuple[str, ...]
    loose: tuple[str, ...] = ()


ALIAS = Table("firewall/alias", "Item", "alias", "description", ("name",))
FORWARD = Table("firewall/d_nat", "Rule", "rule", "descr", ("interface", "protocol", "destination.port"), ("protocol",))
RULE = Table("firewall/filter", "Rule", "rule", "description", ("sequence",), ("action", "protocol"))
HOST = Table("unbound/settings", "HostOverride", "host", "description", ("hostname", "domain", "rr", "server"))
TABLES = (ALIAS, FORWARD, RULE, HOST)  # in the order in which they are written

PROTO = {"tcp": "TCP", "udp": "UDP", "tcp_udp": "TCP/UDP", "all": "any"}
ACTION = {"accept": "pass", "drop": "block", "reject": "reject"}
BY_HAND = (("vlans", "vlans"), ("routes", "routes"), ("dhcp", "dhcp"), ("masquerade", "masquerade"))


@dataclass(frozen=True)
class TableRow:
    """`title`: in plain words."""

    table: Table
    fields: Fields
    title: str

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(self.fields.get(name, "").lower() for name in self.table.keys)


def rows_of(parts: RouterParts, mark: str) -> list[TableRow]:
    """Raises ConfigError for what OPNsense's API cannot make."""
    for field, option in BY_HAND:
        if getattr(parts, field):
            raise ConfigError(
                f"OPNsense: `{option}` cannot be made by its API as they are described",
                hint="make them on the router; groups, forwards, rules and hosts can be described",
            )
    rows = [*(_alias(one, mark) for one in parts.groups), *_forwards(parts, mark)]
    rows += [*_rules(parts, mark), *(row for one in parts.hosts for row in _host(one, mark))]
    return rows


def bears(row: Fields, table: Table, mark: str) -> bool:
    return bears_mark(row.get(table.mark, ""), mark)


def differing(have: Fields, row: TableRow) -> list[str]:
    """The fields that are not as wanted."""
    loose = row.table.loose
    return [name for name, want in row.fields.items() if not _same(have.get(name, ""), want, loose=name in loose)]


def _same(have: str, want: str, *, loose: bool) -> bool:
    return have.lower() == want.lower() if loose else have == want


def _alias(one: GroupPart, mark: str) -> TableRow:
    members = ", ".join(one.members) or "no address yet"
    fields = {
        "enabled": "1",
        "name": one.name,
        "type": "network" if one.networks else "host",
        "content": "\n".join(sorted(one.members)),
        "description": mark,
    }
    return TableRow(ALIAS, fields, f"group {one.name} of {members}")


def _forwards(parts: RouterParts, mark: str) -> Iterator[TableRow]:
    for number, one in enumerate(parts.forwards, parts.first):
        yield TableRow(FORWARD, _forward(one, number, mark), one.title)


def _forward(one: Forward, number: int, mark: str) -> Fields:
    if not one.port:
        raise ConfigError(
            f"OPNsense: all for {one.address} cannot be forwarded by its API", hint="set `port`, or map it by hand"
        )
    return {
        "sequence": str(number),
        "disabled": "0",
        "interface": one.interface,
        "ipprotocol": "inet6" if one.family == 6 else "inet",
        "protocol": PROTO[one.proto].lower(),
        "destination.network": one.address or f"{one.interface}ip",
        "destination.port": one.port,
        "target": one.to,
        "local-port": (one.to_port or one.port).partition("-")[0],
        "pass": "pass",
        "descr": with_mark(one.comment, mark),
    }


def _rules(parts: RouterParts, mark: str) -> Iterator[TableRow]:
    """What is established passes by itself: OPNsense keeps states."""
    needed = [one for one in parts.rules if not (one.action == "accept" and _is_answer(one))]
    for number, one in enumerate(needed, parts.first):
        if number > parts.last:
            raise ConfigError("there are more rules than numbers of ours", hint="set `numbers` to a wider range")
        yield TableRow(RULE, _rule(one, number, mark), f"rule {number}: {_text(one)}")


def _is_answer(one: FilterRule) -> bool:
    return bool(one.states) and set(one.states) <= {"established", "related"}


def _rule(one: FilterRule, number: int, mark: str) -> Fields:
    if one.rule_set not in ("forward", "input", "output") or (one.states and not _is_answer(one)):
        raise ConfigError("OPNsense has no rule sets with names, and no states in rules", hint="leave them out")
    if one.from_interface and one.to_interface:
        raise ConfigError("OPNsense: a rule has one interface", hint="set fromInterface or toInterface")
    outward = bool(one.to_interface) or one.rule_set == "output"
    proto = PROTO.get(one.proto) or ("ICMP" if one.family == 4 else "IPV6-ICMP")
    return {
        "enabled": "1" if one.enable else "0",
        "sequence": str(number),
        "action": ACTION[one.action],
        "quick": "1",
        "interface": one.to_interface or one.from_interface,
        "direction": "out" if outward else "in",
        "ipprotocol": "inet" if one.family == 4 else "inet6",
        "protocol": proto,
        "source_net": _end(one.source, "any"),
        "destination_net": _end(one.to, "(self)" if one.rule_set == "input" else "any"),
        "destination_port": one.port,
        "description": with_mark(one.comment, mark),
    }


def _end(end: End, otherwise: str) -> str:
    if "-" in end.address:
        raise ConfigError(f"OPNsense: a rule cannot have the range {end.address}", hint="put it into a group")
    return end.address or end.group or otherwise


def _text(one: FilterRule) -> str:
    words = [one.action, "" if one.proto == "all" else one.proto, one.port]
    words += [f"from {_end(one.source, '')}"] if one.source != End() else []
    words += [f"to {_end(one.to, '')}"] if one.to != End() else []
    return " ".join(filter(None, words)) + (" in IPv6" if one.family == 6 else "")


def _host(one: HostName, mark: str) -> Iterator[TableRow]:
    host, _, domain = one.name.partition(".")
    if not domain:
        raise ConfigError(f"OPNsense: the name {one.name} needs a domain", hint=f"write it like {one.name}.example.org")
    for address in one.addresses:
        rr = "AAAA" if ":" in address else "A"
        fields = {"enabled": "1", "hostname": host, "domain": domain, "rr": rr, "server": address, "description": mark}
        yield TableRow(HOST, fields, f"name {one.name} is {address}")
