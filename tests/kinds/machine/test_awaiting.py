"""What of a new system only a boot takes up: it waits for one, and with permission the machine is restarted."""

import contextlib

import pytest
from typing_extensions import override

from nixops_proxmox.errors import SwitchRefused
from nixops_proxmox.kinds.machine.plans import foresee, plan_deploy
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.kinds.machine.steps.hardware import find_changes
from nixops_proxmox.model import Phase
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import SPEC, Bench, Crash, FakeVm, Fuse, Guest

ALLOWED = Permissions(allow_reboot=True)
KERNEL = "/nix/store/00000000000000000000000000000000-web-linux-2"
BROKER = "/nix/store/00000000000000000000000000000000-web-dbus-broker"
MORE = SPEC.model_copy(update={"memory": 2048})


def deployed() -> Bench:
    bench = Bench()
    bench.run()
    return bench


def promised(bench: Bench, system: str, spec: MachineSpec = SPEC) -> tuple[tuple[str, ...], bool]:
    world = bench.world(spec=spec, permissions=ALLOWED, system=system)
    plan = plan_deploy(bench.record.machine, world)
    foreseen = foresee(plan, world, tuple(find_changes(world, plan.shown.vm, plan.seen)))  # type: ignore[union-attr, arg-type]
    return foreseen.restart, foreseen.twice


def test_nobody_restarts_it_without_permission_and_what_waits_is_recorded() -> None:
    bench = deployed()
    boots = bench.vm.boots
    facts = bench.run(system=KERNEL).facts
    assert (bench.vm.boots, bench.vm.active, facts.system) == (boots, KERNEL, KERNEL)
    assert facts.awaits == {"system": KERNEL, "boot": str(boots), "changes": "kernel 1 → 2"}
    assert bench.run(system=KERNEL).facts.awaits and bench.vm.boots == boots


def test_with_permission_it_is_restarted_once_as_the_plan_says() -> None:
    bench = deployed()
    boots = bench.vm.boots
    assert promised(bench, KERNEL) == (("kernel 1 → 2",), False)
    machine = bench.run(system=KERNEL, permissions=ALLOWED)
    assert (machine.phase, machine.facts.awaits) == (Phase.READY, {})
    assert (bench.vm.boots, bench.vm.kernel) == (boots + 1, "2")
    assert promised(bench, KERNEL) == ((), False)
    assert bench.run(system=KERNEL, permissions=ALLOWED).phase is Phase.READY
    assert bench.vm.boots == boots + 1, "it was restarted for what had been taken up"


def test_what_an_earlier_deploy_left_waiting_is_taken_up_when_a_restart_is_allowed() -> None:
    bench = deployed()
    bench.run(system=KERNEL)
    boots = bench.vm.boots
    assert promised(bench, KERNEL) == (("kernel 1 → 2",), False)
    assert bench.run(system=KERNEL, permissions=ALLOWED).phase is Phase.READY
    assert (bench.vm.boots, bench.vm.kernel) == (boots + 1, "2")


def test_a_boot_by_somebody_else_is_enough() -> None:
    bench = deployed()
    bench.run(system=KERNEL)
    bench.vm.stop()
    bench.vm.start()
    boots = bench.vm.boots
    assert promised(bench, KERNEL) == ((), False)
    assert bench.run(system=KERNEL, permissions=ALLOWED).phase is Phase.READY
    assert bench.vm.boots == boots


def test_a_system_that_nixos_does_not_switch_to_is_booted() -> None:
    bench = deployed()
    boots = bench.vm.boots
    with pytest.raises(SwitchRefused):
        bench.run(system=BROKER)
    assert bench.vm.boots == boots and bench.vm.active != BROKER
    assert promised(bench, BROKER) == (("dbus",), False)
    assert bench.run(system=BROKER, permissions=ALLOWED).facts.awaits == {}
    assert (bench.vm.boots, bench.vm.active) == (boots + 1, BROKER)


def test_hardware_and_kernel_are_two_restarts_and_the_plan_says_so() -> None:
    bench = deployed()
    boots = bench.vm.boots
    assert promised(bench, KERNEL, MORE) == (("memory", "kernel 1 → 2"), True)
    assert bench.run(system=KERNEL, spec=MORE, permissions=ALLOWED).phase is Phase.READY
    assert (bench.vm.boots, bench.vm.memory, bench.vm.kernel) == (boots + 2, 2048, "2")


class Stubborn(FakeVm):
    """Its boot loader boots the old kernel, whatever is installed."""

    @override
    def start(self) -> None:
        super().start()
        self.kernel = "1"


def test_what_still_waits_after_its_boot_is_said_and_not_tried_again() -> None:
    bench = deployed()
    bench.vm.__class__ = Stubborn
    boots = bench.vm.boots
    for _ in range(3):
        assert bench.run(system=KERNEL, permissions=ALLOWED).phase is Phase.READY
        assert bench.vm.boots == boots + 1
    assert promised(bench, KERNEL) == ((), False)
    assert any("kernel 1 → 2: the machine was booted since, and still waits" in one for one in bench.reporter.warnings)


class Silent(Guest):
    @override
    def system_shell(self, machine: object, spec: object) -> object:  # type: ignore[override]
        raise SwitchRefused("no answer")  # any error of ours


def test_a_guest_that_does_not_answer_is_not_restarted_for_it() -> None:
    bench = deployed()
    bench.run(system=KERNEL)
    boots = bench.vm.boots
    bench.run(system=KERNEL, permissions=ALLOWED, guest=Silent)
    assert bench.vm.boots == boots


@pytest.mark.parametrize("system", [KERNEL, BROKER])
def test_after_a_break_anywhere_it_is_taken_up_by_at_most_one_restart_more(system: str) -> None:
    for at in range(1000):
        bench = deployed()
        boots = bench.vm.boots
        fuse = Fuse(at)
        with contextlib.suppress(Crash):
            bench.run(fuse=fuse, system=system, permissions=ALLOWED)
        if fuse.count <= at:
            assert at >= 10
            return
        machine = bench.run(system=system, permissions=ALLOWED)
        assert (machine.phase, machine.facts.awaits, bench.vm.active) == (Phase.READY, {}, system), at
        assert bench.vm.boots == boots + 1, at
