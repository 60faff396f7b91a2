"""Whether a machine that is ready is also well: asked where others, or its users, wait for that."""

from collections.abc import Callable, Sequence

from nixops_proxmox.errors import GuestError, NoEndpoint, SshError, Unwell
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Machine
from nixops_proxmox.spec import HealthSpec
from nixops_proxmox.spelling import Verb, command

TIME = 120.0  # seconds, where there is no probation that says how long it may take
PAUSE = 1.0


def wait_until_well(world: World, machine: Machine) -> None:
    """All of `deploy.health`, by a new login. Services take time to start. Raises Unwell with what does not hold."""
    if world.spec.deploy.health == HealthSpec():
        return
    ailments = outlast(world, machine, lambda: find_ailments(world, machine), world.spec.deploy.probation or TIME)
    if ailments:
        raise Unwell(
            f"{machine.name}: it is ready, but not well: {'; '.join(ailments)}",
            hint=f"`deploy.health` says what must hold; {command(Verb.DEPLOY, machine.name)} looks again",
        )


def outlast(world: World, machine: Machine, look: Callable[[], Sequence[str]], seconds: float) -> Sequence[str]:
    """What `look` still finds when the time is over. Empty, and at once, when it finds nothing."""
    until = world.clock.now() + seconds
    while (ailments := look()) and world.clock.now() <= until:
        world.reporter.detail(machine, f"not well yet: {'; '.join(ailments)}")
        world.clock.sleep(PAUSE)
    return ailments


def find_ailments(world: World, machine: Machine) -> Sequence[str]:
    """What does not hold, a sentence each. No login is an ailment, too."""
    try:
        shell = world.guest.new_shell(machine, world.spec)
        return world.guest.ailments(shell, machine, world.spec)
    except NoEndpoint as error:
        return [f"ssh: {one}" for one in error.attempts or [error.message]]
    except (SshError, GuestError) as error:
        return [f"ssh: {error.message}"]
