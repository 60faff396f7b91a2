"""What a power-on boots."""

from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab.machines.base import DiskSlot, Hardware, Volume
from nixops_proxmox.lab.machines.simulated.firmware import Boots, choose

BLANK: dict[str, Any] = {"table": None, "boot": None}
PARTITIONED: dict[str, Any] = {"table": "gpt", "boot": None}
INSTALLED: dict[str, Any] = {"table": "gpt", "boot": {"root": "1", "mounts": {}}}


@pytest.mark.parametrize(
    ("order", "bios", "disk", "tray", "boots"),
    [
        ("scsi0;ide2", "seabios", BLANK, "full", Boots.INSTALLER),
        ("scsi0;ide2", "seabios", INSTALLED, "full", Boots.DISK),
        ("scsi0;ide2", "seabios", PARTITIONED, "full", Boots.NOTHING),
        ("scsi0;ide2", "ovmf", PARTITIONED, "full", Boots.INSTALLER),
        ("ide2;scsi0", "seabios", INSTALLED, "full", Boots.INSTALLER),
        ("ide2;scsi0", "seabios", INSTALLED, "empty", Boots.DISK),
        ("ide2;scsi0", "seabios", BLANK, "empty", Boots.NOTHING),
        ("net0;scsi0", "seabios", INSTALLED, "full", Boots.DISK),
        ("scsi9", "seabios", INSTALLED, "full", Boots.NOTHING),
        ("", "seabios", INSTALLED, "full", Boots.NOTHING),
    ],
)
def test_the_boot_order_is_walked_as_firmware_does(order: str, bios: str, disk: Any, tray: str, boots: Boots) -> None:
    iso = Volume("local:iso/x.iso", Path("x"), 1, "raw") if tray == "full" else None
    slots = (DiskSlot("scsi0", Volume("local-lvm:x", Path("y"), 1, "raw")), DiskSlot("ide2", iso, True))
    hardware = Hardware(
        vmid=1, node="n", name="x", uuid="", memory=1, cores=1, sockets=1, cpu="", bios=bios, machine="", agent=True,
        boot=tuple(filter(None, order.split(";"))), disks=slots, nics=(),
    )  # fmt: skip
    choice = choose(hardware, lambda _: disk)
    assert choice.boots is boots
    assert choice.reason or boots is not Boots.NOTHING
