"""What happens with a system that was copied, from an image or a template, instead of installed."""

from dataclasses import replace

from nixops_proxmox.core.table import Repeatable
from nixops_proxmox.kinds.machine.disc import find_disc, is_proven, remove_disc, with_disc, with_proof, without_disc
from nixops_proxmox.kinds.machine.first_boot import first_disc
from nixops_proxmox.kinds.machine.scripts import identity_files
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import SHUTDOWN, change_hardware, get_vm
from nixops_proxmox.kinds.machine.steps.identity import at_place, with_macs
from nixops_proxmox.model import Facts, Machine, Power
from nixops_proxmox.spec import IdentityBy, MachineSpec


class BootCopy(Repeatable):
    """Boot the copied system and give it its identity"""

    installed_by = ""  # what the facts call it; empty: the description's way

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a system that has its identity gets the same one, and only what still differs is changed."""
        machine = with_macs(machine, world.spec)
        if world.spec.install.identity is IdentityBy.CLOUD_INIT:
            return self._boot_with_disc(world, machine, attempt)
        self._prepare(world, machine, attempt)
        world.hypervisor.start_vm(machine.facts, attempt.note_task)
        private, public = world.keys.host_key(machine.facts.uuid)
        world.guest.introduce(
            machine,
            world.spec,
            identity_files(machine, world.spec, private, public) | _more_files(machine, world.spec),
            world.keys.authorized_keys(world.spec),
        )
        known = machine.moved(machine.phase, _named(attempt.facts, machine, public))
        facts = world.guest.meet_system(known, world.spec)  # it must be proven before this is believed to be done
        return self._as_met(world, machine, attempt, facts)

    def _as_met(self, world: World, machine: Machine, attempt: Attempt, facts: Facts) -> Facts:
        remove_disc(world, machine, attempt)
        facts = without_disc(facts)
        how = self.installed_by or world.spec.install.source.value
        return replace(at_place(facts, world.spec), installed_by=how, boot_id="", installer_keys=())

    def _boot_with_disc(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """The CD is there from before the start until the system has proved itself, and not longer."""
        private, public = world.keys.host_key(machine.facts.uuid)
        if not is_proven(attempt.facts):
            self._insert(world, machine, attempt, private, public)
            world.hypervisor.start_vm(machine.facts, attempt.note_task)
            known = machine.moved(machine.phase, _named(attempt.facts, machine, public))
            attempt.note(with_proof(world.guest.meet_system(known, world.spec)))
        return self._as_met(world, machine, attempt, attempt.facts)

    def _insert(self, world: World, machine: Machine, attempt: Attempt, private: str, public: str) -> None:
        """A machine that runs with its CD goes on. One that runs without it is stopped: nothing told it who it is."""
        discs, vm, disc = world.hypervisor.discs, get_vm(world, machine), find_disc(attempt.facts)
        if vm.power is Power.RUNNING and disc is not None and discs.is_inserted(vm, disc[1]):
            return
        if vm.power is Power.RUNNING:
            world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)
        self._prepare(world, machine, attempt)
        vm = get_vm(world, machine)
        volume = discs.choose(vm, world.spec, machine.facts.uuid)
        attempt.note(with_disc(attempt.facts, vm.node, volume))  # before there is a file with a secret
        content = first_disc(machine, world.spec, private, public, world.keys.authorized_keys(world.spec))
        discs.insert(vm, world.spec, volume, content, attempt.note_task)

    def _prepare(self, world: World, machine: Machine, attempt: Attempt) -> None:
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


def _more_files(machine: Machine, spec: MachineSpec) -> dict[str, tuple[str, int]]:
    """When what PVE's drive tells has changed, cloud-init takes the machine for a new one, and would make other host
    keys."""
    files = {"etc/hostname": (f"{machine.name}\n", 0o644)}
    if spec.install.cloud_init is not None:
        files["etc/cloud/cloud.cfg.d/99-nixops-proxmox.cfg"] = ("ssh_deletekeys: false\n", 0o644)
    return files


def _named(facts: Facts, machine: Machine, public: str) -> Facts:
    return replace(facts, macs=machine.facts.macs, host_key=public)
