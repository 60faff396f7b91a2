"""What happens with a system that was copied, from an image or a template, instead of installed."""

from dataclasses import replace

from nixops_proxmox.core.table import Repeatable
from nixops_proxmox.kinds.machine.scripts import identity_files
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import SHUTDOWN, change_hardware, get_vm
from nixops_proxmox.kinds.machine.steps.identity import with_macs
from nixops_proxmox.model import Facts, Machine, Power


class BootCopy(Repeatable):
    """Boot the copied system and give it its identity"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a system that has its identity gets the same one, and only what still differs is changed."""
        machine = with_macs(machine, world.spec)
        self._boot(world, machine, attempt)
        private, public = world.keys.host_key(machine.facts.uuid)
        world.guest.introduce(
            machine,
            world.spec,
            identity_files(machine, world.spec, private, public) | {"etc/hostname": (f"{machine.name}\n", 0o644)},
            world.keys.authorized_keys(world.spec),
        )
        known = machine.moved(machine.phase, replace(attempt.facts, macs=machine.facts.macs, host_key=public))
        facts = world.guest.meet_system(known, world.spec)  # it must be proven before this is believed to be done
        return replace(facts, installed_by=world.spec.install.source.value, boot_id="", installer_keys=())

    def _boot(self, world: World, machine: Machine, attempt: Attempt) -> None:
        """The first configuration write after a clone also says whose it is. Disks grow to what is declared."""
        changes = change_hardware(world, machine, get_vm(world, machine), attempt)
        vm = get_vm(world, machine)
        from_cd = world.hypervisor.boots_installer(vm, world.spec)
        if from_cd:
            world.hypervisor.set_boot(vm, world.spec, installer=False)
        if vm.power is Power.RUNNING and (from_cd or vm.pending or changes):
            world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)
        world.volumes.settle(machine, world.spec)
        world.before_boot(machine.name)
        world.hypervisor.start_vm(machine.facts, attempt.note_task)
