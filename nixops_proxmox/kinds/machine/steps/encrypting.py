"""The keys of encrypted disks: made, given to the recovery key's sink, delivered, proven, and forgotten."""

from collections.abc import Mapping
from dataclasses import replace

from nixops_proxmox.errors import NoPath, StateError
from nixops_proxmox.kinds.machine.answers import deliver, read_answer
from nixops_proxmox.kinds.machine.encryption import (
    ROOT,
    SLOTS,
    Header,
    Use,
    describe_slots,
    digest_of,
    key_delivery,
    look_script,
    luks_uuid,
    parse_header,
    refuse_other_header,
    uses_of,
)
from nixops_proxmox.kinds.machine.header import compare, find_slot_problems
from nixops_proxmox.kinds.machine.keepers import KNOWN, resolved
from nixops_proxmox.kinds.machine.opening import BOOT, OPENED, opening_script, parse_opening
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.keeping import learn_keepers
from nixops_proxmox.model import Completed, Facts, Machine, Phase, recorded_slots
from nixops_proxmox.spelling import Verb, command

KEPT = (Use.TOOL,)  # keys that stay in the operator's key store


def bring_keys(world: World, machine: Machine, attempt: Attempt, shell: Shell) -> None:
    """Before the disk is written: the recovery key is in its sink, and all keys are in the installer's memory.

    Safe to repeat: until the system is installed, the store has the same keys, and the sink gets each key once more
    at most."""
    encryption = world.spec.encryption
    if encryption is None:
        return
    learn_keepers(world, machine, attempt)
    volume = luks_uuid(attempt.facts, ROOT)
    keys = {use: world.keys.disk_key(attempt.facts.uuid, volume, use.value) for use in uses_of(encryption)}
    if Use.RECOVERY in keys:
        _escrow(world, machine, attempt, volume, keys[Use.RECOVERY])
    script, archive = key_delivery(keys)
    deliver(
        shell,
        script,
        archive,
        f"{machine.name}: the keys of its disks could not be brought to the installer",
        "nothing was written; the installer must have /run in memory, and no swap",
    )


def _escrow(world: World, machine: Machine, attempt: Attempt, volume: str, key: str) -> None:
    """A disk is never written before its recovery key is where the user wants it."""
    encryption, digest = world.spec.encryption, digest_of(key)
    if encryption is None or attempt.facts.luks.get("recovery") == digest:
        return
    world.reporter.detail(machine, "handing over the recovery key")
    place = world.escrow.hand_over(encryption.recovery.sink, machine, ROOT, volume, key)
    attempt.note(replace(attempt.facts, luks={**attempt.facts.luks, "recovery": digest, "sink": place}))


def record_header(world: World, machine: Machine, facts: Facts, shell: Shell) -> Facts:
    """What the record keeps of the encrypted disk: never a key."""
    encryption = world.spec.encryption
    if encryption is None:
        return replace(facts, luks={})
    volume = luks_uuid(facts, ROOT)
    header = parse_look(machine, volume, shell.run(look_script(volume)))
    refuse_other_header(machine.name, world.spec, facts, header)
    return replace(facts, luks=_record(facts.luks, volume, describe_slots(resolved(encryption, facts.luks))))


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


def check_header(machine: Machine, shell: Shell) -> tuple[str, ...]:
    """How the header of a running system's disk differs from the record, a sentence each."""
    luks = machine.facts.luks
    if not luks.get("slots"):
        return ()
    header = parse_look(machine, luks["uuid"], shell.run(look_script(luks["uuid"])))
    return find_slot_problems(machine.name, compare(header, luks), luks)


def slots_differ(machine: Machine) -> str:
    """A sentence for people, where the description has other ways to open the disk."""
    return (
        f"`encryption` has changed; its disk has the key slots {machine.facts.luks['slots']} "
        f"({command(Verb.RECOVERY_ROTATE, machine.name)} makes those that are described)"
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
    kept = {name: value for name, value in known.items() if name in ("recovery", "sink") or name.startswith(KNOWN)}
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
    return world.unlocker.unlock(machine, key, lambda text: world.reporter.detail(machine, text))


def open_unsealed(world: World, machine: Machine) -> None:
    """A machine whose disk nothing unseals waits for the tool, or for a person, at each boot."""
    encryption = world.spec.encryption
    if encryption is None or encryption.unlock.sealed or not machine.facts.luks:
        return
    if encryption.unlock.tool:
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
    """The system is installed: only what the tool itself opens the disk with is kept."""
    if world.spec.encryption is not None:
        world.keys.forget_disk_keys(facts.uuid, luks_uuid(facts, ROOT), [use.value for use in KEPT])
