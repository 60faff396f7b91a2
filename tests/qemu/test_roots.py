"""Root file systems that the lab's stand-in boots from, made by scripts of the user's, on real guests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1500)]

NETWORK = """\
let
  machine = name: hardware: partition: {
    deployment.proxmox = {
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "1500M"; } { storage = "local-lvm"; size = "1500M"; } ];
      network = [ { bridge = "vmbr0"; } ];
      install = {
        iso = "local:iso/lab-installer.iso";
        partition = ''
          set -e
          for disk in $DISKS; do sgdisk --zap-all "$disk"; done
          disk=$(readlink -f "$DISK_0")
          boot=''${disk}2 root=''${disk}3 more=$(readlink -f "$DISK_1")1
          sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:+128M -t 2:ef00 -A 2:set:2 -n 3:0:0 "$DISK_0"
          sgdisk -n 1:0:0 "$DISK_1"
          udevadm settle
          mkdir -p /mnt
        '' + partition;
      };
    } // hardware;
    toplevel = import DEMO/system.nix { inherit name; hosts = { }; service = { port = 80; handler = "echo"; }; };
  };
  uefi = { bios = "ovmf"; efi.storage = "local-lvm"; };
  boot = make: "${make} $boot\nmkdir /mnt/boot\nmount $boot /mnt/boot\n";
in
{
  xfs = machine "xfs" { } ("mkfs.xfs -q -f $root\nmount $root /mnt\n" + boot "mkfs.ext4 -q -F");
  lvm = machine "lvm" uefi (''
    vgcreate -q pool $root $more
    lvcreate -q -y -L 2G -n root pool
    lvcreate -q -y -L 400M -n home pool
    mkfs.ext4 -q /dev/pool/root
    mount /dev/pool/root /mnt
    mkfs.xfs -q -f /dev/pool/home
    mkdir /mnt/home
    mount /dev/pool/home /mnt/home
  '' + boot "mkfs.vfat");
  raid = machine "raid" { } (''
    mdadm --create /dev/md/whole --run --level=1 --raid-devices=2 --homehost=any $root $more
    vgcreate -q pool /dev/md/whole
    lvcreate -q -y -l 100%FREE -n root pool
    mkfs.btrfs -q -f /dev/pool/root
    mount /dev/pool/root /mnt
  '' + boot "mkfs.vfat");
}
"""
# What the installed machine says of its root file system: its type, and what lies below.
LOOK = """\
findmnt -n -o FSTYPE /
lsblk --inverse --noheadings --raw --output TYPE "$(findmnt -n -o SOURCE / | cut -d[ -f1)" | sort -u
"""
STACKS = {
    "xfs": {"xfs", "part", "disk"},
    "lvm": {"ext4", "lvm", "part", "disk"},
    "raid": {"btrfs", "lvm", "raid1", "part", "disk"},
}


@pytest.fixture(scope="module")
def bed(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("roots", NETWORK)
    try:
        bed.run("deploy")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


@pytest.mark.parametrize("name", STACKS)
def test_the_stand_in_boots_from_it_again_and_again(bed: "GuestBed", name: str) -> None:
    assert bed.machine(name)["phase"] == "ready"
    assert set(bed.ssh(name, LOOK).split()) == STACKS[name]
    bed.run("reboot", name)
    assert set(bed.ssh(name, LOOK).split()) == STACKS[name]


def test_other_volumes_of_the_group_are_mounted_too(bed: "GuestBed") -> None:
    assert bed.ssh("lvm", "findmnt -n -o FSTYPE /home").strip() == "xfs"
