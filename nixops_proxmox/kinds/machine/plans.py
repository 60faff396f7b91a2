"""What verbs mean for one machine: which goals of the table, and what forbids them. It looks, and changes nothing."""

from typing import TypeAlias

from nixops_proxmox.core import plan
from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.kinds.machine.steps.identity import refuse_unrecorded
from nixops_proxmox.kinds.machine.table import INSTALLING, LIFECYCLE, SETTLED
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.spec import InstallSource, MachineSpec
from nixops_proxmox.spelling import Verb, command

UNDER_WAY = (Phase.RESERVED, Phase.DEFINED, *INSTALLING)  # being installed already

Plan: TypeAlias = plan.Plan[World, Machine, Facts]


def plan_deploy(machine: Machine, world: World) -> Plan:
    """To `ready`, whatever it stands in. Raises what a deploy is refused for before it changes anything; but for a
    machine in rescue see `refuse_rescue`: a plan shows what would happen to it."""
    refuse_moved(machine, world)
    if machine.phase is Phase.ABSENT:
        refuse_unrecorded(world, machine)
    world.builder.wanted_system(machine)  # what cannot be built fails before anything is made
    seen = LIFECYCLE.look(world, machine)
    return plan.draw_up(LIFECYCLE, seen, goals_of_deploy(seen, world), world.spec.install.source)


def goals_of_deploy(seen: Machine, world: World) -> tuple[Phase, ...]:
    if seen.phase is Phase.LOST and world.permissions.allow_recreate:
        refuse_unrecorded(world, seen)
        return Phase.ABSENT, Phase.READY
    if asks_for_reinstall(seen, world):
        return start_of_reinstall(world.spec), Phase.READY
    return (Phase.READY,)


def plan_reinstall(machine: Machine, world: World) -> Plan:
    """Install again: same VMID, UUID, MACs and host key. One that is being installed already just goes on."""
    refuse_moved(machine, world)
    world.builder.wanted_system(machine)
    seen = LIFECYCLE.look(world, machine)
    start = () if machine.phase in UNDER_WAY else (start_of_reinstall(world.spec),)
    return plan.draw_up(LIFECYCLE, seen, (*start, Phase.READY), world.spec.install.source)


def start_of_reinstall(spec: MachineSpec) -> Phase:
    """Where a reinstall begins: with the installer, or, where none is used, with a new VM of the same identity."""
    return Phase.DEFINED if spec.install.source is InstallSource.ISO else Phase.RESERVED


def asks_for_reinstall(machine: Machine, world: World) -> bool:
    """The description's `install.generation` was raised since the machine was installed."""
    settled = machine.phase in (*SETTLED, Phase.RESCUE)
    return settled and world.spec.install.asked > machine.facts.asked


def refuse_rescue(drawn: Plan, world: World) -> None:
    """Whoever works in there is not thrown out without a word; a reinstall that the description asks for is one."""
    if drawn.seen.phase is not Phase.RESCUE or len(drawn.legs) > 1 or world.permissions.allow_reboot:
        return
    name = drawn.seen.name
    raise NeedsPermission(
        f"{name}: it is in rescue, and a deploy would end that",
        hint=f"{command(Verb.START, name)} boots its own system, as {command(Verb.DEPLOY, '--allow-reboot')} does",
    )


def refuse_moved(machine: Machine, world: World) -> None:
    """A machine stays on the hypervisor it was made on."""
    have, wanted = machine.facts.profile, world.spec.profile
    if have and have != wanted:
        raise NeedsPermission(
            f"{machine.name}: it is on the hypervisor {have!r}, and the description says {wanted!r}",
            hint="machines cannot change their hypervisor: set `profile` back, or recreate the machine:"
            f" {command(Verb.DESTROY, machine.name)}, then {command(Verb.DEPLOY)}",
        )
