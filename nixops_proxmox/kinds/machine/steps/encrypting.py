"""The keys of encrypted disks: made, given to the recovery key's sink, delivered, proven, and forgotten."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from nixops_proxmox.errors import NoPath, StateError
from nixops_proxmox.kinds.machine.answers import deliver, read_answer
from nixops_proxmox.kinds.machine.encrypted import (
    ROOT,
    disks_to_keep,
    part_of,
    recorded_volumes,
    told_as,
    volumes_of,
    with_part,
)
from nixops_proxmox.kinds.machine.encrypted_layout import key_delivery
from nixops_proxmox.kinds.machine.encryption import (
    SLOTS,
    Header,
    Use,
    describe_slots,
    digest_of,
    find_changed,
    look_script,
    next_use,
    parse_header,
    refuse_other_header,
    uses_of,
    volume_uuid,
)
from nixops_proxmox.kinds.machine.first_stage import HasKey, first_stage_script, parse_first_stage
from nixops_proxmox.kinds.machine.first_stage_ssh import SSH_PORT, delivery_of_key
from nixops_proxmox.kinds.machine.header import WAITS, compare, find_slot_problems
from nixops_proxmox.kinds.machine.header_backup import back_up_header
from nixops_proxmox.kinds.machine.keepers import KNOWN, resolved
from nixops_proxmox.kinds.machine.opening import BOOT, OPENED, opening_script, parse_opening
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.keeping import learn_keepers
from nixops_proxmox.kinds.machine.steps.kept_disks import find_kept_key
from nixops_proxmox.model import Completed, Facts, Machine, Phase, recorded_slots
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spelling import Verb, command

FIRST_STAGE = 300.0  # seconds in which its archives are unpacked


def bring_keys(world: World, machine: Machine, attempt: Attempt, shell: Shell, kept: Collection[str]) -> None:
    """Before a disk is written: the recovery keys are in their sink, and all keys are in the installer's memory.
    `kept`: the disks that have their keys already.

    Safe to repeat: until the system is installed, the store has the same keys, and the sink gets each key once more
    at most."""
    if world.spec.encryption is None:
        return
    opening = {slot: {Use.SYSTEM: find_kept_key(world, machine, shell, slot)} for slot in kept}
    learn_keepers(world, machine, attempt)
    keys = {
        volume: opening.get(volume) or _make_keys(world, machine, attempt, volume) for volume in volumes_of(world.spec)
    }
    script, archive = key_delivery(keys)
    deliver(
        shell,
        script,
        archive,
        f"{machine.name}: the keys of its disks could not be brought to the installer",
        "nothing was written; the installer must have /run in memory, and no swap",
    )


def _make_keys(world: World, machine: Machine, attempt: Attempt, volume: str) -> Mapping[Use, str]:
    assert world.spec.encryption is not None
    uuid, uses = volume_uuid(attempt.facts, volume), uses_of(world.spec.encryption, volume)
    keys = {use: world.keys.disk_key(attempt.facts.uuid, uuid, use.value) for use in uses}
    if Use.RECOVERY in keys:
        escrow(world, machine, attempt, volume, keys[Use.RECOVERY])
    return keys


def escrow(world: World, machine: Machine, attempt: Attempt, volume: str, key: str) -> None:
    """A disk is never written before its recovery key is where the user wants it."""
    encryption, digest = world.spec.encryption, digest_of(key)
    part = part_of(attempt.facts.luks, volume)
    if encryption is None or part.get("recovery") == digest:
        return
    world.reporter.detail(machine, "handing over the recovery key")
    uuid = volume_uuid(attempt.facts, volume)
    place = world.escrow.hand_over(encryption.recovery.sink, machine, volume, uuid, key)
    luks = with_part(attempt.facts.luks, volume, {**part, "recovery": digest, "sink": place})
    attempt.note(replace(attempt.facts, luks=luks))


def record_headers(world: World, machine: Machine, facts: Facts, shell: Shell, kept: Collection[str]) -> Facts:
    """What the record keeps of the encrypted volumes: never a key."""
    encryption = world.spec.encryption
    if encryption is None:
        return replace(facts, luks={})
    for volume in volumes_of(world.spec):
        if volume in kept and part_of(facts.luks, volume).get("slots"):
            continue
        uuid = volume_uuid(facts, volume)
        header = parse_look(machine, uuid, shell.run(look_script(uuid)))
        refuse_other_header(machine.name, world.spec, facts, header, volume)
        slots = describe_slots(resolved(encryption, facts.luks), volume)
        known = part_of(facts.luks, volume)
        facts = replace(facts, luks=with_part(facts.luks, volume, _record(known, uuid, slots)))
        facts = back_up_header(world, machine, facts, shell, volume)
    return facts


def parse_look(machine: Machine, volume: str, done: Completed) -> Header:
    """The header that a script told of."""
    failed = f"{machine.name}: the encrypted volume {volume} cannot be looked at"
    return read_answer(done, parse_header, failed, "it needs cryptsetup 2.4 or newer")


def note_opening(world: World, machine: Machine) -> Facts:
    """The facts of a system that was reached, with the last boot at which its disk was opened without anybody's help.
    What the system does not tell is left as it was."""
    luks = machine.facts.luks
    if SLOTS[Use.SEALED] not in recorded_slots(luks):
        return machine.facts
    found = parse_opening(world.guest.system_shell(machine, world.spec).run(opening_script()).stdout)
    if found is None or not found.by_itself or luks.get(BOOT) == found.boot:
        return machine.facts
    return replace(machine.facts, luks={**luks, OPENED: str(found.booted), BOOT: found.boot})


def check_headers(world: World, machine: Machine, shell: Shell) -> tuple[str, ...]:
    """How the headers of a running system's disks differ from the record, a sentence each."""
    found: list[str] = []
    for volume in recorded_volumes(machine.facts.luks, world.spec):
        part = part_of(machine.facts.luks, volume)
        header = parse_look(machine, part["uuid"], shell.run(look_script(part["uuid"])))
        found += find_slot_problems(machine.name, compare(header, part), part, volume)
    return tuple(found)


def check_first_stage(machine: Machine, shell: Shell) -> tuple[str, ...]:
    """A sentence if the next boot may not find the sealed key that lies in the system."""
    if SLOTS[Use.SEALED] not in recorded_slots(machine.facts.luks):
        return ()
    printed = shell.run(first_stage_script(), timeout=FIRST_STAGE).stdout
    if not printed.strip():
        return (f"its system has no sealed key, and its disk has a key slot for one{_repaired(machine)}",)
    failed = f"{machine.name}: its first stage cannot be looked at"
    found = read_answer(Completed(0, printed), parse_first_stage, failed, "is /boot mounted?")
    match found.has:
        case HasKey.NO:
            text = (
                f"its first stage lacks the sealed key that lies in its system ({found.about}), so its disk would not"
            )
            return (f"{text} open by itself at the next boot{_repaired(machine)}",)
        case HasKey.UNKNOWN:
            text = f"whether its first stage has the sealed key cannot be told: {found.about}; reboot it where somebody"
            return (f"{text} can type the recovery key ({command(Verb.CONSOLE, machine.name)})",)
    return ()


def _repaired(machine: Machine) -> str:
    return f" ({command(Verb.RECOVERY_ROTATE, machine.name)} makes another, and writes the boot loader)"


def slots_differ(spec: MachineSpec, machine: Machine) -> tuple[str, ...]:
    """A sentence for people for each disk that the description has other ways to open."""
    return tuple(
        f"`encryption` has changed; its {told_as(volume, part)} has the key slots {part['slots']} "
        f"({command(Verb.RECOVERY_ROTATE, machine.name)} makes those that are described)"
        for volume in find_changed(spec, machine.facts)
        for part in (part_of(machine.facts.luks, volume),)
    )


def require_record(machine: Machine) -> str:
    """The LUKS UUID of its disk. NoPath if the record knows of none."""
    volume = machine.facts.luks.get("uuid", "")
    if not volume:
        raise NoPath(
            f"{machine.name}: its record knows of no encrypted disk", hint="see `encryption` in the description"
        )
    return volume


def system_shell(world: World, machine: Machine) -> Shell:
    """The way into its system. NoPath if that does not run."""
    if machine.phase not in (Phase.RUNNING, Phase.READY):
        raise NoPath(
            f"{machine.name}: it is {machine.phase}, so its disk cannot be looked at",
            hint=f"{command(Verb.START, machine.name)} starts it",
        )
    return world.guest.system_shell(machine, world.spec)


def _record(known: Mapping[str, str], volume: str, slots: str) -> Mapping[str, str]:
    stay = ("recovery", "sink", SSH_PORT)
    kept = {name: value for name, value in known.items() if name in stay or name.startswith(KNOWN)}
    return {**kept, "uuid": volume, "slots": slots}


def unlock(world: World, machine: Machine) -> bool:
    """Give the key that this store keeps to a first stage that asks for it. False if nothing asks."""
    volume = require_record(machine)
    key = world.keys.find_disk_key(machine.facts.uuid, volume, Use.TOOL.value)
    if key is None:
        raise StateError(
            f"{machine.name}: no key for its disk {volume} is in this key store",
            hint=f"`encryption.unlock.tool` keeps one since the installation, where the installation ran; "
            f"or type the recovery key: {command(Verb.CONSOLE, machine.name)}",
        )

    def tell(text: str) -> None:
        world.reporter.detail(machine, text)

    if port := machine.facts.luks.get(SSH_PORT):
        _, pinned = world.keys.first_stage_key(machine.facts.uuid)
        opened = world.first_stages.unlock(machine, int(port), pinned, key, tell)
        if opened is not None:
            return opened
        tell("no first stage answers by SSH: trying the serial console")
    return world.unlocker.unlock(machine, key, tell)


def bring_first_stage_key(world: World, machine: Machine, facts: Facts, shell: Shell, target: str = "") -> Facts:
    """The facts, after the system (below `target`) has what its first stage's SSH server needs when the boot loader is
    written. Safe to repeat: the store has the same key each time."""
    encryption = world.spec.encryption
    port = "" if encryption is None or encryption.unlock.ssh is None else str(encryption.unlock.ssh.port)
    if port:
        private, _ = world.keys.first_stage_key(facts.uuid)
        script, archive = delivery_of_key(private, world.keys.authorized_keys(world.spec), target)
        deliver(
            shell,
            script,
            archive,
            f"{machine.name}: the key of its first stage's SSH server could not be brought to it",
            "is there room in /etc?",
        )
    luks = {name: value for name, value in facts.luks.items() if name != SSH_PORT}
    return replace(facts, luks=luks | ({SSH_PORT: port} if port else {}))


def open_unsealed(world: World, machine: Machine) -> None:
    """A machine whose disk nothing unseals waits for the tool, or for a person, at each boot."""
    encryption = world.spec.encryption
    if encryption is None or encryption.unlock.sealed or not machine.facts.luks:
        return
    if encryption.unlock.ours:
        unlock(world, machine)
    elif encryption.unlock.typed:
        console = command(Verb.CONSOLE, machine.name)
        world.reporter.warn(machine, f"if it boots, its disk waits for the recovery key: {console} is where to type it")


def tell_closed(world: World, machine: Machine) -> None:
    """A machine that does not answer may stand in its first stage, before its disk is open."""
    slots = machine.facts.luks.get("slots", "")
    if not slots:
        return
    opens = Verb.UNLOCK if f"{SLOTS[Use.TOOL]} {Use.TOOL}" in slots else Verb.CONSOLE
    how = "opens it" if opens is Verb.UNLOCK else "is where to type the recovery key"
    world.reporter.warn(
        machine,
        f"its disk may not be open (key slots {slots}): what unseals it must answer in the first stage, too; "
        f"{command(opens, machine.name)} {how}",
    )


def forget_keys(world: World, facts: Facts) -> None:
    """The system has them. What stays is what the tool itself opens the root with, and what the next system opens a
    disk with that a reinstall keeps."""
    encryption = world.spec.encryption
    if encryption is None:
        return
    kept = dict.fromkeys(disks_to_keep(world.spec), Use.SYSTEM) | ({ROOT: Use.TOOL} if encryption.unlock.ours else {})
    stay = [(volume_uuid(facts, volume), use.value) for volume, use in kept.items()]
    if WAITS in facts.luks:  # for the root's new keys a boot is waited for
        stay += [(volume_uuid(facts, ROOT), next_use(use)) for use in Use]
    world.keys.forget_disk_keys(facts.uuid, stay)
