"""What VyOS 1.3, 1.4 and 1.5 take: which paths may be set, and what a commit refuses."""

import re
from collections.abc import Iterator
from enum import Enum
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

Tree = dict[str, Any]  # a node's children; a leaf has its value, or a list of them

NETWORK_NAME = "service dhcp(v6)?-server shared-network-name [-_a-zA-Z0-9.]+"
NETWORK = f"{NETWORK_NAME} subnet [^ ]+"
MAPPING = f"{NETWORK} static-mapping [-_a-zA-Z0-9.]+"
MAC = "([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"
FOUR, SIX = "[0-9.]+", "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*"
TEXT = ".{1,255}"
PORTS = "[0-9]+(-[0-9]+)?"
NAME = "[-_a-zA-Z0-9.]+"
INTERFACE = r"[a-z][a-z0-9.]+"


class NotCommitted(Exception):
    """The text is what VyOS says."""


class NodeKind(Enum):
    NODE = "a name, or a word without a value"
    LEAF = "one value"
    MANY = "values"


PathGrammar = list[tuple[str, NodeKind]]


def grammar(version: str) -> PathGrammar:
    """What may be set: the path with its value, as a regular expression each."""
    return [
        *_dhcp(version),
        *_hosts(version),
        *_interfaces(),
        *_routes(version),
        *_nat(version),
        *([] if version == "1.3" else _nat66()),
        *_groups(),
        *_rules(version),
        ("system host-name [-a-zA-Z0-9.]+", NodeKind.LEAF),
        (f"service https (listen-address [0-9a-f.:]+|api keys id {NAME} key .+)", NodeKind.LEAF),
    ]


def find_kind(found: PathGrammar, path: list[str]) -> NodeKind | None:
    text = " ".join(path)
    return next((kind for pattern, kind in found if re.fullmatch(pattern, text)), None)


def _dhcp(version: str) -> PathGrammar:
    mac = "mac" if version == "1.5" else "mac-address"
    options = "option " if version == "1.5" else ""
    six = [] if version == "1.3" else [(f"service dhcpv6-server .* static-mapping [^ ]+ {mac} {MAC}", NodeKind.LEAF)]
    return [
        (NETWORK, NodeKind.NODE),
        (f"{NETWORK_NAME} description {TEXT}", NodeKind.LEAF),
        *([(f"{NETWORK} subnet-id [0-9]+", NodeKind.LEAF)] if version == "1.5" else []),
        (f"{NETWORK} {options}default-router {FOUR}", NodeKind.LEAF),
        (f"{NETWORK} {options}domain-name {NAME}", NodeKind.LEAF),
        (f"{NETWORK} {options}name-server {FOUR}", NodeKind.MANY),
        (f"{NETWORK} lease [0-9]+", NodeKind.LEAF),
        (f"{NETWORK} range [^ ]+ (start|stop) {FOUR}", NodeKind.LEAF),
        (MAPPING, NodeKind.NODE),
        (f"service dhcp-server .* static-mapping [^ ]+ {mac} {MAC}", NodeKind.LEAF),
        (f"{MAPPING} ip-address {FOUR}", NodeKind.LEAF),
        (f"{MAPPING} (duid|identifier) [0-9a-f:]+", NodeKind.LEAF),
        ("service dhcpv6-server .* static-mapping [^ ]+ ipv6-address [0-9a-fA-F:]+", NodeKind.LEAF),
        *six,
    ]


def _hosts(version: str) -> PathGrammar:
    place = "system static-host-mapping host-name [-a-zA-Z0-9.]+"
    return [
        (f"{place} inet [0-9a-fA-F.:]+", NodeKind.LEAF if version == "1.3" else NodeKind.MANY),
        (f"{place} alias {NAME}", NodeKind.MANY),
    ]


def _interfaces() -> PathGrammar:
    place = r"interfaces (ethernet eth|bonding bond|bridge br)[0-9]+"
    return [
        (f"{place}( vif [0-9]{{1,4}})?", NodeKind.NODE),
        (f"{place}( vif [0-9]+)? address [0-9a-f.:]+/[0-9]+", NodeKind.MANY),
        (f"{place}( vif [0-9]+)? description {TEXT}", NodeKind.LEAF),
        (f"{place}( vif [0-9]+)? mtu [0-9]+", NodeKind.LEAF),
    ]


def _routes(version: str) -> PathGrammar:
    """1.3 has no descriptions of routes."""
    place = f"protocols static (route {FOUR}/[0-9]+|route6 {SIX}/[0-9]+)"
    return [
        (f"{place} next-hop [0-9a-f.:]+", NodeKind.NODE),
        (f"{place} blackhole", NodeKind.NODE),
        (f"{place} (next-hop [0-9a-f.:]+|blackhole) distance [0-9]+", NodeKind.LEAF),
        *([] if version == "1.3" else [(f"{place} description {TEXT}", NodeKind.LEAF)]),
    ]


def _nat(version: str) -> PathGrammar:
    name = "" if version == "1.3" else "name "
    rule = "rule [0-9]{1,6}"
    both = f"nat (source|destination) {rule}"
    return [
        (f"{both} description {TEXT}", NodeKind.LEAF),
        (f"nat destination {rule} inbound-interface {name}{INTERFACE}", NodeKind.LEAF),
        (f"nat source {rule} outbound-interface {name}{INTERFACE}", NodeKind.LEAF),
        (f"{both} protocol (tcp|udp|tcp_udp|all)", NodeKind.LEAF),
        (f"{both} (source|destination) address {FOUR}(/[0-9]+|-{FOUR})?", NodeKind.LEAF),
        (f"{both} (source|destination) port {PORTS}", NodeKind.LEAF),
        (f"nat source {rule} translation address (masquerade|{FOUR})", NodeKind.LEAF),
        (f"nat destination {rule} translation address {FOUR}", NodeKind.LEAF),
        (f"{both} translation port {PORTS}", NodeKind.LEAF),
        (f"{both} disable", NodeKind.NODE),
    ]


def _nat66() -> PathGrammar:
    """Sources have prefixes, and no single addresses."""
    rule = "rule [0-9]{1,6}"
    both, length = f"nat66 (source|destination) {rule}", "/[0-9]{1,3}"
    return [
        (f"{both} description {TEXT}", NodeKind.LEAF),
        (f"nat66 destination {rule} inbound-interface name {INTERFACE}", NodeKind.LEAF),
        (f"nat66 source {rule} outbound-interface name {INTERFACE}", NodeKind.LEAF),
        (f"{both} protocol (tcp|udp|tcp_udp|all)", NodeKind.LEAF),
        (f"nat66 source {rule} (source|destination) prefix {SIX}{length}", NodeKind.LEAF),
        (f"nat66 destination {rule} (source|destination) address {SIX}({length})?", NodeKind.LEAF),
        (f"{both} (source|destination) port {PORTS}", NodeKind.LEAF),
        (f"nat66 source {rule} translation address (masquerade|{SIX}({length})?)", NodeKind.LEAF),
        (f"nat66 destination {rule} translation address {SIX}({length})?", NodeKind.LEAF),
        (f"{both} translation port {PORTS}", NodeKind.LEAF),
        (f"{both} disable", NodeKind.NODE),
    ]


def _groups() -> PathGrammar:
    place, name = "firewall group", "[-_a-zA-Z0-9.]{1,31}"
    ends = {"": f"{FOUR}(-{FOUR})?", "ipv6-": f"{SIX}(-{SIX})?"}
    return [
        (f"{place} (ipv6-)?(address|network)-group {name}", NodeKind.NODE),
        (f"{place} (ipv6-)?(address|network)-group {name} description {TEXT}", NodeKind.LEAF),
        *((f"{place} {six}address-group {name} address {end}", NodeKind.MANY) for six, end in ends.items()),
        (f"{place} network-group {name} network {FOUR}/[0-9]+", NodeKind.MANY),
        (f"{place} ipv6-network-group {name} network {SIX}/[0-9]+", NodeKind.MANY),
    ]


def _rules(version: str) -> PathGrammar:
    if version == "1.3":
        sets = {4: f"firewall name {NAME}", 6: f"firewall ipv6-name {NAME}"}
        rule = "rule [0-9]{1,4}"
    else:
        sets = {n: f"firewall ipv{n} ((forward|input|output) filter|name {NAME})" for n in (4, 6)}
        rule = "rule [0-9]{1,6}"
    found: PathGrammar = []
    for family, place in sets.items():
        address = f"{FOUR}(/[0-9]+|-{FOUR})?" if family == 4 else f"{SIX}(/[0-9]+|-{SIX})?"
        icmp = "icmp" if family == 4 else "icmpv6" if version == "1.3" else "ipv6-icmp"
        found += [
            (f"{place} default-action (accept|drop|reject)", NodeKind.LEAF),
            (f"{place} {rule} action (accept|drop|reject)", NodeKind.LEAF),
            (f"{place} {rule} description {TEXT}", NodeKind.LEAF),
            (f"{place} {rule} disable", NodeKind.NODE),
            (f"{place} {rule} protocol (tcp|udp|tcp_udp|all|{icmp})", NodeKind.LEAF),
            (f"{place} {rule} (source|destination) address {address}", NodeKind.LEAF),
            (f"{place} {rule} (source|destination) port {PORTS}", NodeKind.LEAF),
            (f"{place} {rule} (source|destination) group (address|network)-group {NAME}", NodeKind.LEAF),
        ]
        state = "(established|related|new|invalid)"
        if version == "1.3":
            found.append((f"{place} {rule} state {state} enable", NodeKind.NODE))
        else:
            found.append((f"{place} {rule} state {state}", NodeKind.MANY))
            found.append((f"{place} {rule} (in|out)bound-interface name {INTERFACE}", NodeKind.LEAF))
    return found


# What a commit refuses.


def check(tree: Tree, version: str) -> None:
    _check_interfaces(tree)
    _check_mappings(tree)
    _check_networks(tree, version)
    _check_nat(tree)
    for _, family, rule in filter_rules(tree):
        _check_rule(tree, family, rule)


def mappings(tree: Tree) -> Iterator[tuple[str, str, Tree]]:
    """The subnet, the name and the settings of each static mapping."""
    for server in ("dhcp-server", "dhcpv6-server"):
        for network in below(tree, "service", server, "shared-network-name").values():
            for subnet, settings in network.get("subnet", {}).items():
                for name, mapping in settings.get("static-mapping", {}).items():
                    yield subnet, name, mapping


def below(tree: Any, *path: str) -> Tree:
    for word in path:
        tree = tree.get(word, {}) if isinstance(tree, dict) else {}
    return tree if isinstance(tree, dict) else {}


def values(leaf: Any) -> list[str]:
    return [] if leaf is None else list(leaf) if isinstance(leaf, list) else [str(leaf)]


def filter_rules(tree: Tree) -> Iterator[tuple[str, int, Tree]]:
    """Each rule of a firewall, with its place and its family."""
    firewall = below(tree, "firewall")
    sets: list[tuple[str, int, Tree]] = []
    for old, family in (("name", 4), ("ipv6-name", 6)):
        sets += [(f"{old} {name}", family, one) for name, one in below(firewall, old).items()]
    for family in (4, 6):
        of_family = below(firewall, f"ipv{family}")
        chains = {chain: below(of_family, chain, "filter") for chain in ("forward", "input", "output")}
        sets += [(place, family, one) for place, one in (chains | below(of_family, "name")).items()]
    for place, family, one in sets:
        for number in sorted(below(one, "rule"), key=int):
            yield f"{place} {number}", family, one["rule"][number]


def addresses(tree: Tree) -> Iterator[str]:
    """Those of all interfaces."""
    for kind in below(tree, "interfaces").values():
        for one in kind.values():
            yield from values(one.get("address"))
            for vif in below(one, "vif").values():
                yield from values(vif.get("address"))


def _check_interfaces(tree: Tree) -> None:
    for kind in below(tree, "interfaces").values():
        for name, one in kind.items():
            if "vif" in one and not set(one) - {"vif"}:
                raise NotCommitted(f'Interface "{name}" does not exist!')


def _check_mappings(tree: Tree) -> None:
    seen: dict[tuple[str, str], str] = {}
    for subnet, name, mapping in mappings(tree):
        address = mapping.get("ip-address") or mapping.get("ipv6-address")
        mac = mapping.get("mac") or mapping.get("mac-address")
        if not (mac or mapping.get("duid") or mapping.get("identifier")):
            raise NotCommitted(
                f'Either MAC address or Client identifier (DUID) is required for static mapping "{name}"!'
            )
        if address and ip_address(address) not in ip_network(subnet):
            raise NotCommitted(
                f'Configured static lease address for mapping "{name}" is\nnot within shared-network "{subnet}"!'
            )
        for what, value in (("IP", address), ("MAC", mac and f"{subnet} {mac.lower()}")):
            if value and (what, value) in seen:
                raise NotCommitted(
                    f'Configured {what} address for static mapping "{name}" already exists on another static mapping'
                )
            if value:
                seen[what, value] = name


def _check_networks(tree: Tree, version: str) -> None:
    networks = below(tree, "service", "dhcp-server", "shared-network-name")
    ids: list[str] = []
    of_router = [ip_interface(one).ip for one in addresses(tree)]
    reached = not networks
    for name, network in networks.items():
        for subnet, one in below(network, "subnet").items():
            if version == "1.5":
                _check_subnet_id(subnet, one, ids)
            _check_ranges(name, subnet, one)
            reached = reached or any(address in ip_network(subnet) for address in of_router)
    if not reached:
        raise NotCommitted(
            "None of the configured subnets have an appropriate primary IP address on any\nbroadcast interface "
            "configured, nor was there an explicit listen-address\nconfigured for serving DHCP relay packets!"
        )


def _check_subnet_id(subnet: str, one: Tree, ids: list[str]) -> None:
    if "subnet-id" not in one:
        raise NotCommitted(f'Unique subnet ID not specified for subnet "{subnet}"')
    if one["subnet-id"] in ids:
        raise NotCommitted(f'Subnet ID for subnet "{subnet}" is not unique')
    ids.append(one["subnet-id"])


def _check_ranges(name: str, subnet: str, one: Tree) -> None:
    for number, ends in below(one, "range").items():
        if set(ends) != {"start", "stop"}:
            raise NotCommitted(f'DHCP range "{number}" start and stop address must be defined!')
        for key, address in ends.items():
            if ip_address(address) not in ip_network(subnet):
                text = f'DHCP range "{number}" {key} address not within shared-network "{name}, {subnet}"!'
                raise NotCommitted(text)
    if not one.get("range") and not one.get("static-mapping"):
        raise NotCommitted(
            f'No DHCP address range or active static-mapping configured\nwithin shared-network "{name}, {subnet}"!'
        )


def _check_nat(tree: Tree) -> None:
    for nat, name in (("nat", "NAT"), ("nat66", "NAT66")):
        for side in ("source", "destination"):
            for number, rule in below(tree, nat, side, "rule").items():
                _check_nat_rule(rule, f"{side.capitalize()} {name} configuration error in rule {number}:")


def _check_nat_rule(rule: Tree, where: str) -> None:
    if not below(rule, "translation"):
        raise NotCommitted(
            f"{where} translation address not specified"
            if "NAT66" in where
            else f"{where} translation requires address and/or port"
        )
    ports = [below(rule, part).get("port") for part in ("source", "destination", "translation")]
    if any(ports) and rule.get("protocol") not in ("tcp", "udp", "tcp_udp"):
        raise NotCommitted(f"{where} ports can only be specified when protocol is either tcp, udp or tcp_udp!")


def _check_rule(tree: Tree, family: int, rule: Tree) -> None:
    if "action" not in rule:
        raise NotCommitted("Rule action must be defined")
    for side in ("destination", "source"):
        end = below(rule, side)
        for kind, name in below(end, "group").items():
            full = f"ipv6-{kind}" if family == 6 else kind
            if name not in below(tree, "firewall", "group", full):
                raise NotCommitted(f'Invalid {full} "{name}" on firewall rule')
            if "address" in end:
                raise NotCommitted(f"{full} and address cannot both be defined")
        if "port" in end and rule.get("protocol") not in ("tcp", "udp", "tcp_udp"):
            raise NotCommitted(
                "Protocol must be tcp, udp, or tcp_udp when specifying a port or port-group"
                if "protocol" in rule
                else "Protocol must be defined if specifying a port or port-group"
            )
