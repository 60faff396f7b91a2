"""The verb migrate on the lab: live where PVE can, what forbids it told first, and a crash at every call."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import DeployError, PveRefused
from nixops_proxmox.lab.ha import HaResource
from nixops_proxmox.model import Machine, Phase
from tests.contract.client_bench import Bench, start_bench
from tests.contract.kills import killed_at
from tests.contract.machines import Deployment
from tests.pve.specs import GIB

SHARED = {"disks": ({"slot": "scsi0", "storage": "shared", "size": GIB},)}
LOCAL = {"disks": ({"slot": "scsi0", "storage": "local-lvm", "size": GIB},)}


@pytest.fixture(scope="module", params=["7.4", "8.4", "9.1"])
def lab(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param, nodes=("pve1", "pve2", "pve3")) as made:
        yield made


@pytest.fixture
def made(lab: Bench, tmp_path: Path) -> Deployment:
    lab.lab.faults.clear()
    lab.skew += 60  # what was looked at before is old
    return Deployment(lab, tmp_path)


def running(made: Deployment, **described: Any) -> Machine:
    machine = made.make(node="pve1", **described)
    made.bench.hypervisor.start_vm(machine.facts, made.bench.note)
    machine = machine.moved(Phase.READY, machine.facts)
    made.record(machine)
    return machine


def where(made: Deployment, machine: Machine) -> tuple[str, str]:
    vm = made.bench.another().find_vm(machine.facts)
    assert vm is not None
    return vm.node, str(vm.power)


def migrate(made: Deployment, target: str = "", **options: Any) -> DeployError | None:
    with made.opened(**options) as deployed:
        (outcome,) = deployed.migrate(["web"], target)
    return outcome.error


@pytest.mark.parametrize("described", [SHARED, LOCAL], ids=["shared", "local"])
def test_a_machine_that_runs_moves_live_and_one_that_is_off_too(made: Deployment, described: Any) -> None:
    machine = running(made, **described)
    assert migrate(made, "pve2") is None
    assert where(made, machine) == ("pve2", "running")
    recorded = made.recorded()
    assert (recorded.phase, recorded.facts.node, recorded.facts.errand) == (Phase.READY, "pve2", {})
    assert migrate(made, "pve2") is None, "it is there"
    made.bench.hypervisor.stop_vm(machine.facts, made.bench.note)
    made.record(recorded.moved(Phase.STOPPED, recorded.facts))
    assert migrate(made, "pve1") is None
    assert where(made, machine) == ("pve1", "stopped")
    entry = made.bench.lab.lab.cluster.vms[machine.facts.vmid]
    assert entry.config["scsi0"].startswith(described["disks"][0]["storage"])


def test_without_a_node_the_best_one_is_taken(made: Deployment) -> None:
    machine = running(made, **SHARED)
    nodes = made.bench.lab.lab.cluster.nodes
    made.bench.change(lambda: setattr(nodes["pve2"], "base_memory", 40 * GIB))
    with made.opened() as deployed:
        way = deployed.foresee_migration("web")
    assert (way.source, way.target, way.live, way.copied, way.blocked) == ("pve1", "pve3", True, (), ())
    assert migrate(made) is None
    assert where(made, machine)[0] == "pve3"
    made.bench.change(lambda: setattr(nodes["pve2"], "base_memory", 2 * GIB))


def test_what_is_copied_is_told_first(made: Deployment) -> None:
    machine = running(made, **LOCAL)
    with made.opened() as deployed:
        way = deployed.foresee_migration("web", "pve2")
    assert way.copied == (f"local-lvm:vm-{machine.facts.vmid}-disk-0",) and way.size == GIB and not way.blocked


def forbid(made: Deployment, machine: Machine, how: str) -> None:
    cluster = made.bench.lab.lab.cluster
    vm = cluster.vms[machine.facts.vmid]
    match how:
        case "device":
            made.bench.change(lambda: vm.config.update({"hostpci0": "0000:01:00.0"}))
        case "CD":
            iso = made.folder / "tools.iso"
            iso.write_bytes(b"tools")
            made.bench.lab.lab.add_file("local", "iso", iso)
            made.bench.change(lambda: vm.config.update({"ide0": "local:iso/tools.iso,media=cdrom"}))
        case "storage":
            made.bench.change(lambda: setattr(cluster.stores.storages["local-lvm"], "nodes", ("pve1",)))
        case "snapshot":
            made.by_hand("POST", f"/nodes/pve1/qemu/{vm.vmid}/snapshot", snapname="before")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("device", "hostpci0 is a device of pve1"),
        ("CD", "the CD local:iso/tools.iso is on pve1 alone: eject it"),
        ("storage", "storage local-lvm"),
        ("snapshot", "have snapshots (before)"),
    ],
)
def test_what_forbids_it_is_told_and_nothing_is_asked_of_pve(made: Deployment, how: str, why: str) -> None:
    machine = running(made, **LOCAL)
    forbid(made, machine, how)
    try:
        made.bench.done.clear()
        with made.opened() as deployed:
            way = deployed.foresee_migration("web", "pve2")
        assert len(way.blocked) == 1 and why in way.blocked[0]
        error = migrate(made, "pve2")
        assert isinstance(error, PveRefused) and why in error.message
        assert where(made, machine) == ("pve1", "running")
        tasks = made.bench.another().client.list_tasks("pve1", vmid=machine.facts.vmid, kind="qmigrate")
        assert tasks == () and made.recorded().facts.errand == {}
    finally:
        made.bench.change(lambda: setattr(made.bench.lab.lab.cluster.stores.storages["local-lvm"], "nodes", None))


@pytest.mark.parametrize(("target", "why"), [("pve9", "there is no such node"), ("pve2", "it is offline")])
def test_a_node_that_is_not_there_is_refused(made: Deployment, target: str, why: str) -> None:
    running(made, **SHARED)
    nodes = made.bench.lab.lab.cluster.nodes
    made.bench.change(lambda: setattr(nodes["pve2"], "online", False))
    error = migrate(made, target)
    made.bench.change(lambda: setattr(nodes["pve2"], "online", True))
    assert isinstance(error, PveRefused) and why in error.message


def test_ha_moves_what_it_manages_in_its_own_time(made: Deployment) -> None:
    machine = running(made, **SHARED)
    vm = made.bench.lab.lab.cluster.vms[machine.facts.vmid]
    made.bench.change(lambda: setattr(vm, "ha", HaResource(crm="started")))
    assert migrate(made, "pve2") is None
    assert where(made, machine) == ("pve2", "running")


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_boundary_is_finished_by_the_same_verb(made: Deployment) -> None:
    if made.bench.hypervisor.get_release().major != 9:
        pytest.skip("one release is enough")
    machine = running(made, **LOCAL)
    facts, ready = made.recorded().facts, made.recorded()
    for number in range(1, 30):
        if not killed_at(lambda trace: migrate(made, "pve2", trace=trace), number):
            assert number > 2
            return
        made.bench.lab.faults.clear()
        assert migrate(made, "pve2", break_lock=True) is None, number
        assert where(made, machine) == ("pve2", "running"), number
        recorded = made.recorded()
        assert (recorded.facts.errand, recorded.facts.task, recorded.phase) == ({}, "", Phase.READY), number
        entry = made.bench.lab.lab.cluster.vms[machine.facts.vmid]
        assert "lock" not in entry.config and "unused0" not in entry.config, number
        made.by_hand(
            "POST", f"/nodes/pve2/qemu/{facts.vmid}/migrate", target="pve1", online=1, **{"with-local-disks": 1}
        )
        made.record(ready.moved(Phase.READY, replace(facts, node="pve1")))
    raise AssertionError("it never came to its end")
