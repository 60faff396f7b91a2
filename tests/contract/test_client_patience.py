"""What is waited for, for how long, and what is not: each blip passes, failures are told in time."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.errors import DeployError, PveBusy, TaskFailed
from nixops_proxmox.guest.agent import THAW_TIME, Agent
from nixops_proxmox.model import Machine, Power, Vm
from nixops_proxmox.pve.api.answers import TaskListed, agent_result
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.view import ClusterView
from nixops_proxmox.pve.cluster.vm_finder import CREATION_TIME, VmFinder
from nixops_proxmox.pve.cluster.work import BUSY_TIME, known_of
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.refusals import AgentFrozen, Hibernated, NoQuorum, NotObeyed, Overloaded
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import Bench, bare
from tests.pace import patience

QUIT = "VM quit/powerdown failed - got timeout"
CFS = "cfs-lock 'storage-local-lvm' error: got lock request timeout"
WIDER = bare(memory=4096)


def change(bench: Bench, machine: Machine, described: MachineSpec = WIDER) -> Sequence[str]:
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return bench.hypervisor.apply_changes(vm, described, machine, bench.note)


def start(bench: Bench, machine: Machine) -> None:
    bench.hypervisor.start_vm(machine.facts, bench.note)


def stop(bench: Bench, machine: Machine) -> None:
    bench.hypervisor.stop_vm(machine.facts, bench.note)


def destroy(bench: Bench, machine: Machine) -> None:
    bench.hypervisor.destroy_vm(machine.facts, bench.note)


def snapshot(bench: Bench, machine: Machine) -> None:
    facts = machine.facts
    bench.hypervisor.saves.take_snapshot(facts, "s1", bench.note, description="", ram=False)


class Listing(PveClient):
    """A client whose list of tasks is a test's."""

    def __init__(self, real: PveClient, listed: Callable[..., tuple[TaskListed, ...]]) -> None:
        super().__init__(real._sender)
        self._listed = listed

    @override
    def list_tasks(
        self, node: str, *, vmid: int | None = None, kind: str = "", since: int | None = None
    ) -> tuple[TaskListed, ...]:
        return self._listed(node, vmid=vmid, kind=kind, since=since)


class BenchClock:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def now(self) -> float:
        return self._bench.now()

    def sleep(self, seconds: float) -> None:
        self._bench.sleep(seconds)


class Frozen(PveClient):
    """An agent that is frozen for so many calls."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    @override
    def agent_osinfo(self, node: str, vmid: int) -> Mapping[str, Any]:
        self._left -= 1
        if self._left >= 0:
            agent_result(
                {"result": {"error": {"desc": f"VM {vmid} on {node}: the agent is in frozen state"}}}, "osinfo"
            )
        return {"id": "nixos"}


Deed = Callable[[Bench, Machine], object]
DEEDS: dict[str, tuple[Deed, str, str]] = {
    "start": (start, "POST", r"/status/start$"),
    "stop": (stop, "POST", r"/status/stop$"),
    "config": (change, "POST", r"/config$"),
    "destroy": (destroy, "DELETE", r"/qemu/\d+$"),
    "snapshot": (snapshot, "POST", r"/snapshot$"),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize(
    ("status", "text"),
    [(503, "Service Unavailable"), (500, CFS), (500, "cluster not ready - no quorum?"), (429, "Too Many Requests")],
)
def test_a_blip_that_is_told_at_once_is_waited_for_and_said(bench: Bench, deed: str, status: int, text: str) -> None:
    do, method, path = DEEDS[deed]
    machine = bench.created()
    bench.fault("refuse", method, path, status=status, text=text, times=3)
    do(bench, machine)
    assert any(text in told for told in bench.told)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_lock_that_only_the_task_meets_is_waited_for_like_one_that_is_told_at_once(bench: Bench, deed: str) -> None:
    do, method, path = DEEDS[deed]
    machine = bench.created()
    if deed == "stop":
        start(bench, machine)
    bench.fault("fail_task", method, path, text="VM is locked (backup)")
    do(bench, machine)
    assert any("locked by a backup" in told for told in bench.told)


def test_a_create_waits_for_quorum(bench: Bench) -> None:
    bench.fault("refuse", "POST", r"/qemu$", text="cluster not ready - no quorum?", times=3)
    assert bench.created().facts.vmid in bench.vmids


@pytest.mark.parametrize("deed", ["start", "config", "destroy"])
@pytest.mark.parametrize(
    ("status", "text", "kind"), [(503, "x", Overloaded), (500, "cluster not ready - no quorum?", NoQuorum)]
)
def test_what_does_not_pass_is_told_at_a_deadline(
    bench: Bench, deed: str, status: int, text: str, kind: type[DeployError]
) -> None:
    do, method, path = DEEDS[deed]
    machine = bench.created()
    bench.fault("refuse", method, path, status=status, text=text, times=0)
    began = bench.now()
    with pytest.raises(kind):
        do(bench, machine)
    assert BUSY_TIME <= bench.now() - began < BUSY_TIME + patience(30)


def test_a_lock_is_waited_for_by_reading(bench: Bench) -> None:
    machine = bench.created()
    bench.fault("lock_vm", "POST", r"/config$", text="backup")
    bench.done.clear()
    with pytest.raises(PveBusy, match=r"locked \(backup\), and stayed so for 180 s"):
        change(bench, machine)
    calls = bench.calls()
    assert calls["POST /nodes/{node}/qemu/{vmid}/config"] == 1
    assert [told for told in bench.told if "is locked by a backup" in told]


class Tasks:
    """A node that has nothing but a list of tasks: (type, ID, seconds ago)."""

    def __init__(self, *tasks: tuple[str, str, int]) -> None:
        self._tasks = tasks

    def send(self, call: Call, upload: object = None) -> object:
        del upload
        vmid, kind = call.params.get("vmid"), call.params.get("typefilter")
        return [
            {"upid": "U", "type": of, "id": one, "user": "root@pam", "starttime": int(NOON) - ago, "status": "RUNNING"}
            for of, one, ago in self._tasks
            if vmid in (None, int(one or 0)) and kind in (None, of)
        ]

    def close(self) -> None: ...


NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("lock", "tasks", "said"),
    [
        ("", (), ""),
        ("backup", (("vzdump", "100", 600),), "VM 100 is locked by a backup since 11:50 (vzdump of root@pam)"),
        ("backup", (("vzdump", "", 600),), "VM 100 is locked by a backup since 11:50 (vzdump of root@pam)"),
        ("backup", (("vzdump", "101", 600),), "VM 100 is locked by a backup (backup), and no task works on it"),
        ("snapshot", (("qmsnapshot", "100", 86400),), "a snapshot since 2026-03-03 12:00 (qmsnapshot of root@pam)"),
        ("migrate", (), "VM 100 is locked by a migration (migrate), and no task works on it"),
        ("new-word", (("qmx", "100", 60),), "VM 100 is locked by a task since 11:59 (qmx of root@pam)"),
    ],
)
def test_a_lock_is_told_with_whose_it_is_and_since_when(
    lock: str, tasks: Sequence[tuple[str, str, int]], said: str
) -> None:
    hypervisor = PveHypervisor(PveClient(Tasks(*tasks)), wall=lambda: NOON)
    assert hypervisor.lock_told(Vm(100, "pve1", "", Power.RUNNING, {}, (), lock)).endswith(said)


def test_the_guest_that_does_not_obey_is_no_busy_storage(bench: Bench) -> None:
    machine = bench.created()
    start(bench, machine)
    bench.fault("fail_task", "POST", r"/status/stop$", text=QUIT, times=0)
    bench.done.clear()
    with pytest.raises(TaskFailed, match="quit/powerdown") as caught:
        stop(bench, machine)
    assert isinstance(known_of(caught.value), NotObeyed)
    assert "console" in caught.value.hint
    assert bench.calls()["POST /nodes/{node}/qemu/{vmid}/status/stop"] == 1


def test_a_guest_that_does_not_shut_down_is_powered_off(bench: Bench) -> None:
    machine = bench.created()
    start(bench, machine)
    bench.fault("fail_task", "POST", r"/status/shutdown$", text=QUIT, times=0)
    bench.hypervisor.shut_down_vm(machine.facts, bench.note, 5)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert vm.power is Power.STOPPED
    assert "powering it off" in bench.warned[-1]


def test_a_stop_that_is_asked_for_again_is_one_that_the_ha_manager_takes(bench: Bench) -> None:
    """PVE does not let anybody overrule a shutdown there."""
    machine = bench.created()
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.hypervisor.client._ask("POST", "/cluster/ha/resources", {"sid": f"vm:{machine.facts.vmid}"})
    bench.fault("fail_task", "POST", r"/status/stop$", text=CFS)
    bench.done.clear()
    bench.hypervisor.stop_vm(machine.facts, bench.note)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    assert vm.power is Power.STOPPED
    assert [call.call.params for call in bench.done if call.call.shown.endswith("/status/stop")][1:] == [
        {"overrule-shutdown": True},
        {},
    ]


def test_what_failed_is_not_repeated(bench: Bench) -> None:
    bench.created()
    bench.fault("fail_task", "POST", r"/qemu$", text=f"unable to create VM 100 - {QUIT}", times=0)
    bench.done.clear()
    with pytest.raises(TaskFailed) as caught:
        bench.created()
    assert type(known_of(caught.value)) is NotObeyed
    assert posts(bench) == 1


def test_a_failed_hotplug_is_not_repeated_and_is_told(bench: Bench) -> None:
    """What was set is there; what could not be plugged in waits for the next start, and is said."""
    machine = bench.created()
    text = "Parameter verification failed.  net1: hotplug problem - got timeout"
    bench.fault("fail_task", "POST", r"/config$", text=text, times=0)
    bench.done.clear()
    (problem,) = change(bench, machine)
    assert "hotplug problem" in str(problem)
    assert posts(bench) == 1


def posts(bench: Bench) -> int:
    return sum(count for name, count in bench.calls().items() if name.startswith("POST"))


def test_a_hibernated_vm_is_told_at_once_and_keeps_its_memory(bench: Bench) -> None:
    machine = bench.created()
    lock = lambda: bench.lab.cluster.vms[machine.facts.vmid].config.update(lock="suspended")  # noqa: E731
    bench.change(lock)
    began = bench.now()
    with pytest.raises(Hibernated) as caught:
        change(bench, machine)
    assert bench.now() - began < patience(10)
    assert "gives it its memory back" in caught.value.hint
    destroy(bench, machine)
    assert machine.facts.vmid not in bench.vmids


@pytest.mark.parametrize("lock", ["create", "clone"])
def test_a_stale_lock_ends_though_others_are_being_made_all_the_time(bench: Bench, lock: str) -> None:
    """A VM that a crashed node left half made: tasks that began after it have nothing to do with it."""
    machine = bench.created()
    bench.change(lambda: bench.lab.cluster.vms[machine.facts.vmid].config.update(lock=lock))
    client, told = bench.hypervisor.client, []

    def others(node: str, **asked: Any) -> Any:
        """Another VM is always being made; the tasks change with every look."""
        told.append(asked)
        kind = "qmclone" if lock == "clone" else "qmcreate"
        return tuple(
            TaskListed(f"UPID:{node}:{len(told):08X}:00000001:00000001:{kind}:999:x@pam:", kind, "999", "x@pam", 1)
            for _ in (1,)
            if asked.get("vmid") in (None, 999)
        )

    sight = VmFinder(Listing(client, others), ClusterView(client, bench.now), bench.now, bench.sleep)
    began = bench.now()
    with pytest.raises(PveBusy, match=rf"locked \({lock}\)"):
        sight.find(machine.facts)
    assert bench.now() - began < CREATION_TIME + patience(30)
    assert told


def test_a_frozen_agent_thaws(bench: Bench) -> None:
    agent = Agent(Frozen(2), "pve1", 100, clock=BenchClock(bench), tell=bench.told.append)
    assert agent.osinfo() == {"id": "nixos"}
    assert "froze" in bench.told[-1]


def test_an_agent_that_stays_frozen_is_told_at_a_deadline(bench: Bench) -> None:
    began = bench.now()
    with pytest.raises(AgentFrozen):
        Agent(Frozen(10**6), "pve1", 100, clock=BenchClock(bench)).osinfo()
    assert THAW_TIME <= bench.now() - began < THAW_TIME + patience(30)
