"""A system that only a boot takes up is booted once: it stays if it is seen well, and else the one before boots."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.errors import NeedsPermission, NotConfirmed
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.spec import DeploySpec, HealthSpec, MachineSpec
from tests.kinds.machine.cluster import SPEC, SYSTEM, Bench, Crash, FakeVm, Fuse, Guest

ALLOWED = Permissions(allow_reboot=True)
KERNEL = "/nix/store/00000000000000000000000000000000-web-linux-2"
BROKER = "/nix/store/00000000000000000000000000000000-web-dbus-broker"
ILL = SPEC.model_copy(update={"deploy": DeploySpec(health=HealthSpec(tcp=(80,)))})
UNTRIED = SPEC.model_copy(update={"deploy": DeploySpec(probation=0)})


def deployed() -> Bench:
    bench = Bench()
    bench.run()
    return bench


def fails(bench: Bench, system: str = KERNEL, **how: Any) -> NotConfirmed:
    with pytest.raises(NotConfirmed) as failed:
        bench.run(system=system, **({"permissions": ALLOWED} | how))
    assert bench.record.machine.phase is not Phase.READY
    return failed.value


@pytest.mark.parametrize("system", [KERNEL, BROKER])
def test_what_boots_and_is_well_is_kept(system: str) -> None:
    bench = deployed()
    boots = bench.vm.boots
    machine = bench.run(system=system, permissions=ALLOWED)
    assert (machine.phase, machine.facts.system, machine.facts.awaits) == (Phase.READY, system, {})
    assert (bench.vm.boots, bench.vm.installed, bench.vm.active) == (boots + 1, system, system)
    assert machine.facts.probation == {"by": "one boot", "system": system, "verdict": "confirmed"}


def test_it_never_runs_beside_the_old_kernel_first() -> None:
    """What is live before its boot would be what boots, if that boot hangs."""
    bench = deployed()
    bench.vm.dead.add(KERNEL)
    fails(bench)
    assert (bench.vm.installed, bench.vm.active, bench.vm.generations[2]) == (SYSTEM, SYSTEM, KERNEL)


def test_a_system_that_does_not_boot_is_ended_by_us_and_the_one_before_boots() -> None:
    bench = deployed()
    bench.vm.dead.add(KERNEL)
    boots = bench.vm.boots
    error = fails(bench)
    assert (error.verdict, error.exit_status, bench.vm.boots) == ("reverted by us", 7, boots + 2)
    assert "no login worked" in error.message and "10.0.0.3:22: connection refused" in error.message
    assert "agent: sshd.service failed" in error.message and f"it runs {SYSTEM} again" in error.message
    facts = bench.record.machine.facts
    assert (facts.system, facts.awaits) == (SYSTEM, {})
    assert facts.probation["verdict"] == "reverted by us"
    assert bench.run(system=SYSTEM).phase is Phase.READY
    assert bench.vm.boots == boots + 2


def test_one_that_boots_and_is_ill_does_not_stay() -> None:
    bench = deployed()
    error = fails(bench, spec=ILL)
    assert error.verdict == "reverted by us" and "tcp 80: refused" in error.message
    assert bench.vm.active == bench.vm.installed == SYSTEM


class Panicking(FakeVm):
    """The new kernel panics, and the machine boots again by itself."""

    @override
    def start(self) -> None:
        panics = bool(self.once)
        super().start()
        if panics:
            super().stop()
            super().start()


def test_a_kernel_that_panics_is_left_by_the_guest_itself() -> None:
    bench = deployed()
    bench.vm.__class__ = Panicking
    error = fails(bench)
    assert error.verdict == "reverted by the guest" and bench.vm.active == SYSTEM
    assert f"it runs {SYSTEM} again" in error.message


class Hanging(FakeVm):
    """No boot lets us in any more."""

    @override
    def start(self) -> None:
        tries = bool(self.once)
        super().start()
        self.dead = {KERNEL, SYSTEM} if tries else self.dead


def test_where_the_way_back_shows_nothing_it_is_stuck_and_the_next_run_finds_out() -> None:
    bench = deployed()
    bench.vm.__class__ = Hanging
    error = fails(bench)
    assert error.verdict == "stuck" and "--hard" in error.hint
    bench.vm.dead.clear()
    assert fails(bench).verdict == "reverted by us"
    bench.vm.__class__ = FakeVm
    assert bench.run(system=KERNEL, permissions=ALLOWED).facts.system == KERNEL


def test_the_next_deploy_tries_it_again_only_with_permission() -> None:
    bench = deployed()
    bench.vm.dead.add(KERNEL)
    fails(bench)
    with pytest.raises(NeedsPermission, match="was booted once, and did not stay"):
        bench.run(system=KERNEL)
    assert bench.vm.active == bench.vm.installed == SYSTEM
    bench.vm.dead.clear()
    assert bench.run(system=KERNEL, permissions=ALLOWED).facts.system == KERNEL


@pytest.mark.parametrize("spec", [SPEC, UNTRIED], ids=["no boot loader", "no probation"])
def test_without_a_boot_that_is_the_only_one_it_becomes_what_boots(spec: MachineSpec) -> None:
    bench = deployed()
    bench.vm.why_not_once = "it has neither systemd-boot nor GRUB"
    boots = bench.vm.boots
    assert bench.run(system=KERNEL, spec=spec, permissions=ALLOWED).facts.system == KERNEL
    assert bench.vm.boots == boots + 1
    told = any("cannot be tried by one boot: it has neither" in one for one in bench.reporter.warnings)
    assert told is (spec is SPEC)


@pytest.mark.parametrize("disk", [{}, {"efidisk0": "local-lvm:vm-100-disk-1,size=4M"}], ids=["no disk", "disk"])
def test_a_firmware_that_forgets_is_told_nothing_for_one_boot(disk: dict[str, str]) -> None:
    bench = deployed()
    bench.vm.firmware = {"bios": "ovmf", **disk}
    assert bench.run(system=KERNEL, permissions=ALLOWED).facts.system == KERNEL
    assert any("its firmware forgets it" in one for one in bench.reporter.warnings) is (not disk)


def killed(bench: Bench, when: Callable[[Bench], bool]) -> Bench:
    """The run is gone as soon as that holds."""
    fuse = Fuse(0)
    while not when(bench):
        fuse.at, fuse.count = fuse.at + 1, 0
        with pytest.raises(Crash):
            bench.run(system=KERNEL, fuse=fuse, permissions=ALLOWED)
    return bench


def test_what_was_staged_and_is_no_longer_wanted_is_not_booted() -> None:
    bench = killed(deployed(), lambda bench: bool(bench.vm.once))
    boots = bench.vm.boots
    bench.run(system=SYSTEM)
    bench.vm.stop()
    bench.vm.start()
    assert (bench.vm.active, bench.vm.boots) == (SYSTEM, boots + 1)


def test_a_system_that_was_not_confirmed_never_writes_the_menu() -> None:
    """It would be the default there."""
    other = KERNEL.replace("linux-2", "linux-3")
    bench = killed(deployed(), lambda bench: bench.vm.tried)
    boots = bench.vm.boots
    assert bench.run(system=other, permissions=ALLOWED).facts.system == other
    assert (bench.vm.installed, bench.vm.boots) == (other, boots + 2)


def test_a_later_run_without_permission_keeps_what_booted_well_and_ends_nothing() -> None:
    bench = killed(deployed(), lambda bench: bench.vm.tried)
    boots = bench.vm.boots
    error = fails(bench, spec=ILL, permissions=None)
    assert (error.verdict, bench.vm.boots, bench.vm.active) == ("stuck", boots, KERNEL)
    assert bench.run(system=KERNEL).facts.system == KERNEL
    assert (bench.vm.boots, bench.vm.installed) == (boots, KERNEL)


class Ill(Guest):
    @override
    def ailments(self, shell: Any, machine: Machine, spec: MachineSpec) -> list[str]:
        return ["tcp 80: refused"] if self.cluster.get(machine.facts).booted == KERNEL else []


@pytest.mark.parametrize("way", ["well", "ill", "dead"])
def test_after_a_break_anywhere_there_is_a_verdict_and_what_boots_is_what_was_kept(way: str) -> None:
    how: dict[str, Any] = {"system": KERNEL, "permissions": ALLOWED}
    how |= {"guest": Ill, "spec": ILL} if way == "ill" else {}
    for at in range(1000):
        bench = deployed()
        bench.vm.dead = {KERNEL} if way == "dead" else set()
        fuse = Fuse(at)
        with contextlib.suppress(Crash, NotConfirmed):
            bench.run(fuse=fuse, **how)
        if fuse.count <= at:
            assert at >= 10
            return
        for _ in range(2):
            with contextlib.suppress(NotConfirmed):
                bench.run(**how)
        told = bench.record.machine.facts.probation["verdict"]
        kept = KERNEL if way == "well" else SYSTEM
        assert told == "confirmed" if way == "well" else told.startswith("reverted"), at
        bench.vm.stop()
        bench.vm.start()
        assert (bench.vm.active, bench.vm.installed) == (kept, kept), at
