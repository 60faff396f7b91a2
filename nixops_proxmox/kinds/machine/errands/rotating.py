"""New keys for the encrypted disk of a machine that runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.errors import CommandFailed, NoPath, StateError
from nixops_proxmox.kinds.machine import rotation
from nixops_proxmox.kinds.machine.answers import deliver
from nixops_proxmox.kinds.machine.encrypted import (
    ROOT,
    part_of,
    recorded_volumes,
    told_as,
    volumes_of,
    with_part,
)
from nixops_proxmox.kinds.machine.encryption import SLOTS, Header, Use, describe_slots, has_way_to, next_use, uses_of
from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.header import PENDING, SPARE, WAITS, compare, spare_slots
from nixops_proxmox.kinds.machine.header_backup import back_up_header
from nixops_proxmox.kinds.machine.keepers import resolved
from nixops_proxmox.kinds.machine.opening import Opening, opening_script, parse_opening
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.encrypting import (
    check_first_stage,
    escrow,
    forget_keys,
    parse_look,
    require_record,
    system_shell,
)
from nixops_proxmox.kinds.machine.steps.keeping import learn_keepers
from nixops_proxmox.model import Completed, Facts, Machine, recorded_slots
from nixops_proxmox.spec import Encryption, MachineSpec
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import shown_line, tail

HANDED = "handed"  # in `Facts.luks`: the slots as described when new keys began to wait for a boot
TIMES = "rotations"  # in `Facts.luks`: how many have ended, of each volume
TIMEOUT = 600.0  # seconds for a script: a key slot that a person made may take some, and servers must answer


class Rotate(Errand):
    """Make new keys for the encrypted disks

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
        if not has_way_to(world.spec.encryption, machine.facts.luks["slots"]):
            raise NoPath(
                f"{machine.name}: no TPM opens its disk now, so its system has nothing that asks one at the next boot",
                hint=f"{command(Verb.REINSTALL, machine.name)} makes keys for it, which erases the disk; or take "
                "`encryption.unlock.tpm2` out of the description",
            )
        system_shell(world, machine)
        waits = {WAITS: machine.facts.luks[WAITS]} if WAITS in machine.facts.luks else {}
        return waits | {_counted(volume): _times(machine, volume) for volume in _to_rotate(world.spec, machine)}

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: the new keys stay the same until it has ended, and the scripts look first. One that was
        recorded is not done again."""
        encryption = world.spec.encryption
        assert encryption is not None
        for volume in _to_rotate(world.spec, machine):
            if _times(machine, volume) == machine.facts.errand.get(_counted(volume)):
                self._work_on(world, attempt, volume)
        forget_keys(world, attempt.facts)
        return attempt.facts

    def _work_on(self, world: World, attempt: Attempt, volume: str) -> None:
        wanted, machine = world.spec.encryption, attempt.thing
        assert wanted is not None
        waits, before = part_of(attempt.facts.luks, volume).get(WAITS, ""), machine.facts.errand.get(WAITS, "")
        if waits and waits != before:
            return  # this run has handed the sealed key on already
        encryption = resolved(wanted, attempt.facts.luks)
        same = part_of(attempt.facts.luks, volume).get(HANDED) == describe_slots(encryption, volume)
        if waits and same and _was_unsealed(world, machine, waits):
            _deliver(machine, system_shell(world, machine), _new_keys(world, attempt, encryption, volume), (), volume)
            _settle(world, attempt, encryption, volume, handed_on=True)
            return
        if volume == ROOT:
            learn_keepers(world, machine, attempt)
        encryption = resolved(wanted, attempt.facts.luks)
        _stage(world, attempt, encryption, self._given, volume)
        if volume == ROOT and encryption.unlock.tpm2 is not None:
            _hand_on(world, attempt, encryption)
        else:
            _settle(world, attempt, encryption, volume)


def _to_rotate(spec: MachineSpec, machine: Machine) -> list[str]:
    """What is described as encrypted, and is. Where the root's new keys wait for a boot, the others have theirs."""
    recorded = (ROOT,) if WAITS in machine.facts.luks else recorded_volumes(machine.facts.luks, spec)
    return [volume for volume in volumes_of(spec) if volume in recorded]


def _counted(volume: str) -> str:
    return TIMES if volume == ROOT else f"{volume} {TIMES}"


def _times(machine: Machine, volume: str) -> str:
    return part_of(machine.facts.luks, volume).get(TIMES, "0")


def _new_keys(world: World, attempt: Attempt, encryption: Encryption, volume: str) -> Mapping[Use, str]:
    uuid, luks = attempt.thing.facts.uuid, part_of(attempt.facts.luks, volume)["uuid"]
    return {use: world.keys.disk_key(uuid, luks, next_use(use)) for use in uses_of(encryption, volume)}


def _stage(world: World, attempt: Attempt, encryption: Encryption, given: str, volume: str) -> None:
    """The new keys are beside the old ones, and where each is needed from now on."""
    machine, part = attempt.thing, part_of(attempt.facts.luks, volume)
    keys, shell = _new_keys(world, attempt, encryption, volume), system_shell(world, machine)
    begun = spare_slots(part)
    spares = sorted({*begun, *(SLOTS[use] + SPARE for use in keys)})
    _note(attempt, volume, {PENDING: " ".join(map(str, spares))}, without=(WAITS, HANDED))
    world.reporter.detail(machine, f"giving its {told_as(volume, part)} new keys, beside the old ones")
    _deliver(machine, shell, keys, _opening(world, machine, given, part), volume)
    done = shell.run(rotation.stage_script(encryption, part["uuid"], volume, again=bool(begun)), timeout=TIMEOUT)
    _refuse(attempt, done, volume, again=bool(begun))
    _put_in_places(world, attempt, keys, volume)


def _settle(world: World, attempt: Attempt, encryption: Encryption, volume: str, *, handed_on: bool = False) -> None:
    """The old keys are gone, and the new ones are in their slots."""
    machine, part = attempt.thing, part_of(attempt.facts.luks, volume)
    luks, shell = part["uuid"], system_shell(world, machine)
    uses, spares = uses_of(encryption, volume), spare_slots(part)
    wanted = [SLOTS[use] for use in uses]
    world.reporter.detail(machine, f"taking the old keys of its {told_as(volume, part)} away")
    emptied = [*(slot for slot in recorded_slots(part) if slot not in wanted), *spares]
    script = rotation.settle_script(encryption, luks, emptied, volume, handed_on=handed_on)
    done = shell.run(script, timeout=TIMEOUT)
    _refuse(attempt, done, volume, again=True)
    attempt.note(back_up_header(world, machine, attempt.facts, shell, volume))
    times = str(int(part.get(TIMES, "0")) + 1)
    _note(
        attempt, volume, {"slots": describe_slots(encryption, volume), TIMES: times}, without=(PENDING, WAITS, HANDED)
    )
    _tell_strange(world, attempt, parse_look(machine, luks, done), volume)
    if Use.SEALED in uses:
        for text in check_first_stage(attempt.thing, shell):
            world.reporter.warn(machine, text)


def _hand_on(world: World, attempt: Attempt, encryption: Encryption) -> None:
    """The TPM is locked while the system runs, so only a boot shows that it unseals the new key. The old ones stay."""
    machine = attempt.thing
    shell = system_shell(world, machine)
    done = shell.run(rotation.hand_on_script(machine.facts.luks["uuid"]), timeout=TIMEOUT)
    _refuse(attempt, done, ROOT, again=True)
    _note(attempt, ROOT, {WAITS: _opened(machine, shell).boot, HANDED: describe_slots(encryption)})
    world.reporter.warn(
        machine,
        f"its TPM gives the new key at the next boot alone, and all old keys open its disk until then: "
        f"{command(Verb.REBOOT, machine.name)}, then {command(Verb.RECOVERY_ROTATE, machine.name)} ends it",
    )


def _opened(machine: Machine, shell: Shell) -> Opening:
    found = parse_opening(shell.run(opening_script()).stdout)
    if found is None:
        raise StateError(
            f"{machine.name}: its system does not tell which boot it is", hint="the old keys still open it"
        )
    return found


def _was_unsealed(world: World, machine: Machine, waits: str) -> bool:
    """The first stage of this boot has unsealed the new key: it had no other. StateError before there was another
    boot."""
    found = _opened(machine, system_shell(world, machine))
    if found.boot == waits:
        raise StateError(
            f"{machine.name}: its new keys wait for a boot at which its TPM opens its disk",
            hint=f"{command(Verb.REBOOT, machine.name)}, then {command(Verb.RECOVERY_ROTATE, machine.name)} ends it",
        )
    if not found.by_itself:
        world.reporter.warn(machine, "its TPM did not open its disk at this boot: the key is sealed once more")
    return found.by_itself


def _opening(world: World, machine: Machine, given: str, part: Mapping[str, str]) -> Sequence[str]:
    """Keys that may open the volume now. Beside them, the guest has one, or may unseal one."""
    kept = [world.keys.find_disk_key(machine.facts.uuid, part["uuid"], use.value) for use in (Use.TOOL, Use.SYSTEM)]
    recovery = given or world.escrow.find_key(part.get("sink", ""))
    return [key for key in (given, *kept, recovery) if key]


def _deliver(machine: Machine, shell: Shell, keys: Mapping[Use, str], opening: Sequence[str], volume: str) -> None:
    script, archive = rotation.delivery(keys, opening, volume)
    deliver(
        shell,
        script,
        archive,
        f"{machine.name}: the new keys of its disk could not be brought to its memory",
        "nothing was changed; root in the guest must be allowed to mount a ramfs",
    )


def _put_in_places(world: World, attempt: Attempt, keys: Mapping[Use, str], volume: str) -> None:
    """Where each key is needed from now on. The old ones still open the volume."""
    machine = attempt.thing
    uuid, luks = machine.facts.uuid, part_of(attempt.facts.luks, volume)["uuid"]
    if Use.RECOVERY in keys:
        escrow(world, machine, attempt, volume, keys[Use.RECOVERY])
    else:
        _note(attempt, volume, {}, without=("recovery", "sink"))
    for use in (Use.TOOL, Use.SYSTEM):
        if use in keys:
            world.keys.keep_disk_key(uuid, luks, use.value, keys[use])


def _note(attempt: Attempt, volume: str, more: Mapping[str, str], without: Sequence[str] = ()) -> None:
    part = part_of(attempt.facts.luks, volume)
    kept = {name: value for name, value in part.items() if name not in without}
    attempt.note(replace(attempt.facts, luks=with_part(attempt.facts.luks, volume, {**kept, **more})))


def _refuse(attempt: Attempt, done: Completed, volume: str, *, again: bool) -> None:
    if done.status == 0:
        return
    machine, said = attempt.thing, done.stderr.strip()
    disk = told_as(volume, part_of(attempt.facts.luks, volume))
    if not again and done.status in (rotation.LOCKED, rotation.TAKEN):
        _note(attempt, volume, {}, without=(PENDING,))  # no slot was touched
    if done.status == rotation.LOCKED:
        raise StateError(
            f"{machine.name}: no key that is known here opens its {disk}",
            hint=f"give its recovery key: {command(Verb.RECOVERY_ROTATE, machine.name, '--key-file', '-')}",
        )
    if done.status == rotation.TAKEN:
        raise StateError(
            f"{machine.name}: the key slot {said} of its {disk} is not ours, and a rotation needs it",
            hint="move that key to another slot: from 4 to 15, nothing is ours",
        )
    if done.status == rotation.STALE:
        files = tail(said, 200).splitlines()[-1:]
        raise StateError(
            f"{machine.name}: its boot loader was written, and its first stage has no new sealed key"
            f" ({shown_line(*files)}): the machine would not open its disk by itself any more",
            hint=f"the old keys still open it; is there room in /boot? {command(Verb.RECOVERY_ROTATE, machine.name)}"
            " goes on",
        )
    raise CommandFailed(
        f"{machine.name}: its {disk} could not get new keys: {said}",
        status=done.status,
        output=done.stderr,
        hint=f"the old keys still open it; {command(Verb.RECOVERY_ROTATE, machine.name)} goes on",
    )


def _tell_strange(world: World, attempt: Attempt, header: Header, volume: str) -> None:
    part = part_of(attempt.facts.luks, volume)
    for slot in compare(header, part).strange:
        text = f"its {told_as(volume, part)} has the key slot {slot}, which is not ours, and keeps it"
        world.reporter.warn(attempt.thing, text)
