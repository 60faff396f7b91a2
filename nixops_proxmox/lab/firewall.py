"""A firewall file, of the cluster, a node or a VM: options, rules in order, aliases, IP sets and groups; its digests,
and what PVE finds wrong with a rule (PVE::Firewall). Nothing is filtered."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NoReturn

from nixops_proxmox.lab.macros import MACROS, MACROS_6
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.schema.firewall import ICMP_4, ICMP_6, NAME, check_ports, family_of

Item = dict[str, Any]
ICMP = ("icmp", "icmpv6", "ipv6-icmp", "1", "58")
WITH_PORTS = ("udp", "17", "udplite", "136", "tcp", "6", "dccp", "33", "sctp", "132")
DIRECTIONS = {
    "vm": ("in", "out", "group"),
    "ct": ("in", "out", "group"),
    "group": ("in", "out", "forward"),
    "cluster": ("in", "out", "forward", "group"),
    "host": ("in", "out", "forward", "group"),
}
FORWARDS = (8, 3)  # the first release with rules for what passes through
PREFERRED = {name.lower(): name for name in [*MACROS_6, *MACROS]}


@dataclass
class Firewall:
    options: Item = field(default_factory=dict)
    rules: list[Item] = field(default_factory=list)
    aliases: dict[str, Item] = field(default_factory=dict)  # by name in small letters
    ipsets: dict[str, list[Item]] = field(default_factory=dict)
    ipset_comments: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[Item]] = field(default_factory=dict)
    group_comments: dict[str, str] = field(default_factory=dict)

    def copy(self) -> "Firewall":
        return deepcopy(self)

    def alias_list(self) -> list[Item]:
        return [self.aliases[name] for name in sorted(self.aliases)]

    def ipset_list(self) -> list[Item]:
        return [_commented({"name": name}, self.ipset_comments.get(name)) for name in sorted(self.ipsets)]

    def group_list(self) -> list[Item]:
        return [_commented({"group": name}, self.group_comments.get(name)) for name in sorted(self.groups)]

    def refs(self, scope: str, kind: str | None) -> list[Item]:
        """What a rule may name as a source or a destination."""
        sets = [{"type": "ipset", "ref": f"+{one['name']}", "scope": scope, **one} for one in self.ipset_list()]
        names = [
            _commented({"type": "alias", "name": name, "ref": name, "scope": scope}, self.aliases[name].get("comment"))
            for name in sorted(self.aliases)
        ]
        return [one for one in [*sets, *names] if kind in (None, one["type"])]


def _commented(entry: Item, comment: str | None) -> Item:
    return {**entry, "comment": comment} if comment else entry


def _sha1(entries: Iterable[Mapping[str, Any]]) -> str:
    text = "".join(f"{key}:{entry[key]}\n" for entry in entries for key in sorted(entry) if entry[key] is not None)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def digest_of(entries: Iterable[Mapping[str, Any]]) -> str:
    """The digest of a list, as PVE takes it: of all its entries' keys and values."""
    return _sha1(entries)


def with_digest(entries: list[Item]) -> list[Item]:
    digest = digest_of(entries)
    return [{**entry, "digest": digest} for entry in entries]


def check_digest(given: str | None, entries: Iterable[Mapping[str, Any]]) -> None:
    if given and given != digest_of(entries):
        die("detected modified configuration - file changed by other user? Try again.")


def moved(rules: list[Item], position: int, target: int) -> list[Item]:
    """The rule goes before the one that is at the target now; beyond the end: to the end."""
    rule = rules[position]
    found: list[Item] = []
    for index, other in enumerate(rules):
        if index == position:
            continue
        if index == target:
            found.append(rule)
        found.append(other)
    return [*found, rule] if target >= len(rules) else found


# What is wrong with a rule.


def _wrong(name: str, text: str) -> NoReturn:
    raise bad_parameter(name, text)


@dataclass
class _Family:
    """The family of the addresses that a rule has so far."""

    number: int = 0

    def meet(self, number: int, name: str) -> None:
        if number and self.number and number != self.number:
            if name == "proto":
                die("detected mixed ipv4/ipv6 addresses in rule")
            _wrong(name, "detected mixed ipv4/ipv6 addresses in rule")
        self.number = number or self.number


def verify(rule: Item, env: str, near: Firewall, cluster: Firewall) -> None:
    """Refused 400 for a rule that PVE does not take. `near`: the file it is in. Fills in what PVE derives."""
    _check_type(rule, env)
    if iface := rule.get("iface"):
        if env == "group":
            _wrong("type", "parameter -i not allowed for this rule type")
        if env in ("vm", "ct") and not re.fullmatch(r"net\d+", iface):
            _wrong("iface", "value does not match the regex pattern 'net\\d+'")
    if macro := rule.get("macro"):
        if macro.lower() not in PREFERRED:
            _wrong("macro", f"unknown macro '{macro}'")
        rule["macro"] = PREFERRED[macro.lower()]
    family = _Family()
    family.meet({"icmp": 4, "icmpv6": 6, "ipv6-icmp": 6}.get(rule.get("proto", ""), 0), "proto")
    _check_ports(rule)
    _check_icmp(rule)
    for name in ("source", "dest"):
        if rule.get(name):
            family.meet(family_of(rule[name]), name)
            _check_reference(rule, name, near, cluster, family)
    rule.pop("ipversion", None)
    if family.number:
        rule["ipversion"] = family.number
    if rule.get("macro"):
        _check_macro(rule, family.number)


def _check_type(rule: Item, env: str) -> None:
    kind, action = rule["type"], rule["action"]
    if kind not in DIRECTIONS[env]:
        _wrong("type", f"invalid rule type '{kind}' for rule_env '{env}'")
    if kind == "group":
        if not re.fullmatch(NAME, action):
            _wrong("action", "invalid characters in security group name")
        return
    if kind == "forward" and action == "REJECT":
        _wrong("action", "cannot define REJECT rules on forward chain")
    if action not in ("ACCEPT", "DROP", "REJECT"):
        _wrong("action", f"unknown action '{action}'")


def _check_ports(rule: Item) -> None:
    proto = rule.get("proto")
    for name, icmp in (("dport", proto in ICMP), ("sport", False)):
        if not rule.get(name):
            continue
        try:
            check_ports(rule[name], icmp=icmp)
        except ValueError as error:
            _wrong(name, str(error))
        if not proto:
            _wrong("proto", f"missing property - '{name}' requires this property")
        if proto not in WITH_PORTS and not icmp:
            _wrong(name, f"protocol '{proto}' does not support ports")


def _check_icmp(rule: Item) -> None:
    kind, proto = rule.get("icmp-type"), rule.get("proto")
    if not kind:
        return
    if proto not in ICMP:
        _wrong("proto", "missing property - 'icmp-type' requires this property")
    if rule.get("dport"):
        _wrong("icmp-type", "'icmp-type' cannot be specified together with 'dport'")
    if kind not in {"icmp": ICMP_4, "icmpv6": ICMP_6, "ipv6-icmp": ICMP_6}.get(str(proto), ICMP_4 | ICMP_6):
        _wrong("icmp-type", f"invalid icmp-type '{kind}' for proto '{proto}'")


def _check_reference(rule: Item, name: str, near: Firewall, cluster: Firewall, family: _Family) -> None:
    value = rule[name]
    if value.startswith("+"):
        found = re.fullmatch(rf"\+(guest/|dc/|sdn/)?({NAME})", value)
        if found is None:
            _wrong(name, f"invalid ipset name '{value}'")
        if found[2] not in near.ipsets and found[2] not in cluster.ipsets:
            _wrong(name, f"no such ipset '{found[2]}'")
        return
    if found := re.fullmatch(rf"(guest/|dc/)?({NAME})", value):
        alias = find_alias(found[1] or "", found[2], near, cluster)
        if alias is None:
            _wrong(name, f"no such alias '{value}'")
        family.meet(family_of(alias["cidr"]), name)


def find_alias(scope: str, name: str, near: Firewall, cluster: Firewall) -> Item | None:
    places = [near] if scope != "dc/" else []
    places += [cluster] if scope != "guest/" else []
    return next((place.aliases[name.lower()] for place in places if name.lower() in place.aliases), None)


def _check_macro(rule: Item, family: int) -> None:
    """What the macro says already cannot be said again otherwise."""
    name = rule["macro"]
    if name not in MACROS and family == 4:
        return  # of IPv6 alone: such a rule does nothing
    of_family = MACROS_6.get(name, MACROS.get(name, "")) if family == 6 else MACROS.get(name, MACROS_6.get(name, ""))
    for word in of_family.split():
        said = dict(zip(("proto", "dport", "sport"), word.split("/"), strict=False))
        for key, value in said.items():
            if rule.get(key) and rule[key] != value:
                _wrong(key, f"parameter '{key}' already define in macro (value = '{value}')")
