"""A snapshot of a machine's disks before a new system is taken into use, kept until that system is confirmed.

There is at most one for each machine. Its name is recorded before it is taken, so whatever becomes of us it is found
again, and the next deploy takes it away.
"""

from collections.abc import Sequence
from dataclasses import replace
from secrets import token_hex

from nixops_proxmox.errors import NoPath, NotFound, TaskFailed
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.spelling import Verb, command

NAME, OF = "name", "of"  # in `Facts.snapshot`: what PVE calls it, and the system that ran when it was taken
PREFIX = "nixops-proxmox-"
TAKE, DELETE = "qmsnapshot", "qmdelsnapshot"  # PVE's types of tasks


def refuse_without_snapshot(world: World, machine: Machine) -> None:
    """Only looks. NoPath where a snapshot is described and cannot be taken, or would hold more than the machine."""
    if not world.spec.deploy.snapshot:
        return
    volumes = world.volumes.attached(machine)
    if volumes:
        why = f"it has volumes ({', '.join(volumes)}), which outlive it, and a snapshot would take them back as well"
        hint = f"{command(Verb.VOLUME_DETACH, volumes[0])} parks one; or set `deploy.snapshot = false`"
    elif not world.hypervisor.saves.can_snapshot(machine.facts):
        why = "PVE takes no snapshot of it, because a storage of its disks has none"
        hint = "set `deploy.snapshot = false`, or move its disks to a storage that has snapshots"
    else:
        return
    raise NoPath(f"{machine.name}: deploy.snapshot: {why}", hint=hint)


def take_snapshot(world: World, machine: Machine, attempt: Attempt, facts: Facts) -> Facts:
    """The facts of a machine that has a snapshot of its disks as they are now, if one is described."""
    facts = drop_snapshot(world, machine, attempt, facts)
    if not world.spec.deploy.snapshot:
        return facts
    refuse_without_snapshot(world, machine)
    name = PREFIX + token_hex(4)
    facts = replace(facts, snapshot={NAME: name, OF: facts.system} if facts.system else {NAME: name})
    attempt.note(facts)  # before there is one
    world.reporter.detail(machine, f"taking the snapshot {name} of its disks")
    told = "before a deploy; removed when its new system is confirmed"
    world.hypervisor.saves.take_snapshot(machine.facts, name, attempt.note_task, description=told, ram=False)
    return replace(facts, task="")


def drop_snapshot(world: World, machine: Machine, attempt: Attempt, facts: Facts) -> Facts:
    """The facts of a machine that has none of ours any more. One that an earlier run was taking or deleting comes to
    its end first."""
    name = facts.snapshot.get(NAME)
    if not name:
        return facts
    attempt.note(facts)
    for kind in (TAKE, DELETE):
        _finish(world, world.find_task(facts, kind))
    if name in world.hypervisor.saves.snapshots(facts):
        world.reporter.detail(machine, f"removing the snapshot {name}")
        world.hypervisor.saves.delete_snapshot(facts, name, attempt.note_task)
    return replace(facts, snapshot={}, task="")


def _finish(world: World, upid: str) -> None:
    """What it has left is looked at in any case."""
    if not upid:
        return
    try:
        world.wait_for_task(upid)
    except (TaskFailed, NotFound):
        return


def offer_snapshot(machine: Machine, facts: Facts) -> Sequence[str]:
    """What to tell of a system that did not stay."""
    name = facts.snapshot.get(NAME)
    if not name:
        return ()
    back = command(Verb.SNAPSHOT_ROLLBACK, name, machine.name)
    return (f"the snapshot {name} has its disks as before: {back} returns to it, and loses what was written since",)
