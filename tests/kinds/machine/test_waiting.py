"""Waiting for a job in the installer: what silence means depends on whether the VM still runs."""

from collections.abc import Callable

import pytest
from typing_extensions import override

from nixops_proxmox.core.engine import LOOKS
from nixops_proxmox.errors import DeployError, JobStillRunning, SshUnreachable
from nixops_proxmox.kinds.machine.steps.installer import INSTALL_TIME, SPELL
from nixops_proxmox.model import Job, JobPhase, Machine, Phase
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import Bench, Crash, FakeVm, Guest, Shell

Happening = Callable[[FakeVm], DeployError]


def guest_where(kind: str, *happenings: Happening) -> tuple[type[Guest], list[float]]:
    """A guest with which each of these happens in turn while the job is waited for, and the times it was given."""
    coming, given = list(happenings), []

    class EventfulShell(Shell):
        @override
        def wait_for_job(self, name: str, *, timeout: float, tell: Callable[[str], None]) -> Job:
            if name.startswith(kind):
                given.append(timeout)
                if coming:
                    raise coming.pop(0)(self.vm)
            return super().wait_for_job(name, timeout=timeout, tell=tell)

    class EventfulGuest(Guest):
        @override
        def installer_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
            return EventfulShell(super().installer_shell(machine, spec).vm, self.fuse, spec)

    return EventfulGuest, given


def goes_off(vm: FakeVm) -> DeployError:
    vm.stop()
    return SshUnreachable("no answer")


def is_silent(vm: FakeVm) -> DeployError:
    return SshUnreachable("no answer")


def takes_long(vm: FakeVm) -> DeployError:
    return JobStillRunning("it still runs")


def done(bench: Bench, label: str) -> int:
    return bench.record.entries.count((label, "done"))


@pytest.mark.parametrize("job", ["partition", "install"])
def test_an_installer_that_went_off_at_work_is_begun_again(job: str) -> None:
    bench = Bench()
    guest, _ = guest_where(job, goes_off)
    assert bench.run(guest=guest).phase is Phase.READY
    assert done(bench, "Boot the installer") == 2
    assert bench.cluster.calls.count("create_vm") == 1
    assert any("the VM stopped while its installer was working" in warning for warning in bench.reporter.warnings)


@pytest.mark.parametrize("happening", [is_silent, takes_long])
def test_silence_and_slowness_of_a_vm_that_runs_are_waited_out(happening: Happening) -> None:
    bench = Bench()
    guest, given = guest_where("install", happening, happening, happening)
    assert bench.run(guest=guest).phase is Phase.READY
    assert given == [SPELL] * 4
    assert done(bench, "Boot the installer") == 1


@pytest.mark.parametrize(
    ("happening", "kind", "looks"), [(is_silent, SshUnreachable, 1), (takes_long, JobStillRunning, LOOKS)]
)
def test_the_wait_ends_at_its_deadline(happening: Happening, kind: type[DeployError], looks: int) -> None:
    """A job that still runs then is an outcome unknown, which the engine looks for a few times more."""
    bench = Bench()

    def after_a_while(vm: FakeVm) -> DeployError:
        bench.clock.sleep(SPELL)
        return happening(vm)

    guest, given = guest_where("install", *[after_a_while] * 1000)
    with pytest.raises(kind):
        bench.run(guest=guest)
    assert sum(given) == INSTALL_TIME * looks
    assert bench.record.machine.phase is Phase.PARTITIONED


@pytest.mark.parametrize("kind", ["partition", "install"])
def test_a_job_that_ends_between_two_looks_is_not_run_again(kind: str) -> None:
    """The run that started it was killed; the next one sees it at work, and an instant later it has ended."""
    bench, begun = Bench(), []

    class LastMomentShell(Shell):
        @override
        def start_job(self, name: str, script: str) -> None:
            begun.append(name)
            super().start_job(name, script)

        @override
        def find_job(self, name: str) -> Job:
            job = super().find_job(name)
            if job.phase is JobPhase.RUNNING:
                self.vm.jobs[name] = Job(JobPhase.DONE, 0)
            return job

        @override
        def wait_for_job(self, name: str, *, timeout: float, tell: Callable[[str], None]) -> Job:
            if name.startswith(kind) and self.vm.jobs[name].phase is JobPhase.RUNNING:
                raise Crash
            return super().wait_for_job(name, timeout=timeout, tell=tell)

    class LastMomentGuest(Guest):
        @override
        def installer_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
            return LastMomentShell(super().installer_shell(machine, spec).vm, self.fuse, spec)

    with pytest.raises(Crash):
        bench.run(guest=LastMomentGuest)
    assert bench.run(guest=LastMomentGuest).phase is Phase.READY
    assert begun == ["partition-0-0", "install-0"]
