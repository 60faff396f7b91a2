"""What a power-on boots: the CD, a disk, or nothing (SeaBIOS and OVMF fail differently)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nixops_proxmox.lab.machines.base import DiskSlot, Hardware


class Boots(StrEnum):
    INSTALLER = "installer"
    DISK = "disk"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Choice:
    boots: Boots
    slot: DiskSlot | None = None
    reason: str = ""


def choose(hardware: Hardware, read: Callable[[DiskSlot], Mapping[str, Any]]) -> Choice:
    """Walk `boot: order=`. `read` gives a disk's `disk.json`.

    SeaBIOS jumps into the protective MBR of a partitioned disk that has no boot loader, and hangs there; OVMF goes on
    to the next entry.
    """
    slots = {slot.key: slot for slot in hardware.disks}
    for key in hardware.boot:
        slot = slots.get(key)
        if slot is None or slot.volume is None:
            continue
        if slot.cdrom:
            return Choice(Boots.INSTALLER, slot)
        disk = read(slot)
        if disk["boot"]:
            return Choice(Boots.DISK, slot)
        if disk["table"] and hardware.bios != "ovmf":
            return Choice(Boots.NOTHING, slot, f"{key} has a partition table and no boot loader: SeaBIOS hangs")
    return Choice(Boots.NOTHING, None, "no bootable device")
