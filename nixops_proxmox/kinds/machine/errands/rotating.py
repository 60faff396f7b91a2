"""New keys for the encrypted disk of a machine that runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.errors import CommandFailed, NoPath, StateError
from nixops_proxmox.kinds.machine import rotation
from nixops_proxmox.kinds.machine.answers import deliver
from nixops_proxmox.kinds.machine.encryption import ROOT, SLOTS, Header, Use, describe_slots, digest_of, uses_of
from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.header import PENDING, SPARE, compare, spare_slots
from nixops_proxmox.kinds.machine.header_backup import back_up_header
from nixops_proxmox.kinds.machine.keepers import resolved
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.encrypting import parse_look, require_record, system_shell
from nixops_proxmox.kinds.machine.steps.keeping import learn_keepers
from nixops_proxmox.model import Completed, Facts, Machine, recorded_slots
from nixops_proxmox.spec import Encryption
from nixops_proxmox.spelling import Verb, command

TIMES = "rotations"  # in `Facts.luks`: how many have ended
TIMEOUT = 600.0  # seconds for a script: a key slot that a person made may take some, and servers must answer


class Rotate(Errand):
    """Make new keys for the encrypted disk

    The key store has the new keys until each is in its place, so a run that goes on has the same ones.
    """

    disturbs = False

    def __init__(self, given: str = "") -> None:
        """`given`: a key that opens the disk now. Empty: what the key store, the sink's folder or tang have is used."""
        self._given = given

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        require_record(machine)
        if world.spec.encryption is None:
            raise NoPath(
                f"{machine.name}: the description has no `encryption`, so it says of no key where it goes",
                hint=f"{command(Verb.STATUS, machine.name)} shows what its disk has",
            )
        if world.spec.encryption.unlock.tpm2 is not None:
            raise NoPath(
                f"{machine.name}: its TPM is locked while the system runs, so a new key cannot be sealed and tried",
                hint=f"{command(Verb.REINSTALL, machine.name)} makes other keys, which erases the disk; or take "
                "`encryption.unlock.tpm2` out of the description",
            )
        system_shell(world, machine)
        return {TIMES: machine.facts.luks.get(TIMES, "0")}

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: the new keys stay the same until it has ended, and the scripts look first. One that was
        recorded is not done again."""
        encryption = world.spec.encryption
        assert encryption is not None
        if machine.facts.luks.get(TIMES, "0") == machine.facts.errand[TIMES]:
            learn_keepers(world, machine, attempt)
            _rotate(world, attempt, resolved(encryption, attempt.facts.luks), self._given)
        kept = [Use.TOOL.value] if encryption.unlock.tool else []
        world.keys.forget_disk_keys(machine.facts.uuid, machine.facts.luks["uuid"], kept)
        return attempt.facts


def _rotate(world: World, attempt: Attempt, encryption: Encryption, given: str) -> None:
    machine = attempt.thing
    uuid, volume = machine.facts.uuid, machine.facts.luks["uuid"]
    keys = {use: world.keys.disk_key(uuid, volume, rotation.next_use(use)) for use in uses_of(encryption)}
    shell = system_shell(world, machine)
    begun, wanted = spare_slots(machine.facts.luks), [SLOTS[use] for use in keys]
    spares = sorted({*begun, *(slot + SPARE for slot in wanted)})
    _note(attempt, {PENDING: " ".join(map(str, spares))})
    world.reporter.detail(machine, "giving the disk its new keys, beside the old ones")
    _deliver(machine, shell, keys, _opening(world, machine, given))
    done = shell.run(rotation.stage_script(encryption, volume, again=bool(begun)), timeout=TIMEOUT)
    _refuse(attempt, done, again=bool(begun))
    _put_in_places(world, attempt, encryption, keys)
    world.reporter.detail(machine, "taking the old keys away")
    dropped = [slot for slot in recorded_slots(machine.facts.luks) if slot not in wanted]
    done = shell.run(rotation.settle_script(encryption, volume, [*dropped, *spares]), timeout=TIMEOUT)
    _refuse(attempt, done, again=True)
    attempt.note(back_up_header(world, machine, attempt.facts, shell))
    times = str(int(attempt.facts.luks.get(TIMES, "0")) + 1)
    _note(attempt, {"slots": describe_slots(encryption), TIMES: times}, without=(PENDING,))
    _tell_strange(world, attempt.thing, parse_look(machine, volume, done))


def _opening(world: World, machine: Machine, given: str) -> Sequence[str]:
    """Keys that may open the disk now. Beside them, the guest may unseal one."""
    facts = machine.facts
    tool = world.keys.find_disk_key(facts.uuid, facts.luks["uuid"], Use.TOOL.value)
    recovery = given or world.escrow.find_key(facts.luks.get("sink", ""))
    return [key for key in (given, tool, recovery) if key]


def _deliver(machine: Machine, shell: Shell, keys: Mapping[Use, str], opening: Sequence[str]) -> None:
    script, archive = rotation.delivery(keys, opening)
    deliver(
        shell,
        script,
        archive,
        f"{machine.name}: the new keys of its disk could not be brought to its memory",
        "nothing was changed; root in the guest must be allowed to mount a ramfs",
    )


def _put_in_places(world: World, attempt: Attempt, encryption: Encryption, keys: Mapping[Use, str]) -> None:
    """Where each key is needed from now on. The old ones still open the disk."""
    machine = attempt.thing
    uuid, volume = machine.facts.uuid, machine.facts.luks["uuid"]
    if Use.RECOVERY not in keys:
        _note(attempt, {}, without=("recovery", "sink"))
    elif machine.facts.luks.get("recovery") != digest_of(keys[Use.RECOVERY]):
        world.reporter.detail(machine, "handing over the new recovery key")
        key = keys[Use.RECOVERY]
        place = world.escrow.hand_over(encryption.recovery.sink, machine, ROOT, volume, key)
        _note(attempt, {"recovery": digest_of(key), "sink": place})
    if Use.TOOL in keys:
        world.keys.keep_disk_key(uuid, volume, Use.TOOL.value, keys[Use.TOOL])


def _note(attempt: Attempt, more: Mapping[str, str], without: Sequence[str] = ()) -> None:
    luks = {name: value for name, value in attempt.facts.luks.items() if name not in without}
    attempt.note(replace(attempt.facts, luks={**luks, **more}))


def _refuse(attempt: Attempt, done: Completed, *, again: bool) -> None:
    if done.status == 0:
        return
    machine, said = attempt.thing, done.stderr.strip()
    if not again and done.status in (rotation.LOCKED, rotation.TAKEN):
        _note(attempt, {}, without=(PENDING,))  # no slot was touched
    if done.status == rotation.LOCKED:
        raise StateError(
            f"{machine.name}: no key that is known here opens its disk {machine.facts.luks['uuid']}",
            hint=f"give its recovery key: {command(Verb.RECOVERY_ROTATE, machine.name, '--key-file', '-')}",
        )
    if done.status == rotation.TAKEN:
        raise StateError(
            f"{machine.name}: the key slot {said} of its disk is not ours, and a rotation needs it",
            hint="move that key to another slot: from 4 to 15, nothing is ours",
        )
    raise CommandFailed(
        f"{machine.name}: its disk could not get new keys: {said}",
        status=done.status,
        output=done.stderr,
        hint=f"the old keys still open it; {command(Verb.RECOVERY_ROTATE, machine.name)} goes on",
    )


def _tell_strange(world: World, machine: Machine, header: Header) -> None:
    for slot in compare(header, machine.facts.luks).strange:
        world.reporter.warn(machine, f"its disk has the key slot {slot}, which is not ours, and keeps it")
