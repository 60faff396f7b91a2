"""Which address NixOps is told, and by which one machine reaches another."""

from ipaddress import ip_address

import pytest

from nixops_proxmox.model import Address, Endpoint, Facts, Phase, Reach
from nixops_proxmox.nixops2.addresses import find_common, find_ipv4, hosts_of, own_addresses
from nixops_proxmox.spec import MachineSpec, parse_machine


def spec(*bridges: str) -> MachineSpec:
    """Bridges as letters; `a.5` is VLAN 5 of it."""
    nics = [
        {"bridge": f"vmbr{ord(bridge[0])}"} | ({"tag": int(bridge.split(".")[1])} if "." in bridge else {})
        for bridge in bridges
    ]
    return parse_machine("web", {"proxmox": {"disks": [{"storage": "local", "size": 8}], "network": nics}})


def facts(*addresses: tuple[str, str], endpoint: str = "") -> Facts:
    """(address, MAC); private unless it starts with 2 or 8."""
    made = tuple(
        Address(ip_address(text), Reach.PUBLIC if text[0] in "28" else Reach.PRIVATE, "", mac)
        for text, mac in addresses
    )
    return Facts(macs=("m0", "m1"), addresses=made, endpoint=Endpoint(endpoint) if endpoint else None)


def test_loopback_and_containers_are_not_the_machines_addresses() -> None:
    known = facts(("127.0.0.1", ""), ("172.17.0.1", "docker"), ("10.0.0.5", "m0"))
    assert find_ipv4(known.addresses, known, Reach.PRIVATE) == "10.0.0.5"
    assert find_ipv4(known.addresses, known, Reach.PUBLIC) is None


def test_the_proven_address_comes_first() -> None:
    known = facts(("10.0.0.5", "m0"), ("10.1.0.5", "m1"), endpoint="10.1.0.5")
    assert find_ipv4(known.addresses, known, Reach.PRIVATE) == "10.1.0.5"


BOTH = facts(("10.0.0.5", "m0"), ("fd00::5", "m0"), ("8.8.8.8", "m1"))


@pytest.mark.parametrize(
    ("mine", "here", "theirs", "there", "expected"),
    [
        (spec("a", "b"), BOTH, spec("a"), facts(("10.0.0.6", "m0"), ("fd00::6", "m0")), "10.0.0.6"),
        (spec("a"), facts(("fd00::5", "m0")), spec("a"), facts(("10.0.0.6", "m0"), ("fd00::6", "m0")), "fd00::6"),
        (spec("a.5"), facts(("10.0.0.5", "m0")), spec("a"), facts(("10.0.0.6", "m0"), ("8.0.0.6", "m1")), "8.0.0.6"),
        (spec("x"), BOTH, spec("a"), facts(("10.0.0.6", "m0"), endpoint="10.0.0.6"), "10.0.0.6"),
        (spec("x"), BOTH, spec("a"), facts(), None),
    ],
    ids=[
        "same bridge",
        "a family that both have there",
        "another VLAN: public",
        "nothing in common: proven",
        "nothing",
    ],
)
def test_the_common_address(
    mine: MachineSpec, here: Facts, theirs: MachineSpec, there: Facts, expected: str | None
) -> None:
    assert find_common((mine, here, here.addresses), (theirs, there, there.addresses)) == expected


def test_the_installers_lease_is_not_the_machines() -> None:
    lease = facts(("10.0.0.99", "m0"), ("fd00::99", "m0"))
    static = parse_machine(
        "web",
        {
            "proxmox": {
                "disks": [{"storage": "local", "size": 8}],
                "network": [{"bridge": "vmbr0", "ipv4": "10.0.0.7/24"}],
            }
        },
    )
    for phase in (Phase.REACHABLE, Phase.PARTITIONED, Phase.RESCUE, Phase.RUNNING):
        assert [str(a.ip) for a in own_addresses(phase, static, lease)] == ["10.0.0.7"]
        assert own_addresses(phase, spec("a"), lease) == ()
    assert own_addresses(Phase.READY, static, lease) == lease.addresses


def test_names_are_listed_by_address_and_nobody_without_one() -> None:
    assert hosts_of({"db": "10.0.0.6", "web": None, "far": "vpn.example.org", "six": "fd00::6"}) == {
        "10.0.0.6": ["db"],
        "fd00::6": ["six"],
    }
