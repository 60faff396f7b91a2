"""Nodes that a machine may not be on although there is room: some lack a device, and HA was told of others."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import PveRefused, TaskFailed
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment
from tests.pve.specs import GIB

NODES = ("pve1", "pve2", "pve3")
GPU = {"id": "gpu", "type": "pci", "map": ["node=pve2,path=0000:01:00.0,id=10de:1b80", "node=pve3,path=0000:02:00.0"]}


@pytest.fixture(scope="module", params=["8.4", "9.1"])
def lab(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param, nodes=NODES) as made:
        yield made


def with_gpu(**more: Any) -> MachineSpec:
    return bare(extra={"hostpci0": "mapping=gpu,pcie=1"}, **more)


def as_root(bench: Bench) -> PveHypervisor:
    return bench.another(username="root@pam", password=bench.lab.root_password)


def test_a_mapped_device_is_a_condition(lab: Bench) -> None:
    lab.change(lambda: lab.lab.lab.cluster.mappings.update({("pci", "gpu"): dict(GPU)}))
    place = as_root(lab)
    assert place.choose_place(with_gpu()).node in ("pve2", "pve3")
    table = {one.node: one for one in as_root(lab).explain_place(with_gpu(name="new")).nodes}
    assert table["pve1"].reasons == ("it has no device of the mapping gpu",)
    assert table["pve2"].fits and table["pve3"].fits
    with pytest.raises(PveRefused, match="pve1: it has no device of the mapping gpu"):
        place.choose_place(with_gpu(node="pve1"))
    with pytest.raises(PveRefused, match="there is no mapping fpga"):
        place.choose_place(bare(extra={"usb0": "mapping=fpga"}))


def test_a_vm_whose_device_is_not_on_its_node_does_not_start(lab: Bench, tmp_path: Path) -> None:
    lab.change(lambda: lab.lab.lab.cluster.mappings.update({("pci", "gpu"): dict(GPU)}))
    made = Deployment(lab, tmp_path)
    machine = made.make(node="pve1")
    made.by_hand("PUT", f"/nodes/pve1/qemu/{machine.facts.vmid}/config", hostpci0="mapping=gpu")
    with pytest.raises(TaskFailed, match="PCI device mapping not found for 'gpu'"):
        lab.another().start_vm(machine.facts, lab.note)


def test_before_8_0_there_are_no_mappings_and_nothing_is_refused() -> None:
    with start_bench("7.4", nodes=NODES) as bench:
        assert bench.hypervisor.choose_place(with_gpu()).node in NODES


def managed(lab: Bench, folder: Path, name: str) -> tuple[Deployment, Machine]:
    """A machine on pve1 that runs, and that HA manages."""
    lab.skew += 60
    made = Deployment(lab, folder)
    machine = made.make(name=name, node="pve1", disks=({"slot": "scsi0", "storage": "shared", "size": GIB},))
    lab.hypervisor.start_vm(machine.facts, lab.note)
    made.record(machine.moved(Phase.READY, machine.facts))
    made.by_hand("POST", "/cluster/ha/resources", sid=f"vm:{machine.facts.vmid}", state="started")
    return made, made.recorded(name)


def keep_on(made: Deployment, machine: Machine, nodes: str, *, strict: bool) -> None:
    """By a group, or by a rule where HA has those."""
    cluster, sid = made.bench.lab.lab.cluster, f"vm:{machine.facts.vmid}"
    if cluster.release.since(9):
        made.by_hand(
            "POST", "/cluster/ha/rules", rule="near", type="node-affinity", resources=sid, nodes=nodes, strict=strict
        )
        return
    made.by_hand("POST", "/cluster/ha/groups", group="near", nodes=nodes, restricted=strict)
    made.by_hand("PUT", f"/cluster/ha/resources/{sid}", group="near")


def forget_rules(lab: Bench) -> None:
    cluster = lab.lab.lab.cluster

    def clear() -> None:
        cluster.ha.rules.clear()
        cluster.ha.groups.clear()

    lab.change(clear)


def test_what_ha_may_not_do_is_not_asked_of_it(lab: Bench, tmp_path: Path) -> None:
    forget_rules(lab)
    made, machine = managed(lab, tmp_path, "web")
    keep_on(made, machine, "pve1:2,pve3", strict=True)
    with made.opened() as deployed:
        refused = deployed.foresee_migration("web", "pve2")
        best = deployed.foresee_migration("web")
        table = {one.node: one for one in deployed.explain("web").nodes}
    assert refused.blocked == ("HA's near names pve1, pve3",)
    assert (best.target, best.blocked) == ("pve3", ())
    assert table["pve2"].reasons == ("HA's near names pve1, pve3",) and table["pve1"].chosen


def test_a_wish_of_ha_is_told(lab: Bench, tmp_path: Path) -> None:
    forget_rules(lab)
    made, machine = managed(lab, tmp_path, "web")
    keep_on(made, machine, "pve3", strict=False)
    with made.opened() as deployed:
        way = deployed.foresee_migration("web", "pve2")
        best = deployed.foresee_migration("web")
    assert way.blocked == () and "HA's near names pve3" in way.told
    assert best.target == "pve3"


def test_what_ha_keeps_apart_is_not_brought_together(lab: Bench, tmp_path: Path) -> None:
    if not lab.lab.lab.cluster.release.since(9):
        pytest.skip("before 9.0, HA has no such rules")
    forget_rules(lab)
    made, machine = managed(lab, tmp_path, "web")
    other = made.make(name="db", node="pve2")
    made.by_hand("POST", "/cluster/ha/resources", sid=f"vm:{other.facts.vmid}", state="stopped")
    both = f"vm:{machine.facts.vmid},vm:{other.facts.vmid}"
    made.by_hand("POST", "/cluster/ha/rules", rule="far", type="resource-affinity", resources=both, affinity="negative")
    with made.opened() as deployed:
        way = deployed.foresee_migration("web", "pve2")
    assert way.blocked == (f"HA's far keeps it away from vm:{other.facts.vmid}, which is there",)


def test_a_machine_that_ha_does_not_manage_is_free(lab: Bench, tmp_path: Path) -> None:
    forget_rules(lab)
    made, machine = managed(lab, tmp_path, "web")
    keep_on(made, machine, "pve1", strict=True)
    vm = lab.lab.lab.cluster.vms[machine.facts.vmid]
    lab.change(partial(setattr, vm, "ha", None))
    with made.opened() as deployed:
        assert deployed.foresee_migration("web", "pve2").blocked == ()
