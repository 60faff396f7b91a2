"""HA's resources and rules: what differs, what is followed, and what is never touched."""

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import StateError
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.ha import HaSpec
from tests.kinds.ha_bench import HaBench, HaRuleBench
from tests.kinds.machine.cluster import Fuse


@pytest.fixture
def bench() -> HaBench:
    made = HaBench()
    made.run(Fuse(), wanted=True)
    return made


def test_a_machine_that_somebody_stopped_differs_and_is_asked_for_again(bench: HaBench) -> None:
    entries = len(bench.record.entries)
    bench.ha.services["vm:100"]["state"] = "enabled"  # PVE's old word for started
    bench.run(Fuse(), wanted=True)
    assert len(bench.record.entries) == entries, "there was nothing to do"
    bench.ha.services["vm:100"]["state"] = "stopped"
    bench.run(Fuse(), wanted=True)
    assert bench.ha.services["vm:100"]["state"] == "started"


def test_a_machine_that_got_another_vmid_is_followed(bench: HaBench) -> None:
    bench.vmids["web"] = 123
    assert bench.run(Fuse(), wanted=True).phase is Presence.PRESENT
    assert sorted(bench.ha.services) == ["vm:123", "vm:900"]


def test_a_container_is_a_service_of_another_type(bench: HaBench) -> None:
    bench.containers.add("web")
    assert bench.run(Fuse(), wanted=True).phase is Presence.PRESENT
    assert sorted(bench.ha.services) == ["ct:100", "vm:900"]


def test_what_somebody_else_told_ha_of_our_machine_is_left_alone() -> None:
    bench = HaBench()
    bench.ha.services["vm:100"] = {"state": "stopped"}
    with pytest.raises(StateError, match="HA manages vm:100 already"):
        bench.run(Fuse(), wanted=True)
    bench.run(Fuse(), wanted=False)
    assert bench.ha.services["vm:100"] == {"state": "stopped"}


def test_one_node_alone_has_no_ha() -> None:
    bench = HaBench()
    bench.ha.nodes = 1
    with pytest.raises(StateError, match="one node alone"):
        bench.run(Fuse(), wanted=True)


def test_a_machine_without_a_vm_is_named() -> None:
    bench = HaBench()
    bench.vmids = {}
    with pytest.raises(StateError, match="web is not made yet"):
        bench.run(Fuse(), wanted=True)


def test_before_9_0_nothing_is_said_of_failback_at_the_machine() -> None:
    bench = HaBench()
    bench.ha.with_rules = False
    bench.run(Fuse(), wanted=True, failback=False)
    assert "failback" not in bench.ha.services["vm:100"]


def test_a_rule_of_somebody_else_is_left_alone() -> None:
    bench = HaRuleBench()
    with pytest.raises(StateError, match="not ours"):
        bench.run(Fuse(), wanted=True, rule="theirs")
    bench.run(Fuse(), wanted=False, rule="theirs")
    bench.check(wanted=False)


def test_what_was_changed_by_hand_in_a_rule_is_put_right() -> None:
    bench = HaRuleBench()
    bench.run(Fuse(), wanted=True, affinity=None, nodes={"pve1": 2, "pve2": 1}, strict=True)
    made = bench.ha.rules["apart"]
    bench.ha.rules["apart"] = type(made)(frozenset({"vm:100"}), {"pve1": 0}, False, "", False, made.comment)
    bench.run(Fuse(), wanted=True, affinity=None, nodes={"pve1": 2, "pve2": 1}, strict=True)
    assert bench.ha.rules["apart"] == made


def test_a_group_says_for_all_its_machines_whether_they_fail_back() -> None:
    bench = HaRuleBench()
    bench.ha.with_rules = False
    described = NetworkSpec(
        name="demo", resources=(HaSpec(name="web", failback=False), HaSpec(name="db", failback=False))
    )
    bench.run(Fuse(), wanted=True, described=described, affinity=None, nodes={"pve1": 1})
    assert bench.ha.rules["apart"].failback is False
    mixed = NetworkSpec(name="demo", resources=(HaSpec(name="web", failback=False), HaSpec(name="db")))
    with pytest.raises(StateError, match="all its machines fail back or none does"):
        bench.run(Fuse(), wanted=True, described=mixed, affinity=None, nodes={"pve1": 1})


def test_a_group_that_somebody_else_uses_is_not_removed() -> None:
    bench = HaRuleBench()
    bench.ha.with_rules = False
    bench.run(Fuse(), wanted=True, affinity=None, nodes={"pve1": 1})
    made = bench.ha.rules["apart"]
    bench.ha.rules["apart"] = type(made)(made.members | {"vm:900"}, made.nodes, False, "", True, made.comment, True)
    with pytest.raises(StateError, match="used by vm:900"):
        bench.run(Fuse(), wanted=False, affinity=None, nodes={"pve1": 1})
