"""The hypervisor against the lab: everything the core asks of it, and what goes wrong on the way."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from nixops_proxmox.errors import (
    NeedsPermission,
    NotFound,
    PermissionDenied,
    PveOutcomeUnknown,
    PveRefused,
    TaskFailed,
    VmidTaken,
)
from nixops_proxmox.kinds.machine.ports import Hypervisor
from nixops_proxmox.model import Facts, Machine, Power, Vm
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.spec import Disk, MachineSpec, Nic
from tests.contract.client_bench import MAC, Bench, bare, start_bench
from tests.pve.specs import GIB, ISO


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as bench:
        yield bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    with start_bench() as made:
        yield made


def find(bench: Bench, machine: Machine) -> Power | None:
    vm = bench.hypervisor.find_vm(machine.facts)
    return None if vm is None else vm.power


def test_it_fits_the_core() -> None:
    fits: type[Hypervisor] = PveHypervisor
    assert fits is PveHypervisor


def test_a_life(any_bench: Bench) -> None:
    bench, described = any_bench, bare()
    hypervisor = bench.hypervisor
    machine = bench.created()
    vm = hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert (vm.power, vm.node, vm.uuid) == (Power.STOPPED, machine.facts.node, machine.facts.uuid)
    assert hypervisor.changes(vm, described, machine) == ()
    hypervisor.start_vm(machine.facts, bench.note)
    hypervisor.start_vm(machine.facts, bench.note)
    assert find(bench, machine) is Power.RUNNING
    hypervisor.shut_down_vm(machine.facts, bench.note, 5)
    assert find(bench, machine) is Power.STOPPED
    hypervisor.stop_vm(machine.facts, bench.note)
    hypervisor.start_vm(machine.facts, bench.note)
    hypervisor.destroy_vm(machine.facts, bench.note)
    assert find(bench, machine) is None
    hypervisor.destroy_vm(machine.facts, bench.note)
    assert bench.vmids == []
    assert len(bench.noted) == 8


def test_the_description_can_change(any_bench: Bench) -> None:
    bench = any_bench
    machine = bench.created()
    described = bare(
        memory=4096,
        tags=("prod",),
        disks=(
            Disk(slot="scsi0", storage="local-lvm", size=9 * GIB),
            Disk(slot="scsi1", storage="shared", size=GIB, ssd=True),
        ),
    )
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert sorted(c.key for c in bench.hypervisor.changes(vm, described, machine)) == [
        "memory",
        "scsi0",
        "scsi1",
        "tags",
    ]
    bench.hypervisor.apply_changes(vm, described, machine, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert bench.hypervisor.changes(vm, described, machine) == ()
    smaller = bare(memory=4096, tags=("prod",), disks=described.disks[:1])
    bench.hypervisor.apply_changes(vm, smaller, machine, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert "scsi1" not in vm.config
    assert "unused0" in vm.config


def test_a_running_vm_says_what_waits_for_a_restart(bench: Bench) -> None:
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    bench.hypervisor.apply_changes(vm, bare(memory=4096), machine, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert (vm.pending, vm.config["memory"]) == (("memory",), "4096")
    bench.hypervisor.stop_vm(machine.facts, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    bench.hypervisor.start_vm(machine.facts, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert vm.pending == ()


def test_a_no_change_look_at_n_machines_costs_one_call_and_n(bench: Bench) -> None:
    machines = [bench.created() for _ in range(5)]
    for machine in machines:
        bench.hypervisor.start_vm(machine.facts, bench.note)
    fresh = bench.another()
    bench.calls()
    for machine in machines:
        vm = fresh.find_vm(machine.facts)
        assert vm is not None
        assert vm.power is Power.RUNNING
        assert fresh.changes(vm, bare(), machine) == ()
    assert bench.calls() == {"GET /cluster/resources": 1, "GET /nodes/{node}/qemu/{vmid}/pending": 5}


def test_creating_and_starting_takes_few_calls(bench: Bench) -> None:
    bench.calls()
    machine = bench.machine()
    assert bench.hypervisor.find_vm(machine.facts) is None
    bench.hypervisor.create_vm(bare(), machine, bench.note)
    assert bench.hypervisor.find_vm(machine.facts) is not None
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    bench.hypervisor.start_vm(machine.facts, bench.note)
    assert sum(bench.calls().values()) <= 7  # a look right before the start, and once in a run: who is in maintenance
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    bench.hypervisor.set_boot(vm, bare(), installer=False)
    bench.hypervisor.stop_vm(machine.facts, bench.note)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    assert sum(bench.calls().values()) <= 8  # three acts, a look right before each, and one at the boot order after


def test_destroying_a_vm_that_never_ran_asks_each_thing_once(bench: Bench) -> None:
    """Whose it is, is asked again right before the end."""
    machine = bench.created()
    fresh = bench.another()
    bench.calls()
    for _ in ("what goes with it", "where it stands", "whether it is gone already"):
        assert fresh.find_vm(machine.facts, power=False) is not None
    fresh.destroy_vm(machine.facts, bench.note, ran=False)
    calls = bench.calls()
    vm = "/nodes/{node}/qemu/{vmid}"
    assert calls == dict.fromkeys((f"GET {vm}/pending", f"GET {vm}/config", f"DELETE {vm}"), 1)


def test_a_vm_of_somebody_else_with_our_vmid_is_not_ours(bench: Bench) -> None:
    machine = bench.created()
    other = replace(machine.facts, uuid="00000000-0000-4000-8000-000000000000")
    fresh = bench.another()
    assert fresh.find_vm(other) is None
    with pytest.raises(VmidTaken):
        fresh.create_vm(bare(), replace(machine, facts=other), bench.note)
    with pytest.raises(NotFound):
        fresh.stop_vm(other, bench.note)
    fresh.destroy_vm(other, bench.note)
    assert bench.vmids == [machine.facts.vmid]


def test_what_we_may_not_see_is_not_gone(bench: Bench) -> None:
    machine = bench.created()
    root = bench.another(username="root@pam", password=bench.lab.root_password).client
    root._ask("POST", "/access/users", {"userid": "blind@pve", "password": "password-1"})
    blind = bench.another(username="blind@pve", password="password-1")
    with pytest.raises(PermissionDenied) as caught:
        blind.find_vm(machine.facts)
    assert caught.value.path == f"/vms/{machine.facts.vmid}"
    assert "VM.Audit" in caught.value.privileges
    with pytest.raises(PermissionDenied):
        blind.destroy_vm(machine.facts, bench.note)


def test_a_vm_that_is_absent_is_gone_on_authority(bench: Bench) -> None:
    facts = Facts(uuid="00000000-0000-4000-8000-000000000001", vmid=4242, node="pve1")
    assert bench.hypervisor.find_vm(facts) is None
    assert bench.calls() == {"GET /cluster/resources": 1, "GET /cluster/nextid": 1}


@pytest.mark.parametrize("path", [r"/qemu$", r"/status/start$", r"/status/stop$"])
def test_a_lost_answer_is_looked_up_and_nothing_is_done_twice(bench: Bench, path: str) -> None:
    bench.fault("drop_after", "POST", path)
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.hypervisor.stop_vm(machine.facts, bench.note)
    posts = [one.call.name for one in bench.done if one.call.method == "POST"]
    assert len(posts) == len(set(posts)) == 3
    assert len(bench.noted) == 3
    assert len(bench.vmids) == 1


def test_a_lost_request_is_not_repeated(bench: Bench) -> None:
    bench.fault("drop_before", "POST", r"/qemu$")
    with pytest.raises(PveOutcomeUnknown):
        bench.created()
    assert bench.vmids == []


def test_a_lost_answer_to_destroy_is_looked_up(bench: Bench) -> None:
    machine = bench.created()
    bench.fault("drop_after", "DELETE", rf"/qemu/{machine.facts.vmid}$")
    bench.hypervisor.destroy_vm(machine.facts, bench.note)
    assert bench.vmids == []


def test_after_a_crash_the_vm_of_the_lost_create_is_found(bench: Bench) -> None:
    machine = bench.machine()
    bench.fault("slow", "POST", r"/qemu$", seconds=0.1)
    bench.hypervisor.create_vm(bare(), machine, bench.note)
    again = bench.another()
    again.create_vm(bare(), machine, bench.note)
    assert bench.vmids == [machine.facts.vmid]


def test_a_stolen_vmid_is_said_and_another_is_chosen(bench: Bench) -> None:
    bench.fault("steal_vmid", "POST", r"/qemu$")
    machine = bench.machine()
    with pytest.raises(VmidTaken):
        bench.hypervisor.create_vm(bare(), machine, bench.note)
    assert bench.machine().facts.vmid != machine.facts.vmid
    assert bench.hypervisor.find_vm(machine.facts) is None


def test_a_fixed_vmid_in_use_is_refused_before_anything_is_made(bench: Bench) -> None:
    taken = bench.created()
    with pytest.raises(VmidTaken, match=str(taken.facts.vmid)):
        bench.another().choose_place(bare(vmid=taken.facts.vmid))


def test_a_failed_task_has_its_text(bench: Bench) -> None:
    bench.fault("fail_task", "POST", r"/qemu$", text="unable to create VM: no space left")
    with pytest.raises(TaskFailed, match="no space left") as caught:
        bench.created()
    assert caught.value.upid == bench.noted[0]


def test_a_warning_is_success_and_is_told(bench: Bench) -> None:
    bench.fault("warn_task", "POST", r"/status/start$", text="something is odd")
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    assert find(bench, machine) is Power.RUNNING
    assert bench.warned


def test_locks_are_waited_for(bench: Bench) -> None:
    machine = bench.created()
    bench.fault("flock_vm", "POST", r"/status/start$", seconds=0.2)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    assert find(bench, machine) is Power.RUNNING
    bench.fault("lock_vm", "POST", r"/status/stop$", text="backup", seconds=0.2)
    bench.hypervisor.stop_vm(machine.facts, bench.note)
    assert find(bench, machine) is Power.STOPPED


def test_a_protected_vm_is_not_destroyed(bench: Bench) -> None:
    machine = bench.created(bare(protection=True))
    with pytest.raises(NeedsPermission, match="protected"):
        bench.hypervisor.destroy_vm(machine.facts, bench.note)
    assert bench.vmids == [machine.facts.vmid]


def test_a_running_vm_is_destroyed_even_if_the_list_calls_it_stopped(bench: Bench) -> None:
    machine = bench.created()
    bench.another().start_vm(machine.facts, bench.note)
    bench.hypervisor.destroy_vm(machine.facts, bench.note)
    assert bench.vmids == []


def test_a_vm_that_somebody_else_has_started_is_stopped_before_it_is_deleted(bench: Bench) -> None:
    machine = bench.created()
    bench.another().start_vm(machine.facts, bench.note)
    bench.another().destroy_vm(machine.facts, bench.note, ran=False)
    assert bench.vmids == []


def test_a_vm_that_is_not_where_it_was_is_found_by_the_cluster(bench: Bench) -> None:
    machine = bench.created()
    elsewhere = replace(machine.facts, node=next(n for n in ("pve1", "pve2") if n != machine.facts.node))
    vm = bench.another().find_vm(elsewhere, power=False)
    assert vm is not None
    assert (vm.node, vm.uuid) == (machine.facts.node, machine.facts.uuid)
    bench.another().destroy_vm(elsewhere, bench.note, ran=False)
    assert bench.vmids == []


def test_a_strangers_vm_where_ours_was_is_not_destroyed(bench: Bench) -> None:
    machine = bench.created()
    other = replace(machine.facts, uuid="00000000-0000-4000-8000-000000000000")
    fresh = bench.another()
    assert fresh.find_vm(other, power=False) is None
    fresh.destroy_vm(other, bench.note, ran=False)
    assert bench.vmids == [machine.facts.vmid]


def test_many_threads_place_and_create_without_collisions(bench: Bench) -> None:
    made: list[Machine] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            made.append(bench.created())
        except PveRefused as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len({machine.facts.vmid for machine in made}) == 12
    assert {machine.facts.node for machine in made} == {"pve1", "pve2", "pve3"}
    assert sum(one.call.name == "GET /cluster/resources" for one in bench.done) <= 2


def test_no_node_says_of_each_why(bench: Bench) -> None:
    big = bare(disks=(Disk(slot="scsi0", storage="local-lvm", size=5000 * GIB),))
    with pytest.raises(PveRefused) as caught:
        bench.hypervisor.choose_place(big)
    assert all(f"{node}: storage local-lvm has" in str(caught.value) for node in ("pve1", "pve2", "pve3"))
    with pytest.raises(PveRefused, match="no such node"):
        bench.hypervisor.choose_place(bare(node="pve9"))
    with pytest.raises(PveRefused, match="bridge vmbr77"):
        bench.hypervisor.choose_place(bare(network=[{"slot": "net0", "bridge": "vmbr77"}]))
    with pytest.raises(PveRefused, match="does not have local:iso/"):
        bench.hypervisor.choose_place(bare(install={"from": "iso", "iso": ISO}))


def test_an_offline_node_takes_nothing(bench: Bench) -> None:
    bench.fault("lose_node", "GET", r"/version", target="pve2", seconds=60)
    bench.hypervisor.client.get_version()
    nodes = {bench.machine().facts.node for _ in range(4)}
    assert nodes == {"pve1", "pve3"}


def test_an_iso_is_uploaded_inserted_booted_and_ejected(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    iso = tmp_path_factory.mktemp("iso") / "nixos.iso"
    iso.write_bytes(b"\0" * 40_000)
    assert bench.hypervisor.media.upload("pve2", "local", iso, print) == ISO
    described: MachineSpec = bare(install={"from": "iso", "iso": ISO})
    machine = bench.created(described)
    assert machine.facts.node == "pve2"
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert bench.hypervisor.boots_installer(vm, described)
    assert bench.hypervisor.changes(vm, described, machine) == ()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.hypervisor.set_boot(vm, described, installer=False)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert not bench.hypervisor.boots_installer(vm, described)
    assert "boot" in vm.pending
    bench.hypervisor.set_boot(vm, described, installer=True)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert bench.hypervisor.boots_installer(vm, described)
    assert bench.hypervisor.changes(vm, described, machine) == ()


def test_a_task_of_an_earlier_run_is_waited_for(bench: Bench) -> None:
    machine = bench.created()
    again = bench.another()
    again.wait_for_task(bench.noted[0])
    with pytest.raises(NotFound):
        again.wait_for_task("UPID:pve1:0001C2A9:00A3F1E0:6750A1C0:qmcreate:101:deploy@pve!lab:")
    with pytest.raises(NotFound):
        again.wait_for_task("nonsense")
    vm = again.find_vm(machine.facts)
    assert vm is not None
    assert vm.config["net0"] == f"virtio={MAC.upper()},bridge=vmbr0"


def test_what_could_not_be_plugged_in_waits_is_told_and_is_asked_for_again(bench: Bench) -> None:
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    described = bare(
        memory=4096,
        disks=(*bare().disks, Disk(slot="scsi1", storage="local-lvm", size=GIB)),
        network=(*bare().network, Nic(slot="net1", bridge="vmbr1")),
    )
    guest = bench.lab.driver.guest(machine.facts.vmid)
    guest.plugs = f"VM {machine.facts.vmid} qmp command 'device_add' failed - got timeout"
    problems = apply(bench, described, machine)
    assert sorted(problem.partition(":")[0] for problem in problems) == ["net1", "scsi1"]
    assert all("hotplug problem" in problem and "got timeout" in problem for problem in problems)
    waiting = {one.key: one for one in bench.hypervisor.changes(find_vm(bench, machine), described, machine)}
    assert {key: (one.waiting, one.missing) for key, one in waiting.items()} == {
        "memory": (True, False),
        "net1": (True, True),
        "scsi1": (True, True),
    }
    guest.plugs = ""
    assert list(apply(bench, described, machine)) == []
    vm = find_vm(bench, machine)
    assert [one.key for one in bench.hypervisor.changes(vm, described, machine)] == ["memory"]
    assert {"scsi1", "net1"} <= set(vm.active)
    assert "unused0" not in vm.config


def test_to_take_back_what_is_only_pending_needs_no_restart(bench: Bench) -> None:
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    apply(bench, bare(memory=4096), machine)
    (change,) = bench.hypervisor.changes(find_vm(bench, machine), bare(), machine)
    assert (change.key, change.restart, change.waiting) == ("memory", False, False)
    apply(bench, bare(), machine)
    assert find_vm(bench, machine).pending == ()


def find_vm(bench: Bench, machine: Machine) -> Vm:
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return vm


def apply(bench: Bench, described: MachineSpec, machine: Machine) -> Sequence[str]:
    return bench.hypervisor.apply_changes(find_vm(bench, machine), described, machine, bench.note)
