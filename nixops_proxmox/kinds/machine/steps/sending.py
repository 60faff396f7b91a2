"""The keys of `deployment.keys`: sent before a system is activated, because its units wait for them."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from nixops_proxmox.errors import GuestError, SshError
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Machine
from nixops_proxmox.spelling import Verb, command


def send_keys(world: World, machine: Machine) -> tuple[Machine, Sequence[str]]:
    """The machine that has its keys, and the names of those whose user is not there yet. Keys that are not described
    any more are removed. A verb without a description tells which keys a boot has taken away."""
    courier, had = world.courier, machine.facts.sent
    if courier is None:
        _tell_lost(world, machine)
        return machine, ()
    wanted = courier.paths()
    if not wanted and not had:
        return machine, ()
    shell = world.guest.system_shell(machine, world.spec)
    if wanted:
        world.reporter.detail(machine, f"sending {len(wanted)} key{'s' * (len(wanted) > 1)}")
    waiting = courier.send(machine, shell)
    left = [path for name, path in had.items() if path not in wanted.values()]
    if left:
        done = shell.run(f"rm -f -- {shlex.join(left)}")
        if done.status != 0:
            raise GuestError(
                f"{machine.name}: keys that are not described any more could not be removed: {done.stderr}"
            )
    return machine.moved(machine.phase, replace(machine.facts, sent=dict(wanted))), waiting


def lacks(world: World, machine: Machine) -> bool:
    """Whether the machine's keys are not as described, or it cannot be asked."""
    courier, had = world.courier, machine.facts.sent
    if courier is None or not (courier.paths() or had):
        return False
    if dict(courier.paths()) != dict(had):
        return True
    try:
        return bool(courier.find_lacking(machine, world.guest.system_shell(machine, world.spec)))
    except (GuestError, SshError):
        return True


def settle_keys(world: World, machine: Machine, waiting: Sequence[str]) -> None:
    """Give the keys to users that came with the active system. Raises GuestError if it has not brought them."""
    if not waiting or world.courier is None:
        return
    still = world.courier.send(machine, world.guest.system_shell(machine, world.spec))
    if still:
        raise GuestError(
            f"{machine.name}: deployment.keys: its system does not have the user or the group of {', '.join(still)}",
            hint="they belong to root until it has",
        )


def _tell_lost(world: World, machine: Machine) -> None:
    sent = machine.facts.sent
    if not sent:
        return
    look = "; ".join(f"[ -e {shlex.quote(path)} ] || echo {shlex.quote(name)}" for name, path in sent.items())
    lost = world.guest.system_shell(machine, world.spec).run(look).stdout.split()
    if lost:
        world.reporter.warn(
            machine,
            f"a boot has taken away its keys: {', '.join(lost)} ({command(Verb.KEYS_SEND, machine.name)} sends them)",
        )
