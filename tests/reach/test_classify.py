"""Classification must not depend on the Python that runs it: every opinion is spelled out here."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox.model import Reach
from nixops_proxmox.reach.classify import KINDS, classify, find_reach

PRIVATE, PUBLIC = Reach.PRIVATE, Reach.PUBLIC


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("10.0.0.1", PRIVATE),
        ("172.15.255.255", PUBLIC),
        ("172.16.0.0", PRIVATE),
        ("172.31.255.255", PRIVATE),
        ("172.32.0.0", PUBLIC),
        ("192.168.1.1", PRIVATE),
        ("100.63.255.255", PUBLIC),
        ("100.64.0.1", PRIVATE),  # CGNAT
        ("100.127.255.255", PRIVATE),
        ("100.128.0.0", PUBLIC),
        ("192.0.2.1", PRIVATE),  # documentation
        ("198.51.100.7", PRIVATE),
        ("203.0.113.9", PRIVATE),
        ("198.18.0.1", PRIVATE),  # benchmarking
        ("192.0.0.1", PRIVATE),
        ("192.0.0.9", PUBLIC),
        ("192.0.0.170", None),
        ("192.88.99.1", PUBLIC),  # withdrawn 6to4 anycast
        ("8.8.8.8", PUBLIC),
        ("1.1.1.1", PUBLIC),
        ("127.0.0.1", None),
        ("169.254.1.1", None),
        ("0.1.2.3", None),
        ("224.0.0.1", None),
        ("240.0.0.1", None),
        ("255.255.255.255", None),
        ("fd77:77::1", PRIVATE),  # ULA
        ("fc00::1", PRIVATE),
        ("fec0::1", PRIVATE),
        ("2001:db8::1", PRIVATE),
        ("3fff::1", PRIVATE),
        ("3fff:1000::1", PUBLIC),
        ("3ffe:77::1", PUBLIC),  # 6bone space, returned
        ("2606:4700::1111", PUBLIC),
        ("2001:4860:4860::8888", PUBLIC),
        ("2001::1", PUBLIC),  # Teredo
        ("2001:2::1", PRIVATE),
        ("2001:20::1", None),
        ("2002:c000:204::1", PUBLIC),
        ("64:ff9b::808:808", PUBLIC),
        ("64:ff9b:1::1", PRIVATE),
        ("fe80::1", None),
        ("fe80::1%eth0", None),
        ("::1", None),
        ("::", None),
        ("::ffff:10.0.0.1", None),
        ("ff02::1", None),
        ("4000::1", None),
        ("5f00::1", None),
        ("100::1", None),
    ],
)
def test_every_range_has_one_answer(text: str, reach: Reach | None) -> None:
    assert find_reach(ip_address(text)) == reach


def test_the_most_specific_range_wins() -> None:
    assert classify(ip_address("2001:1::1")).name.startswith("PCP anycast")
    assert classify(ip_address("2001:1::4")).name.startswith("IETF protocol assignments")


def test_no_range_is_listed_twice() -> None:
    assert len({kind.network for kind in KINDS}) == len(KINDS)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_every_address_is_in_the_range_it_is_said_to_be_in(ip) -> None:  # type: ignore[no-untyped-def]
    assert ip in classify(ip).network
