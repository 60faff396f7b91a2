"""A new system that only a boot takes up is booted once, and kept if that boot is seen well.

What boots otherwise is the system before, until we have confirmed. So a boot that hangs, or that we do not see, is
ended by the next one: the guest's own, or one that we make from outside. Whatever becomes of us, nothing is undone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from secrets import token_hex

from nixops_proxmox.errors import ActivationFailed, BootWanted, DeployError, NeedsPermission, NoEndpoint, NotConfirmed
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.snapshot import offer_snapshot
from nixops_proxmox.kinds.machine.wellness import find_ailments, outlast
from nixops_proxmox.model import Awaiting, Booted, Facts, Machine, ProbationVerdict, Vm
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import tail_lines

LINES = 8  # of what the guest agent tells
BY, ONCE = "by", "one boot"  # in `Facts.probation`, beside what a live probation has
NUMBER, SYSTEM, BOOT, FAILED, VERDICT, WHY = "number", "system", "boot", "failed", "verdict", "why"
UNWANTED = "another system is wanted by now"
MeetSystem = Callable[[World, Machine], Machine]


def stage_once(world: World, machine: Machine, attempt: Attempt, facts: Facts, wanted: str, found: Awaiting) -> None:
    """Turn to a boot of `wanted` that is the only one, unless one is not possible: then a warning says why, and nothing
    was done. Raises BootWanted."""
    if world.loader is None:
        return
    begun = {NUMBER: token_hex(6), BY: ONCE, SYSTEM: wanted, BOOT: found.boot}
    attempt.note(replace(facts, probation=begun))
    forgets = forgets_variables(world.hypervisor.find_vm(machine.facts))
    staged = world.loader.stage(wanted, world.guest.system_shell(machine, world.spec), forgets=forgets)
    if staged.why:
        world.reporter.warn(machine, f"{wanted} cannot be tried by one boot: {staged.why}; it becomes what boots")
        attempt.note(replace(facts, probation={}))
        return
    told = ", ".join(found.changes)
    begun |= {FAILED: " ".join(staged.failed)} if staged.failed else {}
    awaits = {"system": wanted, "boot": found.boot, "changes": told}
    attempt.note(replace(facts, probation=begun, awaits=awaits))
    world.reporter.detail(machine, f"{staged.loader} boots generation {staged.generation} once")
    raise BootWanted(f"{machine.name}: only a boot takes up {told}; the new system is booted once, on probation")


def forgets_variables(vm: Vm | None) -> bool:
    """PVE gives a UEFI firmware without an EFI disk new variables at each start: what systemd-boot is told there does
    not outlive the restart that we make."""
    if vm is None:
        return False
    config = vm.active or vm.config
    return config.get("bios") == "ovmf" and "efidisk0" not in config


def is_once(facts: Facts) -> bool:
    """A boot that is the only one of its system was begun, and what became of it is not known."""
    return facts.probation.get(BY) == ONCE and NUMBER in facts.probation


def refuse_failed_boot(machine: Machine, wanted: str) -> None:
    """NeedsPermission for a system whose boot failed: switched to live, it would be what boots."""
    last = machine.facts.probation
    if last.get(BY) == ONCE and last.get(SYSTEM) == wanted and last.get(VERDICT) != ProbationVerdict.CONFIRMED.value:
        raise NeedsPermission(
            f"{machine.name}: {wanted} was booted once, and did not stay ({last.get(VERDICT)})",
            hint=f"mend the description; {command(Verb.DEPLOY, '--allow-reboot')} boots it once more",
        )


def settle_once(world: World, machine: Machine, attempt: Attempt, wanted: str, meet: MeetSystem) -> Machine:
    """The machine, met, with what became of such a boot. Raises NotConfirmed if its system does not stay. `wanted`:
    empty where the verb wants none."""
    begun, system = machine.facts.probation, machine.facts.probation.get(SYSTEM, "")
    assert world.loader is not None
    try:
        met = meet(world, machine)
        seen = world.loader.booted(world.guest.system_shell(met, world.spec))
    except DeployError as error:
        return _go_back(world, machine, attempt, "no login worked", _told(error), meet)
    if seen.boot == begun.get(BOOT):
        return _not_booted(world, met)
    if seen.system != system and begun.get(WHY) == UNWANTED:
        return _forgotten(met)
    if seen.system != system:
        verdict = ProbationVerdict.BY_US if WHY in begun else ProbationVerdict.BY_GUEST
        why = begun.get(WHY, "its boot came to no end, and the machine booted again")
        raise _not_kept(met, attempt, verdict, why, [], runs=seen.system)
    if wanted and wanted != system:
        world.reporter.warn(met, f"{system} was booted once, on probation; it does not stay, because another is wanted")
        return _forgotten(_leave(world, met, attempt, wanted, meet))
    ailments = _judge(world, met, seen)
    if ailments:
        return _go_back(world, met, attempt, "it is not well", ailments, meet)
    return _keep(world, met, attempt, system, meet)


def _forgotten(met: Machine) -> Machine:
    return met.moved(met.phase, replace(met.facts, probation={}, awaits={}))


def _leave(world: World, met: Machine, attempt: Attempt, wanted: str, meet: MeetSystem) -> Machine:
    """The system that runs is not the default, and was never confirmed. If the wanted one needs a boot as well, the
    menu would be written by it, with itself as the default: so boot the default first."""
    awaited = world.builder.find_awaiting(wanted, world.guest.system_shell(met, world.spec)).changes
    if not (awaited and world.permissions.allow_reboot):
        return met
    attempt.note(replace(met.facts, probation={**met.facts.probation, WHY: UNWANTED}))
    world.hypervisor.stop_vm(met.facts, attempt.note_task)
    world.hypervisor.start_vm(met.facts, attempt.note_task)
    return meet(world, met)


def _not_booted(world: World, met: Machine) -> Machine:
    """That run had not come to it. What it told the boot loader is taken back, and the deploy begins again."""
    assert world.loader is not None
    world.loader.unstage(world.guest.system_shell(met, world.spec))
    return _forgotten(met)


def _keep(world: World, met: Machine, attempt: Attempt, system: str, meet: MeetSystem) -> Machine:
    assert world.loader is not None
    world.reporter.detail(met, "it was booted, answers and is well: confirming")
    try:
        generation = world.loader.keep(system, world.guest.system_shell(met, world.spec))
    except ActivationFailed as error:
        return _go_back(world, met, attempt, error.message, [], meet)
    told = {BY: ONCE, SYSTEM: system, VERDICT: ProbationVerdict.CONFIRMED.value}
    return met.moved(met.phase, replace(met.facts, system=system, generation=generation, probation=told))


def _judge(world: World, met: Machine, seen: Booted) -> Sequence[str]:
    """What does not hold when the time of the probation is over. Services take time to start."""
    before = met.facts.probation.get(FAILED, "").split()

    def look() -> Sequence[str]:
        ailments = list(find_ailments(world, met))
        failed = _find_failed(world, met, seen) if world.spec.deploy.failed_units == "revert" else ()
        return [*ailments, *(f"{unit} failed" for unit in failed if unit not in before)]

    return outlast(world, met, look, world.spec.deploy.probation)


def _find_failed(world: World, met: Machine, seen: Booted) -> Sequence[str]:
    """The units that have failed by now."""
    assert world.loader is not None
    try:
        return world.loader.booted(world.guest.system_shell(met, world.spec)).failed
    except DeployError:  # no login, which is told
        return seen.failed


def _go_back(
    world: World, machine: Machine, attempt: Attempt, why: str, lines: Sequence[str], meet: MeetSystem
) -> Machine:
    """Off and on again, which boots the default. Never returns. Safe to repeat: it ends what is ill, or lets us not in.
    Why is noted before, so that a later run knows who ended it."""
    begun = machine.facts.probation
    if not world.permissions.allow_reboot:
        raise _not_kept(machine, attempt, ProbationVerdict.STUCK, why, lines)
    lines = [*lines, *_complaints(world, machine)]
    machine = machine.moved(machine.phase, replace(machine.facts, probation={**begun, WHY: why}))
    attempt.note(machine.facts)
    world.reporter.warn(machine, f"{why}: switching it off and on, which boots the system before")
    world.hypervisor.stop_vm(machine.facts, attempt.note_task)
    world.hypervisor.start_vm(machine.facts, attempt.note_task)
    assert world.loader is not None
    try:
        met = meet(world, machine)
        seen = world.loader.booted(world.guest.system_shell(met, world.spec))
    except DeployError as error:
        raise _not_kept(machine, attempt, ProbationVerdict.STUCK, why, [*lines, *_told(error)]) from error
    verdict = ProbationVerdict.STUCK if seen.system == begun[SYSTEM] else ProbationVerdict.BY_US
    raise _not_kept(met, attempt, verdict, why, lines, runs=seen.system)


def _complaints(world: World, machine: Machine) -> list[str]:
    """What the hypervisor's way into the guest tells, if it tells anything."""
    try:
        voice = world.guest.voice(machine, world.spec)
        told = "" if voice is None else world.guest.complaints(voice)
    except DeployError as error:
        told = error.message
    return [f"agent: {line}" for line in tail_lines(told.splitlines(), LINES)]


def _told(error: DeployError) -> list[str]:
    return [f"ssh: {one}" for one in error.attempts] if isinstance(error, NoEndpoint) else [error.message]


def _not_kept(
    machine: Machine,
    attempt: Attempt,
    verdict: ProbationVerdict,
    why: str,
    lines: Sequence[str],
    *,
    runs: str = "",
) -> NotConfirmed:
    begun, stuck = machine.facts.probation, verdict is ProbationVerdict.STUCK
    told = {BY: ONCE, SYSTEM: begun[SYSTEM], VERDICT: verdict.value, WHY: why}
    told |= {NUMBER: begun[NUMBER], BOOT: begun.get(BOOT, "")} if stuck else {}  # the next run still has to find out
    facts = replace(machine.facts, probation={name: value for name, value in told.items() if value})
    attempt.note(facts if stuck else replace(facts, awaits={}))
    text = [f"{machine.name}: {begun[SYSTEM]}, booted once, does not stay ({verdict}): {why}", *lines]
    text += offer_snapshot(machine, facts)
    again = f"{command(Verb.REBOOT, f'{machine.name} --hard')} boots the one before"
    if stuck:
        return NotConfirmed("\n".join(text), verdict=verdict.value, hint=f"it was not made what boots: {again}")
    text.append(f"it runs {runs or 'the system before'} again")
    hint = f"mend the description, then run {command(Verb.DEPLOY)}; the machine boots the system before, too"
    return NotConfirmed("\n".join(text), verdict=verdict.value, hint=hint)
