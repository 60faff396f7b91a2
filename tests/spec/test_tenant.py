"""Tenants: the networks and the firewalls that they stand for, and what does not fit."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.kinds.firewall.rules import rule_text, wanted_rules
from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.spec import NetworkSpec, parse_network
from nixops_proxmox.spec.firewall import MachineFirewall
from nixops_proxmox.spec.virtual_network import VirtualNetwork

RED = {"bridge": "vmbr0", "vlan": 20, "vnet": "red", "subnet": "10.20.0.0/24", "admins": ["192.0.2.0/24"]}
BLUE = {
    "bridge": "vmbr0",
    "vlan": 30,
    "subnet": "10.30.0.0/24",
    "admins": ["192.0.2.0/24"],
    "open": [{"macro": "HTTP"}],
}


def parse(tenants: dict[str, Any], *, machines: dict[str, Any] | None = None, **resources: Any) -> NetworkSpec:
    def machine(network: str, **more: Any) -> dict[str, Any]:
        nics = [{"network": one} for one in network.split()]
        return {"proxmox": {"disks": [{"storage": "local", "size": "4G"}], "network": nics, **more}}

    described = machines or {"red-web": "red", "blue-web": "blue"}
    found = {name: machine(said) if isinstance(said, str) else machine(**said) for name, said in described.items()}
    return parse_network("demo", {"machines": found, "resources": {"tenants": tenants, **resources}})


def rules_of(network: NetworkSpec, machine: str) -> list[str]:
    firewall = next(one for one in network.resources if isinstance(one, MachineFirewall) and one.name == machine)
    around = Neighbourhood((), network.machines, network.resources)
    return [rule_text(rule, "mark") for rule in wanted_rules(firewall.rules, around, "mark")]


def test_a_tenant_is_a_network_and_the_firewalls_of_its_machines() -> None:
    found = parse({"red": RED, "blue": BLUE})
    assert [one.name for one in found.resources if isinstance(one, VirtualNetwork)] == ["red", "blue"]
    assert [(nic.bridge, nic.tag, nic.firewall) for machine in found.machines for nic in machine.network] == [
        ("red", None, True), ("vmbr0", 30, True)
    ]  # fmt: skip
    assert rules_of(found, "red-web") == [
        "out DROP to 10.30.0.0/24 (other tenants)",
        "in DROP from 10.30.0.0/24 (other tenants)",
        "in ACCEPT from 10.20.0.0/24 (tenant red)",
        "in ACCEPT tcp port 22 from 192.0.2.0/24 (who may log in)",
    ]
    assert rules_of(found, "blue-web")[1::3] == ["in DROP from 10.20.0.0/24 (other tenants)", "in ACCEPT HTTP"]
    assert found.warnings == ()


def test_a_machines_own_rules_come_first_and_one_in_both_sees_both() -> None:
    own = {"network": "red", "firewall": {"rules": [{"proto": "udp", "port": 53}], "policyOut": "DROP"}}
    found = parse({"red": RED, "blue": BLUE}, machines={"red-web": own, "both": "red blue"})
    assert rules_of(found, "red-web")[0] == "in ACCEPT udp port 53"
    assert not [rule for rule in rules_of(found, "both") if "DROP" in rule]
    alone = parse({"red": RED}, machines={"red-web": "red"})
    assert "DROP" not in " ".join(rules_of(alone, "red-web")), "a rule without addresses would be one for all"


@pytest.mark.parametrize(
    ("tenants", "said"),
    [
        ({"red": RED, "blue": {**BLUE, "subnet": "10.20.0.0/16"}}, "blue.subnet: 10.20.0.0/16 overlaps 10.20.0.0/24"),
        ({"red": RED, "blue": {**BLUE, "vlan": 20}}, "blue.vlan: it is the VLAN of the tenant red"),
        ({"red": RED, "blue": {**BLUE, "subnet": None}}, "resources.tenants.blue.subnet"),
        ({"red": RED, "blue": {**BLUE, "colour": 1}}, "there is no such option"),
        ({"red": {**RED, "admins": ["set:none"]}, "blue": BLUE}, "there is no such set here"),
    ],
)
def test_what_does_not_fit_is_told(tenants: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(tenants)
    assert said in caught.value.message


def test_who_locks_everybody_out_is_warned() -> None:
    bare = {key: value for key, value in RED.items() if key != "admins"}
    assert "only its own machines may log in" in " ".join(parse({"red": bare, "blue": BLUE}).warnings)
    assert "no machine is in it" in " ".join(
        parse({"red": RED}, machines={"web": {"network": "", "endpoint": {"address": "h"}}}).warnings
    )
