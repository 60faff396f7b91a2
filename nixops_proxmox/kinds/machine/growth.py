"""Disks that PVE has made larger, and whose guest does not use all of them yet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Change, Facts, GrownDisk, Machine
from nixops_proxmox.spec import Disk, MachineSpec

GIB = 1 << 30


def find_outgrown(facts: Facts, disks: Sequence[Disk]) -> tuple[Disk, ...]:
    """The disks, volumes among them, that are to be grown in the guest."""
    return tuple(disk for disk in disks if disk.grows and _size_in_use(facts, disk) < disk.size)


def with_volumes(world: World, facts: Facts) -> Facts:
    """The facts with what is known of the volumes, which may have grown while another machine, or none, had them."""
    used = {slot: size for slot, size in world.volumes.used(world.spec).items() if size < _least(facts, slot, size)}
    return replace(facts, sizes={**facts.sizes, **{slot: str(size) for slot, size in used.items()}}) if used else facts


def _least(facts: Facts, slot: str, size: int) -> int:
    """In bytes. If nothing is known, more than `size`."""
    told = facts.sizes.get(slot, "")
    return int(told) if told.isdecimal() else size + 1


def all_disks(world: World) -> tuple[Disk, ...]:
    """The machine's own, and its volumes."""
    return (*world.spec.disks, *world.volumes.disks(world.spec))


def _size_in_use(facts: Facts, disk: Disk) -> int:
    """In bytes. If nothing is known, nothing needs to grow."""
    told = facts.sizes.get(disk.slot, "")
    return int(told) if told.isdecimal() else disk.size


def with_outgrown(facts: Facts, changes: Sequence[Change]) -> Facts:
    """Note, before PVE makes disks larger, that the guest uses at most as much of them as they have now. A new disk has
    nothing on it that could grow."""
    sizes = {slot: size for slot, size in facts.sizes.items() if not any(_is_new(change, slot) for change in changes)}
    for change in changes:
        if change.outgrows:
            known = sizes.get(change.key, "")
            sizes[change.key] = str(min(change.outgrows, int(known) if known.isdecimal() else change.outgrows))
    return replace(facts, sizes=sizes)


def _is_new(change: Change, slot: str) -> bool:
    return change.key == slot and not change.have


def in_use(facts: Facts, spec: MachineSpec) -> Mapping[str, str]:
    """Note, after an installation, that the guest uses all that is described, except on kept disks, which it did not
    touch."""
    return {
        disk.slot: facts.sizes.get(disk.slot, str(disk.size)) if disk.keep else str(disk.size) for disk in spec.disks
    }


def grow_disks(world: World, machine: Machine, disks: Sequence[Disk]) -> Facts:
    """Grow those of them that are larger than what the running guest uses, one after another. If something hinders one,
    say so and leave it for later: a deploy goes on."""
    facts = machine.facts
    if not world.permissions.adjust:
        return facts
    for disk in find_outgrown(with_volumes(world, facts), disks):
        shell = world.guest.system_shell(machine, world.spec)
        world.reporter.detail(machine, f"growing what is on {disk.slot}")
        done = world.guest.grow_disk(
            shell, machine, world.spec, disk, lambda text: world.reporter.detail(machine, text)
        )
        if done.hindrance:
            world.reporter.warn(machine, f"{disk.slot} is not grown in the guest: {done.hindrance}")
            continue
        if done.strange:
            world.reporter.warn(machine, f"{disk.slot} is larger now, and the guest is left alone: {done.strange}")
        facts = replace(facts, sizes={**facts.sizes, disk.slot: str(disk.size)})
        world.volumes.note_grown(disk.slot)
    return facts


def tell_pending(world: World, machine: Machine) -> None:
    """The guest cannot be reached, so growing its disks waits for the next deploy."""
    for disk in find_outgrown(with_volumes(world, machine.facts), all_disks(world)):
        world.reporter.warn(
            machine, f"{disk.slot} is larger in PVE, and not yet in the guest: the next deploy that reaches it goes on"
        )


def describe_growth(facts: Facts, disk: Disk, found: GrownDisk | None, why_not: str = "") -> str:
    """A line of the plan. `found`: what a look into the guest showed. None: `why_not` says why there was none."""
    sizes = f"{gib(_size_in_use(facts, disk))} → {gib(disk.size)}"
    if found is None:
        return f"{disk.slot}: {sizes}, pending in the guest: {why_not}"
    if found.hindrance:
        return f"{disk.slot}: {sizes}, not in the guest: {found.hindrance}"
    if found.strange:
        return f"{disk.slot}: {sizes}; the guest is left alone: {found.strange}"
    return f"{disk.slot}: {sizes}; in the guest, {' and '.join(found.rungs)} then grow, live"


def describe_left(facts: Facts, disk: Disk) -> str:
    """A disk that grows in PVE alone."""
    why = "`keep`; `grow = true` grows it, too" if disk.grow is None else "`grow = false`"
    return f"{disk.slot}: {gib(_size_in_use(facts, disk))} → {gib(disk.size)}; the guest is left alone ({why})"


def gib(size: int) -> str:
    return f"{size / GIB:.4g} GiB"
