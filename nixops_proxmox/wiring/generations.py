"""The systems that a machine had: which there are, and back to one of them."""

from dataclasses import dataclass, replace

from nixops_proxmox.errors import CommandFailed, NoPath
from nixops_proxmox.lifecycle.ports import Shell
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.nixeval.activate import find_active_system, generations_script, parse_generations, roll_back
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.wiring.pursuit import Pursuit


@dataclass(frozen=True)
class Generation:
    number: int
    system: str
    active: bool


def list_generations(pursuit: Pursuit) -> tuple[Generation, ...]:
    """The oldest first, as the guest tells."""
    shell = _shell(pursuit)
    done = shell.run(generations_script())
    if done.status != 0:
        raise CommandFailed(
            f"{pursuit.machine.name}: its generations could not be listed: {done.stderr.strip()}", status=done.status
        )
    active = find_active_system(shell)
    return tuple(
        Generation(number, system, system == active) for number, system in parse_generations(done.stdout).items()
    )


def return_to(pursuit: Pursuit, generation: int | None = None) -> Machine:
    """Activate that generation, or the one before the current one. The next deploy activates what is described."""
    shell, machine = _shell(pursuit), pursuit.machine
    known = {one.number for one in list_generations(pursuit)}
    if generation is not None and generation not in known:
        have = ", ".join(map(str, sorted(known))) or "none"
        raise NoPath(f"{machine.name}: it has no generation {generation}", hint=f"it has: {have}")
    pursuit.world.reporter.detail(machine, "switching back")
    done = roll_back(shell, machine=machine.name, generation=generation)
    if done.needs_reboot:
        pursuit.world.reporter.warn(
            machine, f"it takes effect at the next restart ({command(Verb.REBOOT, machine.name)} does it)"
        )
    facts = replace(machine.facts, system=find_active_system(shell), generation=done.generation)
    return pursuit.record(machine.moved(machine.phase, facts), f"rolled back to generation {done.generation}")


def _shell(pursuit: Pursuit) -> Shell:
    machine = pursuit.machine = pursuit.looked_at()
    if machine.phase not in (Phase.RUNNING, Phase.READY):
        raise NoPath(
            f"{machine.name}: it is {machine.phase}, so no system runs there",
            hint=f"{command(Verb.START, machine.name)} starts it",
        )
    return pursuit.world.guest.system_shell(machine, pursuit.world.spec)
