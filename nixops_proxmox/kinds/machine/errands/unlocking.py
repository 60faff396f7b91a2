"""An encrypted disk is opened by the key that the operator's store keeps."""

from typing_extensions import override

from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.encrypting import unlock
from nixops_proxmox.model import Facts, Machine


class Unlock(Errand):
    """Unlock the disk"""

    disturbs = False

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: the key is typed only where the first stage asks for it."""
        if not unlock(world, machine):
            world.reporter.detail(machine, "nothing asks for a key: its system is up")
        return attempt.facts
