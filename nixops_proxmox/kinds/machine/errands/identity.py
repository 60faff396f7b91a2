"""Another host key for a machine that runs.

The new key is in our key store, and in the record beside the old one, before the guest hears of it. So whichever of the
two its sshd shows, it is known, to every door. The old one goes only after a login by which the new one was proven.
"""

from collections.abc import Mapping
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.errors import CommandFailed, GuestError, NoEndpoint, NoPath, SshError
from nixops_proxmox.kinds.machine.answers import deliver
from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.rekeying import back_script, clean_script, put_delivery
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.identity import place_of
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.spelling import Verb, command

NEW = "new"  # in `Facts.errand`: the public key that it gets
PATIENCE = 60.0  # seconds for sshd to show it
PAUSE = 1.0


class RotateIdentity(Errand):
    """Give the machine another host key"""

    disturbs = False

    def __init__(self, *, by_agent: bool = False) -> None:
        """`by_agent`: SSH shows a key that is not known any more, such as that of an old snapshot."""
        self._by_agent = by_agent

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        if machine.phase not in (Phase.RUNNING, Phase.READY):
            raise NoPath(
                f"{machine.name}: it is {machine.phase}, and only a system that runs gets another host key",
                hint=f"{command(Verb.START, machine.name)} starts it",
            )
        if self._by_agent and (world.spec.is_container or not world.spec.agent):
            raise NoPath(f"{machine.name}: it has no guest agent that could be asked in the place of its SSH server")
        return {}

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: the new key stays the same until it has ended, and what is in its place already stays."""
        new = attempt.facts.errand.get(NEW) or _begin(world, attempt)
        if attempt.facts.host_key != new:
            (self._bring_by_agent if self._by_agent else _bring)(world, attempt)
            _prove(world, attempt)
            private, _ = world.keys.next_host_key(attempt.facts.uuid)
            world.keys.keep_host_key(attempt.facts.uuid, private)
            attempt.note(replace(attempt.facts, host_key=new, next_host_key=""))
        world.keys.forget_next_host_key(attempt.facts.uuid)
        shell = world.guest.system_shell(attempt.thing, world.spec)
        failed = f"{machine.name}: its old host key could not be removed"
        deliver(shell, clean_script(place_of(attempt.facts)), b"", failed, "the new one is in use; run this again")
        return attempt.facts

    def _bring_by_agent(self, world: World, attempt: Attempt) -> None:
        """What a copied system is given at its first boot, once more."""
        private, public = world.keys.next_host_key(attempt.facts.uuid)
        place = place_of(attempt.facts).lstrip("/")
        files = {place: (private, 0o600), f"{place}.pub": (f"{public.strip()}\n", 0o644)}
        world.guest.introduce(attempt.thing, world.spec, files, world.keys.authorized_keys(world.spec))


def _begin(world: World, attempt: Attempt) -> str:
    """Known before it is anywhere."""
    _, public = world.keys.next_host_key(attempt.facts.uuid)
    errand = {**attempt.facts.errand, NEW: public}
    attempt.note(replace(attempt.facts, next_host_key=public, errand=errand))
    return public


def _bring(world: World, attempt: Attempt) -> None:
    machine = attempt.thing
    private, public = world.keys.next_host_key(machine.facts.uuid)
    world.reporter.detail(machine, "bringing its new host key")
    script, archive = put_delivery(place_of(machine.facts), private, public)
    failed = f"{machine.name}: its new host key could not be put in the place of the old one"
    deliver(world.guest.system_shell(machine, world.spec), script, archive, failed, "both are known; run this again")


def _prove(world: World, attempt: Attempt) -> None:
    """By a login to which only the new key fits. If there is none, the guest gets the old one back.

    Safe to repeat: a race only looks who answers."""
    facts = replace(attempt.facts, host_key=attempt.facts.next_host_key, next_host_key="", installer_keys=())
    alone = attempt.thing.moved(attempt.thing.phase, facts)
    until = world.clock.now() + PATIENCE
    while True:
        try:
            world.guest.new_shell(alone, world.spec)
            return
        except (SshError, GuestError) as error:
            if world.clock.now() > until:
                raise _refused(world, attempt, error) from error
        world.clock.sleep(PAUSE)


def _refused(world: World, attempt: Attempt, error: SshError | GuestError) -> NoEndpoint:
    machine = attempt.thing
    try:
        shell = world.guest.system_shell(machine, world.spec)
        failed = f"{machine.name}: its old host key could not be brought back"
        deliver(shell, back_script(place_of(machine.facts), machine.facts.host_key), b"", failed, "")
        back = "it has its old host key again"
    except (SshError, GuestError, CommandFailed) as other:
        back = f"{other.message}; both keys stay known"
    lines = error.attempts if isinstance(error, NoEndpoint) else [error.message]
    return NoEndpoint(
        f"{machine.name}: no login with its new host key worked; {back}",
        attempts=lines,
        hint="does its sshd read the host key from there (`ssh.hostKey`)? then run the same command again",
    )
