"""Which slot of the VM each disk and NIC of a description takes."""

import re
from collections.abc import Callable, Iterator

from nixops_proxmox.spec.machine import Bus
from nixops_proxmox.spec.tree import Mistakes, Node, below, nearest, show

LAST = {Bus.SCSI: 30, Bus.VIRTIO: 15, Bus.SATA: 5}
LAST_NIC = 31
LAST_MOUNT = 255

Slotted = tuple[str, Node]
KindOf = Callable[[Node, Mistakes], tuple[str, int] | None]  # the prefix of its slots, and the last number


def disk_slots(node: Node, mistakes: Mistakes) -> list[Slotted]:
    """Disks by slot. Of a list, each gets the next free slot of its bus. In a set, the names are slots."""
    return _slots(node, mistakes, _bus_of)


def mount_slots(node: Node, mistakes: Mistakes) -> list[Slotted]:
    """The mount points of a container."""
    return _slots(node, mistakes, lambda _node, _mistakes: ("mp", LAST_MOUNT))


def nic_slots(node: Node, mistakes: Mistakes) -> list[Slotted]:
    return _slots(node, mistakes, lambda _node, _mistakes: ("net", LAST_NIC))


def _slots(node: Node, mistakes: Mistakes, kind_of: KindOf) -> list[Slotted]:
    match node.value:
        case dict() as named:
            return sorted(((name, _agreeing(name, child, mistakes)) for name, child in named.items()), key=_order)
        case tuple() as listed:
            return list(_count(listed, mistakes, kind_of))
        case _:
            mistakes.add(node.path, f"expected a list, or an attribute set by slot, got {show(node.plain())}")
            return []


def _count(listed: tuple[Node, ...], mistakes: Mistakes, kind_of: KindOf) -> Iterator[Slotted]:
    asked = [_asked(child) for child in listed]
    taken = {slot for slot in asked if slot is not None}
    seen: set[str] = set()
    for child, slot in zip(listed, asked, strict=True):
        if slot is not None:
            if slot in seen:
                mistakes.add(
                    below(child.path, "slot"), f"the slot {show(slot)} is taken by an earlier entry of the list"
                )
            seen.add(slot)
            yield slot, _agreeing(slot, child, mistakes)
            continue
        kind = kind_of(child, mistakes)
        if kind is None:
            continue
        prefix, last = kind
        free = next((f"{prefix}{n}" for n in range(last + 1) if f"{prefix}{n}" not in taken), None)
        if free is None:
            mistakes.add(child.path, f"there is no free slot on {prefix}: PVE has {prefix}0 to {prefix}{last}")
            continue
        taken.add(free)
        yield free, child


def _asked(child: Node) -> str | None:
    slot = child.value.get("slot") if isinstance(child.value, dict) else None
    return str(slot.plain()) if slot is not None else None


def _bus_of(child: Node, mistakes: Mistakes) -> tuple[str, int] | None:
    bus = child.value.get("bus") if isinstance(child.value, dict) else None
    if bus is None:
        return Bus.SCSI.value, LAST[Bus.SCSI]
    text = bus.plain()
    if isinstance(text, str) and text in set(Bus):
        return text, LAST[Bus(text)]
    words = ", ".join(Bus)
    mistakes.add(bus.path, f"expected one of {words}, got {show(text)}{nearest(str(text), list(Bus))}")
    return None


def _agreeing(slot: str, child: Node, mistakes: Mistakes) -> Node:
    """The entry. What it says itself of its slot and bus must be the same."""
    said, bus = _asked(child), child.value.get("bus") if isinstance(child.value, dict) else None
    if said is not None and said != slot:
        mistakes.add(below(child.path, "slot"), f"the attribute's name says {slot}, and this says {show(said)}")
    if bus is not None and bus.value != slot.rstrip("0123456789"):
        mistakes.add(bus.path, f"the slot is {show(slot)}, and this says {show(bus.plain())}")
    return child


def _order(entry: Slotted) -> tuple[str, int, str]:
    """scsi2 before scsi10."""
    found = re.fullmatch(r"(.*?)([0-9]{1,9})", entry[0], re.ASCII | re.DOTALL)
    return (found[1], int(found[2]), entry[0]) if found else (entry[0], -1, entry[0])
