"""What happens to a container otherwise than to a VM: how it is made, and how it gets its identity."""

from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.copied import BootCopy
from nixops_proxmox.kinds.machine.steps.hardware import Adjust, CreateVm, Destroy, Discard
from nixops_proxmox.kinds.machine.steps.identity import Reserve
from nixops_proxmox.kinds.machine.steps.system import BootSystem
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.spelling import Verb, command

INSTALLED_BY = "container template"


class ReserveContainer(Reserve):
    """Reserve a VMID, a UUID, MACs and a host key"""

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: nothing is made yet. The record says that it is a container before PVE has it."""
        return replace(super().do(world, machine, attempt), container=True)


class CreateContainer(CreateVm):
    """Create the container from its template"""

    @override
    def already(self, world: World, machine: Machine) -> Facts | None:
        facts = super().already(world, machine)
        return None if facts is None else self._with_first_key(world, facts)

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: PVE gives a VMID once, and a container that bears our mark is found before a second is
        made."""
        keys = world.keys.authorized_keys(world.spec)
        world.hypervisor.create_vm(world.images.put(machine, world.spec), machine, attempt.note_task, keys)
        return self._with_first_key(world, attempt.facts)

    def _with_first_key(self, world: World, facts: Facts) -> Facts:
        """PVE made the host keys, and its task tells what they are: so that the first contact is proven."""
        return replace(facts, first_key=world.hypervisor.first_key(facts))


class EnterContainer(BootCopy):
    """Start the container and give it its identity"""

    installed_by = INSTALLED_BY


class AdjustContainer(Adjust):
    """Change the container to match the description"""


class StartContainer(BootSystem):
    """Start the container, unless it runs"""


class DestroyContainer(Destroy):
    """Destroy the container and its volumes"""


class DiscardContainer(Discard):
    """Destroy the container to recreate it with the same identity"""

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: only a container with our mark is destroyed."""
        return replace(super().do(world, machine, attempt), container=True)

    @override
    def _refuse_kept(self, world: World, machine: Machine) -> None:
        """What the container has. One that is gone has nothing to keep."""
        vm = world.hypervisor.find_vm(machine.facts)
        mounts = world.spec.container.mounts if world.spec.container is not None else ()
        there = [mount for mount in mounts if vm is not None and mount.slot in vm.config]
        kept = [f"{mount.slot} ({mount.path})" for mount in there if mount.keep]
        if kept:
            adopt = command(Verb.VOLUME_ADOPT, "NAME", "--disk", f"{machine.name}:{kept[0].partition(' ')[0]}")
            raise NeedsPermission(
                f"{machine.name}: {', '.join(kept)} must be kept, but a container is made new with all its own mounts",
                hint=f"{adopt} makes it a volume, which is parked meanwhile; or save the data and remove `keep`",
            )
