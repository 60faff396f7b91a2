"""The layouts by name on real guests, with a BIOS and with UEFI: installed, booted twice, laid out over each other."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from nixops_proxmox.spec.layouts import LAYOUTS, LayoutName

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1800)]

NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  machine = name: layout: hardware: {
    deployment.proxmox = {
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "2G"; } ];
      network = [ { bridge = "vmbr0"; } ];
      install = { iso = "local:iso/lab-installer.iso"; inherit layout; };
    } // hardware;
    toplevel = import DEMO/system.nix { inherit name; hosts = { }; service = { port = 80; handler = "echo"; }; };
  };
  uefi = { bios = "ovmf"; efi.storage = "local-lvm"; };
in
{
  first = machine "first" (from "FIRST" "ext4") { };
  second = machine "second" (from "SECOND" "lvm") uefi;
}
"""
# What the machine says of its file systems, and of what lies below the root.
LOOK = """\
for place in / /boot /home /nix; do findmnt -n -o FSTYPE,FSROOT -M $place | sed "s|^|$place |"; done
lsblk --inverse --noheadings --raw --output TYPE "$(findmnt -n -o SOURCE / | cut -d[ -f1)" | sort -u | tr '\\n' ' '
"""
# The first machine and the second, round by round: each layout with each firmware, and over each other.
ROUNDS = [("ext4", "lvm"), ("lvm", "btrfs"), ("btrfs", "ext4"), ("lvm", "lvm")]


@pytest.fixture(scope="module")
def bed(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("layouts", NETWORK)
    try:
        bed.run("deploy")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def looks(layout: LayoutName, *, uefi: bool) -> list[str]:
    row = LAYOUTS[layout]
    found = []
    for mount in row.mounts:
        volume = next((option.removeprefix("subvol=") for option in mount.options if option.startswith("subvol=")), "")
        found.append(f"{mount.place} {mount.kind} /{volume}")
    found += ["/boot vfat /"] if uefi else ["/boot ext4 /"] if row.apart else []
    return sorted([*found, "disk lvm part" if row.lvm else "disk part"])


def seen(bed: "GuestBed", name: str) -> list[str]:
    return sorted(" ".join(line.split()) for line in bed.ssh(name, LOOK).splitlines())


@pytest.mark.parametrize(("first", "second"), ROUNDS)
def test_each_layout_is_installed_over_any_other_and_boots_again_and_again(
    bed: "GuestBed", first: str, second: str
) -> None:
    wanted = {"FIRST": first, "SECOND": second}
    if (first, second) != ROUNDS[0]:
        plans = json.loads(bed.run("plan", "--json", check=False, **wanted).stdout)["machines"]
        assert all("does not boot from them" in plan["error"] for plan in plans)
        bed.run("reinstall", "--yes", "first", "second", check=True, **wanted)
    for name, layout, uefi in (("first", first, False), ("second", second, True)):
        assert bed.machine(name)["phase"] == "ready"
        assert seen(bed, name) == looks(LayoutName(layout), uefi=uefi)
    bed.run("reboot", "first", "second", check=True, **wanted)
    assert seen(bed, "first") == looks(LayoutName(first), uefi=False)
    assert seen(bed, "second") == looks(LayoutName(second), uefi=True)
