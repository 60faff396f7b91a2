"""The order of candidates, and a reason for each one that is not."""

from ipaddress import ip_address
from typing import Any

import pytest

from nixops_proxmox.model import Address, Endpoint, Reach
from nixops_proxmox.reach.candidates import (
    DENIED_INTERFACES,
    Choice,
    Criteria,
    choose_candidates,
    declared_addresses,
    wanted_of,
)
from nixops_proxmox.reach.classify import find_reach
from nixops_proxmox.spec import EndpointPolicy, IpSpec, MachineSpec, Nic, Ssh

MAC = "bc:24:11:00:00:01"


def address(text: str, interface: str = "eth0", mac: str = MAC) -> Address:
    ip = ip_address(text)
    return Address(ip, find_reach(ip) or Reach.PRIVATE, interface, mac)


def wanted(**policy: Any) -> Criteria:
    return Criteria(EndpointPolicy(**policy), macs=(MAC.upper(),))


def hosts(choice: Choice) -> list[str]:
    return [candidate.endpoint.host for candidate in choice.candidates]


def reasons(choice: Choice) -> dict[str, str]:
    return {entry.address: entry.reason for entry in choice.left_out}


SEEN = [address(text) for text in ("10.0.0.5", "10.0.0.6", "203.0.114.5", "fd77::5", "3ffe:77::5", "3ffe:77::6")]


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ({}, ["fd77::5", "10.0.0.5", "10.0.0.6", "3ffe:77::5", "203.0.114.5", "3ffe:77::6"]),
        (
            {"families": ("ipv4", "ipv6")},
            ["10.0.0.5", "fd77::5", "10.0.0.6", "203.0.114.5", "3ffe:77::5", "3ffe:77::6"],
        ),
        (
            {"reaches": ("public", "private")},
            ["3ffe:77::5", "203.0.114.5", "3ffe:77::6", "fd77::5", "10.0.0.5", "10.0.0.6"],
        ),
        ({"families": ("ipv4",)}, ["10.0.0.5", "10.0.0.6", "203.0.114.5"]),
        ({"reaches": ("public",), "families": ("ipv6",)}, ["3ffe:77::5", "3ffe:77::6"]),
        ({"allow": ("10.0.0.0/8", "fd00::/8")}, ["fd77::5", "10.0.0.5", "10.0.0.6"]),
        ({"deny": ("10.0.0.4/31", "3ffe::/16")}, ["fd77::5", "10.0.0.6", "203.0.114.5"]),
        ({"allow": ("10.0.0.0/8",), "deny": ("10.0.0.5/32",)}, ["10.0.0.6"]),
    ],
)
def test_the_policy_orders_and_sifts(policy: dict[str, Any], order: list[str]) -> None:
    choice = choose_candidates(SEEN, wanted(**policy))
    assert hosts(choice) == order
    assert len(choice.candidates) + len(choice.left_out) == len(SEEN)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (address("172.17.0.1", "docker0", "02:42:00:00:00:01"), "interface docker0 is denied (docker*)"),
        (address("100.101.102.103", "tailscale0", ""), "interface tailscale0 is denied (tailscale*)"),
        (address("10.9.0.1", "wg0", ""), "interface wg0 is denied (wg*)"),
        (address("10.9.0.1", "br-0123456789ab", "02:42:00:00:00:01"), "is denied (br-*)"),
        (address("10.9.0.1", "eth7", "02:00:00:00:00:07"), "MAC address 02:00:00:00:00:07 is not one of the VM's NICs"),
        (address("10.9.0.1", "ppp0", ""), "interface ppp0 has no MAC address"),
        (address("fe80::1", "eth0"), "link-local (RFC 4291)"),
        (address("169.254.3.4", "eth0"), "link-local (RFC 3927)"),
        (address("127.0.0.1", "lo", "00:00:00:00:00:00"), "loopback"),
    ],
)
def test_each_address_left_out_has_its_reason(seen: Address, reason: str) -> None:
    choice = choose_candidates([seen], wanted())
    assert not choice.candidates
    assert reason in reasons(choice)[str(seen.ip)]


def test_an_exclamation_mark_lets_an_interface_in_that_is_no_nic() -> None:
    seen = address("100.101.102.103", "tailscale0", "")
    assert hosts(choose_candidates([seen], wanted(deny_interfaces=("!tailscale*",)))) == ["100.101.102.103"]


def test_patterns_of_the_policy_add_to_the_built_in_ones() -> None:
    choice = choose_candidates([address("10.0.0.5", "storage0"), SEEN[0]], wanted(deny_interfaces=("storage*",)))
    assert hosts(choice) == ["10.0.0.5"]  # the same address on eth0 counts
    assert not choice.left_out
    assert "docker*" in DENIED_INTERFACES


def test_without_known_macs_every_nic_counts() -> None:
    assert hosts(choose_candidates([address("10.0.0.5", "eth0", "")], Criteria(EndpointPolicy()))) == ["10.0.0.5"]


def test_macs_are_compared_in_any_case() -> None:
    assert hosts(choose_candidates([address("10.0.0.5", mac=MAC.upper())], Criteria(EndpointPolicy(), macs=(MAC,))))


def test_an_explicit_address_is_the_only_candidate() -> None:
    for written, host in (("web.example.org", "web.example.org"), ("[fd77::9]", "fd77::9"), ("10.1.1.1", "10.1.1.1")):
        choice = choose_candidates(SEEN, wanted(address=written, jump="admin@gate"))
        assert choice.candidates[0].endpoint == Endpoint(host, 22, "root", "admin@gate")
        assert len(choice.candidates) == 1


def test_a_jump_host_port_and_user_are_in_every_endpoint() -> None:
    choice = choose_candidates(SEEN, Criteria(EndpointPolicy(jump="gate:2222"), (), port=2022, user="deploy"))
    assert {(c.endpoint.port, c.endpoint.user, c.endpoint.jump) for c in choice.candidates} == {
        (2022, "deploy", "gate:2222")
    }


def test_the_remembered_winner_comes_first_while_the_machine_has_it() -> None:
    choice = choose_candidates(SEEN, wanted(), remembered=Endpoint("3ffe:77::6"))
    assert hosts(choice)[:2] == ["3ffe:77::6", "fd77::5"]
    assert choice.candidates[0].origin == "remembered"
    assert len(choice.candidates) == len(SEEN)


def test_a_remembered_address_that_the_machine_lost_is_not_tried() -> None:
    assert "10.0.0.99" not in hosts(choose_candidates(SEEN, wanted(), remembered=Endpoint("10.0.0.99")))


def test_when_nothing_is_seen_the_remembered_winner_is_tried_as_the_policy_says_now() -> None:
    choice = choose_candidates([], wanted(jump="gate"), remembered=Endpoint("10.0.0.99", 2222, "x"))
    assert choice.candidates[0].endpoint == Endpoint("10.0.0.99", 22, "root", "gate")


def test_declared_addresses_count_without_an_interface() -> None:
    nics = (
        Nic(slot="net0", bridge="vmbr0", ipv4=IpSpec(method="static", address=ip_address("10.0.0.9"), prefix=24)),
        Nic(
            slot="net1",
            bridge="vmbr1",
            mac=MAC.upper(),
            ipv6=IpSpec(method="static", address=ip_address("fd00::9"), prefix=64),
        ),
    )
    spec = MachineSpec(name="web", network=nics, ssh=Ssh(port=2022, user="deploy"))
    declared = declared_addresses(spec)
    assert [str(a.ip) for a in declared] == ["10.0.0.9", "fd00::9"]
    choice = choose_candidates([], wanted_of(spec, [MAC]), spec=spec)
    assert [(c.endpoint.host, c.endpoint.port, c.origin) for c in choice.candidates] == [
        ("fd00::9", 2022, "declared"),
        ("10.0.0.9", 2022, "declared"),
    ]


def test_nothing_to_try_is_an_empty_choice() -> None:
    assert choose_candidates([], wanted()) == Choice()
