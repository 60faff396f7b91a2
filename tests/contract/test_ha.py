"""HA by the real client against the lab: resources and rules, power, the end of a machine, and a node that fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import PveRefused, PveUnreachable, TaskFailed
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.vms.ha import wake
from nixops_proxmox.model import Machine, Phase, Power
from nixops_proxmox.operations import Deployed
from nixops_proxmox.spec.ha import HaRuleSpec, HaSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment
from tests.pve.specs import GIB

SHARED: dict[str, Any] = {"disks": ({"slot": "scsi0", "storage": "shared", "size": GIB},)}
BOTH = (bare(name="web", **SHARED), bare(name="db", **SHARED))
MANAGED = (HaSpec(name="web", max_restart=2), HaSpec(name="db"))
NEAR = HaRuleSpec(name="near", machines=("web", "db"), nodes={"pve2": 2, "pve3": 1}, strict=True)
APART = HaRuleSpec(name="apart", machines=("web", "db"), affinity="negative")
REFS = [Ref("ha", "web"), Ref("ha", "db"), Ref("ha-rule", "near")]


@pytest.fixture(scope="module", params=[pytest.param("8.4", marks=pytest.mark.weekly), "9.1"])
def lab(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param, latency=Latency(refused_login=0.0, statistics=0.0, ha=0.02)) as made:
        yield made


@pytest.fixture
def made(lab: Bench, tmp_path: Path) -> Deployment:
    """Two machines that run, on pve2 and pve3."""
    lab.empty()
    found = Deployment(lab, tmp_path)
    for name, node in (("web", "pve2"), ("db", "pve3")):
        machine = found.make(name=name, node=node, **SHARED)
        lab.hypervisor.start_vm(machine.facts, lab.note)
        found.record(machine.moved(Phase.READY, machine.facts))
    return found


def has_rules(made: Deployment) -> bool:
    return made.bench.lab.cluster.release.since(9)


def ensure(deployed: Deployed, *refs: Ref) -> None:
    with deployed.record.lease() as lease:
        deployed._keep(lease)
        for ref in refs:
            deployed.resources.ensure(ref)


def sid(made: Deployment, name: str = "web") -> str:
    return f"vm:{made.recorded(name).facts.vmid}"


def status(made: Deployment, machine: Machine) -> tuple[str, str]:
    found = made.bench.another().client.get_resources(0.0).guests[machine.facts.vmid]
    return found.node, found.status


def test_resources_and_rules_are_made_drift_and_are_removed(made: Deployment) -> None:
    if not has_rules(made):
        made.by_hand("POST", "/cluster/ha/groups", group="theirs", nodes="pve1")
    with made.opened(*BOTH, beside=(*MANAGED, NEAR)) as deployed:
        ensure(deployed, *REFS)
        assert [one.phase for one in deployed.list_resources()] == [Presence.PRESENT] * 3
        for name in ("web", "db"):
            assert status(made, made.recorded(name))[1] == "running"
        made.by_hand("PUT", f"/cluster/ha/resources/{sid(made)}", state="stopped", max_restart=7)
        kind, place = ("node-affinity", "rules/near") if has_rules(made) else ("", "groups/near")
        made.by_hand("PUT", f"/cluster/ha/{place}", nodes="pve1", **({"type": kind} if kind else {}))
        told = [line for one in deployed.list_resources() for line in one.differences]
        assert told == [
            "max_restart: 7 becomes 2",
            "state: stopped becomes started",
            "nodes: pve1 (0) becomes pve2 (2), pve3 (1)",
        ]
        ensure(deployed, *REFS)
        made.bench.lab.settle()
        assert [one.phase for one in deployed.list_resources()] == [Presence.PRESENT] * 3
        assert status(made, made.recorded()) == ("pve2", "running")
        outcomes = deployed.remove_resources(REFS)
    assert [one.error for one in outcomes] == [None] * 3
    cluster = made.bench.lab.cluster
    assert not any(vm.ha for vm in cluster.vms.values()) and [*cluster.ha.rules] == []
    assert [*cluster.ha.groups] == ([] if has_rules(made) else ["theirs"])


def test_machines_are_kept_apart_where_ha_has_such_rules(made: Deployment) -> None:
    with made.opened(*BOTH, beside=(*MANAGED, APART)) as deployed:
        ensure(deployed, *REFS[:2])
        if not has_rules(made):
            with pytest.raises(PveRefused, match="they came with"):
                ensure(deployed, Ref("ha-rule", "apart"))
            return
        ensure(deployed, Ref("ha-rule", "apart"))
        fourth = made.bench.lab.cluster.ha.rules["apart"]
        assert (fourth["affinity"], fourth["resources"]) == ("negative", ",".join(sorted([sid(made), sid(made, "db")])))


def test_a_machine_of_ha_is_destroyed_and_started_by_nobody(made: Deployment) -> None:
    with made.opened(*BOTH, beside=(*MANAGED, NEAR)) as deployed:
        ensure(deployed, *REFS)
        [outcome] = deployed.destroy(["web"])
        assert outcome.error is None
        made.bench.lab.settle()
        cluster = made.bench.lab.cluster
        assert [vm.name for vm in cluster.vms.values()] == ["db"]
        assert [*cluster.ha.rules, *cluster.ha.groups] == []  # the next deploy makes it again, for those that are there
        assert [task.status for task in cluster.tasks.tasks.values() if task.type == "qmdestroy"] == ["OK"]
        assert made.recorded("db").phase is Phase.READY


def test_a_machine_that_somebody_else_gave_to_ha_is_destroyed_with_that(made: Deployment) -> None:
    made.by_hand("POST", "/cluster/ha/resources", sid=sid(made))
    with made.opened(*BOTH) as deployed:
        [outcome] = deployed.destroy(["web"])
    assert outcome.error is None
    made.bench.lab.settle()
    assert [vm.name for vm in made.bench.lab.cluster.vms.values()] == ["db"]


def test_power_waits_for_ha_and_says_when_it_gave_up(made: Deployment) -> None:
    web, lab = made.recorded(), made.bench
    made.by_hand("POST", "/cluster/ha/resources", sid=sid(made))
    lab.hypervisor.stop_vm(web.facts, lab.note)
    assert status(made, web) == ("pve2", "stopped")
    assert made.by_hand("GET", f"/cluster/ha/resources/{sid(made)}")["state"] == "stopped"
    lab.hypervisor.start_vm(web.facts, lab.note)
    assert status(made, web) == ("pve2", "running")
    lab.hypervisor.stop_vm(web.facts, lab.note)
    made.by_hand("PUT", f"/nodes/pve2/qemu/{web.facts.vmid}/config", net0="virtio,bridge=vmbr9")
    with pytest.raises(PveRefused, match="HA gave up on it"):
        lab.hypervisor.start_vm(web.facts, lab.note)
    with pytest.raises(TaskFailed, match="must be disabled and fixed first"):
        lab.another().start_vm(web.facts, lab.note)


def lose(made: Deployment, node: str) -> None:
    cluster = made.bench.lab.cluster

    def failing() -> None:
        cluster.nodes[node].online = False
        wake(cluster)

    made.bench.change(failing)


def test_a_machine_whose_node_fails_is_followed_and_never_made_twice(made: Deployment) -> None:
    web = made.recorded()
    with made.opened(*BOTH, beside=MANAGED) as deployed:
        ensure(deployed, Ref("ha", "web"))
    made.bench.lab.settle()
    cluster = made.bench.lab.cluster
    first = cluster.vms[web.facts.vmid].running
    cluster.latency = Latency(refused_login=0.0, statistics=0.0, ha=0.3)
    lose(made, "pve2")
    # Until it is fenced, nobody can say what becomes of it: an error, and nothing that is made.
    with pytest.raises(PveUnreachable):
        made.bench.another().find_vm(web.facts)
    with made.opened(*BOTH) as deployed:
        [outcome] = deployed.start(["web"])
    assert isinstance(outcome.error, PveUnreachable) or status(made, web)[0] == "pve1"
    made.bench.lab.settle()
    with made.opened(*BOTH) as deployed:
        [outcome] = deployed.start(["web"])
        assert outcome.error is None
    assert status(made, web) == ("pve1", "running")
    assert cluster.vms[web.facts.vmid].running is not first
    assert sorted(vm.name for vm in cluster.vms.values()) == ["db", "web"]
    found = made.bench.another().find_vm(web.facts)
    assert found is not None and (found.node, found.power) == ("pve1", Power.RUNNING)
    with made.opened(*BOTH) as deployed:
        [outcome] = deployed.stop(["web"])
    assert (outcome.error, status(made, web)) == (None, ("pve1", "stopped"))
