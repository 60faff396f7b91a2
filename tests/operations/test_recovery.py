"""Whose VMs are found when a record was lost; the lab's cluster, and machines that do not run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.guest.agent import Agent
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations.recovery import Recoverable, RecoverySearch
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.ssh.keys import KeyStore
from tests.contract.client_bench import Bench, bare, start_bench

OTHER = "00000000-0000-4000-8000-00000000beef"


@pytest.fixture
def bench() -> Iterator[Bench]:
    with start_bench() as made:
        yield made


def no_agent(machine: Machine) -> Agent:
    raise AssertionError(f"{machine.name} does not run")


def look(bench: Bench, folder: Path, deployment: str = "demo", **recorded: Machine) -> list[Recoverable]:
    keys = KeyStore(folder / "keys", deployment)
    return RecoverySearch(deployment, "lab", bench.another(), keys, no_agent).run(recorded, {})


def configure(bench: Bench, machine: Machine, **params: str) -> None:
    """By somebody else's hand."""
    root = bench.another(username="root@pam", password=bench.lab.root_password).client
    root._sender.send(Call("PUT", f"/nodes/{machine.facts.node}/qemu/{machine.facts.vmid}/config", {}, params))


def test_a_marked_vm_is_found_with_its_identity(bench: Bench, tmp_path: Path) -> None:
    made = bench.created()
    (seen,) = look(bench, tmp_path)
    assert seen.machine is not None and seen.machine.name == "web" and seen.machine.phase is Phase.STOPPED
    assert (seen.machine.facts.uuid, seen.machine.facts.vmid) == (made.facts.uuid, made.facts.vmid)
    assert seen.machine.facts.macs == made.facts.macs


@pytest.mark.parametrize("base", ["", "demo/web"])
def test_the_serials_of_its_disks_tell_what_they_follow_from(bench: Bench, tmp_path: Path, base: str) -> None:
    """Nix is told it, and finds the disks that are there."""
    machine = bench.machine()
    made = machine.moved(machine.phase, replace(machine.facts, serials_from=base))
    bench.hypervisor.create_vm(bare(), made, bench.note)
    (seen,) = look(bench, tmp_path)
    assert seen.machine is not None and seen.machine.facts.serials_from == base
    assert seen.machine.facts.serial_base == (base or made.facts.uuid)


def test_a_vm_of_another_deployment_is_not_ours(bench: Bench, tmp_path: Path) -> None:
    bench.created()
    (seen,) = look(bench, tmp_path, "another")
    assert seen.machine is None and "demo" in seen.problem


def test_a_copy_of_a_machine_is_not_the_machine(bench: Bench, tmp_path: Path) -> None:
    configure(bench, bench.created(), smbios1=f"uuid={OTHER}")
    (seen,) = look(bench, tmp_path)
    assert seen.machine is None and "copy" in seen.problem


@pytest.mark.parametrize("name", ["web", "db"])
def test_of_two_with_the_same_mark_neither_is_taken(bench: Bench, tmp_path: Path, name: str) -> None:
    """Not even if each of them says another name."""
    first, second = bench.created(), bench.created()
    vm = bench.another().find_vm(first.facts)
    assert vm is not None
    notes = vm.config["description"].replace("`web`", f"`{name}`")
    configure(bench, second, smbios1=vm.config["smbios1"], description=notes)
    found = look(bench, tmp_path)
    assert {one.mark.machine for one in found} == {"web", name}
    assert len(found) == 2
    assert [one.machine for one in found] == [None, None] and all(one.problem for one in found)


def test_what_is_recorded_is_not_recorded_again(bench: Bench, tmp_path: Path) -> None:
    made = bench.created()
    (seen,) = look(bench, tmp_path, web=made)
    assert seen.machine is None and seen.problem
