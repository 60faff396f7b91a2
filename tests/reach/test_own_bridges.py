"""A bridge that carries the NIC's own MAC address has the guest's address; any other bridge does not."""

from ipaddress import ip_address

import pytest

from nixops_proxmox.model import Address, Reach
from nixops_proxmox.reach.candidates import Criteria, find_objection
from nixops_proxmox.spec import EndpointPolicy

MAC = "bc:24:11:00:00:01"


@pytest.mark.parametrize("name", ["br-lan", "lxdbr0", "vnet1", "virbr0"])
def test_the_nics_own_mac_makes_it_the_guests(name: str) -> None:
    def objection(mac: str, *denied: str) -> str | None:
        wanted = Criteria(EndpointPolicy(deny_interfaces=denied), (MAC.upper(),))
        return find_objection(Address(ip_address("10.0.0.5"), Reach.PRIVATE, name, mac), wanted)

    assert objection(MAC) is None
    assert objection("02:42:00:00:00:01")
    assert objection("")
    assert objection(MAC, name)
