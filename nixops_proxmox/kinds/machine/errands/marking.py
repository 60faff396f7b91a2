"""A VM that somebody else made is marked as ours; nothing else of it changes."""

from typing_extensions import override

from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import get_vm
from nixops_proxmox.model import Facts, Machine


class TakeOver(Errand):
    """Mark the VM as ours"""

    disturbs = False

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: the same mark once more changes nothing."""
        world.hypervisor.put_mark(get_vm(world, machine), machine)
        return attempt.facts
