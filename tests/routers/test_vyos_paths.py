"""What VyOS is told in each of its releases, as people would type it."""

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.lab.routers.vyos_grammar import find_kind, grammar
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
from nixops_proxmox.routers.vyos_paths import leaves_in, sort_key, units_in, units_of

VERSIONS = ("1.3", "1.4", "1.5")
MARK = "nixops-proxmox:demo/edge"


def parts(**given: object) -> RouterParts:
    return RouterParts(5000, 5999, **given)  # type: ignore[arg-type]


def told(what: RouterParts, version: str) -> list[str]:
    """The commands, without the words `set` and our mark."""
    units = units_of(what, version, MARK)
    paths = [(*unit.path, *leaf) for unit in units for leaf in sorted(unit.leaves, key=sort_key)]
    return [" ".join(path) for path in paths if path[-2] != "description"]


VLAN = parts(vlans=[VlanPart("eth1", 20, ("10.20.0.1/24",)), VlanPart("bond0", 30)])
ROUTES = parts(routes=[StaticRoute("10.30.0.0/16", "10.20.0.2", 5), StaticRoute("fd00:1::/64")])
DHCP = parts(dhcp=[Dhcp("LAN", "10.20.0.0/24", "10.20.0.100", "10.20.0.200", "10.20.0.1", ("10.20.0.1",), "lan", 600)])
HOST = parts(hosts=[HostName("git.lan", ("10.20.0.5", "fd00::5"))])
NAT = parts(
    masquerade=[SourceNat("eth0", "10.20.0.0/24"), SourceNat("eth0", address="192.0.2.7")],
    forwards=[Forward("eth0", "tcp", "443", "10.20.0.5", to_port="8443"), Forward("eth0", "udp", "53", "10.20.0.5")],
)
GROUP = parts(
    groups=[GroupPart("db", ("10.20.0.5", "fd00::5")), GroupPart("lab", ("10.20.0.0/24",), True), GroupPart("none", ())]
)
RULES = parts(
    groups=[GroupPart("db", ("10.20.0.5",))],
    rules=[
        FilterRule("forward", 4, "accept", "tcp", "5432", End("192.0.2.0/24"), End(group="db"), "eth0", "eth1"),
        FilterRule("forward", 6, "accept", "icmp", states=("established", "related")),
        FilterRule("guard", 4, "drop", enable=False),
    ],
)
LAN = "service dhcp-server shared-network-name LAN subnet 10.20.0.0/24"
EXPECTED: dict[str, tuple[RouterParts, dict[str, list[str]]]] = {
    "VLANs": (VLAN, {"1.3 1.4 1.5": ["interfaces ethernet eth1 vif 20 address 10.20.0.1/24"]}),
    "routes": (
        ROUTES,
        {
            "1.3 1.4 1.5": [
                "protocols static route 10.30.0.0/16 next-hop 10.20.0.2 distance 5",
                "protocols static route6 fd00:1::/64 blackhole",
            ]
        },
    ),
    "DHCP": (
        DHCP,
        {
            "1.3 1.4": [
                f"{LAN} default-router 10.20.0.1",
                f"{LAN} domain-name lan",
                f"{LAN} lease 600",
                f"{LAN} name-server 10.20.0.1",
                f"{LAN} range 0 start 10.20.0.100",
                f"{LAN} range 0 stop 10.20.0.200",
            ],
            "1.5": [
                f"{LAN} lease 600",
                f"{LAN} option default-router 10.20.0.1",
                f"{LAN} option domain-name lan",
                f"{LAN} option name-server 10.20.0.1",
                f"{LAN} range 0 start 10.20.0.100",
                f"{LAN} range 0 stop 10.20.0.200",
                f"{LAN} subnet-id 169082880",
            ],
        },
    ),
    "names": (
        HOST,
        {
            "1.3": [
                "system static-host-mapping host-name git.lan alias by-nixops-demo_2fedge",
                "system static-host-mapping host-name git.lan inet 10.20.0.5",
            ],
            "1.4 1.5": [
                "system static-host-mapping host-name git.lan alias by-nixops-demo_2fedge",
                "system static-host-mapping host-name git.lan inet 10.20.0.5",
                "system static-host-mapping host-name git.lan inet fd00::5",
            ],
        },
    ),
    "NAT": (
        NAT,
        {
            "1.3": [
                "nat source rule 5000 outbound-interface eth0",
                "nat source rule 5000 source address 10.20.0.0/24",
                "nat source rule 5000 translation address masquerade",
                "nat source rule 5001 outbound-interface eth0",
                "nat source rule 5001 translation address 192.0.2.7",
                "nat destination rule 5000 destination port 443",
                "nat destination rule 5000 inbound-interface eth0",
                "nat destination rule 5000 protocol tcp",
                "nat destination rule 5000 translation address 10.20.0.5",
                "nat destination rule 5000 translation port 8443",
                "nat destination rule 5001 destination port 53",
                "nat destination rule 5001 inbound-interface eth0",
                "nat destination rule 5001 protocol udp",
                "nat destination rule 5001 translation address 10.20.0.5",
            ],
            "1.4 1.5": [
                "nat source rule 5000 outbound-interface name eth0",
                "nat source rule 5000 source address 10.20.0.0/24",
                "nat source rule 5000 translation address masquerade",
                "nat source rule 5001 outbound-interface name eth0",
                "nat source rule 5001 translation address 192.0.2.7",
                "nat destination rule 5000 destination port 443",
                "nat destination rule 5000 inbound-interface name eth0",
                "nat destination rule 5000 protocol tcp",
                "nat destination rule 5000 translation address 10.20.0.5",
                "nat destination rule 5000 translation port 8443",
                "nat destination rule 5001 destination port 53",
                "nat destination rule 5001 inbound-interface name eth0",
                "nat destination rule 5001 protocol udp",
                "nat destination rule 5001 translation address 10.20.0.5",
            ],
        },
    ),
    "groups": (
        GROUP,
        {
            "1.3 1.4 1.5": [
                "firewall group address-group db address 10.20.0.5",
                "firewall group ipv6-address-group db address fd00::5",
                "firewall group network-group lab network 10.20.0.0/24",
            ]
        },
    ),
    "rules": (
        RULES,
        {
            "1.4 1.5": [
                "firewall group address-group db address 10.20.0.5",
                "firewall ipv4 forward filter rule 5000 action accept",
                "firewall ipv4 forward filter rule 5000 destination group address-group db",
                "firewall ipv4 forward filter rule 5000 destination port 5432",
                "firewall ipv4 forward filter rule 5000 inbound-interface name eth0",
                "firewall ipv4 forward filter rule 5000 outbound-interface name eth1",
                "firewall ipv4 forward filter rule 5000 protocol tcp",
                "firewall ipv4 forward filter rule 5000 source address 192.0.2.0/24",
                "firewall ipv6 forward filter rule 5000 action accept",
                "firewall ipv6 forward filter rule 5000 protocol ipv6-icmp",
                "firewall ipv6 forward filter rule 5000 state established",
                "firewall ipv6 forward filter rule 5000 state related",
                "firewall ipv4 name guard rule 5000 action drop",
                "firewall ipv4 name guard rule 5000 disable",
            ]
        },
    ),
    "rules of 1.3": (
        parts(
            rules=[
                FilterRule("LAN-IN", 4, "accept", states=("established",)),
                FilterRule("LAN-IN", 6, "reject", "icmp", source=End("fd00::/64")),
            ]
        ),
        {
            "1.3": [
                "firewall name LAN-IN rule 5000 action accept",
                "firewall name LAN-IN rule 5000 state established enable",
                "firewall ipv6-name LAN-IN rule 5000 action reject",
                "firewall ipv6-name LAN-IN rule 5000 protocol icmpv6",
                "firewall ipv6-name LAN-IN rule 5000 source address fd00::/64",
            ]
        },
    ),
}
CASES = [(what, version) for what, (_, by) in EXPECTED.items() for versions in by for version in versions.split()]


@pytest.mark.parametrize(("what", "version"), CASES)
def test_each_release_has_its_words(what: str, version: str) -> None:
    given, by_version = EXPECTED[what]
    assert told(given, version) == next(lines for versions, lines in by_version.items() if version in versions)


@pytest.mark.parametrize(("what", "version"), CASES)
def test_the_release_takes_all_of_it_and_each_part_says_whose_it_is(what: str, version: str) -> None:
    known = grammar(version)
    for unit in units_of(EXPECTED[what][0], version, MARK):
        for leaf in unit.leaves:
            assert find_kind(known, [*unit.path, *leaf]), (unit.path, leaf)
        marked = [leaf for leaf in unit.leaves if leaf[-1] in (MARK, "by-nixops-demo_2fedge")]
        assert bool(marked) == (version != "1.3" or what != "routes")


@pytest.mark.parametrize(
    ("given", "version", "words"),
    [
        (parts(vlans=[VlanPart("wg0", 5)]), "1.5", "VyOS has no VLANs on wg0"),
        (RULES, "1.3", "VyOS 1.3 has no rule set forward"),
        (parts(rules=[FilterRule("IN", 4, "drop", from_interface="eth0")]), "1.3", "has no interfaces in rules"),
        (RouterParts(1, 1, masquerade=[SourceNat("eth0"), SourceNat("eth1")]), "1.4", "more rules for nat source than"),
        (RouterParts(9999, 10500, rules=[FilterRule("IN", 4, "drop")] * 2), "1.3", "more rules for firewall name IN"),
    ],
)
def test_what_a_release_cannot_have_is_told(given: RouterParts, version: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        units_of(given, version, MARK)


def test_what_showconfig_tells_is_read_in_all_its_shapes() -> None:
    tree = {"rule": {"5000": {"disable": {}, "state": ["new", "invalid"], "source": {"address": "10.0.0.0/8"}}}}
    ((path, leaves),) = units_in(("nat",), {"source": tree})
    assert path == ("nat", "source", "rule", "5000")
    assert leaves == {("disable",), ("state", "new"), ("state", "invalid"), ("source", "address", "10.0.0.0/8")}
    assert leaves_in("x") == {("x",)} and dict(units_in(("nat",), {"source": []})) == {}
