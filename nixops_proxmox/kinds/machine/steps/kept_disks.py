"""Encrypted disks that a reinstall keeps: the key that their next system opens them with."""

from collections.abc import Iterator
from dataclasses import replace

from nixops_proxmox.errors import DeployError, StateError
from nixops_proxmox.kinds.machine.answers import read_answer
from nixops_proxmox.kinds.machine.encrypted import disks_to_keep, find_other_kept, kept_record, part_of, told_as
from nixops_proxmox.kinds.machine.encrypted_layout import key_file
from nixops_proxmox.kinds.machine.encryption import Use
from nixops_proxmox.kinds.machine.header import parse_tried, try_script
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Facts, Machine, recorded_slots
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import script_marker


def refuse_other_kept(machine: Machine, world: World) -> None:
    """Nothing is erased for a system that could not open what is kept."""
    if why := find_other_kept(world.spec, machine.facts):
        raise StateError(
            f"{machine.name}: {why}, and a reinstall keeps it as it is",
            hint="set `encrypt` as the disk is, or `keep = false`, which has it made again and erases it",
        )


def rescue_disk_keys(world: World, machine: Machine, *, running: bool) -> None:
    """Before the system goes that has them. StateError if a disk to keep would stay closed afterwards."""
    for slot in disks_to_keep(world.spec):
        part = part_of(machine.facts.luks, slot)
        if not part.get("slots") or world.keys.find_disk_key(machine.facts.uuid, part["uuid"], Use.SYSTEM.value):
            continue
        key = _ask_system(world, machine, slot) if running else ""
        if key:
            world.keys.keep_disk_key(machine.facts.uuid, part["uuid"], Use.SYSTEM.value, key)
        elif world.escrow.find_key(part.get("sink", "")) is None:
            raise _closed(machine, slot)


def _ask_system(world: World, machine: Machine, slot: str) -> str:
    """What the running system opens the disk with. Empty: it does not tell."""
    script = f"{script_marker('luks-key', slot)}cat {key_file(slot)}"
    try:
        done = world.guest.system_shell(machine, world.spec).run(script)
    except DeployError as error:
        world.reporter.detail(machine, f"the key of {slot} cannot be read: {error.message}")
        return ""
    learn(done.stdout)
    return done.stdout if done.status == 0 else ""


def find_kept_key(world: World, machine: Machine, shell: Shell, slot: str) -> str:
    """A key that opens a disk to keep. It is tried in the installer, before anything is written there."""
    part = part_of(machine.facts.luks, slot)
    for key, use in _candidates(world, machine, slot):
        failed = f"{machine.name}: its {told_as(slot, part)} cannot be looked at"
        done = shell.run(try_script(part["uuid"]), stdin=key.encode())
        _, opened = read_answer(done, parse_tried, failed, "nothing was written; is the disk still there?")
        if opened not in recorded_slots(part):
            continue
        if use is Use.RECOVERY:
            rotate = command(Verb.RECOVERY_ROTATE, machine.name)
            world.reporter.warn(
                machine, f"{slot} is opened with its recovery key from now on, until {rotate} makes other keys"
            )
        return key
    raise _closed(machine, slot)


def _candidates(world: World, machine: Machine, slot: str) -> Iterator[tuple[str, Use]]:
    part = part_of(machine.facts.luks, slot)
    kept = world.keys.find_disk_key(machine.facts.uuid, part["uuid"], Use.SYSTEM.value)
    if kept is not None:
        yield kept, Use.SYSTEM
    recovery = world.escrow.find_key(part.get("sink", ""))
    if recovery is not None:
        yield recovery, Use.RECOVERY


def _closed(machine: Machine, slot: str) -> StateError:
    part = part_of(machine.facts.luks, slot)
    where = part.get("sink", "no sink")
    return StateError(
        f"{machine.name}: no key for its {told_as(slot, part)} is known here, and a new system could not open it",
        hint=f"nothing was erased: start the machine, whose system has the key, or bring the recovery key back to where"
        f" it was put ({where}); without `keep`, the disk is made again",
    )


def without_system(world: World, facts: Facts) -> Facts:
    """What stays of the record when the system goes."""
    return replace(facts, luks=kept_record(facts.luks, disks_to_keep(world.spec)))
