"""The life of one volume, all of it."""

from dataclasses import dataclass

from nixops_proxmox.core.table import Lifecycle, Move, Sighting
from nixops_proxmox.errors import VmidTaken
from nixops_proxmox.kinds.volume.facts import Volume, VolumeFacts
from nixops_proxmox.kinds.volume.facts import VolumePhase as P
from nixops_proxmox.kinds.volume.ports import World
from nixops_proxmox.kinds.volume.steps import Attach, CreateVolume, Delete, Grow, Park, TakeDisk, find_spot, is_parked
from nixops_proxmox.model import Spot
from nixops_proxmox.spelling import Verb, command

NOT_YET = (P.ABSENT, P.BEGUN)
THERE = (P.PARKED, P.PARKED_SMALL, P.ATTACHED, P.SMALL, P.ELSEWHERE)
OUT = (P.ATTACHED, P.SMALL, P.ELSEWHERE)  # in the VM of a machine

DISK = "disk"  # the way of a machine's disk that becomes a volume

TAKEN = ((VmidTaken, P.BEGUN),)  # another VM got the VMID first


@dataclass(frozen=True)
class VolumeLook:
    """One look at the cluster: where the volume is, or None if no VM has it."""

    world: World
    volume: Volume
    spot: Spot | None


def see(world: World, volume: Volume) -> VolumeLook:
    """Look for the volume, if a run of ours began to make it."""
    begun = volume.phase is not P.ABSENT or bool(volume.facts.parker)
    return VolumeLook(world, volume, find_spot(world, volume.facts) if begun else None)


def gone(seen: VolumeLook) -> bool:
    return seen.spot is None


def begun(seen: VolumeLook) -> bool:
    return seen.spot is None and bool(seen.volume.facts.parker)


def in_its_parker(seen: VolumeLook) -> bool:
    return seen.spot is not None and is_parked(seen.world, seen.volume.facts, seen.spot)


def in_another_machine(seen: VolumeLook) -> bool:
    """Without a machine that is to have it, each one that has it is the right one."""
    target = seen.world.target
    if seen.spot is None or target is None or is_parked(seen.world, seen.volume.facts, seen.spot):
        return False
    return seen.spot.vm.uuid != target.uuid


def in_its_machine(seen: VolumeLook) -> bool:
    return seen.spot is not None and not in_its_parker(seen) and not in_another_machine(seen)


def too_small(seen: VolumeLook) -> bool:
    return seen.spot is not None and seen.spot.size < seen.world.spec.size


def large_in_its_parker(seen: VolumeLook) -> bool:
    return in_its_parker(seen) and not too_small(seen)


def large_in_its_machine(seen: VolumeLook) -> bool:
    return in_its_machine(seen) and not too_small(seen)


def small_in_its_parker(seen: VolumeLook) -> bool:
    return in_its_parker(seen) and too_small(seen)


def small_in_its_machine(seen: VolumeLook) -> bool:
    return in_its_machine(seen) and too_small(seen)


def hint_at(volume: Volume) -> str:
    """What to do where no move leads on."""
    if volume.phase is P.LOST:
        forget = command(Verb.VOLUME_DELETE, volume.name)
        return f"is its VM hidden from us? if the volume is gone for good, {forget} removes the record"
    return f"{command(Verb.DEPLOY)} makes it"


LIFECYCLE: Lifecycle[P, World, Volume, VolumeFacts, VolumeLook] = Lifecycle(
    moves=(
        #    asked for   standing in      step             leads to
        *(Move(P.PARKED, here,            CreateVolume(),  P.PARKED, turns=TAKEN) for here in NOT_YET),
        *(Move(P.PARKED, here,            Park(),          P.PARKED) for here in OUT),
        Move(P.PARKED,   P.PARKED_SMALL,  Grow(),          P.PARKED),
        Move(P.ATTACHED, P.ABSENT,        TakeDisk(),      P.ATTACHED, ways=(DISK,)),
        *(Move(P.ATTACHED, here,          CreateVolume(),  P.PARKED, turns=TAKEN) for here in NOT_YET),
        Move(P.ATTACHED, P.PARKED,        Attach(),        P.ATTACHED),
        Move(P.ATTACHED, P.ELSEWHERE,     Park(),          P.PARKED),
        Move(P.ATTACHED, P.PARKED_SMALL,  Grow(),          P.PARKED),
        Move(P.ATTACHED, P.SMALL,         Grow(),          P.ATTACHED),
        *(Move(P.ABSENT, here,            Delete(),        P.ABSENT) for here in (P.BEGUN, *THERE, P.LOST)),
    ),
    sightings=(
        #    our record says    but we see      so it is
        Sighting(P.ABSENT, begun,               P.BEGUN),
        *(Sighting(here, gone,                  P.LOST) for here in THERE),
        *(Sighting(here, in_another_machine,    P.ELSEWHERE) for here in P if here is not P.ELSEWHERE),
        *(Sighting(here, small_in_its_parker,   P.PARKED_SMALL) for here in P if here is not P.PARKED_SMALL),
        *(Sighting(here, small_in_its_machine,  P.SMALL) for here in P if here is not P.SMALL),
        *(Sighting(here, large_in_its_parker,   P.PARKED) for here in P if here is not P.PARKED),
        *(Sighting(here, large_in_its_machine,  P.ATTACHED) for here in P if here is not P.ATTACHED),
    ),
    see=see,
    hint=hint_at,
)  # fmt: skip
