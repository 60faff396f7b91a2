"""The firewall's kinds: order, digests, names that are filled in, and what is never touched."""

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.firewall import cluster
from nixops_proxmox.kinds.firewall.machine import remarks
from nixops_proxmox.kinds.firewall.rules import Drop, Insert, next_edit, wanted_rules
from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.spec.firewall import AddressAlias, ClusterFirewall, MachineFirewall, Rule
from tests.kinds.firewall_bench import (
    CLUSTER,
    THEIRS,
    WEB,
    AliasBench,
    ClusterFirewallBench,
    FirewallBench,
    GroupBench,
    IpSetBench,
    MachineFirewallBench,
    machine_at,
)
from tests.kinds.machine.cluster import Fuse


def made(bench: FirewallBench) -> FirewallBench:
    bench.run(Fuse(), wanted=True)
    return bench


@pytest.fixture
def web() -> MachineFirewallBench:
    bench = MachineFirewallBench()
    bench.run(Fuse(), wanted=True)
    return bench


def test_rules_of_others_keep_their_places_whatever_becomes_of_ours(web: MachineFirewallBench) -> None:
    rules = web.firewall._rules(WEB)
    rules.insert(2, {**THEIRS, "comment": "second"})
    assert web.differences() == ()
    spec = web.spec
    assert isinstance(spec, MachineFirewall)
    web.spec = spec.model_copy(update={"rules": (spec.rules[0], Rule(proto="udp", port="53"), *spec.rules[1:])})
    web.run(Fuse(), wanted=True)
    assert [one.get("dport", one.get("comment")) for one in web.firewall._rules(WEB) if one.get("comment") != web.mark
            or "dport" in one] == ["53", "second", "443", f"the rest {web.mark}", "not ours"]  # fmt: skip
    web.run(Fuse(), wanted=False)
    assert [one["comment"] for one in web.firewall._rules(WEB)] == ["second", "not ours"]


def test_one_that_was_moved_or_changed_by_hand_is_told_and_put_right(web: MachineFirewallBench) -> None:
    rules = web.firewall._rules(WEB)
    rules[0]["source"] = "0.0.0.0/0"
    del rules[2]
    assert web.differences() == (
        "rule 1: in ACCEPT SSH from 0.0.0.0/0 becomes in ACCEPT SSH from 192.0.2.0/24,10.0.0.7",
        "rule 3 is missing: in ACCEPT tcp port 443",
    )
    web.run(Fuse(), wanted=True)
    web.check(wanted=True)
    rules.insert(0, rules.pop(3))
    web.run(Fuse(), wanted=True)
    web.check(wanted=True)


def test_an_edit_at_the_same_moment_is_kept_and_ours_is_made_again(web: MachineFirewallBench) -> None:
    rules, added = web.firewall._rules(WEB), {**THEIRS, "comment": "just now"}
    rules[0]["source"] = "0.0.0.0/0"
    web.firewall.meddle = [lambda: rules.insert(0, added)]
    web.run(Fuse(), wanted=True)
    assert rules.pop(0) == added
    web.check(wanted=True)


def test_a_new_rule_is_off_until_it_is_in_its_place(web: MachineFirewallBench) -> None:
    """PVE puts it in front: a rule that refuses everything must not stand there, not even for a moment."""
    del web.firewall._rules(WEB)[3]
    web.run(Fuse(), wanted=True)
    seen: list[str] = []
    del web.firewall._rules(WEB)[3]
    web.firewall.meddle = [lambda: None, lambda: seen.append(web.firewall._rules(WEB)[0]["enable"])]
    web.run(Fuse(), wanted=True)
    assert seen == ["0"]
    web.check(wanted=True)


def test_what_is_missing_comes_before_what_is_too_much_goes() -> None:
    one, two, old = ({"type": "in", "action": "ACCEPT", "proto": name, "comment": "mark"} for name in ("a", "b", "c"))
    assert next_edit([old, one], [one, two], "mark") == Insert(two, 2)
    assert next_edit([old, one, two], [one, two], "mark") == Drop(0)


def test_an_address_that_changes_is_followed(web: MachineFirewallBench) -> None:
    web.machines[1] = machine_at("db", 101, "10.0.0.8")
    assert web.differences() == (
        "rule 1: in ACCEPT SSH from 192.0.2.0/24,10.0.0.7 becomes in ACCEPT SSH from 192.0.2.0/24,10.0.0.8",
        "not described any more: in ACCEPT SSH from fd00::7",
    )
    web.run(Fuse(), wanted=True)
    assert web.ours()[:2] == ["192.0.2.0/24,10.0.0.8", "ACCEPT"]


def test_a_rule_whose_machine_has_no_address_is_not_open_to_all() -> None:
    rule, gone = Rule(macro="SSH", sources=("machine:db",)), Neighbourhood([machine_at("db", 101)])
    assert wanted_rules([rule], gone, "mark") == []
    assert wanted_rules([rule], Neighbourhood(), "mark") == []
    bench = MachineFirewallBench(MachineFirewall(name="web", rules=(rule,)))
    bench.machines.pop()
    assert "a rule waits: nothing that it names has an address yet (machine:db)" in list(remarks(bench.world()))


def test_options_that_are_no_longer_described_go_back_and_those_of_others_stay(web: MachineFirewallBench) -> None:
    web.spec = MachineFirewall(name="web", rules=(Rule(macro="SSH"),), policy_out="DROP")
    web.run(Fuse(), wanted=True)
    options = dict(web.firewall.options(WEB))
    options.pop("digest")
    assert options == {"log_level_in": "info", "enable": "1", "policy_out": "DROP"}


def test_rules_that_have_no_effect_say_why(web: MachineFirewallBench) -> None:
    (told,) = remarks(web.world())
    assert "the firewall of the whole cluster is off" in told
    web.firewall.set_options(CLUSTER, {"enable": "1"}, (), "")
    assert list(remarks(web.world())) == []


@pytest.mark.parametrize("make", [IpSetBench, AliasBench, GroupBench])
def test_what_rules_name_and_what_is_not_ours_is_not_deleted(make: type[FirewallBench]) -> None:
    bench = make()  # type: ignore[call-arg]
    made(bench).firewall.users = ["VM 300"]
    with pytest.raises(StateError, match="is named by VM 300"):
        bench.run(Fuse(), wanted=False)
    bench.firewall.users = []
    assert bench.run(Fuse(), wanted=False).phase is Presence.ABSENT


def test_the_firewall_of_the_cluster_is_not_turned_on_where_nobody_could_reach_the_nodes() -> None:
    spec = ClusterFirewall(name="outer", enable=True, rules=(Rule(macro="SSH"),))
    bench = ClusterFirewallBench(spec)
    bench.firewall._sets(CLUSTER)["management"][1].clear()
    (told,) = cluster.remarks(bench.world())
    with pytest.raises(StateError, match="the IP set management is empty, and no rule lets anybody in to port 8006"):
        bench.run(Fuse(), wanted=True)
    assert told.startswith("it is not turned on")
    assert "enable" not in bench.firewall.options(CLUSTER)
    bench.spec = spec.model_copy(update={"rules": (*spec.rules, Rule(proto="tcp", port="8000:8010"))})
    bench.run(Fuse(), wanted=True)
    assert bench.firewall.options(CLUSTER)["enable"] == "1"
    assert list(cluster.remarks(bench.world())) == []


def test_rules_of_a_cluster_say_that_its_firewall_is_off() -> None:
    bench = made(ClusterFirewallBench(ClusterFirewall(name="outer", rules=(Rule(macro="SSH"),))))
    assert [told.partition(":")[0] for told in cluster.remarks(bench.world())] == ["its rules have no effect"]


def test_an_option_that_was_as_described_before_stays_when_ours_go() -> None:
    bench = made(ClusterFirewallBench())
    bench.spec = ClusterFirewall(name="outer")
    bench.run(Fuse(), wanted=True)
    options = dict(bench.firewall.options(CLUSTER))
    options.pop("digest")
    assert options == {"log_ratelimit": "enable=1", "ebtables": "0"}


def test_a_name_of_somebody_else_stops_the_run() -> None:
    bench = AliasBench(AddressAlias(name="theirs", address="10.0.0.1"))
    with pytest.raises(StateError, match="not ours"):
        bench.run(Fuse(), wanted=True)
    bench.run(Fuse(), wanted=False)
    assert bench.firewall.all_aliases == {"theirs": {"name": "theirs", "cidr": "10.9.9.9"}}


def test_members_that_others_put_into_our_set_stay_and_keep_it() -> None:
    bench = made(IpSetBench())
    members = bench.firewall._sets(CLUSTER)["admins"][1]
    members["10.1.1.1"] = {"cidr": "10.1.1.1", "comment": "by hand"}
    members.pop("192.0.2.0/24")
    assert bench.differences() == ("192.0.2.0/24 is missing",)
    bench.run(Fuse(), wanted=True)
    assert "10.1.1.1" in members
    with pytest.raises(StateError, match=r"others have put in 10\.1\.1\.1"):
        bench.run(Fuse(), wanted=False)
