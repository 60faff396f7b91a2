"""What somebody set by hand: undone if it is described, told if not, and never by a restart that nothing needs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from nixops_proxmox.kinds.machine.steps.system import find_waiting
from nixops_proxmox.model import Change, Machine, Vm
from nixops_proxmox.operations.drift import Origin, find_drift
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import Bench, bare, start_bench


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with start_bench() as made:
        yield made


def running(bench: Bench, described: MachineSpec) -> Machine:
    machine = bench.created(described)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    return machine


def by_hand(bench: Bench, machine: Machine, params: Mapping[str, Any]) -> Vm:
    bench.hypervisor.client.set_config(machine.facts.node, machine.facts.vmid, dict(params))
    return look(bench, machine)


def look(bench: Bench, machine: Machine) -> Vm:
    vm = bench.another().find_vm(machine.facts)
    assert vm is not None
    return vm


@pytest.mark.parametrize(
    "params",
    [
        {"memory": "4096"},
        {"cores": "3"},
        {"vga": "std"},
        {"agent": "0"},
        {"cpu": "host"},
        {"delete": "cores"},
        {"hotplug": "0", "net0": "e1000=BC:24:11:00:00:09,bridge=vmbr0"},
        {"hotplug": "0", "delete": "net0"},
        {"hotplug": "0", "net3": "virtio=BC:24:11:00:00:09,bridge=vmbr0"},
    ],
    ids=lambda params: "-".join(params.values()).partition("=")[0],
)
def test_undoing_what_is_only_pending_needs_no_restart(bench: Bench, params: dict[str, str]) -> None:
    described = bare(memory=2048, cpu={"cores": 2, "type": "x86-64-v2-AES"}, display="serial0")
    machine = running(bench, described)
    if "hotplug" in params:
        by_hand(bench, machine, {"hotplug": params["hotplug"]})
    vm = by_hand(bench, machine, {key: value for key, value in params.items() if key != "hotplug"})
    keys = set(params.get("delete", "").split(",")) | params.keys() - {"delete", "hotplug"} - {""}
    assert keys - {""} <= set(vm.pending)
    changes = bench.hypervisor.changes(vm, described, machine)
    assert {change.key for change in changes} == keys - {""}
    assert [(one.key, one.restart, one.waiting) for one in changes if one.restart or one.waiting] == []
    assert find_waiting(vm, changes) == ()
    assert find_waiting(vm, ()) == vm.pending
    bench.hypervisor.apply_changes(vm, described, machine, bench.note)
    after = look(bench, machine)
    assert after.pending == ()
    assert bench.hypervisor.changes(after, described, machine) == ()


def protection(changes: tuple[Change, ...]) -> list[tuple[str, str, bool]]:
    return [(change.have, change.want, change.restart) for change in changes if change.key == "protection"]


def test_a_protection_that_is_described_otherwise_is_taken_back(bench: Bench) -> None:
    described = bare(protection=False)
    machine = running(bench, described)
    vm = by_hand(bench, machine, {"protection": "1"})
    assert protection(tuple(bench.hypervisor.changes(vm, described, machine))) == [("1", "0", False)]
    bench.hypervisor.apply_changes(vm, described, machine, bench.note)
    assert not look(bench, machine).protected


def test_a_protection_that_is_not_described_stays_and_the_plan_says_so(bench: Bench) -> None:
    machine = running(bench, bare())
    vm = by_hand(bench, machine, {"protection": "1"})
    assert bench.hypervisor.changes(vm, bare(), machine) == ()
    (line,) = bench.hypervisor.leftovers(vm, bare(), machine)
    assert line.startswith("protection: 1 is not in the description, but it stays")
    assert f"run `qm set {vm.vmid} --delete protection` on its node" in line


@pytest.mark.parametrize("task", [True, False], ids=["in a task", "at once"])
def test_check_tells_who_changed_a_vm_as_far_as_pve_does(bench: Bench, task: bool) -> None:
    described = bare(memory=2048, cpu={"cores": 2})
    machine = bench.created(described)
    before = look(bench, machine)
    facts = replace(machine.facts, applied=dict(before.config))
    change = bench.hypervisor.client.change_config if task else bench.hypervisor.client.set_config
    change(machine.facts.node, machine.facts.vmid, {"cores": 4})
    bench.lab.settle()
    vm = look(bench, machine)
    (found,) = find_drift(bench.hypervisor.changes(vm, described, machine), facts, vm, bench.hypervisor, [])
    assert (found.change.key, found.origin) == ("cores", Origin.BY_HAND)
    assert [one.user for one in found.tasks] == (["deploy@pve!lab"] if task else [])
    again = replace(facts, applied=dict(vm.config))
    (found,) = find_drift(bench.hypervisor.changes(vm, described, machine), again, vm, bench.hypervisor, [])
    assert found.origin is Origin.DESCRIPTION


def test_what_is_to_be_left_alone_is_no_difference_and_is_not_changed(bench: Bench) -> None:
    described = bare(memory=2048, cpu={"cores": 2}, ignore=["memory"])
    machine = bench.created(described)
    vm = by_hand(bench, machine, {"memory": "4096", "cores": "4"})
    assert [change.key for change in bench.hypervisor.changes(vm, described, machine)] == ["cores"]
    bench.hypervisor.apply_changes(vm, described, machine, bench.note)
    config = look(bench, machine).config
    assert (config["memory"], config["cores"]) == ("4096", "2")
