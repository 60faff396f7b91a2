"""Switched off and on again, without asking the guest."""

from collections.abc import Mapping
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.kinds.machine.errand import Errand, boot, unsettled
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import get_vm
from nixops_proxmox.model import Facts, Machine, Phase, Power

OFF, BEFORE = "off", "before"


class HardReboot(Errand):
    """Switch the machine off and boot its system"""

    task = "qmstop"

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: we note that it was switched off before we start it, and do not switch it off again after
        that."""
        vm = get_vm(world, machine)
        if OFF not in machine.facts.errand:
            attempt.doubt(unsettled(machine), attempt.facts)
            if vm.power is Power.RUNNING:
                world.hypervisor.stop_vm(machine.facts, attempt.note_task)
            attempt.note(replace(attempt.facts, errand={**attempt.facts.errand, OFF: "yes"}))
        return self.start(world, attempt)

    def start(self, world: World, attempt: Attempt) -> Facts:
        """A machine that is not installed yet is left to the table."""
        if attempt.thing.phase is not Phase.INSTALLED:
            return attempt.facts
        return boot(world, attempt)

    @override
    def lands(self, world: World, machine: Machine) -> Phase:  # what it booted is known
        return Phase.RUNNING if machine.phase is Phase.INSTALLED else machine.phase


class Reset(HardReboot):
    """Switch the machine off and on"""

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:  # only what is recorded
        return {BEFORE: machine.phase.value}

    @override
    def start(self, world: World, attempt: Attempt) -> Facts:
        """Boot as before: a machine in rescue boots the installer again."""
        world.hypervisor.start_vm(attempt.facts, attempt.note_task)
        return attempt.facts

    @override
    def lands(self, world: World, machine: Machine) -> Phase:  # no run waits for what boots
        before = Phase(machine.facts.errand[BEFORE])
        return before if machine.phase is Phase.INSTALLED else machine.phase
