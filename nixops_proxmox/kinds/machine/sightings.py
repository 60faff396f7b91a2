"""What a look at the world can tell that our record does not say."""

from nixops_proxmox.kinds.machine.growth import all_disks, find_outgrown, with_volumes
from nixops_proxmox.kinds.machine.shape import Look
from nixops_proxmox.kinds.machine.steps.hardware import find_changes
from nixops_proxmox.kinds.machine.steps.sending import lacks
from nixops_proxmox.kinds.machine.steps.system import find_awaited
from nixops_proxmox.model import Power


def vm_gone(seen: Look) -> bool:
    return seen.vm is None


def vm_back(seen: Look) -> bool:
    return seen.vm is not None and not seen.machine.facts.installed_by


def system_back(seen: Look) -> bool:
    return seen.vm is not None and bool(seen.machine.facts.installed_by)


def powered_off(seen: Look) -> bool:
    return seen.vm is not None and seen.vm.power is Power.STOPPED


def powered_on(seen: Look) -> bool:
    return seen.vm is not None and seen.vm.power is Power.RUNNING


def differs(seen: Look) -> bool:
    """The hardware is not as described, a device that is described is missing, or the user allowed the restart that
    something waits for."""
    if seen.vm is None or not seen.world.permissions.adjust:
        return False
    allowed = seen.world.permissions.allow_reboot
    if allowed and (seen.vm.pending or seen.world.hypervisor.needs_stop(seen.vm, seen.world.spec)):
        return True
    return any(not one.waiting or one.missing for one in find_changes(seen.world, seen.vm, seen.machine))


def outgrown(seen: Look) -> bool:
    """A disk is larger in PVE than what its guest has taken into use."""
    facts = with_volumes(seen.world, seen.machine.facts)
    return seen.world.permissions.adjust and bool(find_outgrown(facts, all_disks(seen.world)))


def wants_other_system(seen: Look) -> bool:
    """The description's system is not the active one, or the user asked to check."""
    wanted = seen.world.builder.wanted_system(seen.machine)
    return seen.world.permissions.check or bool(wanted and wanted != seen.machine.facts.system)


def keeps_a_snapshot(seen: Look) -> bool:
    """A deploy took one, and did not live to remove it, or its system did not stay."""
    return bool(seen.machine.facts.snapshot and seen.world.builder.wanted_system(seen.machine))


def lacks_keys(seen: Look) -> bool:
    """It has not all keys of `deployment.keys`, or others: a boot takes them away."""
    return lacks(seen.world, seen.machine)


def awaits_boot(seen: Look) -> bool:
    """The guest still waits for a boot, and the user allowed it."""
    awaits = seen.machine.facts.awaits
    return seen.vm is not None and bool(awaits and find_awaited(seen.world, seen.machine, seen.vm, awaits["system"]))
