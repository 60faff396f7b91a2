"""Promises that no other test looks at: each test here fails when the one line that keeps its promise is taken away."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typing_extensions import override

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import CommandFailed, NeedsPermission, NoPath, VmidTaken
from nixops_proxmox.kinds.machine.scripts import install_script
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.kinds.machine.steps.identity import macs_for
from nixops_proxmox.model import Completed, Facts, Job, JobPhase, Machine, Phase, Vm
from nixops_proxmox.spec import MachineSpec, Nic
from tests.kinds.machine.cluster import SPEC, SYSTEM, Bench, Crash, FakeVm, Guest, Hypervisor, Shell
from tests.pace import patience

KEPT = SPEC.model_copy(update={"disks": tuple(disk.model_copy(update={"keep": True}) for disk in SPEC.disks)})
Answer = Callable[[FakeVm, str], Completed | None]


def guest_that_answers(answer: Answer, said: list[str]) -> type[Guest]:
    """A guest whose shells answer scripts by `answer` (None: as ever), and whose scripts and jobs are written down."""

    class TalkingShell(Shell):
        @override
        def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
            said.append(script)
            return answer(self.vm, script) or super().run(script, stdin=stdin, timeout=timeout)

        @override
        def start_job(self, name: str, script: str) -> None:
            said.append(f"job {name}")
            super().start_job(name, script)

    class TalkingGuest(Guest):
        @override
        def installer_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
            return TalkingShell(super().installer_shell(machine, spec).vm, self.fuse, spec)

        @override
        def system_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
            return TalkingShell(super().system_shell(machine, spec).vm, self.fuse, spec)

    return TalkingGuest


def as_ever(vm: FakeVm, script: str) -> None:
    del vm, script


def waits_are_told(waited: list[str]) -> type[Hypervisor]:
    class Listening(Hypervisor):
        @override
        def wait_for_task(self, upid: str) -> None:
            waited.append(upid)
            self.cluster.calls.append(f"wait for {upid}")
            super().wait_for_task(upid)

    return Listening


# Turns


def test_a_run_is_turned_back_six_times_and_no_more() -> None:
    bench, tried = Bench(), []

    class Full(Hypervisor):
        @override
        def create_vm(self, spec: MachineSpec, machine: Machine, note: NoteTask, keys: Sequence[str] = ()) -> None:
            tried.append(machine.facts.vmid)
            if len(tried) > 50:
                raise Crash
            raise VmidTaken("taken")

    with pytest.raises(NoPath, match="went back 6 times"):
        bench.run(hypervisor=Full)
    assert len(tried) == 6


# Tasks of earlier runs


def test_a_run_that_nothing_cut_off_waits_for_no_earlier_task() -> None:
    bench, waited = Bench(), list[str]()
    listening = waits_are_told(waited)
    for goal in (Phase.READY, Phase.RESCUE, Phase.READY, Phase.STOPPED, Phase.DEFINED, Phase.READY):
        assert bench.run(goal, hypervisor=listening).facts.task == ""
    assert bench.cluster.tasks and not waited


def test_a_move_that_was_turned_back_leaves_no_task_behind() -> None:
    bench, waited = Bench(), list[str]()

    class Late(waits_are_told(waited)):  # type: ignore[misc]  # a class made for this test
        def create_vm(self, spec: MachineSpec, machine: Machine, note: NoteTask, keys: Sequence[str] = ()) -> None:
            if "taken" not in self.cluster.calls:
                self.cluster.calls.append("taken")
                note("UPID:pve1:taken:qmcreate:")
                raise VmidTaken("taken by somebody else, as the task found out")
            super().create_vm(spec, machine, note)

    assert bench.run(hypervisor=Late).phase is Phase.READY
    assert "taken" in bench.cluster.calls and not waited


def test_a_task_that_a_killed_run_left_behind_is_waited_for_before_anything_else() -> None:
    bench, waited = Bench(), list[str]()

    class Killed(Hypervisor):
        @override
        def start_vm(self, facts: Facts, note: NoteTask) -> None:
            def note_and_die(upid: str) -> None:
                note(upid)
                raise Crash

            super().start_vm(facts, note_and_die)

    with pytest.raises(Crash):
        bench.run(hypervisor=Killed)
    left, before = bench.cluster.tasks[-1], len(bench.cluster.calls)
    assert bench.record.machine.facts.task == left
    assert bench.run(hypervisor=waits_are_told(waited)).phase is Phase.READY
    assert waited == [left]
    assert bench.cluster.calls[before] == f"wait for {left}"


# What is looked at


def test_a_system_that_is_back_after_it_was_lost_is_not_installed_again() -> None:
    bench = Bench()
    bench.run()
    gone = dict(bench.cluster.vms)
    bench.cluster.vms.clear()
    with pytest.raises(NoPath, match="lost"):
        bench.run()
    bench.cluster.vms.update(gone)
    bench.vm.stop()
    steps = len(bench.reporter.steps)
    assert bench.run().phase is Phase.READY
    again = bench.reporter.steps[steps:]
    assert "Boot the installed system, unless it runs" in again
    assert not {"Boot the installer", "Partition the disks", "Install the system"} & set(again)


def test_who_asks_to_check_has_a_ready_machine_looked_at() -> None:
    bench = Bench()
    bench.run()
    steps = len(bench.reporter.steps)
    bench.run(permissions=Permissions(check=True))
    assert bench.reporter.steps[steps:] == ["Reach the system and activate what is wanted"]


@pytest.mark.parametrize("lock", ["create", "clone"])
def test_a_vm_that_is_still_being_made_is_not_taken_for_made(lock: str) -> None:
    bench = Bench()
    bench.run(enough=lambda machine: machine.phase is Phase.RESERVED)

    class Unfinished(Hypervisor):
        @override
        def find_vm(self, facts: Facts, *, power: bool = True) -> Vm | None:
            seen = super().find_vm(facts, power=power)
            return replace(seen, lock=lock) if seen is not None and "finished" not in self.cluster.calls else seen

        @override
        def create_vm(self, spec: MachineSpec, machine: Machine, note: NoteTask, keys: Sequence[str] = ()) -> None:
            self.cluster.calls.append("finished")

    facts = bench.record.machine.facts
    bench.cluster.vms[facts.vmid] = FakeVm(facts.vmid, facts.uuid, 1024)
    assert bench.run(hypervisor=Unfinished).phase is Phase.READY
    assert "finished" in bench.cluster.calls


# Disks


def test_a_kept_disk_is_read_only_before_a_reinstall_partitions() -> None:
    bench, said = Bench(), list[str]()
    guest = guest_that_answers(as_ever, said)
    bench.run(spec=KEPT, guest=guest)
    assert not [script for script in said if "blockdev" in script], "at the first installation it must be written"
    bench.run(Phase.DEFINED, spec=KEPT, guest=guest)
    said.clear()
    assert bench.run(spec=KEPT, guest=guest).phase is Phase.READY
    assert "job partition-1-0" in said
    assert said.index("blockdev --setro /dev/sda") < said.index("job partition-1-0")


def test_a_kept_disk_that_cannot_be_made_read_only_ends_the_reinstall() -> None:
    bench, said = Bench(), list[str]()

    def refuse(vm: FakeVm, script: str) -> Completed | None:
        return Completed(1, stderr="no such ioctl") if "blockdev" in script else None

    guest = guest_that_answers(refuse, said)
    bench.run(spec=KEPT)
    bench.run(Phase.DEFINED, spec=KEPT)
    with pytest.raises(CommandFailed, match=r"kept disk /dev/sda could not be made read-only: no such ioctl"):
        bench.run(spec=KEPT, guest=guest)
    assert not [script for script in said if script.startswith("job")]


def test_a_partition_script_that_mounts_nothing_is_told_so() -> None:
    bench, said = Bench(), list[str]()

    def unmounted(vm: FakeVm, script: str) -> Completed | None:
        return Completed(1) if "/proc/self/mounts" in script else None

    with pytest.raises(CommandFailed, match="nothing is mounted on /mnt"):
        bench.run(guest=guest_that_answers(unmounted, said))
    assert bench.record.machine.phase is Phase.REACHABLE
    assert "job install-0" not in said


def test_nothing_is_installed_into_the_memory_of_an_installer_whose_target_is_gone() -> None:
    bench, said = Bench(), list[str]()
    bench.run(enough=lambda machine: machine.phase is Phase.PARTITIONED)
    bench.vm.mounted = False
    with pytest.raises(CommandFailed, match="nothing is mounted on /mnt"):
        bench.run(guest=guest_that_answers(as_ever, said))
    assert "job install-0" not in said


@pytest.mark.parametrize(
    ("umount", "log"),
    [("exit 0", ["nixos-install", "sync", "umount -R /mnt"]), ("exit 1", ["nixos-install", "sync", "umount", "sync"])],
    ids=["unmounts", "is busy"],
)
def test_the_system_is_on_the_disk_before_the_plug_is_pulled(tmp_path: Path, umount: str, log: list[str]) -> None:
    """The script itself, run by sh, on programs that write down that they were called."""
    told = tmp_path / "log"
    for name, end in {"nixos-install": "exit 0", "sync": "exit 0", "umount": umount}.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{told}\n{end}\n')
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", install_script(SPEC, SYSTEM)], env=environment, check=False, timeout=patience(60)
    )
    lines = told.read_text().splitlines()
    assert done.returncode == 0
    assert [line[: len(word)] for line, word in zip(lines, log, strict=True)] == log


# Keys


def test_a_reinstall_by_another_operator_reads_the_host_key_out_of_the_guest_first() -> None:
    bench, said = Bench(), list[str]()
    uuid = bench.run().facts.uuid
    private = bench.vm.host_key = "the private key that is in the guest"
    bench.keys.keys.clear()

    def tell(vm: FakeVm, script: str) -> Completed | None:
        return Completed(0, private) if script == "cat /etc/ssh/ssh_host_ed25519_key" else None

    bench.run(Phase.DEFINED, guest=guest_that_answers(tell, said))
    assert bench.keys.keys == {uuid: private}


def test_a_host_key_that_is_known_is_not_asked_for_and_one_that_cannot_be_read_is_told() -> None:
    bench, said = Bench(), list[str]()

    def refuse(vm: FakeVm, script: str) -> Completed | None:
        return Completed(1) if script.startswith("cat ") else None

    guest = guest_that_answers(refuse, said)
    bench.run()
    bench.run(Phase.DEFINED, guest=guest)
    assert not said
    bench.run()
    bench.keys.keys.clear()
    bench.run(Phase.DEFINED, guest=guest)
    assert any("host key could not be read" in warning for warning in bench.reporter.warnings)


@pytest.mark.parametrize("lost", [False, True], ids=["there", "lost"])
def test_a_destroyed_machines_keys_are_gone_too(lost: bool) -> None:
    bench = Bench()
    bench.run()
    assert bench.keys.keys
    if lost:
        bench.cluster.vms.clear()
    assert bench.run(Phase.ABSENT).facts == Facts()
    assert not bench.keys.keys


# Jobs


@pytest.mark.parametrize("kind", ["partition", "install"])
@pytest.mark.parametrize(
    ("end", "told"),
    [
        (Job(JobPhase.DONE, 1, "no space left"), "ended with exit status 1; its last lines:\nno space left"),
        (Job(JobPhase.VANISHED, 0, "half way"), "was killed and left no exit status; its last lines:\nhalf way"),
    ],
    ids=["status 1", "killed"],
)
def test_a_job_that_fails_is_told_with_its_last_lines_and_run_again_by_the_next_deploy(
    kind: str, end: Job, told: str
) -> None:
    bench = Bench()

    class FailingShell(Shell):
        @override
        def wait_for_job(self, name: str, *, timeout: float, tell: Callable[[str], None]) -> Job:
            job = super().wait_for_job(name, timeout=timeout, tell=tell)
            if not name.startswith(kind):
                return job
            self.vm.jobs[name] = end
            return end

    class FailingGuest(Guest):
        @override
        def installer_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
            return FailingShell(super().installer_shell(machine, spec).vm, self.fuse, spec)

    before = Phase.REACHABLE if kind == "partition" else Phase.PARTITIONED
    with pytest.raises(CommandFailed, match=re.escape(told)):
        bench.run(guest=FailingGuest)
    assert bench.record.machine.phase is before
    assert bench.run().phase is Phase.READY


# Hardware


def test_a_machine_whose_only_trouble_is_a_missing_device_is_not_ready() -> None:
    bench = Bench()
    bench.run()
    bench.vm.pending = {"net1"}

    class WithoutRoom(Hypervisor):
        @override
        def apply_changes(self, vm: Vm, spec: MachineSpec, machine: Machine, note: NoteTask) -> Sequence[str]:
            return ["net1: hotplug problem"]

    with pytest.raises(NeedsPermission, match="does not have net1"):
        bench.run(hypervisor=WithoutRoom)
    assert bench.record.machine.phase is not Phase.READY


def test_no_two_machines_share_a_mac_and_another_nic_changes_none() -> None:
    one, two = "1f0c2d3e-4a5b-4c6d-8e7f-001122334455", "00000000-0000-4000-8000-00000000beef"
    slots = [f"net{number}" for number in range(8)]
    nics = tuple(Nic(slot=slot, bridge="vmbr0") for slot in slots)
    many = SPEC.model_copy(update={"network": nics})
    macs = [*macs_for(one, many), *macs_for(two, many)]
    assert len(set(macs)) == 16
    assert macs_for(one, SPEC.model_copy(update={"network": nics[3:]})) == macs_for(one, many)[3:]
