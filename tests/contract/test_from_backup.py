"""Machines from a backup: whose they are from the first moment on, what is refused first, and what a failure leaves."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nixops_proxmox.errors import PveRefused, SpecError, TaskFailed
from nixops_proxmox.model import Machine, Power, Vm
from nixops_proxmox.pve.cluster.permissions import needs_of
from nixops_proxmox.pve.wire.properties import GIB
from nixops_proxmox.spec import Disk, InstallSpec, MachineSpec
from tests.contract.client_bench import Bench, bare, start_bench


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param, nodes=("pve1", "pve2")) as made:
        yield made


def from_backup(volume: str, **changes: object) -> MachineSpec:
    return bare(install=InstallSpec.model_validate({"from": "backup", "backup": volume}), **changes)


def make_backup(bench: Bench, *, template: bool = False, keep: bool = False) -> str:
    """As somebody makes it, of a VM that is protected, and that starts with its node."""
    made = bench.created(bare(name="golden", memory=512, node="pve2", description="golden", onboot=True))
    facts, client = made.facts, bench.made[0]
    client.set_config(facts.node, facts.vmid, {"smbios1": "uuid=00000000-0000-4000-8000-00000000beef"})
    if template:
        bench.hypervisor.wait_for_task(client.make_template(facts.node, facts.vmid) or "")
    bench.hypervisor.wait_for_task(client.back_up(facts.node, facts.vmid, "local", mode="stop", notes=""))
    if not keep:
        bench.hypervisor.wait_for_task(client.delete_vm(facts.node, facts.vmid))
    (volume,) = client.list_volumes("pve2", "local", "backup")
    return volume.volid


def get(bench: Bench, machine: Machine) -> Vm:
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return vm


def test_what_is_restored_is_ours_at_once_and_becomes_what_is_described(bench: Bench) -> None:
    described = from_backup(make_backup(bench, keep=True), memory=1024, name="web")
    machine = bench.created(described)
    assert machine.facts.node == "pve2", "only that node has the backup"
    vm = get(bench, machine)
    assert (vm.uuid, vm.config["onboot"], vm.power) == (machine.facts.uuid, "0", Power.STOPPED)
    bench.hypervisor.apply_changes(vm, described, machine, bench.note)
    vm = get(bench, machine)
    assert bench.hypervisor.changes(vm, described, machine) == ()
    assert (vm.config["memory"], vm.config["boot"], vm.config["name"]) == ("1024", "order=scsi0", "web")
    assert machine.facts.macs[0].upper() in vm.config["net0"] and "unfinished" not in vm.config["description"]
    assert len(bench.vmids) == 2
    bench.hypervisor.destroy_vm(machine.facts, bench.note)
    assert len(bench.vmids) == 1


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_another_process_knows_it_as_ours(bench: Bench) -> None:
    described = from_backup(make_backup(bench))
    machine = bench.created(described)
    again = bench.another()
    assert again.find_vm(machine.facts) is not None
    again.create_vm(described, machine, bench.note)
    assert bench.vmids == [machine.facts.vmid]


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
@pytest.mark.parametrize(
    ("disks", "said"),
    [
        ((Disk(slot="virtio0", storage="local-lvm", size=8 * GIB),), "its disks are scsi0"),
        ((Disk(slot="scsi0", storage="local-lvm", size=2 * GIB),), "described with 2G, and has 8G"),
    ],
)
def test_a_backup_that_does_not_fit_is_refused_before_anything_is_made(
    bench: Bench, disks: tuple[Disk, ...], said: str
) -> None:
    volume = make_backup(bench)
    with pytest.raises(SpecError, match=said):
        bench.machine(from_backup(volume, disks=disks))
    assert bench.vmids == []


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_a_backup_of_a_template_or_none_at_all_is_refused_before_anything_is_made(bench: Bench) -> None:
    volume = make_backup(bench, template=True)
    with pytest.raises(SpecError, match="it is of a template, and PVE would restore a template"):
        bench.machine(from_backup(volume))
    with pytest.raises(PveRefused, match=r"does not have local:backup/vzdump-qemu-none\.vma"):
        bench.machine(from_backup("local:backup/vzdump-qemu-none.vma"))
    assert bench.vmids == []


def take_the_storage(bench: Bench) -> None:
    """The restore reads the backup, and then does not get the storage: PVE leaves an empty VM."""
    bench.lab.cluster.stores.lock_wait = 0.05
    bench.fault("lock_storage", "POST", "/qemu$", target="local-lvm", seconds=0.3)


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_a_restore_that_failed_because_others_had_the_storage_is_made_again(bench: Bench) -> None:
    described = from_backup(make_backup(bench))
    machine = bench.machine(described)
    take_the_storage(bench)
    bench.hypervisor.create_vm(described, machine, bench.note)
    assert get(bench, machine).uuid == machine.facts.uuid and bench.vmids == [machine.facts.vmid]


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_what_a_restore_of_a_killed_run_left_is_restored_over_or_goes(bench: Bench) -> None:
    volume = make_backup(bench)
    machine = bench.machine(from_backup(volume))
    facts, client = machine.facts, bench.made[0]
    take_the_storage(bench)
    upid = client.restore_vm(facts.node, facts.vmid, volume)
    with pytest.raises(TaskFailed, match="got timeout"):
        bench.hypervisor.wait_for_task(upid)
    assert bench.vmids == [facts.vmid] and bench.another().find_vm(facts) is None
    bench.lab.cluster.stores.lock_wait = 10.0
    known = replace(machine, facts=replace(facts, task=upid))
    again = bench.another()
    again.create_vm(from_backup(volume), known, bench.note)
    assert again.find_vm(facts) is not None and bench.vmids == [facts.vmid]


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_the_rights_depend_on_whose_backup_it_is(bench: Bench) -> None:
    def of(volume: str) -> set[tuple[str, str]]:
        needs = needs_of(from_backup(volume), bench.hypervisor.get_release())
        return {(need.paths[0], need.privileges[0]) for need in needs if "backup" in need.purpose and need.must}

    dated = "vzdump-qemu-100-2026_01_02-03_04_05.vma.zst"
    assert ("/vms/100", "VM.Backup") in of(f"local:backup/{dated}")
    assert ("/vms/7", "VM.Backup") in of("pbs:backup/vm/7/2026-01-02T03:04:05Z")
    assert ("/storage/local", "Datastore.Allocate") in of("local:backup/vzdump-qemu-nixos.vma.zst")
