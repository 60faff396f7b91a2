"""Which units of a machine a deploy would restart, reload, stop and start."""

from nixops_proxmox.errors import DeployError
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Machine
from nixops_proxmox.nixeval.rehearsal import Rehearsal, rehearse


def find_units(machine: Machine, world: World, system: str, *, copy: bool) -> Rehearsal:
    """Ask the guest. `copy`: copy the system there first, unless it has it. That is all that is ever changed."""
    try:
        shell = world.guest.system_shell(machine, world.spec)
        found = rehearse(system, shell)
        if not found.absent or not copy:
            return found
        world.reporter.detail(machine, f"copying {system}")
        world.builder.copy_system(system, machine, world.spec, shell, into_target=False)
        return rehearse(system, shell)
    except DeployError as error:
        return Rehearsal(None, error.message)
