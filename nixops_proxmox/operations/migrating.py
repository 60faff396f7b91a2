"""Machines that are told to go to another node."""

from nixops_proxmox.kinds.machine.errands.migrating import Migrate
from nixops_proxmox.model import Machine, Transfer
from nixops_proxmox.operations.pursuit import Pursuit


def foresee(pursuit: Pursuit, target: str) -> Transfer:
    """What `migrate` would do, and what forbids it; only looks. PveRefused if there is no node to migrate to."""
    return pursuit.world.hypervisor.moves.foresee(pursuit.machine.facts, pursuit.world.spec, target)


def migrate(pursuit: Pursuit, target: str) -> Machine:
    """Migrate the machine to the node, or to the best one: live if it runs. A machine that is there stays there."""
    begun = bool(pursuit.machine.facts.errand)
    if target and not begun and foresee(pursuit, target).source == target:
        return pursuit.machine
    return pursuit.run(Migrate(target))
