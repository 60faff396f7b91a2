"""The keys of `deployment.keys` are sent again."""

from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.sending import send_keys, settle_keys
from nixops_proxmox.model import Facts, Machine


class SendKeys(Errand):
    """Send the keys"""

    disturbs = False

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a key that is there stays as it is."""
        met = machine.moved(machine.phase, world.guest.meet_system(machine, world.spec))
        sent, waiting = send_keys(world, met)
        settle_keys(world, sent, waiting)
        return replace(attempt.facts, sent=sent.facts.sent, endpoint=sent.facts.endpoint)
