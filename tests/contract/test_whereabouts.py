"""Where a VM is, is the cluster's word: a move is followed, and what cannot be known is never taken for gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Effect, Facts, Phase
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment
from tests.pve.specs import GIB

SHARED = {"disks": ({"slot": "scsi0", "storage": "shared", "size": GIB},)}


@pytest.fixture
def bench() -> Iterator[Bench]:
    with start_bench("9.1", nodes=("pve1", "pve2")) as made:
        yield made


def move(made: Deployment, facts: Facts, *, by_ha: bool = False) -> str:
    """To the other node."""
    there = {"pve1": "pve2", "pve2": "pve1"}[facts.node]
    if by_ha:
        vm = made.bench.lab.lab.cluster.vms[facts.vmid]
        made.bench.change(lambda: setattr(vm, "node", there))
    else:
        made.by_hand("POST", f"/nodes/{facts.node}/qemu/{facts.vmid}/migrate", target=there)
    return there


@pytest.mark.parametrize("by_ha", [True, False], ids=["by HA", "by hand"])
def test_a_machine_that_was_moved_is_followed_and_never_moved_back(bench: Bench, tmp_path: Path, by_ha: bool) -> None:
    made = Deployment(bench, tmp_path)
    described = bare(name="web", **SHARED)
    with made.opened(described) as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.DEFINED)
    assert outcome.error is None
    facts = made.recorded().facts
    there = move(made, facts, by_ha=by_ha)
    with made.opened(bare(name="web", node=facts.node, memory=4096, **SHARED)) as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.DEFINED)
        assert outcome.error is None
        seen = bench.another().client.get_resources(0.0)
        assert {vmid: guest.node for vmid, guest in seen.guests.items()} == {facts.vmid: there}
        assert deployed.explain("web").node == there
        (outcome,) = deployed.destroy(["web"])
    assert outcome.error is None and bench.vmids == []


def lose(bench: Bench, facts: Facts, how: str) -> None:
    bench.lab.faults.clear()
    if how == "node":
        bench.fault("lose_node", "GET", r"/version", target=facts.node)
    else:
        bench.fault("no_quorum", "GET", r"/version")
    bench.another().client.get_version()


def find_again(bench: Bench) -> None:
    def back() -> None:
        bench.lab.lab.cluster.quorate = True
        for node in bench.lab.lab.cluster.nodes.values():
            node.online = True

    bench.change(back)


@pytest.mark.parametrize(
    ("how", "phase"),
    [*(("node", phase) for phase in (Phase.STOPPED, Phase.LOST, Phase.RESERVED)), ("quorum", Phase.RESERVED)],
)
def test_what_cannot_be_known_makes_no_second_machine(bench: Bench, tmp_path: Path, how: str, phase: Phase) -> None:
    """Whatever the record says, and even with the permission to create the machine anew."""
    made = Deployment(bench, tmp_path)
    machine = made.make(node="pve2")
    made.record(machine.moved(phase, machine.facts))
    lose(bench, machine.facts, how)
    cluster = bench.lab.lab.cluster
    with made.opened(bare(name="web", memory=4096)) as deployed:
        planned = deployed.plan(["web"])
        (outcome,) = deployed.deploy(["web"], allow_recreate=True, until=Phase.DEFINED)
    if how == "node":
        assert isinstance(outcome.error, DeployError)
        assert planned[0].error is not None or phase is Phase.RESERVED
    assert list(cluster.vms) == [machine.facts.vmid], "there is one, and it is the same"
    assert made.recorded().facts.vmid == machine.facts.vmid
    assert made.recorded().phase is not Phase.ABSENT
    find_again(bench)
    found = bench.another().find_vm(machine.facts)
    assert found is not None and found.vmid == machine.facts.vmid


def test_without_quorum_a_new_machine_is_not_asked_for_twice(bench: Bench, tmp_path: Path) -> None:
    made = Deployment(bench, tmp_path)
    bench.fault("no_quorum", "POST", r"/nodes/[^/]+/qemu$", seconds=1.5)
    with made.opened(bare(name="web")) as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.DEFINED)
    vms = list(bench.lab.lab.cluster.vms)
    assert outcome.error is not None or vms == [made.recorded().facts.vmid]
    with made.opened(bare(name="web")) as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.DEFINED)
    assert outcome.error is None and list(bench.lab.lab.cluster.vms) == [made.recorded().facts.vmid]


def test_a_machine_whose_node_is_unknown_is_no_new_one(bench: Bench, tmp_path: Path) -> None:
    made = Deployment(bench, tmp_path)
    machine = made.make(node="pve2")
    lose(bench, machine.facts, "node")
    listed = bench.another().client.get_resources(0.0).guests[machine.facts.vmid]
    assert listed.status == "unknown"
    with made.opened() as deployed:
        (planned,) = deployed.plan(["web"])
        assert planned.error is not None and planned.effect is not Effect.NEW
        assert all("new" not in move for move in planned.moves)


def test_a_record_that_was_lost_while_the_node_is_away_makes_no_second_machine(bench: Bench, tmp_path: Path) -> None:
    """The VM is still in the list, and bears the mark; nobody can read it now."""
    made = Deployment(bench, tmp_path)
    machine = made.make(node="pve2")
    made.forget()
    lose(bench, machine.facts, "node")
    with made.opened() as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.DEFINED)
    assert isinstance(outcome.error, DeployError)
    assert list(bench.lab.lab.cluster.vms) == [machine.facts.vmid]


def test_a_plan_says_what_is_missing_if_a_node_fails(bench: Bench, tmp_path: Path) -> None:
    made = Deployment(bench, tmp_path)
    big = [bare(name=name, memory=40 << 10) for name in ("one", "two")]
    with made.opened(*big) as deployed:
        deployed.plan(["one", "two"])
        (warning, other) = sorted(deployed._parts.hypervisor("default")._placer.choose_all(())[1])
    assert warning == "if pve1 fails, 40.0 GiB of memory are missing on the other nodes (one)"
    assert other.startswith("if pve2 fails, 40.0 GiB")
