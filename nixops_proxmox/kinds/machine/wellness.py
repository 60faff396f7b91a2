"""Whether a machine that is ready is also well: asked where others, or its users, wait for that."""

from collections.abc import Sequence

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
    until = world.clock.now() + (world.spec.deploy.probation or TIME)
    while ailments := find_ailments(world, machine):
        told = "; ".join(ailments)
        if world.clock.now() > until:
            raise Unwell(
                f"{machine.name}: it is ready, but not well: {told}",
                hint=f"`deploy.health` says what must hold; {command(Verb.DEPLOY, machine.name)} looks again",
            )
        world.reporter.detail(machine, f"not well yet: {told}")
        world.clock.sleep(PAUSE)


def find_ailments(world: World, machine: Machine) -> Sequence[str]:
    """What does not hold, a sentence each. No login is an ailment, too."""
    try:
        shell = world.guest.new_shell(machine, world.spec)
        return world.guest.ailments(shell, machine, world.spec)
    except NoEndpoint as error:
        return [f"ssh: {one}" for one in error.attempts or [error.message]]
    except (SshError, GuestError) as error:
        return [f"ssh: {error.message}"]
