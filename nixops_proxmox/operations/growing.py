"""What a plan says of disks that are larger than what their guest uses."""

from collections.abc import Iterator, Sequence

from nixops_proxmox.errors import DeployError
from nixops_proxmox.kinds.machine.growth import (
    all_disks,
    describe_growth,
    describe_left,
    find_outgrown,
    with_outgrown,
    with_volumes,
)
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Change, Machine, Phase, Power
from nixops_proxmox.spec import Disk

UNREACHED = (Phase.INSTALLED, Phase.DRIFTED, Phase.RUNNING, Phase.READY)  # those whose system may run


def find_growth(machine: Machine, world: World, changes: Sequence[Change], power: str) -> tuple[str, ...]:
    """A line for each disk that grows in the guest, or does not, and why. Asks the guest only if there is one."""
    facts = with_volumes(world, with_outgrown(machine.facts, changes))
    disks = find_outgrown(facts, all_disks(world))
    lines = [describe_left(facts, disk) for disk in world.spec.disks if not disk.grows and _outgrows(disk, changes)]
    seen = machine.moved(machine.phase, facts)
    return (*(_look(seen, world, disks, power) if disks else ()), *lines)


def _outgrows(disk: Disk, changes: Sequence[Change]) -> bool:
    return any(change.outgrows for change in changes if change.key == disk.slot)


def _look(machine: Machine, world: World, disks: Sequence[Disk], power: str) -> Iterator[str]:
    if power != Power.RUNNING or machine.phase not in UNREACHED:
        yield from (describe_growth(machine.facts, disk, None, "it does not run") for disk in disks)
        return
    try:
        shell = world.guest.system_shell(machine, world.spec)
        found = [world.guest.foresee_growth(shell, machine, world.spec, disk) for disk in disks]
    except DeployError as error:
        yield from (describe_growth(machine.facts, disk, None, error.message) for disk in disks)
        return
    yield from (describe_growth(machine.facts, disk, one) for disk, one in zip(disks, found, strict=True))
