"""Which volumes of a machine are encrypted, and what its record knows of each. Pure.

`Facts.luks` has what is known of the root under plain names, and what is known of a data disk under names that
begin with its slot.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nixops_proxmox.model import Facts
    from nixops_proxmox.spec import MachineSpec

ROOT = "root"  # the name of the volume that holds the root file system, once it is open
_OF_DISK = re.compile(r"((?:scsi|virtio|sata)[0-9]+) (.+)")


def data_disks(spec: "MachineSpec") -> tuple[str, ...]:
    """The slots of the data disks that are described as encrypted. The first disk has the root."""
    return () if spec.encryption is None else tuple(disk.slot for disk in spec.disks[1:] if disk.encrypt)


def volumes_of(spec: "MachineSpec") -> tuple[str, ...]:
    """By their names once they are open, as described."""
    return () if spec.encryption is None else (ROOT, *data_disks(spec))


def recorded_volumes(luks: Mapping[str, str], spec: "MachineSpec") -> tuple[str, ...]:
    """Those that the record knows the key slots of, and whose disk the machine still has."""
    names = (ROOT, *(disk.slot for disk in spec.disks))
    return tuple(name for name in names if part_of(luks, name).get("slots"))


def disks_in(luks: Mapping[str, str]) -> tuple[str, ...]:
    """The slots of the data disks that something is known of."""
    return tuple(dict.fromkeys(found[1] for name in luks if (found := _OF_DISK.fullmatch(name))))


def part_of(luks: Mapping[str, str], volume: str) -> Mapping[str, str]:
    """What is known of one volume, under plain names."""
    owned = {name: (found[1], found[2]) for name in luks if (found := _OF_DISK.fullmatch(name))}
    if volume == ROOT:
        return {name: value for name, value in luks.items() if name not in owned}
    return {owned[name][1]: value for name, value in luks.items() if name in owned and owned[name][0] == volume}


def with_part(luks: Mapping[str, str], volume: str, part: Mapping[str, str]) -> Mapping[str, str]:
    """The whole, with this in the place of what was known of the volume."""
    prefix = "" if volume == ROOT else f"{volume} "
    old = {f"{prefix}{name}" for name in part_of(luks, volume)}
    return {name: value for name, value in luks.items() if name not in old} | {
        f"{prefix}{name}": value for name, value in part.items()
    }


def told_as(volume: str, part: Mapping[str, str]) -> str:
    """The volume in a sentence about its machine, after "its"."""
    return f"disk {part.get('uuid', '')}" if volume == ROOT else f"disk {volume} {part.get('uuid', '')}"


def foresee_installation(spec: "MachineSpec", luks: Mapping[str, str]) -> Sequence[str]:
    """What a plan says of the disks of a machine that is to be installed, a sentence each."""
    if spec.encryption is None:
        return ()
    kept = [slot for slot in disks_to_keep(spec) if part_of(luks, slot).get("slots")]
    made = ["the first disk", *(slot for slot in data_disks(spec) if slot not in kept)]
    sink = spec.encryption.recovery.sink
    where = sink.folder or "the command of its sink"
    keys = "there is no recovery key" if sink.none else f"a recovery key for each goes to {where}"
    lines = [f"encryption: LUKS is made on {' and '.join(made)}; {keys}"]
    return [*lines, *(f"encryption: {slot} is kept as it is, with the keys that it has" for slot in kept)]


def disks_to_keep(spec: "MachineSpec") -> tuple[str, ...]:
    """The encrypted data disks that a reinstall must not write."""
    kept = {disk.slot for disk in spec.disks if disk.keep}
    return tuple(slot for slot in data_disks(spec) if slot in kept)


def kept_record(luks: Mapping[str, str], slots: Sequence[str]) -> Mapping[str, str]:
    """What a reinstall leaves of the record: that of the disks which it keeps."""
    kept: Mapping[str, str] = {}
    for slot in slots:
        kept = with_part(kept, slot, part_of(luks, slot))
    return kept


def find_other_disks(spec: "MachineSpec", facts: "Facts") -> str:
    """Why a system as described could not open the data disks as they are. Empty: it can."""
    slots = [disk.slot for disk in spec.disks]
    have = {slot for slot in slots if part_of(facts.luks, slot).get("slots")}
    wanted = set(data_disks(spec))
    if missing := sorted(wanted - have):
        return f"the description has `encrypt` for {', '.join(missing)}, which the installation did not encrypt"
    if more := sorted(have - wanted):
        return f"{', '.join(more)} is encrypted, and the description has no `encrypt` for it"
    return ""


def find_other_kept(spec: "MachineSpec", facts: "Facts") -> str:
    """Why a reinstall that keeps disks would end with a system that cannot open them. Empty: it would not."""
    kept = {disk.slot for disk in spec.disks if disk.keep}
    return find_other_disks(
        spec.model_copy(update={"disks": (spec.disks[:1] + tuple(d for d in spec.disks[1:] if d.slot in kept))}), facts
    )
