"""Disks of real guests that are made larger: partition tables, LUKS, LVM, ext4 and btrfs are real, and grow while they
are mounted. One machine boots from ext4, and has LVM on LUKS on another disk; one boots from btrfs."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1500)]

NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  machine = name: disks: partition: {
    deployment.proxmox = {
      inherit disks;
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      install = {
        iso = "local:iso/lab-installer.iso";
        partition = ''
          set -e
          part() { echo "$(readlink -f "$1")$2"; }
          sgdisk --zap-all "$DISK_0"
          sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -A 2:set:2 "$DISK_0"
        '' + partition;
      };
    };
    toplevel = import DEMO/system.nix { inherit name; hosts = { }; service = { port = 80; handler = "echo"; }; };
  };
  disk = name: size: { storage = "local-lvm"; size = from name size; };
in
{
  ext = machine "ext" [ (disk "ROOT" "1G") (disk "VAULT" "256M") ] ''
    sgdisk --zap-all "$DISK_1"
    sgdisk -n 1:0:0 "$DISK_1"
    vault=$(part "$DISK_1" 1)
    udevadm settle
    printf secret | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$vault" -
    printf secret | cryptsetup open --key-file - "$vault" vault
    pvcreate -q /dev/mapper/vault
    vgcreate -q safe /dev/mapper/vault
    lvcreate -q -y -l 100%FREE -n data safe
    mkfs.ext4 -q -F /dev/mapper/safe-data
    vgchange -q -an safe
    cryptsetup close vault
    mkfs.ext4 -q -F "$(part "$DISK_0" 2)"
    mkdir -p /mnt
    mount "$(part "$DISK_0" 2)" /mnt
  '';
  btr = machine "btr" [ (disk "ROOT" "1G") ] ''
    mkfs.btrfs -q -f "$(part "$DISK_0" 2)"
    mkdir -p /mnt
    mount "$(part "$DISK_0" 2)" /mnt
  '';
}
"""
# As the user's system does when it boots: the passphrase comes from somewhere, and what is there is mounted.
OPEN = """\
set -e
modprobe dm_crypt
vault=$(blkid -t TYPE=crypto_LUKS -o device)
printf secret | cryptsetup open {options} --key-file - "$vault" vault
vgchange -q -ay safe
mkdir -p /data
mount /dev/mapper/safe-data /data
echo kept > /data/note
sync
"""
CLOSE = "set -e; umount /data; vgchange -q -an safe; cryptsetup close vault"
SIZE = "findmnt -b -n -o SIZE -M {}"
BOOT = "cat /proc/sys/kernel/random/boot_id"
MIB = 1 << 20


@pytest.fixture(scope="module")
def bed(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("growing", NETWORK)
    try:
        bed.run("deploy")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def mib(bed: "GuestBed", machine: str, mount: str) -> int:
    """What statfs says."""
    return int(bed.ssh(machine, SIZE.format(mount))) // MIB


def grows(bed: "GuestBed", machine: str, **sizes: str) -> list[str]:
    plans = json.loads(bed.run("plan", "--json", check=True, **sizes).stdout)["machines"]
    return [line for plan in plans if plan["machine"] == machine for line in plan["disks in the guest"]]


def grow(bed: "GuestBed", machine: str, mount: str, **sizes: str) -> str:
    """What the deploy told; the machine is not restarted."""
    boot = bed.ssh(machine, BOOT)
    told = bed.run("deploy", machine, check=True, **sizes).stderr
    assert bed.ssh(machine, BOOT) == boot
    return " ".join(told.split())


@pytest.mark.parametrize(("machine", "kind"), [("ext", "ext4"), ("btr", "btrfs")])
def test_the_root_file_system_grows_while_the_machine_runs(bed: "GuestBed", machine: str, kind: str) -> None:
    assert bed.ssh(machine, "findmnt -n -o FSTYPE -M /").strip() == kind
    before = mib(bed, machine, "/")
    (line,) = grows(bed, machine, ROOT="1500M")
    assert line == f"scsi0: 1 GiB → 1.465 GiB; in the guest, partition 2 and {kind} / then grow, live"
    grow(bed, machine, "/", ROOT="1500M")
    assert mib(bed, machine, "/") > before + 400
    assert grows(bed, machine, ROOT="1500M") == []


def test_ext4_on_lvm_on_luks_grows_while_it_is_mounted(bed: "GuestBed") -> None:
    """The volume key is not in the kernel's keyring, so that LUKS grows without the passphrase."""
    bed.ssh("ext", OPEN.format(options="--disable-keyring"))
    before = mib(bed, "ext", "/data")
    (line,) = grows(bed, "ext", ROOT="1500M", VAULT="384M")
    rungs = "partition 1 and LUKS vault and PV vault and LV safe/data and ext4 /data"
    assert line == f"scsi1: 0.25 GiB → 0.375 GiB; in the guest, {rungs} then grow, live"
    grow(bed, "ext", "/data", ROOT="1500M", VAULT="384M")
    assert mib(bed, "ext", "/data") > before + 100
    assert bed.ssh("ext", "cat /data/note").strip() == "kept"
    assert grows(bed, "ext", ROOT="1500M", VAULT="384M") == []


def test_luks_that_wants_its_passphrase_grows_when_it_is_opened_again(bed: "GuestBed") -> None:
    sizes = {"ROOT": "1500M", "VAULT": "512M"}
    bed.ssh("ext", CLOSE)
    bed.ssh("ext", OPEN.format(options=""))
    before = mib(bed, "ext", "/data")
    told = grow(bed, "ext", "/data", **sizes)
    assert "scsi1 is not grown in the guest: LUKS vault did not grow" in told
    assert "takes the new size without a passphrase when it is opened the next time" in told
    assert mib(bed, "ext", "/data") == before
    (line,) = grows(bed, "ext", **sizes)
    assert line.startswith("scsi1: 0.375 GiB → 0.5 GiB")
    bed.ssh("ext", CLOSE)
    bed.ssh("ext", OPEN.format(options=""))
    grow(bed, "ext", "/data", **sizes)
    assert mib(bed, "ext", "/data") > before + 100
    assert bed.ssh("ext", "cat /data/note").strip() == "kept"
