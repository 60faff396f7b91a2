"""Networks that machines name: what may be said of one, and what a NIC makes of it."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.parse import parse_machine, parse_network

MACHINE = {"disks": [{"storage": "local-lvm", "size": "4G"}], "memory": "512M"}
SERVED = {
    "vnet": "lan", "subnet": "10.9.0.0/24", "gateway": "10.9.0.1", "dhcpFrom": "10.9.0.9", "dhcpTo": "10.9.0.99",
}  # fmt: skip


def parse(networks: dict[str, Any], nics: list[dict[str, Any]] | None = None, **options: Any) -> NetworkSpec:
    machine = {**MACHINE, "network": nics or [{"bridge": "vmbr0"}], **options}
    return parse_network(
        "demo", {"network": {}, "machines": {"web": {"proxmox": machine}}, "resources": {"networks": networks}}
    )


def test_a_nic_gets_the_bridge_and_the_vlan_of_the_network_that_it_names() -> None:
    networks = {
        "mgmt": {"bridge": "vmbr0", "vlan": 5},
        "lan": SERVED,
        "ten": {"vnet": "ten", "bridge": "vmbr1", "vlan": 9},
    }
    found = parse(
        networks, [{"network": "mgmt"}, {"network": "lan"}, {"network": "ten"}, {"bridge": "vmbr3", "tag": 2}]
    )
    [machine] = found.machines
    assert [(nic.bridge, nic.tag) for nic in machine.network] == [
        ("vmbr0", 5), ("lan", None), ("ten", None), ("vmbr3", 2)
    ]  # fmt: skip
    assert {spec.name for spec in found.resources if spec.is_wanted_by(machine)} == {"mgmt", "lan", "ten"}


def test_a_machine_goes_to_nodes_that_have_its_networks() -> None:
    [machine] = parse({"lan": {**SERVED, "nodes": ["pve1", "pve2"]}}, [{"network": "lan"}]).machines
    assert machine.placement.nodes == ("pve1", "pve2")
    narrowed = parse(
        {"lan": {**SERVED, "nodes": ["pve1", "pve2"]}}, [{"network": "lan"}], placement={"nodes": ["pve2", "pve3"]}
    )
    assert narrowed.machines[0].placement.nodes == ("pve2",)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({}, "networks.lan.bridge: must be set, or vnet"),
        ({"bridge": "vmbr0", "snat": True}, "networks.lan.snat: has no meaning without vnet"),
        ({"vnet": "toolongname"}, "2 to 8 letters and digits"),
        ({"vnet": "a-b"}, "2 to 8 letters and digits"),
        ({"vnet": "lan", "bridge": "vmbr0"}, "networks.lan.vlan: must be set: the vnet is a VLAN of vmbr0"),
        ({"vnet": "lan", "vlan": 7}, "networks.lan.vlan: has no meaning without bridge"),
        ({"vnet": "lan", "zone": "z1", "nodes": ["a"]}, "networks.lan.nodes: has no meaning with zone"),
        ({"vnet": "lan", "gateway": "10.0.0.1"}, "networks.lan.gateway: has no meaning without subnet"),
        ({**SERVED, "gateway": "10.8.0.1"}, "10.8.0.1 is not in 10.9.0.0/24"),
        ({**SERVED, "subnet": "10.9.0.1/24"}, "expected a subnet such as"),
        ({**SERVED, "dhcpTo": "10.9.0.2"}, "networks.lan.dhcpTo: expected an address behind 10.9.0.9"),
        ({key: value for key, value in SERVED.items() if key != "gateway"}, "networks.lan.gateway: must be set"),
        ({**SERVED, "bridge": "vmbr0", "vlan": 3}, "PVE serves DHCP in simple zones only"),
    ],
)
def test_what_cannot_be_is_told_by_its_option(network: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse({"lan": network})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("nic", "said"),
    [
        ({}, "bridge: must be set, or network"),
        ({"network": "lan", "bridge": "vmbr0"}, "bridge: has no meaning with network"),
        ({"network": "lan", "tag": 3}, "tag: has no meaning with network"),
        ({"network": "lam"}, "there is no lam in resources.networks"),
    ],
)
def test_what_a_nic_says_of_its_network_must_fit(nic: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse({"lan": SERVED}, [nic])
    assert said in str(refused.value)


def test_a_machine_alone_has_no_networks_to_name() -> None:
    with pytest.raises(SpecError, match="set bridge instead"):
        parse_machine("web", {"proxmox": {**MACHINE, "network": [{"network": "lan"}]}})


def test_networks_are_on_the_hypervisor_of_their_machines() -> None:
    with pytest.raises(SpecError, match="is on the hypervisor default, not far"):
        parse({"lan": {**SERVED, "profile": "far"}}, [{"network": "lan"}])
    with pytest.raises(SpecError, match="may be on pve3 only"):
        parse({"lan": {**SERVED, "nodes": ["pve1"]}}, [{"network": "lan"}], node="pve3")
