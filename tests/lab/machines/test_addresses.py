"""Which addresses guests get, and what the agent tells of them."""

import ipaddress

import pytest

from nixops_proxmox.lab.machines.base import NicSlot
from nixops_proxmox.lab.machines.simulated.addresses import Leases, eui64, plan, qga_interface
from nixops_proxmox.lab.machines.simulated.sandbox import route_lines
from nixops_proxmox.lab.network import bridge_lines, segment, subnet

MAC = "BC:24:11:00:00:01"
NIC = NicSlot("net0", "virtio", MAC, "vmbr0")


def addresses(declared: dict[str, object], *, installer: bool = False, slot: NicSlot = NIC) -> list[str]:
    [nic] = plan([slot], Leases(), declared, installer=installer, renew=True, decoys=False)
    return [str(address) for address in nic.addresses if not address.is_link_local]


@pytest.mark.parametrize(
    ("said", "v4", "v6"),
    [
        ({"mac": MAC.lower(), "ipv4": "10.77.0.9/24", "ipv6": "none"}, ["10.77.0.9/24"], []),
        ({"name": "eth0", "ipv4": "none", "ipv6": "fd77:77::9/64"}, [], ["fd77:77::9/64"]),
    ],
)
def test_the_installed_system_has_what_it_declares(said: dict[str, object], v4: list[str], v6: list[str]) -> None:
    assert addresses({"interfaces": [said]}) == v4 + v6
    assert addresses({"interfaces": [said]}, installer=True) == addresses({}, installer=True)


@pytest.mark.parametrize("words", [("dhcp", "auto"), ("dhcp", "dhcp"), ("auto", "auto")])
def test_automatic_is_automatic_however_it_is_called(words: tuple[str, str]) -> None:
    assert addresses({"interfaces": [{"mac": MAC, "ipv4": words[0], "ipv6": words[1]}]}) == addresses({})


def test_the_same_machine_gets_the_same_lease_and_no_two_share_one() -> None:
    leases = Leases()
    net = subnet("vmbr0")
    given = {mac: leases.lease(net, mac) for mac in map(str, range(201))}
    assert len(set(given.values())) == 201 and None not in given.values()
    assert all(leases.lease(net, mac) == lease for mac, lease in given.items())
    exhausted = [leases.lease(net, f"late {number}") for number in range(10)]
    assert None in exhausted


def test_slaac_is_rfc_4291() -> None:
    made = eui64(ipaddress.IPv6Network("fd77:77::/64"), "bc:24:11:00:00:01")
    assert str(made) == "fd77:77::be24:11ff:fe00:1/64"


@pytest.mark.parametrize(
    ("bridge", "tag", "v4", "v6", "name"),
    [
        ("vmbr0", 0, "10.77.0.0/24", "fd77:77::/64", "vmbr0"),
        ("vmbr0", 42, "10.78.42.0/24", "fd77:78:42::/64", "vmbr0v42"),
        ("vmbr3", 0, None, "fd77:77:3::/64", "vmbr3"),
        ("vmbr7", 0, "10.77.7.0/24", "fd77:77:7::/64", "vmbr7"),
    ],
)
def test_every_bridge_and_vlan_is_a_segment(bridge: str, tag: int, v4: str | None, v6: str, name: str) -> None:
    net = subnet(bridge, tag)
    assert (str(net.v4) if net.v4 else None, str(net.v6[0]), segment(bridge, tag)) == (v4, v6, name)
    assert any("fd77" in line for line in bridge_lines(bridge, tag))


def test_the_operator_has_no_address_on_an_isolated_bridge() -> None:
    assert not any("address add" in line for line in bridge_lines("vmbr1"))


def test_addresses_that_look_public_look_so_to_python() -> None:
    assert all(prefix[9].is_global for prefix in (*subnet("vmbr2").v6, subnet("vmbr0").v6[1]))
    assert subnet("vmbr2").v4 is not None and subnet("vmbr2").v4[9].is_global  # type: ignore[index]


def test_an_interface_without_addresses_has_no_such_key() -> None:
    [nic] = plan([NIC], Leases(), {}, installer=True, renew=True, decoys=False)
    assert len(qga_interface(nic)["ip-addresses"]) == 4
    [down] = plan(
        [NicSlot("net0", "virtio", MAC, "vmbr0", link_down=True)],
        Leases(),
        {},
        installer=True,
        renew=True,
        decoys=False,
    )
    assert "ip-addresses" not in qga_interface(down)


def test_a_nic_without_a_gateway_does_not_take_the_way_out_from_one_that_has_it() -> None:
    """On a segment where no router announces itself, a guest has only the gateway that it declares."""
    slots = [NIC, NicSlot("net1", "virtio", "BC:24:11:00:00:02", "vmbr5")]
    declared = {
        "interfaces": [
            {"name": "eth0", "ipv4": "10.77.0.9/24", "ipv6": "none", "gateway4": "10.77.0.254"},
            {"name": "eth1", "ipv4": "10.77.5.9/24", "ipv6": "none"},
        ]
    }
    nics = plan(slots, Leases(), declared, installer=False, renew=True, decoys=False)
    assert route_lines(nics) == ["route replace default via 10.77.0.254 dev eth0 metric 1024"]
