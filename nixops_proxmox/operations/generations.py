"""The systems that a machine had: which there are, and back to one of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from typing_extensions import override

from nixops_proxmox.errors import CommandFailed, NoPath
from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.probation import settle_probation, switch_on_probation
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.nixeval.activate import (
    find_active_system,
    find_generation_before,
    generations_script,
    parse_generations,
    roll_back,
)
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.spelling import Verb, command

BEFORE, TARGET = "before", "target"


@dataclass(frozen=True)
class Generation:
    number: int
    system: str
    active: bool


def list_generations(pursuit: Pursuit) -> tuple[Generation, ...]:
    """The oldest first, as the guest tells."""
    pursuit.machine = pursuit.as_seen()
    shell = _shell(pursuit.world, pursuit.machine)
    known = parse_generations(_ask(shell, pursuit.machine))
    active = find_active_system(shell)
    return tuple(Generation(number, system, system == active) for number, system in known.items())


def return_to(pursuit: Pursuit, generation: int | None = None) -> Machine:
    """Activate that generation, or the one before the current one. The next deploy activates what is described."""
    pursuit.machine = pursuit.as_seen()
    return pursuit.run(ReturnToGeneration(generation))


class ReturnToGeneration(Errand):
    """Return to the generation"""

    def __init__(self, generation: int | None = None) -> None:
        self.subject = "before this one" if generation is None else str(generation)
        self._generation = generation

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        """Remember the number, too. Counted from the current one, it would name another generation once this one is
        active."""
        told = _ask(_shell(world, machine), machine)
        known = parse_generations(told)
        if self._generation is not None and self._generation not in known:
            have = ", ".join(map(str, sorted(known))) or "none"
            raise NoPath(f"{machine.name}: it has no generation {self._generation}", hint=f"it has: {have}")
        target = self._generation or find_generation_before(told)
        return {BEFORE: machine.phase.value} | ({TARGET: str(target)} if target is not None else {})

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a generation that is active already is activated again."""
        shell = _shell(world, machine)
        target = machine.facts.errand.get(TARGET)
        attempt.doubt(Phase.RUNNING, replace(machine.facts, system="", generation=0))
        if target and world.spec.deploy.probation:
            tried = self._on_probation(world, machine, attempt, int(target))
            if tried is not None:
                return tried
        world.reporter.detail(machine, "switching back")
        done = roll_back(shell, machine=machine.name, generation=int(target) if target else None)
        if done.needs_reboot:
            again = command(Verb.REBOOT, machine.name)
            world.reporter.warn(machine, f"it takes effect at the next restart ({again} does it)")
        return replace(attempt.facts, system=find_active_system(shell), generation=done.generation)

    def _on_probation(self, world: World, machine: Machine, attempt: Attempt, target: int) -> Facts | None:
        system = parse_generations(_ask(_shell(world, machine), machine)).get(target, "")
        facts = settle_probation(world, machine, attempt, attempt.facts, system)
        if facts.system and (facts.system, facts.generation) == (system, target):
            return facts
        return switch_on_probation(world, machine, attempt, facts, system, target)

    @override
    def lands(self, world: World, machine: Machine) -> Phase:
        return Phase(machine.facts.errand[BEFORE])


def _shell(world: World, machine: Machine) -> Shell:
    if machine.phase not in (Phase.RUNNING, Phase.READY):
        raise NoPath(
            f"{machine.name}: it is {machine.phase}, so no system runs there",
            hint=f"{command(Verb.START, machine.name)} starts it",
        )
    return world.guest.system_shell(machine, world.spec)


def _ask(shell: Shell, machine: Machine) -> str:
    done = shell.run(generations_script())
    if done.status != 0:
        raise CommandFailed(
            f"{machine.name}: its generations could not be listed: {done.stderr.strip()}", status=done.status
        )
    return done.stdout
