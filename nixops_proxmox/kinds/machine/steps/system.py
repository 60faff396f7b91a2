"""What happens with the installed system."""

from collections.abc import Sequence
from dataclasses import replace

from nixops_proxmox.core.table import Repeatable
from nixops_proxmox.errors import BootWanted, DeployError, SwitchRefused
from nixops_proxmox.kinds.machine.first_stage_ssh import SSH_PORT
from nixops_proxmox.kinds.machine.growth import grow_disks, tell_pending
from nixops_proxmox.kinds.machine.laid_out import find_layout_change
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.encrypting import (
    bring_first_stage_key,
    note_opening,
    open_unsealed,
    slots_differ,
    tell_closed,
)
from nixops_proxmox.kinds.machine.steps.hardware import (
    INSTALLED,
    SHUTDOWN,
    change_hardware,
    get_vm,
    park_volumes,
    refuse_strangers,
    volume_key,
    with_applied,
)
from nixops_proxmox.kinds.machine.steps.identity import move_host_key, place_of
from nixops_proxmox.kinds.machine.steps.keeping import refuse_other_keepers
from nixops_proxmox.kinds.machine.steps.kept_disks import refuse_other_kept, rescue_disk_keys, without_system
from nixops_proxmox.kinds.machine.steps.one_boot import is_once, refuse_failed_boot, settle_once, stage_once
from nixops_proxmox.kinds.machine.steps.probation import settle_probation, switch_on_probation
from nixops_proxmox.kinds.machine.steps.sending import send_keys, settle_keys
from nixops_proxmox.kinds.machine.steps.snapshot import drop_snapshot, take_snapshot
from nixops_proxmox.model import Awaiting, Change, Facts, Machine, Phase, Power, Vm, When


class BootSystem:
    """Boot the installed system, unless it runs"""

    def already(self, world: World, machine: Machine) -> Facts | None:
        vm = get_vm(world, machine)
        if _needs_start(world, machine, vm):
            return None
        return with_applied(world, replace(machine.facts, boot_id="", installer_keys=()), vm)

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: each call is made only while what it leads to is not there, and a VM that runs the system
        is not started again."""
        vm = get_vm(world, machine)
        if world.hypervisor.boots_installer(vm, world.spec) or world.hypervisor.runs_installer(vm):
            world.hypervisor.set_boot(vm, world.spec, installer=False)
        stopped_for = world.hypervisor.needs_stop(vm, world.spec) if machine.phase in INSTALLED else ()
        if vm.power is Power.RUNNING and _runs_other(world, machine, vm):
            self._end(world, machine, vm, attempt)
        vm = get_vm(world, machine)
        refuse_strangers(world, machine, vm)
        if world.permissions.adjust:
            vm = self._change_while_off(world, machine, vm, attempt, stopped_for)
            world.volumes.settle(machine, world.spec)
        world.hypervisor.start_vm(machine.facts, attempt.note_task)
        return with_applied(world, replace(attempt.facts, boot_id="", installer_keys=()), vm)

    def _change_while_off(self, world: World, machine: Machine, vm: Vm, attempt: Attempt, keys: Sequence[str]) -> Vm:
        """What PVE changes only while the VM is stopped, and waited for that."""
        if not keys:
            return vm
        change_hardware(world, machine, vm, attempt)
        return get_vm(world, machine)

    def _end(self, world: World, machine: Machine, vm: Vm, attempt: Attempt) -> None:
        installed = machine.phase is not Phase.RESCUE and machine.facts.boot_id
        if installed and world.hypervisor.runs_installer(vm):
            world.hypervisor.stop_vm(machine.facts, attempt.note_task)  # the install job has unmounted the target
        else:
            world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)


def _needs_start(world: World, machine: Machine, vm: Vm) -> bool:
    """It is off, or runs something else than the installed system as the user wants it, or would boot the installer
    next."""
    if vm.power is Power.STOPPED or world.hypervisor.boots_installer(vm, world.spec):
        return True
    return _runs_other(world, machine, vm)


def _runs_other(world: World, machine: Machine, vm: Vm) -> bool:
    return bool(find_reasons_to_restart(world, machine, vm))


def find_reasons_to_restart(world: World, machine: Machine, vm: Vm, changes: Sequence[Change] = ()) -> tuple[str, ...]:
    """Why a running VM must be restarted to run the installed system as described. Empty: it need not be. `changes`:
    what will be asked of it before."""
    if world.hypervisor.runs_installer(vm):
        return ("it runs the installer",)
    if not world.permissions.allow_reboot:
        return ()
    waiting = [*find_waiting(vm, changes)]
    if machine.facts.awaits:
        waiting += find_awaited(world, machine, vm, machine.facts.awaits["system"])
    if world.permissions.adjust:
        waiting += world.hypervisor.needs_stop(vm, world.spec)
        waiting += [volume_key(name) for name in world.volumes.unwanted(world.spec, vm)]
    return tuple(dict.fromkeys([*waiting, *(change.key for change in changes if change.when is When.RESTART)]))


def find_waiting(vm: Vm, changes: Sequence[Change]) -> tuple[str, ...]:
    """The pending keys that need a restart. What somebody made pending and a deploy takes back needs none."""
    undone = {change.key for change in changes if not change.restart}
    return tuple(key for key in vm.pending if key not in undone)


class Activate(Repeatable):
    """Reach the system and activate what is wanted"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a copy sends only what is missing, and the system that is active is not activated again. What
        grows is looked at first."""
        if is_once(machine.facts) and world.loader is not None:
            wanted = world.builder.wanted_system(machine)
            machine = settle_once(world, machine, attempt, wanted, _meet)
        met = _meet(world, machine)
        met = met.moved(met.phase, note_opening(world, met))
        refuse_other_keepers(world, met)
        _warn_of_layout(world, met)
        _warn_of_slots(world, met)
        met = met.moved(met.phase, grow_disks(world, met, world.spec.disks))  # first: a new system may need the room
        met = met.moved(met.phase, _bring_first_stage_key(world, met))  # as long as the boot loader is not written
        met, waiting = send_keys(world, met)
        wanted = world.builder.wanted_system(met)
        met = met.moved(met.phase, move_host_key(world, met, wanted))  # the new system looks for it there
        met = met.moved(met.phase, settle_probation(world, met, attempt, met.facts, wanted))
        met = met.moved(met.phase, self._switch(world, met, attempt, wanted))
        settle_keys(world, met, waiting)
        return grow_disks(world, met, world.volumes.disks(world.spec))  # last: the new system may have mounted them

    def _switch(self, world: World, met: Machine, attempt: Attempt, wanted: str) -> Facts:
        facts = met.facts
        if not wanted:
            return facts
        shell = world.guest.system_shell(met, world.spec)
        if world.builder.active_system(shell) == wanted:
            found = world.builder.find_awaiting(wanted, shell)
            facts = drop_snapshot(world, met, attempt, replace(facts, system=wanted))
            return self._boot_if_allowed(world, met, attempt, facts, found)
        world.reporter.detail(met, f"copying {wanted}")
        world.builder.copy_system(wanted, met, world.spec, shell, into_target=False)
        found = world.builder.find_awaiting(wanted, shell)  # before: the new system may take our rights away
        boots = bool(found.changes and world.spec.deploy.probation)
        if boots and not world.permissions.allow_reboot:
            refuse_failed_boot(met, wanted)
        facts = take_snapshot(world, met, attempt, facts)
        if boots and world.permissions.allow_reboot and not was_tried(facts, wanted, found):
            stage_once(world, met, attempt, facts, wanted, found)
        try:
            facts = self._take_into_use(world, met, attempt, facts)
        except SwitchRefused:
            if world.permissions.allow_reboot:
                self._boot_if_allowed(world, met, attempt, facts, found)
            raise
        facts = drop_snapshot(world, met, attempt, facts)
        return self._boot_if_allowed(world, met, attempt, facts, replace(found, refused=()))

    def _take_into_use(self, world: World, met: Machine, attempt: Attempt, facts: Facts) -> Facts:
        wanted = world.builder.wanted_system(met)
        tried = switch_on_probation(world, met, attempt, facts, wanted) if world.spec.deploy.probation else None
        if tried is not None:
            return tried
        world.reporter.detail(met, "switching to it")
        shell = world.guest.system_shell(met, world.spec)
        return replace(facts, system=wanted, generation=world.builder.activate(wanted, shell), probation={})

    def _boot_if_allowed(
        self, world: World, machine: Machine, attempt: Attempt, facts: Facts, found: Awaiting
    ) -> Facts:
        """The facts with what waits for a boot. If the user allowed one, and it was not tried already, turn to it."""
        wanted = world.builder.wanted_system(machine)
        if not found.changes:
            return replace(facts, awaits={})
        told = ", ".join(found.changes)
        if was_tried(facts, wanted, found):
            world.reporter.warn(machine, f"{told}: the machine was booted since, and still waits for it")
            return facts
        facts = replace(facts, awaits={"system": wanted, "boot": found.boot, "changes": told})
        if world.permissions.allow_reboot:
            attempt.note(facts)
            raise BootWanted(f"{machine.name}: only a boot takes up {told}")
        return facts


def _bring_first_stage_key(world: World, met: Machine) -> Facts:
    encryption, facts = world.spec.encryption, met.facts
    if not facts.luks or encryption is None or (encryption.unlock.ssh is None and SSH_PORT not in facts.luks):
        return facts
    return bring_first_stage_key(world, met, facts, world.guest.system_shell(met, world.spec))


def _meet(world: World, machine: Machine) -> Machine:
    try:
        open_unsealed(world, machine)
        return machine.moved(machine.phase, world.guest.meet_system(machine, world.spec))
    except DeployError:
        tell_closed(world, machine)
        tell_pending(world, machine)
        raise


def was_tried(facts: Facts, system: str, found: Awaiting) -> bool:
    """The guest was booted after we had seen this system wait for a boot, and it still waits."""
    return facts.awaits.get("system") == system and facts.awaits.get("boot") != found.boot


def find_awaited(world: World, machine: Machine, vm: Vm, system: str) -> tuple[str, ...]:
    """What of this system waits for a boot that the user allowed. The guest is asked; one that does not answer is not
    restarted for what it could not tell."""
    if not world.permissions.allow_reboot or not system or vm.power is not Power.RUNNING:
        return ()
    try:
        found = world.builder.find_awaiting(system, world.guest.system_shell(machine, world.spec))
    except DeployError:
        return ()
    return () if was_tried(machine.facts, system, found) else found.changes


def _warn_of_layout(world: World, machine: Machine) -> None:
    """Never lay out an installed machine's disks again without being asked. Tell the user how to ask."""
    change = find_layout_change(machine.facts, world.spec)
    if change is not None:
        world.reporter.warn(machine, change.told(machine.name))


def _warn_of_slots(world: World, machine: Machine) -> None:
    for text in slots_differ(world.spec, machine):
        world.reporter.warn(machine, text)


class ClearForReinstall(Repeatable):
    """Shut down to reinstall"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: it deletes nothing. Until it is committed, the round is the old one, so it counts up once."""
        vm = get_vm(world, machine)
        refuse_strangers(world, machine, vm)
        if not world.keys.has_host_key(machine.facts.uuid) and vm.power is Power.RUNNING:
            self._rescue_key(world, machine)
        refuse_other_kept(machine, world)
        rescue_disk_keys(world, machine, running=vm.power is Power.RUNNING)
        if vm.power is Power.RUNNING:
            world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)
        park_volumes(world, machine, attempt)
        facts = without_system(world, attempt.facts)
        return replace(
            facts,
            round=facts.round + 1,
            asked=world.spec.install.asked,
            passes=0,
            partition_hash="",
            layout="",
            installed_by="",
            system="",
            generation=0,
            boot_id="",
            endpoint=None,
        )

    def _rescue_key(self, world: World, machine: Machine) -> None:
        """Another operator made the host key. It is only in the guest, and must survive the reinstall."""
        shell = world.guest.system_shell(machine, world.spec)
        read = shell.run(f"cat {place_of(machine.facts)}")
        if read.status == 0:
            world.keys.keep_host_key(machine.facts.uuid, read.stdout)
        else:
            world.reporter.warn(machine, "its host key could not be read; the reinstalled system gets a new one")
