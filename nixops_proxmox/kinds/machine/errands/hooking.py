"""The user's own commands before and after a machine is changed: each at least once, also if a run is killed.

What runs before takes something away (a machine from a load balancer), and what runs after gives it back. So the second
is due from the moment that the first may have begun, and stays due until it has succeeded.
"""

from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.ports import HookRunner
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.table import SETTLED
from nixops_proxmox.model import Facts, Machine, Phase

BEFORE, AFTER = "before", "after"
DUE = {AFTER: "due"}


class RunHook(Errand):
    """Run the hook"""

    disturbs = False

    def __init__(self, when: str) -> None:
        self.subject = when

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: users are told that each of their commands runs at least once."""
        assert world.hooks is not None
        if self.subject == BEFORE and world.hooks.has(AFTER):
            attempt.note(replace(attempt.facts, hooks=DUE))
        if world.hooks.has(self.subject):
            world.hooks.run(self.subject, machine, world.spec, world.builder.wanted_system(machine))
        return replace(attempt.facts, hooks={}) if self.subject == AFTER else attempt.facts


def is_due(machine: Machine) -> bool:
    """What runs after a change has not run yet, or has failed."""
    return AFTER in machine.facts.hooks


def says_farewell(machine: Machine, known: HookRunner) -> bool:
    """A machine that is not installed yet has no users."""
    return known.has(BEFORE) and machine.phase in (*SETTLED, Phase.RESCUE)
