"""A new system is on probation: it is kept after a login and all checks, and else the error says what was missing."""

from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.errors import ConnectionLost, NotConfirmed, SshUnreachable
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import Machine, Phase, Probation, ProbationState
from nixops_proxmox.spec import DeploySpec, HealthSpec, MachineSpec
from tests.kinds.machine.cluster import SPEC, SYSTEM, Bench, Builder, Crash, Fuse, Guest, Shell

NEW = "/nix/store/00000000000000000000000000000000-new"
OTHER = "/nix/store/00000000000000000000000000000000-other"
ILL = SPEC.model_copy(update={"deploy": DeploySpec(health=HealthSpec(tcp=(80,)))})


def deployed() -> Bench:
    bench = Bench()
    bench.run()
    return bench


def fails(bench: Bench, **how: Any) -> NotConfirmed:
    with pytest.raises(NotConfirmed) as failed:
        bench.run(system=NEW, **how)
    assert bench.record.machine.phase is not Phase.READY
    return failed.value


def test_what_answers_and_is_well_is_confirmed() -> None:
    bench = deployed()
    machine = bench.run(system=NEW)
    assert (machine.phase, machine.facts.system, bench.vm.installed) == (Phase.READY, NEW, NEW)
    assert machine.facts.probation == {"system": NEW, "verdict": "confirmed"}


def test_without_a_login_the_guest_goes_back_and_the_hypervisor_tells_why() -> None:
    bench = deployed()
    bench.vm.well = False
    error = fails(bench)
    assert (error.verdict, error.exit_status) == ("reverted by the guest", 7)
    assert "no confirmation came" in error.message and "agent: sshd.service failed" in error.message
    assert f"it runs {SYSTEM} again" in error.message
    facts = bench.record.machine.facts
    assert (bench.vm.active, facts.system) == (SYSTEM, SYSTEM)
    assert facts.probation == {"system": NEW, "verdict": "reverted by the guest", "why": "no confirmation came"}


def test_a_health_check_that_never_holds_is_refused_by_us() -> None:
    bench = deployed()
    error = fails(bench, spec=ILL)
    assert error.verdict == "reverted by us"
    assert "tcp 80: refused" in error.message and bench.vm.active == SYSTEM


def test_where_a_look_takes_long_we_refuse_as_long_as_there_is_time_to() -> None:
    bench = deployed()

    class Slow(Guest):
        @override
        def ailments(self, shell: Any, machine: Machine, spec: MachineSpec) -> list[str]:
            bench.clock.sleep(8)
            shell.vm.pass_time()
            return list(super().ailments(shell, machine, spec))

    assert fails(bench, spec=ILL, guest=Slow).verdict == "reverted by us"


class Recovering(Guest):
    asked = 0

    @override
    def ailments(self, shell: Any, machine: Machine, spec: MachineSpec) -> list[str]:
        self.asked += 1
        return ["tcp 80: refused"] * (self.asked < 4)


def test_a_health_check_may_need_time() -> None:
    assert deployed().run(system=NEW, spec=ILL, guest=Recovering).facts.system == NEW


class Broken(Builder):
    """The connection breaks when the probation has begun (or before)."""

    begins = True

    @override
    def begin_probation(
        self, system: str, shell: Any, number: str, deploy: DeploySpec, generation: int | None = None
    ) -> Probation | None:
        if self.begins:
            super().begin_probation(system, shell, number, deploy, generation)
        raise ConnectionLost("the connection broke")


class BrokenBefore(Broken):
    begins = False


def test_a_connection_that_breaks_in_the_middle_costs_nothing() -> None:
    assert deployed().run(system=NEW, builder=Broken).facts.system == NEW


def test_a_connection_that_breaks_before_the_probation_is_no_restart() -> None:
    bench = deployed()
    with pytest.raises(SshUnreachable, match="before the probation"):
        bench.run(system=NEW, builder=BrokenBefore)
    assert bench.run(system=NEW).facts.system == NEW


class Stuck(Guest):
    """No login to the new system works, and the guest does not go back to the one before."""

    @override
    def new_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
        if self.cluster.get(machine.facts).on_probation:
            raise SshUnreachable("no answer")
        return super().new_shell(machine, spec)

    @override
    def voice(self, machine: Machine, spec: MachineSpec) -> None:
        return None


def test_a_guest_that_gives_no_sign_is_stuck_and_a_restart_brings_back_the_system_before() -> None:
    bench = deployed()
    error = fails(bench, guest=Stuck)
    assert error.verdict == "stuck" and "--hard" in error.hint
    bench.vm.stop()
    bench.vm.start()
    assert bench.run(system=SYSTEM).facts.system == SYSTEM
    assert any("is reverted by a restart" in one for one in bench.reporter.warnings)


def test_with_permission_we_restart_it_ourselves() -> None:
    bench = deployed()
    boots = bench.vm.boots
    error = fails(bench, guest=Stuck, permissions=Permissions(allow_reboot=True))
    assert (error.verdict, bench.vm.boots, bench.vm.active) == ("reverted by us", boots + 1, SYSTEM)


def killed_on_probation() -> Bench:
    """The run is gone right after the switch."""
    bench = deployed()
    fuse = Fuse(0)
    while not bench.vm.on_probation:
        fuse.at, fuse.count = fuse.at + 1, 0
        with pytest.raises(Crash):
            bench.run(system=NEW, fuse=fuse)
    return bench


def test_the_next_run_goes_on_with_a_probation_that_still_waits() -> None:
    bench = killed_on_probation()
    machine = bench.run(system=NEW)
    assert (machine.facts.system, bench.vm.generations) == (NEW, {2: NEW})


def test_the_next_run_refuses_a_probation_of_what_is_no_longer_wanted() -> None:
    bench = killed_on_probation()
    assert bench.run(system=OTHER).facts.system == OTHER
    assert any(NEW in one and "is reverted by us: another system" in one for one in bench.reporter.warnings)


@pytest.mark.parametrize(
    ("state", "said"),
    [(ProbationState.REVERTED, "it is reverted by the guest"), (ProbationState.CONFIRMED, "it is confirmed")],
)
def test_the_next_run_finds_out_what_became_of_it_and_says_it(state: ProbationState, said: str) -> None:
    bench = killed_on_probation()
    probation = bench.vm.probation
    assert probation is not None
    bench.vm.probation = Probation(probation.number, state, NEW, SYSTEM, generation=2, boot=probation.boot)
    if state is ProbationState.CONFIRMED:
        bench.vm.active = bench.vm.installed = NEW
    assert bench.run(system=NEW).facts.system == NEW
    assert any(said in one for one in bench.reporter.warnings)


def test_without_a_probation_it_is_switched_at_once() -> None:
    bench = deployed()
    spec = SPEC.model_copy(update={"deploy": DeploySpec(probation=0)})
    assert bench.run(system=NEW, spec=spec).facts.system == NEW
    assert bench.vm.probation is None
