"""The firewall's description: names of addresses, what does not fit, and how a machine gets its NICs filtered."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import NetworkSpec, parse_machine, parse_network
from nixops_proxmox.spec.firewall import MachineFirewall

NIC = {"bridge": "vmbr0"}
MACHINE = {"disks": [{"storage": "local", "size": "4G"}], "network": [NIC]}
SSH = {"macro": "SSH"}


def network(firewall: Any = None, *, nic: Any = NIC, **resources: Any) -> NetworkSpec:
    web = {**MACHINE, "network": [nic], **({} if firewall is None else {"firewall": firewall})}
    db = {**MACHINE, "tags": ["DB"]}
    return parse_network("demo", {"machines": {"web": {"proxmox": web}, "db": {"proxmox": db}}, "resources": resources})


def test_a_machine_with_a_firewall_has_its_nics_filtered() -> None:
    found = network({"rules": [SSH, {"proto": "tcp", "port": 443, "from": ["machine:db", "fd00::/8"]}]})
    (firewall,) = found.resources
    assert isinstance(firewall, MachineFirewall)
    assert (firewall.name, firewall.rules[1].port, firewall.rules[1].sources) == (
        "web",
        "443",
        ("machine:db", "fd00::/8"),
    )
    assert [machine.network[0].firewall for machine in found.machines] == [True, None]
    assert network({"enable": False}).machines[0].network[0].firewall is None


def test_what_a_firewall_wants_and_what_it_follows() -> None:
    found = network(
        {"rules": [SSH, {"group": "webs"}, {"from": ["set:admins", "tag:db", "network:lan"]}]},
        securityGroups={"webs": {}}, ipSets={"admins": {"addresses": ["machine:web"]}},
        networks={"lan": {"vnet": "lan", "subnet": "10.9.0.0/24"}},
    )  # fmt: skip
    firewall = next(one for one in found.resources if isinstance(one, MachineFirewall))
    assert firewall.wants == [("machine", "web"), ("security-group", "webs"), ("ip-set", "admins")]
    assert firewall.comes_after(found.machines) == [("machine", "web"), ("machine", "db"), ("network", "lan")]


WRONG: dict[str, dict[str, Any]] = {
    "so that a deploy would lock itself out": {"firewall": {"rules": [{"macro": "HTTP"}]}},
    "there is no such machine here": {"firewall": {"rules": [SSH, {"from": ["machine:dd"]}]}},
    "there is no such set here": {"firewall": {"rules": [SSH, {"from": ["set:dd"]}]}},
    "there is no webs in resources.securityGroups": {"firewall": {"rules": [{"group": "webs"}]}},
    "that has no subnet": {"firewall": {"rules": [SSH, {"to": ["network:n"]}]}, "networks": {"n": {"vnet": "nn"}}},
    "a port is one of tcp or udp": {"firewall": {"rules": [SSH, {"port": 5}]}},
    "only an IP set can leave addresses out": {"firewall": {"rules": [SSH, {"from": ["!10.0.0.1"]}]}},
    "expected an address, a range": {"firewall": {"rules": [SSH, {"from": ["10.0.0.300"]}]}},
    "no ranges, and no other sets": {"ipSets": {"aa": {"addresses": ["10.0.0.1-10.0.0.9"]}}},
    "PVE does not take the name a.b": {"ipSets": {"a.b": {}}},
    "expected one address or network": {"addressAliases": {"aa": {"address": "tag:db"}}},
    "has no meaning with group": {"firewall": {"rules": [{"group": "pve:x", "macro": "SSH"}]}},
    "has no meaning in a security group": {"securityGroups": {"webs": {"rules": [{"nic": "net0"}]}}},
    "has no meaning in the rules of a cluster": {"clusterFirewalls": {"all": {"rules": [{"nic": "net0"}]}}},
    "there is no ww in resources.securityGroups": {"clusterFirewalls": {"all": {"rules": [{"group": "ww"}]}}},
    "a cluster has one firewall: all and two are for the same": {"clusterFirewalls": {"all": {}, "two": {}}},
    "is not filtered then": {"firewall": {"rules": [SSH]}, "nic": {**NIC, "firewall": False}},
    "there is no machine ww": {"firewalls": {"ww": {"sealed": True}}},
    "is described under resources.firewalls, too": {"firewall": {"sealed": True}, "firewalls": {"web": {}}},
    "expected a list of rules": {"firewall": {"rules": {"a": 1}, "sealed": True}},
    "there is no such option (did you mean port?)": {"firewall": {"rules": [{"porto": 1}], "sealed": True}},
}


@pytest.mark.parametrize("text", WRONG)
def test_what_does_not_fit_is_told(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        network(**WRONG[text])
    assert text in caught.value.message


LETS_IN: list[tuple[dict[str, Any], bool]] = [
    ({"macro": "ssh"}, True),
    ({"proto": "tcp", "port": "20:25"}, True),
    ({"proto": "tcp", "port": "80,ssh"}, True),
    ({}, True),
    ({"group": "pve:base"}, True),
    ({"macro": "SSH", "enable": False}, False),
    ({"macro": "SSH", "action": "DROP"}, False),
    ({"macro": "SSH", "direction": "out"}, False),
    ({"proto": "udp", "port": "22"}, False),
    ({"proto": "tcp", "port": "2222"}, False),
]


@pytest.mark.parametrize(("rule", "lets_in"), LETS_IN)
def test_a_rule_that_lets_ssh_in_is_known(rule: dict[str, Any], lets_in: bool) -> None:
    assert MachineFirewall.model_validate({"name": "web", "rules": [rule]}).lets_in(22) is lets_in


def test_a_door_that_does_not_make_firewalls_says_so() -> None:
    with pytest.raises(SpecError, match="only the command line's networks have it"):
        parse_machine("web", {"proxmox": {**MACHINE, "firewall": {"rules": [SSH]}}})
