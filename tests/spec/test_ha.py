"""`ha` of machines and rules of HA: what may be said, and what follows from placement."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.ha import HaRuleSpec, HaSpec
from nixops_proxmox.spec.parse import parse_machine, parse_network

MACHINE = {"disks": [{"storage": "shared", "size": "4G"}], "memory": "512M", "network": [{"bridge": "vmbr0"}]}


def parse(machines: dict[str, Any], **resources: Any) -> NetworkSpec:
    described = {name: {"proxmox": {**MACHINE, **options}} for name, options in machines.items()}
    return parse_network("demo", {"network": {}, "machines": described, "resources": resources})


def rules(network: NetworkSpec) -> dict[str, HaRuleSpec]:
    return {spec.name: spec for spec in network.resources if isinstance(spec, HaRuleSpec)}


def test_ha_of_a_machine_is_a_resource_with_its_name_and_hypervisor() -> None:
    network = parse({"web": {"ha": {"maxRestart": 3}, "profile": "far"}, "db": {}, "log": {"ha": {}}})
    found = [(spec.name, spec.profile, spec.max_restart) for spec in network.resources if isinstance(spec, HaSpec)]
    assert sorted(found) == [("log", "default", 1), ("web", "far", 3)]


def test_rules_follow_from_placement_where_the_machine_says_so() -> None:
    ha = {"ha": {"affinity": True}}
    found = rules(
        parse(
            {
                "web1": {**ha, "placement": {"spread": "web", "nodes": ["pve2", "pve1"]}},
                "web2": {**ha, "placement": {"spread": "web", "together": "shop"}},
                "web3": {"ha": {}, "placement": {"spread": "web"}},
                "db": {**ha, "placement": {"together": "shop", "nodes": ["pve1", "pve2"]}},
                "log": {**ha, "placement": {"together": "alone"}},
            }
        )
    )
    assert {name: (one.machines, one.affinity, dict(one.nodes), one.rule) for name, one in found.items()} == {
        "spread-web": (("web1", "web2"), "negative", {}, "demo-spread-web"),
        "together-shop": (("web2", "db"), "positive", {}, "demo-together-shop"),
        "on-pve1-pve2": (("web1", "db"), None, {"pve1": 0, "pve2": 0}, "demo-on-pve1-pve2"),
    }


def test_a_rule_that_is_described_by_that_name_stands_for_itself() -> None:
    ha = {"ha": {"affinity": True}, "placement": {"spread": "web"}}
    own = {"spread-web": {"machines": ["a", "b"], "affinity": "positive"}}
    assert rules(parse({"a": ha, "b": ha}, haRules=own))["spread-web"].affinity == "positive"


WRONG: dict[str, dict[str, Any]] = {
    "say nodes, or affinity, and not both": {"machines": ["web", "db"]},
    "machines: name two machines or more": {"machines": ["web"], "affinity": "negative"},
    "strict: has no meaning with affinity": {"machines": ["web", "db"], "affinity": "positive", "strict": True},
    "HA does not manage log": {"machines": ["log"], "nodes": {"pve1": 1}},
    "rule: expected a name of letters": {"machines": ["web"], "nodes": {"pve1": 1}, "rule": "1st"},
}


@pytest.mark.parametrize("text", WRONG)
def test_a_rule_that_cannot_hold_is_a_mistake(text: str) -> None:
    with pytest.raises(SpecError, match="haRules") as raised:
        parse({"web": {"ha": {}}, "db": {"ha": {}}, "log": {}}, haRules={"new": WRONG[text]})
    assert text in str(raised.value)


def test_a_machine_has_its_nodes_by_one_rule() -> None:
    two = {name: {"machines": ["web"], "nodes": {"pve1": 1}, "rule": name} for name in ("one", "two")}
    with pytest.raises(SpecError, match="web has its nodes by the rule one"):
        parse({"web": {"ha": {}}}, haRules=two)


def test_ha_is_said_once_and_for_a_machine_of_the_network() -> None:
    with pytest.raises(SpecError, match="is described under resources"):
        parse({"web": {"ha": {}}}, ha={"web": {}})
    with pytest.raises(SpecError, match="there is no machine db"):
        parse({"web": {}}, ha={"db": {}})
    with pytest.raises(SpecError, match="ha: has no effect here"):
        parse_machine("web", {"proxmox": {**MACHINE, "ha": {}}})
