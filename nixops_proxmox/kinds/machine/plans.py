"""What verbs mean for one machine: which goals of the table, and what forbids them. It looks, and changes nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from nixops_proxmox.core import plan
from nixops_proxmox.core.table import label
from nixops_proxmox.errors import NeedsPermission, NoPath, OnOtherHypervisor
from nixops_proxmox.kinds.machine.encrypted import find_other_disks
from nixops_proxmox.kinds.machine.encryption import find_mismatch, has_way_to
from nixops_proxmox.kinds.machine.growth import all_disks, find_outgrown, with_volumes
from nixops_proxmox.kinds.machine.laid_out import refuse_other_layout
from nixops_proxmox.kinds.machine.left import refuse_unfinished
from nixops_proxmox.kinds.machine.lives import life_of
from nixops_proxmox.kinds.machine.shape import Look, World
from nixops_proxmox.kinds.machine.steps.hardware import find_refused
from nixops_proxmox.kinds.machine.steps.identity import refuse_unrecorded
from nixops_proxmox.kinds.machine.steps.kept_disks import refuse_other_kept
from nixops_proxmox.kinds.machine.steps.snapshot import refuse_without_snapshot
from nixops_proxmox.kinds.machine.steps.system import (
    Activate,
    BootSystem,
    find_awaited,
    find_reasons_to_restart,
)
from nixops_proxmox.kinds.machine.table import INSTALLING, SETTLED
from nixops_proxmox.model import Change, Effect, Facts, Machine, Phase, Power, Vm
from nixops_proxmox.spec import InstallSource, MachineSpec
from nixops_proxmox.spelling import Verb, command

UNDER_WAY = (Phase.RESERVED, Phase.DEFINED, *INSTALLING)  # being installed already

Plan: TypeAlias = plan.Plan[World, Machine, Facts, Look]


@dataclass(frozen=True)
class Forecast:
    """`steps`: what will be done, a line each. `restart`: why a machine that runs is restarted. Empty: it is not.
    `twice`: once for what is known now, and again for what its new system leaves to a boot."""

    effect: Effect
    steps: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    twice: bool = False


def plan_deploy(machine: Machine, world: World) -> Plan:
    """Plan the way to `ready` from any phase. Raises the error with which a deploy would refuse to begin, except for a
    machine in rescue (see `refuse_rescue`): a plan shows what would happen to it. Where no move leads on, the plan is
    blocked."""
    refuse_moved(machine, world)
    refuse_other_encryption(machine, world)
    if machine.phase is Phase.ABSENT:
        refuse_unrecorded(world, machine)
    if machine.phase in (Phase.ABSENT, Phase.RESERVED):
        world.images.check(world.spec)
    world.builder.wanted_system(machine)  # what cannot be built fails before anything is made
    return _draw_up(machine, world, lambda seen: goals_of_deploy(seen, world))


def _draw_up(machine: Machine, world: World, goals: Callable[[Machine], Sequence[Phase]]) -> Plan:
    """One look, and the plan for what it shows. `goals`: what is wanted of the machine as it was seen."""
    life = life_of(world.spec)
    seen, shown = life.look_closely(world, machine)
    wanted, way = goals(seen), world.spec.install.source
    if len(wanted) > 1:
        _build_for_anew(seen, world)
    try:
        return plan.draw_up(life, seen, wanted, shown=shown, way=way)
    except NoPath as error:
        return Plan(seen, (), shown, way, blocked=error)


def _build_for_anew(machine: Machine, world: World) -> None:
    """Build its system first, because the machine will lose what it has."""
    world.builder.wanted_system(machine.moved(machine.phase, replace(machine.facts, system="")))
    world.images.check(world.spec)


def refuse_other_encryption(seen: Machine, world: World) -> None:
    """A system that opens another disk than the machine has would be activated, and never boot again."""
    if seen.phase not in (*SETTLED, Phase.RESCUE):
        return
    asked = asks_for_reinstall(seen, world)
    if asked:
        refuse_other_kept(seen, world)
        return
    mismatch = find_mismatch(world.spec, seen.facts)
    other_disks = find_other_disks(world.spec, seen.facts) if seen.facts.luks.get("slots") else ""
    if mismatch or other_disks:
        remedy = f"{command(Verb.REINSTALL, seen.name)} makes the disk as described, which erases it"
        wanted, slots = world.spec.encryption, seen.facts.luks.get("slots", "")
        if not other_disks and wanted is not None and slots and has_way_to(wanted, slots):
            remedy = f"{command(Verb.RECOVERY_ROTATE, seen.name)} makes the keys that are described, while it runs"
        back = "`encrypt`" if other_disks else "`encryption`"
        raise NeedsPermission(f"{seen.name}: {mismatch or other_disks}", hint=f"{remedy}; or set {back} back")


def goals_of_deploy(seen: Machine, world: World) -> tuple[Phase, ...]:
    if seen.phase is Phase.LOST and world.permissions.allow_recreate:
        refuse_unrecorded(world, seen)
        return Phase.ABSENT, Phase.READY
    if asks_for_reinstall(seen, world):
        return start_of_reinstall(world.spec), Phase.READY
    refuse_other_layout(seen, world.spec)
    if world.spec.deploy.snapshot and seen.phase in SETTLED:  # asked first: to know the system may be to build it
        wanted = world.builder.wanted_system(seen)
        if wanted and wanted != seen.facts.system:
            refuse_without_snapshot(world, seen)
    return (Phase.READY,)


def plan_reinstall(machine: Machine, world: World) -> Plan:
    """Plan to install it again, with the same VMID, UUID, MACs and host key. If it is being installed already, that
    goes on."""
    refuse_moved(machine, world)
    if machine.phase not in UNDER_WAY:
        refuse_other_kept(machine, world)
    _build_for_anew(machine, world)
    start = () if machine.phase in UNDER_WAY else (start_of_reinstall(world.spec),)
    return _draw_up(machine, world, lambda _: (*start, Phase.READY))


def vm_in(drawn: Plan) -> Vm | None:
    """The VM that the plan was drawn up for. None: there is none yet, or it is gone."""
    return None if drawn.shown is None else drawn.shown.vm


def foresee(drawn: Plan, world: World, changes: Sequence[Change]) -> Forecast:
    """What carrying out the plan does. `changes`: how its VM differs from the description."""
    if len(drawn.legs) == 1 and drawn.seen.phase is Phase.DRIFTED and find_refused(world, changes):
        return Forecast(Effect.REFUSED)
    restart = tuple(_reasons_to_restart(drawn, world, changes))
    awaited = tuple(one for one in _awaited(drawn, world) if one not in restart)
    runs_on = not restart and runs(drawn)
    steps = tuple(label(m.step) for m in drawn.moves if not (runs_on and isinstance(m.step, BootSystem)))
    if awaited:
        steps += (label(BootSystem()),)
    twice = bool(restart and awaited)
    effect = _effect(drawn, changes, steps, restart + awaited)
    if effect is Effect.CHANGE and runs(drawn) and not changes and not _changes_inside(drawn.seen, world):
        effect = Effect.GO_ON
    return Forecast(effect, steps, restart + awaited, twice=twice)


def _changes_inside(seen: Machine, world: World) -> bool:
    """Its guest gets another system or other keys, or takes more of a disk into use."""
    wanted = world.builder.wanted_system(seen)
    outgrown = find_outgrown(with_volumes(world, seen.facts), all_disks(world))
    other_keys = world.courier is not None and dict(world.courier.paths()) != dict(seen.facts.sent)
    return bool(outgrown) or other_keys or bool(wanted and wanted != seen.facts.system)


def _awaited(drawn: Plan, world: World) -> tuple[str, ...]:
    """What of the new system a boot takes up, after which the machine is restarted."""
    vm = vm_in(drawn)
    if vm is None or len(drawn.legs) > 1 or drawn.seen.phase not in SETTLED or world.hypervisor.runs_installer(vm):
        return ()
    if not any(isinstance(move.step, Activate) for move in drawn.moves):
        return ()
    return find_awaited(world, drawn.seen, vm, world.builder.wanted_system(drawn.seen))


def _effect(drawn: Plan, changes: Sequence[Change], steps: Sequence[str], restart: Sequence[str]) -> Effect:
    if len(drawn.legs) > 1:
        return Effect.RECREATE if drawn.legs[0].goal is not Phase.DEFINED else Effect.REINSTALL
    if restart:
        return Effect.RESTART
    if steps:
        begun = {Phase.ABSENT: Effect.NEW} | dict.fromkeys(UNDER_WAY, Effect.GO_ON)
        return begun.get(drawn.seen.phase, Effect.CHANGE)
    return Effect.WAITS if any(change.waiting for change in changes) else Effect.NOTHING


def _reasons_to_restart(drawn: Plan, world: World, changes: Sequence[Change]) -> Iterator[str]:
    """Only a system that is installed and runs is in use."""
    vm = vm_in(drawn)
    if vm is None or not runs(drawn) or drawn.seen.phase not in (*SETTLED, Phase.RESCUE):
        return
    if len(drawn.legs) > 1:
        yield "it is installed again"
    elif drawn.seen.phase is Phase.INSTALLED and world.hypervisor.runs_installer(vm):
        return  # it was installed just now
    elif any(isinstance(move.step, BootSystem) for move in drawn.moves):
        yield from find_reasons_to_restart(world, drawn.seen, vm, changes)


def runs(drawn: Plan) -> bool:
    """The machine runs when the plan is drawn up."""
    vm = vm_in(drawn)
    return vm is not None and vm.power is Power.RUNNING


def start_of_reinstall(spec: MachineSpec) -> Phase:
    """Where a reinstall begins: with the installer, or, where none is used, with a new VM of the same identity."""
    by_iso = spec.install.source is InstallSource.ISO and not spec.is_container
    return Phase.DEFINED if by_iso else Phase.RESERVED


def asks_for_reinstall(machine: Machine, world: World) -> bool:
    """The description's `install.generation` was raised since the machine was installed."""
    settled = machine.phase in (*SETTLED, Phase.RESCUE)
    return settled and world.spec.install.asked > machine.facts.asked


def refuse_rescue(drawn: Plan, world: World) -> None:
    """Do not end a rescue without permission. A reinstall that the description asks for is permission."""
    if drawn.seen.phase is not Phase.RESCUE or len(drawn.legs) > 1 or world.permissions.allow_reboot:
        return
    name = drawn.seen.name
    raise NeedsPermission(
        f"{name}: it is in rescue, and a deploy would end that",
        hint=f"{command(Verb.START, name)} boots its own system, as {command(Verb.DEPLOY, '--allow-reboot')} does",
    )


def refuse_moved(machine: Machine, world: World) -> None:
    """A deploy leaves a machine on the hypervisor where it is."""
    refuse_unfinished(machine)
    _refuse_other_kind(machine, world.spec)
    have, wanted = machine.facts.profile, world.spec.profile
    if have and have != wanted:
        raise OnOtherHypervisor(
            f"{machine.name}: it is on the hypervisor {have!r}, and the description says {wanted!r}",
            hint=f"{command(Verb.MOVE, machine.name)} takes it there, with its disks and its identity; or set `profile`"
            " back",
        )


def _refuse_other_kind(machine: Machine, spec: MachineSpec) -> None:
    """The spec says what the machine is. Which options it has says what is described."""
    described = spec.container is not None
    if machine.facts.vmid and described is not spec.is_container:
        have, want = ("a VM", "a container") if described else ("a container", "a VM")
        raise NeedsPermission(
            f"{machine.name}: it is {have}, and the description says {want}; PVE cannot turn one into the other",
            hint=f"{command(Verb.DESTROY, machine.name)}, then {command(Verb.DEPLOY)}; or set `kind` back",
        )
