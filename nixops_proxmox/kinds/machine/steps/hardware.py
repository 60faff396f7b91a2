"""What PVE has of a machine: made, changed, switched off, destroyed."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from nixops_proxmox.core.table import Repeatable
from nixops_proxmox.errors import NeedsPermission, NotFound, WrongDisk
from nixops_proxmox.kinds.machine.copies import with_copies, without_dropped
from nixops_proxmox.kinds.machine.disc import find_disc, remove_disc, without_disc
from nixops_proxmox.kinds.machine.encryption import lost_seal
from nixops_proxmox.kinds.machine.growth import with_outgrown
from nixops_proxmox.kinds.machine.shape import Attempt, World, has_run
from nixops_proxmox.kinds.machine.steps.identity import with_macs
from nixops_proxmox.model import RESTORING, TEMPLATE_OF, Change, Facts, Machine, Phase, Power, Vm, old_copies
from nixops_proxmox.spelling import Verb, command

SHUTDOWN = 120.0  # seconds for a guest to shut down before it is powered off

INSTALLED = (Phase.INSTALLED, Phase.DRIFTED, Phase.RUNNING, Phase.READY, Phase.STOPPED)

RESTARTING = command(Verb.DEPLOY, "--allow-reboot")


def get_vm(world: World, machine: Machine) -> Vm:
    """Our VM. It was there when we looked first, so its absence is an error."""
    vm = world.hypervisor.find_vm(machine.facts)
    if vm is None:
        raise NotFound(
            f"{machine.name}: VM {machine.facts.vmid} with our mark ({machine.facts.uuid}) is gone from the cluster",
            hint="run the same command again; it says what you can do",
        )
    return vm


class CreateVm:
    """Create the VM and its disks"""

    def already(self, world: World, machine: Machine) -> Facts | None:
        vm = world.hypervisor.find_vm(machine.facts)
        return None if vm is None or vm.lock in ("create", "clone") else replace(machine.facts, node=vm.node)

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: PVE gives a VMID once, and one that bears our mark is found before a second is made."""
        spec = world.images.put(machine, world.spec)
        if spec.install.template != world.spec.install.template and not spec.install.full_clone:
            extra = {**attempt.facts.extra, TEMPLATE_OF: spec.install.template or ""}
            attempt.note(replace(attempt.facts, extra=extra))  # before it is a clone, which keeps its template
        world.hypervisor.create_vm(spec, machine, attempt.note_task)
        return attempt.facts


class Adjust(Repeatable):
    """Change the VM to match the description"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: only what still differs is changed."""
        change_hardware(world, machine, get_vm(world, machine), attempt)
        world.volumes.settle(machine, world.spec)
        vm = get_vm(world, machine)
        if vm.power is Power.RUNNING and not world.permissions.allow_reboot:
            self._tell_what_waits(world, machine, [c for c in find_changes(world, vm, machine) if c.waiting])
        return with_applied(world, attempt.facts, vm)

    def _tell_what_waits(self, world: World, machine: Machine, waiting: Sequence[Change]) -> None:
        """Say which values take effect later. A machine without a device that is described is not ready."""
        missing = [change.key for change in waiting if change.missing]
        later = [change.key for change in waiting if not change.missing]
        if later:
            world.reporter.warn(
                machine,
                f"{', '.join(later)}: this takes effect at the next restart ({RESTARTING} does it)",
            )
        if missing:
            raise NeedsPermission(
                f"{machine.name}: the running VM does not have {', '.join(missing)}, which PVE could not plug in; "
                "it appears after the next restart",
                hint=f"{RESTARTING} restarts it; {command(Verb.DEPLOY)} tries again to plug it in",
            )


def find_changes(world: World, vm: Vm, machine: Machine) -> Sequence[Change]:
    """How the VM differs from the description, which may have more NICs than when the machine was made."""
    changes = world.hypervisor.changes(vm, world.spec, with_macs(machine, world.spec))
    # Until a system is installed, no volume is near what is written.
    installed = machine.phase in INSTALLED
    return (*changes, *world.volumes.changes(world.spec, vm)) if installed else changes


def change_hardware(world: World, machine: Machine, vm: Vm, attempt: Attempt) -> Sequence[Change]:
    """Make the VM as described, if it is not. Returns what was different."""
    machine = with_macs(machine, world.spec)
    machine = machine.moved(machine.phase, without_dropped(machine.facts, vm))
    changes = find_changes(world, vm, machine)
    refuse_forbidden(world, machine, changes)
    if lost := lost_seal(machine, changes):
        world.reporter.warn(machine, lost)
    if changes:
        machine = machine.moved(machine.phase, with_copies(with_outgrown(machine.facts, changes), vm, changes))
        attempt.note(machine.facts)  # before PVE does it: a crash in between forgets nothing
        world.reporter.detail(machine, ", ".join(change.key for change in changes))
        first = world.spec.disks[0].slot if world.spec.disks else ""
        made_anew = any(change.key == first and not change.have for change in changes)
        spec = world.images.put(machine, world.spec) if made_anew else world.spec
        for problem in world.hypervisor.apply_changes(vm, spec, machine, attempt.note_task):
            world.reporter.warn(machine, problem)
    if old_copies(attempt.facts):
        attempt.note(without_dropped(attempt.facts, get_vm(world, machine)))
    return changes


def find_refused(world: World, changes: Sequence[Change]) -> list[Change]:
    """Those that cannot be made in place, or need permission that is missing."""
    return [one for one in changes if one.forbidden or (one.permission and not world.permissions.allow_recreate)]


def refuse_forbidden(world: World, machine: Machine, changes: Sequence[Change]) -> None:
    """Change nothing at all if one of the changes cannot be made in place, or needs permission that is missing."""
    if refused := find_refused(world, changes):
        remedies = [change.remedy for change in refused if change.remedy]
        raise NeedsPermission(
            f"{machine.name}: cannot be changed in place: "
            + "; ".join(
                f"{c.key} from {c.have or 'nothing'} to {c.want or 'nothing'} ({c.forbidden or c.permission})"
                for c in refused
            ),
            hint="; ".join(remedies)
            or "undo the change in the description, or recreate the machine:"
            f" {command(Verb.DESTROY, machine.name)}, then {command(Verb.DEPLOY)}",
        )


def refuse_strangers(world: World, machine: Machine, vm: Vm) -> None:
    """Before anything boots from the disks or writes them: each must be the machine's own, whatever was said before."""
    strange = world.hypervisor.strangers(vm, world.spec, machine)
    if strange:
        raise WrongDisk(
            f"{machine.name}: a disk is not its own; nothing was written: "
            + "; ".join(f"{change.key}: {change.forbidden}" for change in strange),
            hint="; ".join(change.remedy for change in strange),
        )


class ShutDown:
    """Shut the machine down"""

    def already(self, world: World, machine: Machine) -> Facts | None:
        return machine.facts if get_vm(world, machine).power is Power.STOPPED else None

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a VM that is stopped is left alone."""
        world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)
        return attempt.facts


class Destroy:
    """Destroy the VM and its disks"""

    def already(self, world: World, machine: Machine) -> Facts | None:
        vms = (world.hypervisor.find_vm(facts, power=has_run(machine)) for facts in made_by_us(machine.facts))
        if find_disc(machine.facts) or any(vms):
            return None
        if world.hypervisor.find_remains(machine.facts):
            return None
        if machine.phase is Phase.LOST:
            world.reporter.warn(
                machine,
                f"no VM on the cluster has its mark, so nothing was destroyed: a VM {machine.facts.vmid}, if there is"
                " one, is somebody else's; only the record is removed",
            )
        return self._forgotten(world, machine)

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: only a VM with our mark is destroyed, and one that is gone needs nothing."""
        park_volumes(world, machine, attempt)
        for facts in made_by_us(machine.facts):
            world.hypervisor.destroy_vm(facts, attempt.note_task, ran=has_run(machine))
        remove_disc(world, machine, attempt)
        return self._forgotten(world, machine)

    def _forgotten(self, world: World, machine: Machine) -> Facts:
        if machine.facts.uuid:
            world.keys.forget(machine.facts.uuid)
        return Facts()


def volume_key(name: str) -> str:
    """What a change of a volume is called, beside PVE's keys."""
    return f"volume {name}"


NOT_KEPT = frozenset({"cipassword", "sshkeys", "description", "digest", "meta", "vmgenid", "smbios1", "args"})
DIGEST = "sha256:"  # begins what stands for a long value
LONG = 60  # characters of a value that is kept as it is


def with_applied(world: World, facts: Facts, vm: Vm) -> Facts:
    """The facts with the VM's configuration as we leave it, so that a later look tells what somebody else changed."""
    if not world.permissions.adjust:
        return facts
    kept = {key: brief(value) for key, value in vm.config.items() if key not in NOT_KEPT}
    return replace(facts, applied=kept)


def brief(value: str) -> str:
    """A value, or what tells it if it is long."""
    return value if len(value) <= LONG else f"{DIGEST}{hashlib.sha256(value.encode()).hexdigest()[:16]}"


def park_volumes(world: World, machine: Machine, attempt: Attempt) -> None:
    """Before the VM goes, or is written: PVE moves disks only out of a VM that stands still."""
    if volumes := world.volumes.attached(machine):
        vm = world.hypervisor.find_vm(machine.facts)
        if vm is not None and vm.power is Power.RUNNING:
            world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)
        world.reporter.detail(machine, f"parking {', '.join(volumes)}")
    world.volumes.park_all(machine)


def made_by_us(facts: Facts) -> Sequence[Facts]:
    """As the machine's VM is known, and as what a restore of a foreign backup left, until it got the machine's mark."""
    if not facts.vmid:
        return ()
    left = facts.extra.get(RESTORING, "")
    return (facts, replace(facts, uuid=left)) if left else (facts,)


class Discard(Repeatable):
    """Destroy the VM to recreate it with the same identity"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: only a VM with our mark is destroyed. Until it is committed, the round is the old one, so
        it counts up once."""
        self._refuse_kept(world, machine)
        self._refuse_losses(world, machine)
        park_volumes(world, machine, attempt)
        world.hypervisor.destroy_vm(machine.facts, attempt.note_task)
        remove_disc(world, machine, attempt)
        facts = without_disc(attempt.facts)
        return Facts(
            uuid=facts.uuid,
            serials_from=facts.serials_from,
            profile=facts.profile,
            vmid=facts.vmid,
            node=facts.node,
            macs=facts.macs,
            host_key=facts.host_key,
            next_host_key=facts.next_host_key,
            round=facts.round + 1,
            asked=world.spec.install.asked,
            extra=facts.extra,
        )

    def _refuse_kept(self, world: World, machine: Machine) -> None:
        kept = [disk.slot for disk in world.spec.disks if disk.keep]
        if kept:
            raise NeedsPermission(
                f"{machine.name}: {', '.join(kept)} must be kept, but a copy of an image or template is recreated with"
                " all of its disks",
                hint="remove `keep` from the disks, or save their data; then run"
                f" {command(Verb.DESTROY, machine.name)}",
            )

    def _refuse_losses(self, world: World, machine: Machine) -> None:
        """PVE deletes all volumes of a VM with it, those that somebody detached or put there by hand too."""
        vm = world.hypervisor.find_vm(machine.facts)
        if vm is None:
            return
        refuse_strangers(world, machine, vm)
        lost = world.hypervisor.losses(vm, machine)
        if lost and not world.permissions.lose_disks:
            raise NeedsPermission(
                f"{machine.name}: these volumes would be deleted with its VM: {'; '.join(lost)}",
                hint="reinstall it by hand, which asks and then deletes them; or move them to"
                " another VM (`qm disk move --target-vmid`)",
            )
