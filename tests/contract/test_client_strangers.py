"""A VMID that changes hands: whatever we knew a moment ago, a stranger's VM is never touched."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from nixops_proxmox.errors import DeployError, NotFound
from nixops_proxmox.model import Machine, Power
from nixops_proxmox.pve.api.guarded import vm_touched
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.spec import Disk
from tests.contract.client_bench import Bench, bare, start_bench

STRANGER = "00000000-0000-4000-8000-00000000beef"
Act = Callable[[Bench, Machine], object]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with start_bench() as bench:
        yield bench


def hand_over(bench: Bench, machine: Machine) -> None:
    """Behind our back, the VMID is somebody else's machine."""
    root = bench.another(username="root@pam", password=bench.lab.root_password).client
    path = f"/nodes/{machine.facts.node}/qemu/{machine.facts.vmid}/config"
    root._sender.send(Call("PUT", path, {}, {"smbios1": f"uuid={STRANGER}"}))


def run_task(bench: Bench, machine: Machine, post: Callable[[PveHypervisor, str], str]) -> None:
    hypervisor = bench.hypervisor
    hypervisor.saves.run_task("any", machine.facts, lambda node: post(hypervisor, node), "doing it", bench.note)


def change_boot(bench: Bench, machine: Machine) -> None:
    vm = bench.another().find_vm(replace(machine.facts, uuid=STRANGER))
    assert vm is not None
    bench.hypervisor.set_boot(replace(vm, uuid=machine.facts.uuid), bare(), installer=False)


def change_memory(bench: Bench, machine: Machine) -> None:
    vm = bench.another().find_vm(replace(machine.facts, uuid=STRANGER))
    assert vm is not None
    bench.hypervisor.apply_changes(replace(vm, uuid=machine.facts.uuid), bare(memory=4096), machine, bench.note)


ACTS: dict[str, Act] = {
    "start": lambda bench, machine: bench.hypervisor.start_vm(machine.facts, bench.note),
    "stop": lambda bench, machine: bench.hypervisor.stop_vm(machine.facts, bench.note),
    "shutdown": lambda bench, machine: bench.hypervisor.shut_down_vm(machine.facts, bench.note, 10),
    "boot order": change_boot,
    "config": change_memory,
    "snapshot": lambda bench, machine: run_task(
        bench, machine, lambda hv, node: hv.client.create_snapshot(node, machine.facts.vmid, "a")
    ),
    "rollback": lambda bench, machine: run_task(
        bench, machine, lambda hv, node: hv.client.roll_back(node, machine.facts.vmid, "a")
    ),
    "delete": lambda bench, machine: run_task(
        bench, machine, lambda hv, node: hv.client.delete_vm(node, machine.facts.vmid)
    ),
    "restore over it": lambda bench, machine: run_task(
        bench, machine, lambda hv, node: hv.client.restore_vm(node, machine.facts.vmid, "local:backup/a", force=True)
    ),
    "reset": lambda bench, machine: run_task(
        bench, machine, lambda hv, node: hv.client.reset_vm(node, machine.facts.vmid)
    ),
    "command in the guest": lambda bench, machine: bench.hypervisor.client.agent_exec(
        machine.facts.node, machine.facts.vmid, ["true"]
    ),
}


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_a_vmid_that_changed_hands_a_moment_ago_is_left_alone(bench: Bench, act: Act, running: bool) -> None:
    machine = bench.created()
    if running:
        bench.hypervisor.start_vm(machine.facts, bench.note)
    assert bench.hypervisor.find_vm(machine.facts) is not None
    hand_over(bench, machine)
    asked = len(bench.lab.calls)
    with pytest.raises(NotFound, match="belongs to somebody else now, and we did nothing to it"):
        act(bench, machine)
    assert [call for call in bench.lab.calls[asked:] if call["method"] != "GET" and "ticket" not in call["path"]] == []


def test_a_destroy_that_finds_a_stranger_destroys_nothing(bench: Bench) -> None:
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    hand_over(bench, machine)
    bench.hypervisor.destroy_vm(machine.facts, bench.note)  # ours is gone, which is what was asked for
    assert bench.vmids == [machine.facts.vmid]
    vm = bench.another().find_vm(replace(machine.facts, uuid=STRANGER))
    assert vm is not None and vm.power is Power.RUNNING


@pytest.mark.parametrize("act", ["stop", "config"])
def test_a_vmid_that_changes_hands_while_we_wait_for_its_lock_is_left_alone(bench: Bench, act: str) -> None:
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    slept = []

    def sleep(seconds: float) -> None:
        if seconds >= 1:  # not the moments between two looks at a task
            slept.append(seconds)
        if len(slept) == 1:
            hand_over(bench, machine)
        bench.sleep(seconds)

    text = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    bench.fault("fail_task", "POST", r"/(status/stop|config)$", text=text)  # the first try alone
    patient = bench.another(sleep=sleep)
    vm = patient.find_vm(machine.facts)
    assert vm is not None
    with pytest.raises(NotFound, match="belongs to somebody else now"):
        if act == "stop":
            patient.stop_vm(machine.facts, bench.note)
        else:
            patient.apply_changes(vm, bare(memory=4096), machine, bench.note)
    assert slept
    after = bench.another().find_vm(replace(machine.facts, uuid=STRANGER))
    assert after is not None and after.power is Power.RUNNING and after.config["memory"] != "4096"


def test_a_vm_that_nobody_looked_at_is_not_touched(bench: Bench) -> None:
    machine = bench.created()
    with pytest.raises(NotFound, match="never was looked at"):
        bench.another().client.delete_vm(machine.facts.node, machine.facts.vmid)
    assert bench.vmids == [machine.facts.vmid]


def test_a_vm_that_was_moved_since_the_last_look_is_found_where_it_is(bench: Bench) -> None:
    machine = bench.created(bare(disks=(Disk(slot="scsi0", storage="shared", size=1 << 30),)))
    other = next(node for node in ("pve1", "pve2") if node != machine.facts.node)
    bench.lab.settle()
    upid = bench.another(username="root@pam", password=bench.lab.root_password).client._sender.send(
        Call("POST", f"/nodes/{machine.facts.node}/qemu/{machine.facts.vmid}/migrate", {}, {"target": other})
    )
    assert upid
    bench.lab.settle()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None and (vm.node, vm.power) == (other, "running")


def test_the_node_of_one_machine_is_not_told_for_another_with_its_vmid(bench: Bench) -> None:
    machine = bench.created()
    assert bench.hypervisor.find_node(machine.facts) == machine.facts.node
    assert bench.hypervisor.find_node(replace(machine.facts, uuid=STRANGER)) is None


def test_where_a_vm_is_is_believed_for_two_minutes_only(bench: Bench) -> None:
    machine = bench.created()
    assert bench.hypervisor.find_node(machine.facts) == machine.facts.node
    hand_over(bench, machine)
    assert bench.hypervisor.find_node(machine.facts) == machine.facts.node
    bench.skew += 121
    assert bench.hypervisor.find_node(machine.facts) is None


@pytest.mark.parametrize(
    ("call", "vmid"),
    [
        (Call("GET", "/nodes/{node}/qemu/{vmid}/config", {"node": "a", "vmid": 7}), None),
        (Call("POST", "/nodes/{node}/qemu/{vmid}/clone", {"node": "a", "vmid": 7}), None),
        (Call("POST", "/nodes/{node}/qemu", {"node": "a"}, {"vmid": 7}), None),
        (Call("POST", "/nodes/{node}/qemu", {"node": "a"}, {"vmid": 7, "force": True}), 7),
        (Call("POST", "/nodes/{node}/vzdump", {"node": "a"}, {"vmid": "7"}), 7),
        (Call("DELETE", "/nodes/{node}/qemu/{vmid}", {"node": "a", "vmid": 7}), 7),
        (Call("POST", "/nodes/{node}/qemu/{vmid}/agent/exec", {"node": "a", "vmid": 7}), 7),
        (Call("PUT", "/pools/{pool}", {"pool": "p"}, {"vms": "7"}), None),
    ],
)
def test_what_counts_as_touching(call: Call, vmid: int | None) -> None:
    assert vm_touched(call) == vmid


def test_the_error_can_be_shown(bench: Bench) -> None:
    machine = bench.created()
    hand_over(bench, machine)
    with pytest.raises(DeployError) as caught:
        bench.hypervisor.start_vm(machine.facts, bench.note)
    assert str(machine.facts.vmid) in caught.value.message and caught.value.hint
