"""How what PVE has differs from what is described: by PVE's keys, in PVE's spellings."""

from typing import Any

import pytest

from nixops_proxmox.kinds.network.wanted import Seen, differences, unlike, zone_of
from nixops_proxmox.spec.virtual_network import VirtualNetwork

RANGE = "start-address=10.9.0.9,end-address=10.9.0.99"


@pytest.mark.parametrize(
    ("wanted", "have", "found"),
    [
        ({"tag": 20}, {"tag": "20"}, {}),
        ({"tag": 20}, {"tag": 30}, {"tag": ("30", "20")}),
        ({"nodes": "pve1,pve2"}, {"nodes": "pve2,pve1"}, {}),
        ({"dhcp-range": [RANGE]}, {"dhcp-range": [{"start-address": "10.9.0.9", "end-address": "10.9.0.99"}]}, {}),
        ({}, {"gateway": "10.9.0.1", "mtu": 1400}, {"gateway": ("10.9.0.1", "")}),
        ({}, {"snat": 0, "dhcp-range": []}, {}),
    ],
)
def test_only_what_is_described_and_what_we_could_describe_differs(
    wanted: dict[str, Any], have: dict[str, Any], found: dict[str, tuple[str, str]]
) -> None:
    assert unlike(wanted, have) == found


def test_a_zone_is_of_the_sort_that_the_description_needs() -> None:
    assert zone_of(VirtualNetwork(name="a", vnet="aa", bridge="vmbr0", vlan=5)) == {"type": "vlan", "bridge": "vmbr0"}
    assert zone_of(VirtualNetwork(name="a", vnet="aa", subnet="10.9.0.0/24")) == {"type": "simple", "ipam": "pve"}


def test_what_is_missing_and_what_waits_has_a_line_each() -> None:
    spec = VirtualNetwork(name="a", vnet="aa", bridge="vmbr0", vlan=5)
    vnet = {"zone": "aa", "alias": "ours", "tag": 5}
    seen = Seen(vnet=vnet, waiting=("vnet aa",), behind={"pve2": "pending"}, locked=True)
    assert list(differences(spec, seen, "ours")) == [
        "a run that was cut off may still hold the lock of SDN",
        "zone aa is missing",
        "vnet aa waits to be applied",
        "pve2 has not taken it over: pending",
    ]
