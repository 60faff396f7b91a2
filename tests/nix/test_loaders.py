"""What boots a machine: every choice of a loader × every way to lay out the disks × both firmwares, beside NixOS's own
modules where NIXOPS_PROXMOX_NIXPKGS has them, and beside the stand-in for them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.nix.conftest import ROOT, Evaluate, Nixos

pytestmark = pytest.mark.nix

LAYOUTS = ["disko", "hybrid", "layout", "own", "script"]
DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_root"

# Choice → the loader, and what GRUB is installed on; a text is the option that is named when it is refused.
GRUB, SYSTEMD = "grub", "systemd-boot"
BIOS: dict[str, tuple[str, list[str]] | str] = {
    "nothing": (GRUB, [DISK]),
    "grubDevice": (GRUB, ["/dev/sdx"]),
    "grubDevices": (GRUB, ["/dev/sdx", "/dev/sdy"]),
    "grubMirrored": (GRUB, ["/dev/sdx"]),
    "grubEnable": (GRUB, [DISK]),
    "grubEfi": "boot.loader.grub.device",
    "grubRemovable": "boot.loader.grub.device",
    "systemdBoot": "deployment.proxmox.bios",
    "external": ("external", []),
    "extlinux": ("generic-extlinux-compatible", []),
}
OVMF: dict[str, tuple[str, list[str]] | str] = BIOS | {
    "nothing": (SYSTEMD, []),
    "grubEnable": (GRUB, ["nodev"]),
    "grubEfi": (GRUB, ["nodev"]),
    "grubRemovable": (GRUB, ["nodev"]),
    "systemdBoot": (SYSTEMD, []),
}


Table = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def table(evaluate: Evaluate, nixos: Nixos) -> Table:
    """All choices for a firmware and a layout, which are evaluated in one process: more take too much memory."""

    @cache
    def read(firmware: str, layout: str) -> Any:
        asked = f'{{ firmware = "{firmware}"; layout = "{layout}"; }}'
        cases = f"import {ROOT}/tests/nix/loaders.nix {nixos.arguments('diskoTree')}"
        return evaluate(f"({cases}) {asked}", search=nixos.search)

    return read


def _by_disko(firmware: str, layout: str, choice: str, wanted: tuple[str, list[str]] | str) -> Any:
    """disko puts GRUB on a disk that has a partition for it: a choice like any other, and never the only one."""
    if not (layout == "hybrid" or (layout == "disko" and firmware == "bios")):
        return wanted
    if choice in ("systemdBoot", "external", "extlinux"):
        return wanted
    mine = [] if isinstance(wanted, str) or wanted[0] != GRUB or choice in ("nothing", "grubEnable") else wanted[1]
    mine = ["nodev"] if choice in ("grubEfi", "grubRemovable") else mine
    return GRUB, sorted({DISK, *mine})


@pytest.mark.parametrize("choice", list(BIOS))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("firmware", ["bios", "ovmf"])
def test_there_is_one_loader_and_it_is_the_one_that_was_chosen(
    table: Table, firmware: str, layout: str, choice: str
) -> None:
    told = table(firmware, layout)[choice]
    wanted = _by_disko(firmware, layout, choice, (BIOS if firmware == "bios" else OVMF)[choice])
    if isinstance(wanted, str):
        (message,) = told["failed"]
        assert wanted in message
        return
    assert told["failed"] == []
    assert told["evaluates"]
    assert (told["loaders"], sorted(told["grub"])) == ([wanted[0]], wanted[1])
    if firmware == "ovmf" and wanted[0] == GRUB:
        assert told["efi"]["efiSupport"]
        assert told["efi"]["efiInstallAsRemovable"] != told["efi"]["canTouchEfiVariables"], "the firmware must find it"
