"""A volume with data goes from one real guest to another: its machine is destroyed, and the other one gets it live."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1500)]

TWO = """\
let
  holder = let text = builtins.getEnv "HOLDER"; in if text == "" then "db" else text;
  service = { port = 80; handler = "echo here"; };
  machine = name: {
    deployment.proxmox = {
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      network = [ { bridge = "vmbr0"; } ];
      install.iso = "local:iso/lab-installer.iso";
      volumes = if name == holder then [ "data" ] else [ ];
    };
    toplevel = import DEMO/system.nix { inherit name service; hosts = { }; };
  };
in
{
  resources.volumes.data = { storage = "local-lvm"; size = "64M"; protect = false; };
  db = machine "db";
  spare = machine "spare";
}
"""
# The only disk of 64 MiB: no serial is asked for, because the guest has no udev.
FIND = """\
for size in /sys/block/sd*/size; do
  if [ "$(cat "$size")" = 131072 ]; then disk=/dev/$(basename "$(dirname "$size")"); fi
done
"""
WRITE = f"{FIND}printf precious | dd of=$disk bs=512 conv=sync,fsync 2>/dev/null\n"
READ = f"{FIND}head -c 8 $disk; echo; cat /proc/sys/kernel/random/boot_id\n"


@pytest.fixture
def bed(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("volumes", TWO)
    try:
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)
        bed.run("volume", "delete", "data", "--confirm", "data", check=False)


def test_the_data_moves_from_one_guest_to_another(bed: "GuestBed") -> None:
    bed.run("deploy")
    bed.ssh("db", WRITE)
    boot = bed.ssh("spare", "cat /proc/sys/kernel/random/boot_id").strip()

    bed.run("destroy", "db", "--yes")
    assert "parked" in bed.run("volume", "list").stdout
    plan = bed.run("plan", "spare", HOLDER="spare").stdout
    assert "+ volume data: (none) → attached  [live]" in plan
    bed.run("deploy", "spare", HOLDER="spare")
    assert bed.ssh("spare", READ).split() == ["precious", boot], "the same data, and no restart"
