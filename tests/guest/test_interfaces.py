"""Interfaces as the agent tells them, good, odd and hostile."""

import json
import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixops_proxmox.errors import DeployError
from nixops_proxmox.guest.interfaces import addresses_of, with_mac
from nixops_proxmox.model import Address, Reach
from nixops_proxmox.pve.api.answers import MOST_ADDRESSES, MOST_INTERFACES, AgentInterface, parse_interfaces
from nixops_proxmox.reach.candidates import Criteria, choose_candidates
from nixops_proxmox.spec import EndpointPolicy
from tests.pace import patience


def classify(ip: IPv4Address | IPv6Address) -> Reach | None:
    return None if ip.is_link_local or ip.is_loopback else Reach.PRIVATE if ip.is_private else Reach.PUBLIC


def link(name: str, mac: str, *addresses: str) -> AgentInterface:
    return AgentInterface(name, mac, tuple((ip_address(text), 24) for text in addresses))


def test_every_address_is_kept_with_its_interface_and_mac() -> None:
    seen = [
        link("lo", "00:00:00:00:00:00", "127.0.0.1", "::1"),
        link("eth0", "BC:24:11:00:00:01", "10.0.0.5", "fe80::1%eth0", "8.8.8.8"),
        link("tun0", "", "10.9.0.1"),
        link("down", "bc:24:11:00:00:02"),
    ]
    mac = "bc:24:11:00:00:01"
    assert addresses_of(seen, classify) == (
        Address(ip_address("127.0.0.1"), Reach.PRIVATE, "lo", ""),
        Address(ip_address("::1"), Reach.PRIVATE, "lo", ""),
        Address(ip_address("10.0.0.5"), Reach.PRIVATE, "eth0", mac),
        Address(ip_address("fe80::1"), Reach.PRIVATE, "eth0", mac),
        Address(ip_address("8.8.8.8"), Reach.PUBLIC, "eth0", mac),
        Address(ip_address("10.9.0.1"), Reach.PRIVATE, "tun0", ""),
    )


def test_the_same_address_twice_on_one_link_counts_once() -> None:
    assert len(addresses_of([link("eth0", "02:00:00:00:00:01", "10.0.0.5", "10.0.0.5")], classify)) == 1


def test_windows_macs_and_strange_names_are_made_plain() -> None:
    (address,) = addresses_of([link("Ether\x1b[2Jnet\n" + "x" * 100, "BC-24-11-00-00-01", "10.0.0.5")], classify)
    assert address.mac == "bc:24:11:00:00:01"
    assert address.interface == "Ether[2Jnet" + "x" * 53


def test_addresses_on_the_vms_nics_come_in_the_order_of_the_nics() -> None:
    one, two = "bc:24:11:00:00:01", "bc:24:11:00:00:02"
    seen = addresses_of(
        [link("b", two, "10.0.0.2"), link("x", "02:42:00:00:00:01", "172.17.0.1"), link("a", one, "10.0.0.1")], classify
    )
    assert [str(address.ip) for address in with_mac(seen, [one.upper(), two])] == ["10.0.0.1", "10.0.0.2"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
ADDRESS = st.fixed_dictionaries(
    {},
    optional={
        "ip-address": JSON | st.ip_addresses().map(str) | st.just("fe80::1%eth0") | st.just("1.2.3.4/24"),
        "ip-address-type": JSON,
        "prefix": JSON,
    },
)
ROW = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON,
        "hardware-address": JSON | st.just("BC-24-11-00-00-01"),
        "ip-addresses": JSON | st.lists(ADDRESS | JSON, max_size=4),
    },
)


@settings(max_examples=500, deadline=None)
@given(JSON | st.fixed_dictionaries({"result": JSON | st.lists(ROW | JSON, max_size=4)}))
def test_whatever_a_guest_answers_is_addresses_or_our_own_error(answer: Any) -> None:
    try:
        found = addresses_of(parse_interfaces(answer), classify)
    except DeployError as error:
        assert error.message
        return
    assert all(isinstance(address, Address) for address in found)
    json.dumps([str(address.ip) for address in found])


@pytest.mark.parametrize("answer", [{"result": []}, {"result": [{"name": "eth0"}]}])
def test_no_addresses_yet_is_no_error(answer: Any) -> None:
    assert addresses_of(parse_interfaces(answer), classify) == ()


def test_a_guest_that_tells_a_flood_of_addresses_costs_no_time() -> None:
    address = [{"ip-address": f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", "prefix": 8} for i in range(200_000)]
    answer = {"result": [{"name": "eth0", "hardware-address": "bc:24:11:00:00:01", "ip-addresses": address}] * 3}
    began = time.process_time()
    seen = parse_interfaces(answer)
    assert sum(len(one.addresses) for one in seen) == MOST_ADDRESSES
    many = parse_interfaces({"result": [{"name": f"veth{i}"} for i in range(200_000)]})
    assert len(many) == MOST_INTERFACES
    choose_candidates(addresses_of(seen, classify), Criteria(EndpointPolicy()))
    assert time.process_time() - began < patience(2)
