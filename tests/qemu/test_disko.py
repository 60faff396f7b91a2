"""disko's own scripts on real guests, from its own tree: NIXOPS_PROXMOX_DISKO, and NIXOPS_PROXMOX_NIXPKGS for nixpkgs'
lib. Each layout is made and mounted; those that the lab's stand-in can boot are installed, and boot."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixes import find_nixpkgs
from tests.pace import wait_until
from tests.qemu import zfs

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(2400)]

DISKO = "NIXOPS_PROXMOX_DISKO"
NETWORK = """\
let
  machine = name: more: {
    deployment.proxmox = {
      memory = 512;
      disks = [
        { storage = "local-lvm"; size = "1500M"; serial = "one"; }
        { storage = "local-lvm"; size = "1500M"; serial = "two"; keep = name == "kept"; }
      ];
      network = [ { bridge = "vmbr0"; } ];
      install = { iso = "local:iso/lab-installer.iso"; partition = builtins.readFile (./. + "/${name}.sh"); };
    } // more;
    toplevel = import DEMO/system.nix { inherit name; hosts = { }; service = { port = 80; handler = "echo"; }; };
  };
  uefi = { bios = "ovmf"; efi.storage = "local-lvm"; };
in
{
  ext4 = machine "ext4" { };
  btrfs = machine "btrfs" uefi;
  lvm = machine "lvm" { };
  mdraid = machine "mdraid" uefi;
  several = machine "several" { };
  kept = machine "kept" { };
  tmpfs = machine "tmpfs" uefi;
  zfs = machine "zfs" uefi;
  strange = machine "strange" { };
}
"""
MOUNTS = """\
findmnt -n -o TARGET,FSTYPE,FSROOT --raw --real
lsblk -n -r -o TYPE | sort -u | tr '\\n' ' '
blkid -t TYPE=swap -o device | sed 's/.*/swap/'
"""
# What is mounted where, as what, and which part of it. Of layers, those that must be there.
LAYOUTS = {
    "ext4": (["/ ext4 /"], "part"),
    "btrfs": (["/ btrfs /@root", "/home btrfs /@home", "/nix btrfs /@nix", "/boot vfat /"], "part"),
    "lvm": (["/ ext4 /", "/home xfs /", "/boot ext4 /"], "lvm"),
    "mdraid": (["/ ext4 /", "/boot vfat /"], "raid1"),
    "several": (["/ xfs /", "/srv btrfs /", "/boot ext4 /"], "part"),
    "kept": (["/ ext4 /", "/srv ext4 /", "/boot ext4 /"], "part"),
}


@pytest.fixture(scope="module")
def bed(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    disko, nixpkgs = os.environ.get(DISKO), find_nixpkgs()
    if not disko or nixpkgs is None:
        pytest.skip(f"there is no disko: set {DISKO} to its tree, and NIXOPS_PROXMOX_NIXPKGS to one with lib/")
    bed = guest_bed.named("disko", NETWORK)
    for name, text in scripts(disko, nixpkgs).items():
        (bed.network.parent / f"{name}.sh").write_text(text)
    try:
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def scripts(disko: str, nixpkgs: Path) -> dict[str, str]:
    """What our module makes of disko's devices, by layout."""
    argv = ["nix-instantiate", "--eval", "--strict", "--json", str(Path(__file__).with_name("disko.nix"))]
    argv += ["--arg", "disko", disko, "-I", f"nixpkgs-lib={nixpkgs}/lib"]
    found: dict[str, str] = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return found | {"zfs": zfs.FETCH + found["zfs"]}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_machine_boots_from_what_disko_made(bed: "GuestBed", name: str) -> None:
    mounts, layer = LAYOUTS[name]
    bed.run("deploy", name)
    assert bed.machine(name)["phase"] == "ready"
    told = bed.ssh(name, MOUNTS)
    assert set(mounts) <= set(told.splitlines()), told
    assert layer in told.split(), told
    assert ("swap" in told.split()) == (name == "several")


def test_a_root_in_memory_is_mounted_with_the_store_on_disk(bed: "GuestBed") -> None:
    """The stand-in itself cannot boot from it."""
    bed.run("deploy", "tmpfs", "--until", "partitioned")
    told = told_by_installer(bed, "tmpfs", MOUNTS)
    assert {"/mnt/nix ext4 /", "/mnt/boot vfat /"} <= set(told.splitlines()), told
    assert bed.machine("tmpfs")["phase"] == "partitioned"


@pytest.mark.skipif(bool(zfs.find_obstacle()), reason=zfs.find_obstacle())
@pytest.mark.timeout(4000)  # the module may have to be built
def test_zfs_is_mounted_after_a_kill_too_and_another_installer_makes_another_pool(bed: "GuestBed") -> None:
    """The stand-in itself cannot boot from it."""
    from tests.qemu.bed import kill

    look = f"{MOUNTS}\necho; zpool list -H -o name,health,guid 2>&1; ls /mnt; touch /mnt/old"
    with zfs.served_zfs(bed):
        bed.run("deploy", "zfs", "--until", "defined")
        process = bed.start("deploy", "zfs", "-v")
        bed.wait_until_begun("partitioned", process)
        wait_until(lambda: "tank" in told_by_installer(bed, "zfs", "zpool list 2>/dev/null"), 120, "the pool", 1.0)
        kill(process)
        bed.run("deploy", "zfs", "--until", "partitioned")
        told = told_by_installer(bed, "zfs", look).splitlines()
        assert {"/mnt zfs /", "/mnt/nix zfs /", "/mnt/boot vfat /"} <= set(told), told
        first = pool_among(told)
        vmid = bed.facts("zfs")["vmid"]
        bed.api("POST", f"/nodes/{bed.node(vmid)}/qemu/{vmid}/status/stop")
        bed.wait_until_off(vmid)
        said = bed.run("deploy", "zfs", "--until", "partitioned", "-vv").stderr
        told = told_by_installer(bed, "zfs", look).splitlines()
    assert pool_among(told) != first and "old" not in told, said


def pool_among(told: list[str]) -> str:
    found = [line.split()[2] for line in told if line.startswith("tank\tONLINE\t")]
    assert found, told
    return found[0]


def told_by_installer(bed: "GuestBed", name: str, script: str) -> str:
    vmid = bed.facts(name)["vmid"]
    asked = bed.api("POST", f"/nodes/{bed.node(vmid)}/qemu/{vmid}/agent/exec", command=["sh", "-c", script])
    return wait_for_output(bed, vmid, asked["pid"])


def wait_for_output(bed: "GuestBed", vmid: int, pid: int) -> str:
    """The agent tells the end of a command once, and then knows it no more."""
    status = f"/nodes/{bed.node(vmid)}/qemu/{vmid}/agent/exec-status"
    told: dict[str, Any] = {}

    def ended() -> bool:
        told.update(bed.api("GET", status, pid=pid))
        return bool(told["exited"])

    wait_until(ended, 60, "the output of a command", 0.2)
    return str(told.get("out-data", ""))


def test_a_disk_that_is_not_the_machines_is_refused_before_disko_writes(bed: "GuestBed") -> None:
    """Somebody attached a disk with the very name that disko is to write; it is not in the description."""
    from tests.qemu.test_machines import is_blank

    bed.run("deploy", "strange", "--until", "defined")
    vmid = bed.facts("strange")["vmid"]
    bed.set_config(vmid, scsi5="local-lvm:1,serial=three")
    refused = bed.run("deploy", "strange", check=False)
    assert refused.returncode != 0
    assert "HARDDISK_three (/dev/sd" in refused.stderr and "is not one of the machine's disks" in refused.stderr
    assert bed.machine("strange")["phase"] == "reachable"
    bed.api("POST", f"/nodes/{bed.node(vmid)}/qemu/{vmid}/status/stop")
    bed.wait_until_off(vmid)
    assert all(is_blank(bed.disk_file(vmid, slot)) for slot in ("scsi0", "scsi1", "scsi5"))


def test_a_reinstall_finds_nothing_of_before_and_leaves_a_kept_disk_as_it_is(bed: "GuestBed") -> None:
    again = ("lvm", "mdraid", "kept")
    for name in again:
        bed.run("deploy", name)
        bed.ssh(name, "touch /old; [ ! -d /home ] || touch /home/old; [ ! -d /srv ] || echo precious > /srv/data; sync")
    bed.run("reinstall", "--yes", *again)
    for name in again:
        assert bed.machine(name)["phase"] == "ready"
        assert set(LAYOUTS[name][0]) <= set(bed.ssh(name, MOUNTS).splitlines())
        assert bed.ssh(name, "ls /old /home/old 2>/dev/null || true") == ""
    assert bed.ssh("kept", "cat /srv/data").strip() == "precious"
