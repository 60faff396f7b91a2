"""What happens to a volume: made, parked, attached, grown, deleted. Its data is never written."""

from dataclasses import replace
from typing import TypeAlias

from nixops_proxmox.core import table
from nixops_proxmox.core.engine import TASK
from nixops_proxmox.errors import NeedsPermission, NotFound, PveRefused, StateError, VmidTaken
from nixops_proxmox.kinds.volume.facts import CONTAINER, Volume, VolumeFacts
from nixops_proxmox.kinds.volume.ports import World
from nixops_proxmox.model import Spot, VmRef
from nixops_proxmox.spelling import Verb, command

Attempt: TypeAlias = table.Attempt[Volume, VolumeFacts]


def find_spot(world: World, facts: VolumeFacts) -> Spot | None:
    """Find the volume. One that lost its serial is known by PVE's name of it in the VM that had it. In the VM that
    keeps volumes, it is known by its slot: only we put something in there."""
    spot = world.store.find(world.serial, {facts.vmid, facts.parker_vmid} - {0})
    if spot is not None or not facts.vmid:
        return spot
    for holder in _known_holders(facts):
        for slot, found in world.store.drives(holder).items():
            ours = found.volume == facts.volume or (holder.uuid == facts.parker and slot == facts.slot)
            if not found.marked and ours:
                return found
    return None


def _known_holders(facts: VolumeFacts) -> list[VmRef]:
    holders = [VmRef(facts.uuid, facts.vmid, facts.node), VmRef(facts.parker, facts.parker_vmid, facts.node)]
    return [holder for holder in holders if holder.uuid and holder.vmid]


def get_spot(world: World, volume: Volume) -> Spot:
    spot = find_spot(world, volume.facts)
    if spot is None:
        raise NotFound(
            f"volume {volume.name}: no {world.word} that we may see has a disk with the serial {world.serial}",
            hint=f"is it detached, or in a {world.word} that the token may not see? nothing was changed",
        )
    return spot


def is_parked(world: World, facts: VolumeFacts, spot: Spot) -> bool:
    """Is it in a VM that keeps volumes: the one that it was to be parked in, or another of this deployment?"""
    return spot.vm.uuid in {facts.parker, *(parker.uuid for parker in world.parkers)}


class CreateVolume:
    """Create the volume"""

    def already(self, world: World, volume: Volume) -> VolumeFacts | None:
        if not volume.facts.parker:
            return None  # no run of ours has begun to make it
        spot = find_spot(world, volume.facts)
        return None if spot is None else volume.facts.at(spot)

    def do(self, world: World, volume: Volume, attempt: Attempt) -> VolumeFacts:
        """Safe to repeat: what an earlier try made has the volume's serial, and is looked for first."""
        if not volume.facts.parker:
            refuse_stranger(world, volume)
        parker = prepare_parker(world, attempt, world.node)
        slot = world.store.find_slot(parker, (), last=False)
        attempt.note(replace(attempt.facts, slot=slot, uuid=parker.uuid, vmid=parker.vmid, node=parker.node))
        world.store.allocate(parker, slot, world.spec, world.serial, attempt.note_task)
        return attempt.facts.at(get_spot(world, volume.moved(volume.phase, attempt.facts)))


def refuse_stranger(world: World, volume: Volume) -> None:
    """What has our serial before we made anything is another deployment's, or our record of it was lost."""
    spot = world.store.find(world.serial, ())
    if spot is not None:
        raise StateError(
            f"volume {volume.name}: {world.word} {spot.vm.vmid} on {spot.vm.node} has a disk with its serial"
            f" ({world.serial}, in {spot.slot}), and our record knows nothing of it; nothing was made",
            hint=f"if it is this volume, {command(Verb.VOLUME_ADOPT, volume.name)} records it; if another"
            " deployment has the same name, give one of the two another name",
        )


def prepare_parker(world: World, attempt: Attempt, node: str) -> VmRef:
    """A VM on the node that keeps volumes and has room. Which one it is, is recorded before it is made."""
    store, owner = world.store, attempt.thing.deployment
    chosen = _recorded_parker(world, attempt.facts, node) or _roomy_parker(world, node)
    parker = chosen or store.propose_parker(attempt.facts.parker or world.mint(), node)
    facts = described_facts(world, attempt.facts)
    attempt.note(replace(facts, parker=parker.uuid, parker_vmid=parker.vmid))
    try:
        return store.make_parker(parker, owner, world.spec.storage, attempt.note_task)
    except VmidTaken:
        attempt.note(replace(attempt.facts, parker_vmid=0))
        raise


def described_facts(world: World, facts: VolumeFacts) -> VolumeFacts:
    """What stays of the description, if it is described no more."""
    spec, holder = world.spec, CONTAINER if world.spec.is_container else ""
    return replace(facts, serial=world.serial, profile=spec.profile, storage=spec.storage, holder=holder)


def _recorded_parker(world: World, facts: VolumeFacts, node: str) -> VmRef | None:
    """The one that an earlier try chose, if it stands, or its VMID is still free."""
    parker = VmRef(facts.parker, facts.parker_vmid, node)
    if not facts.parker or not facts.parker_vmid:
        return None
    return parker if world.store.find_slot(parker, (), last=False) else None


def _roomy_parker(world: World, node: str) -> VmRef | None:
    return next((one for one in world.roomy if one.node == node and world.store.find_slot(one, (), last=False)), None)


class TakeDisk:
    """Make a disk of the machine the volume"""

    def already(self, world: World, volume: Volume) -> VolumeFacts | None:
        """Nothing else than this step gives a machine's disk a volume's serial before the volume is recorded."""
        spot = world.store.find(world.serial, ())
        if spot is None or world.target is None or spot.vm.uuid != world.target.uuid:
            return None
        return self._known(world, volume.facts, spot)

    def do(self, world: World, volume: Volume, attempt: Attempt) -> VolumeFacts:
        """Safe to repeat: the disk stays where it is, and is marked as it would be marked again. Its data is never
        read or written."""
        disk = world.disk
        if disk is None:
            raise StateError(f"volume {volume.name}: there is no disk to take")
        refuse_stranger(world, volume)
        attempt.note(self._known(world, attempt.facts, disk))
        world.store.mark(disk.vm, disk.slot, world.spec, world.serial, attempt.note_task)
        return attempt.facts.at(get_spot(world, volume.moved(volume.phase, attempt.facts)))

    def _known(self, world: World, facts: VolumeFacts, spot: Spot) -> VolumeFacts:
        return replace(described_facts(world, facts), machine=world.machine).at(spot)


class Attach:
    """Attach the volume"""

    def already(self, world: World, volume: Volume) -> VolumeFacts | None:
        spot = find_spot(world, volume.facts)
        there = spot is not None and spot.marked and world.target is not None and spot.vm.uuid == world.target.uuid
        return replace(volume.facts.at(spot), machine=world.machine) if there and spot is not None else None

    def do(self, world: World, volume: Volume, attempt: Attempt) -> VolumeFacts:
        """Safe to repeat: a volume that is where it should be is not moved, and a move takes it from where it is."""
        spot, target = get_spot(world, volume), world.target
        if target is None:
            raise StateError(f"volume {volume.name}: there is no VM to attach it to")
        if not is_parked(world, volume.facts, spot):
            raise NeedsPermission(
                f"volume {volume.name}: {world.word} {spot.vm.vmid} on {spot.vm.node} has it (in {spot.slot})",
                hint=f"{command(Verb.VOLUME_DETACH, volume.name)} parks it first",
            )
        if spot.vm.node != target.node:
            moved = world.store.bring(spot.vm, target.node, attempt.note_task)
            spot = replace(spot, vm=moved)
        slot = world.store.find_slot(target, world.taken, last=True)
        if not slot:
            raise PveRefused(f"volume {volume.name}: {world.word} {target.vmid} has no free slot")
        facts = replace(attempt.facts.at(spot), machine=world.machine, parker=spot.vm.uuid)
        attempt.note(replace(facts, parker_vmid=spot.vm.vmid, errand={TASK: world.move_task}))
        world.store.move(spot, target, slot, attempt.note_task)
        facts = replace(attempt.facts, uuid=target.uuid, vmid=target.vmid, node=target.node, slot=slot)
        return facts.at(get_spot(world, volume.moved(volume.phase, facts)))


class Park:
    """Park the volume"""

    def already(self, world: World, volume: Volume) -> VolumeFacts | None:
        spot = find_spot(world, volume.facts)
        return (
            volume.facts.at(spot) if spot is not None and spot.marked and is_parked(world, volume.facts, spot) else None
        )

    def do(self, world: World, volume: Volume, attempt: Attempt) -> VolumeFacts:
        """Safe to repeat: a volume that is parked is not moved, and a move takes it from where it is."""
        spot = get_spot(world, volume)
        attempt.note(attempt.facts.at(spot))
        if not is_parked(world, volume.facts, spot):
            self._move(world, volume, spot, attempt)
            spot = get_spot(world, volume.moved(volume.phase, attempt.facts))
        if not spot.marked:  # somebody had detached it
            world.store.mark(spot.vm, spot.slot, world.spec, world.serial, attempt.note_task)
            spot = get_spot(world, volume.moved(volume.phase, attempt.facts))
        return attempt.facts.at(spot)

    def _move(self, world: World, volume: Volume, spot: Spot, attempt: Attempt) -> None:
        if spot.marked and world.store.runs(spot.vm):
            raise NeedsPermission(
                f"volume {volume.name}: {world.word} {spot.vm.vmid} runs, and PVE only parks disks of a {world.word}"
                " that is stopped",
                hint=f"{command(Verb.STOP, volume.facts.machine)} first" if volume.facts.machine else "stop it first",
            )
        parker = prepare_parker(world, attempt, spot.vm.node)
        slot = world.store.find_slot(parker, (), last=False)
        attempt.note(replace(attempt.facts, slot=slot, errand={TASK: world.move_task}))
        world.store.move(spot, parker, slot, attempt.note_task)
        attempt.note(replace(attempt.facts, uuid=parker.uuid, vmid=parker.vmid, node=parker.node))


class Grow(table.Repeatable):
    """Grow the volume"""

    def do(self, world: World, volume: Volume, attempt: Attempt) -> VolumeFacts:
        """Safe to repeat: what has the size is left alone, and PVE refuses to shrink."""
        spot = get_spot(world, volume)
        if spot.size < world.spec.size:
            world.store.grow(spot, world.spec.size, attempt.note_task)
        return attempt.facts.at(get_spot(world, volume))


class Delete(table.Repeatable):
    """Delete the volume and its data"""

    def do(self, world: World, volume: Volume, attempt: Attempt) -> VolumeFacts:
        """Safe to repeat: a disk without the volume's serial is never touched. Of one that is gone, the record goes.
        What a container keeps loses its mark when its deletion begins, and only we put something in there."""
        spot = find_spot(world, attempt.facts)
        if spot is None:
            return self._deleted(world, attempt)
        if world.spec.protect:
            raise NeedsPermission(
                f"volume {volume.name}: it is protected",
                hint=f"set `resources.volumes.{volume.name}.protect = false` to allow it",
            )
        if not is_parked(world, volume.facts, spot) or not (spot.marked or world.spec.is_container):
            raise NeedsPermission(
                f"volume {volume.name}: {world.word} {spot.vm.vmid} on {spot.vm.node} has it (in {spot.slot})",
                hint=f"{command(Verb.VOLUME_DETACH, volume.name)} parks it first",
            )
        world.store.delete(spot, attempt.note_task)
        return self._deleted(world, attempt)

    def _deleted(self, world: World, attempt: Attempt) -> VolumeFacts:
        facts = attempt.facts
        if facts.parker_vmid:
            world.store.drop_parker(VmRef(facts.parker, facts.parker_vmid, facts.node), attempt.note_task)
        return VolumeFacts()
