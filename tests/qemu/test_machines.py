"""Machines on real guests, from nothing through their whole life; what one deployment can show is checked on one."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.timeout(900)]

# gate: BIOS, installed by its closure; two disks, the second of which a reinstall must keep; its partition script wants
# a reboot first; on the operator's bridge and on the isolated one. six: UEFI on
# a q35, whose CD and second disk are AHCI's, installed by a configuration, IPv6 only; its other disks grow.
PAIR = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  machine = name: hardware: {
    deployment.proxmox = { memory = 512; } // hardware;
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = { port = 80; handler = "echo ${name} version ${from "VERSION" "1"}"; };
    };
  };
  iso = "local:iso/lab-installer.iso";
in
{
  gate = machine "gate" {
    disks = [
      { storage = "local-lvm"; size = "1G"; }
      { storage = "local-lvm"; size = "256M"; keep = true; }
    ];
    network = [ { bridge = "vmbr0"; } { bridge = "vmbr1"; } ];
    ssh.authorizedKeys = [ (builtins.readFile ./user.pub) ];
    install = {
      inherit iso;
      partition = ''
        set -e
        [ "$PASS" = 2 ] || [ -n "$REINSTALL" ] || exit 100
        echo "$PASS" > /run/pass
        wipefs -a "$DISK_0"
        sgdisk --zap-all "$DISK_0"
        sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -A 2:set:2 "$DISK_0"
        root=$(readlink -f "$DISK_0")2
        mkfs.ext4 -q -F "$root"
        mkdir -p /mnt
        mount "$root" /mnt
        if [ -z "$REINSTALL" ]; then
          mkfs.ext4 -q -F -L kept "$DISK_1"
        fi
        mkdir -p /mnt/var/log
        cp /run/pass /mnt/var/log/pass
      '';
    };
  };
  six = machine "six" {
    bios = "ovmf";
    machine = "q35";
    efi.storage = "local-lvm";
    disks = map (disk: disk // { storage = "local-lvm"; }) [
      { size = from "ROOT" "1G"; }
      { slot = "sata0"; size = "64M"; }
      { slot = "scsi1"; size = from "VAULT" "128M"; }
      { slot = "scsi2"; size = from "BTRFS" "288M"; }
      { slot = "scsi3"; size = from "PARTED" "64M"; }
    ];
    network = [ { bridge = "vmbr3"; ipv4.method = "none"; } ];
    install = { inherit iso; method = "configuration"; };
  };
}
"""
INNER = """\
{
  inner = {
    deployment.proxmox = {
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      network = [ { bridge = "vmbr1"; } ];
      install.iso = "local:iso/lab-installer.iso";
      endpoint.jump = "root@[GATE]";
    };
    toplevel = import DEMO/system.nix {
      name = "inner";
      hosts = { };
      service = { port = 80; handler = "echo inner"; };
    };
  };
}
"""


# What is on the disks that grow (a btrfs of less than 256 MiB cannot). The volume key of LUKS is not in the kernel's
# keyring, so that it needs no passphrase.
FILL = """\
set -e
disk() {{ readlink -f "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_$1"; }}
vault=$(disk {scsi1}) tree=$(disk {scsi2}) parted=$(disk {scsi3})
sgdisk -n 1:0:0 "$vault" && sgdisk -n 1:0:0 "$tree" && sgdisk -n 1:0:+32M -n 2:0:0 "$parted"
udevadm settle
mkfs.ext4 -q "${{parted}}1"
modprobe dm_crypt
printf secret | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "${{vault}}1" -
printf secret | cryptsetup open --disable-keyring --key-file - "${{vault}}1" vault
pvcreate -q /dev/mapper/vault
vgcreate -q safe /dev/mapper/vault
lvcreate -q -y -l 100%FREE -n data safe
mkfs.ext4 -q /dev/mapper/safe-data
mkfs.btrfs -q -M "${{tree}}1"
mkdir -p /data /tree
mount /dev/mapper/safe-data /data
mount "${{tree}}1" /tree
echo kept | tee /data/note > /tree/note
sync
"""
BOOT = "cat /proc/sys/kernel/random/boot_id"
LARGER = {"VERSION": "3", "ROOT": "1100M", "VAULT": "192M", "BTRFS": "352M", "PARTED": "96M"}
BEHIND = "partition 2 (unknown content) lies behind partition 1 (ext4), which therefore cannot grow"


@dataclass
class Pair:
    """Both machines, as they were found after the first deploy."""

    bed: "GuestBed"
    first: dict[str, Any] = field(default_factory=dict)  # the facts, by machine

    def ask(self, machine: str) -> str:
        """What the machine's service says."""
        return self.bed.ssh(machine, "fetch-http http://[::1]/ 20").strip()


@pytest.fixture(scope="module")
def pair(guest_bed: "GuestBed") -> Iterator[Pair]:
    bed = guest_bed.named("pair", PAIR)
    shutil.copy(bed.home / ".ssh" / "id_ed25519.pub", bed.network.parent / "user.pub")
    try:
        bed.run("deploy")
        yield Pair(bed, {name: bed.facts(name) for name in ("gate", "six")})
    finally:
        bed.run("destroy", "--yes", check=False)


def test_machines_are_installed_by_closure_with_bios_and_by_configuration_with_uefi(pair: Pair) -> None:
    assert {machine["machine"]: machine["phase"] for machine in pair.bed.status()} == {"gate": "ready", "six": "ready"}
    assert pair.bed.ssh("gate", "ls -d /sys/firmware/efi || hostname").split() == ["gate"]
    assert pair.bed.ssh("six", "ls -d /sys/firmware/efi; hostname").split() == ["/sys/firmware/efi", "six"]
    assert "/ata" in pair.bed.ssh("six", "readlink -f /sys/class/block/sr0")
    assert "ata-QEMU_HARDDISK_" in pair.bed.ssh("six", "ls /dev/disk/by-id")
    assert (pair.ask("gate"), pair.ask("six")) == ("gate version 1", "six version 1")
    assert pair.bed.ssh("six", "ls /etc/nixos").split() == ["configuration.nix", "hardware-configuration.nix"]


def test_a_partition_script_that_ends_with_100_gets_a_second_pass_after_a_reboot(pair: Pair) -> None:
    assert pair.bed.ssh("gate", "cat /var/log/pass").strip() == "2"
    boots = [e for e in pair.bed.history() if e["machine"] == "gate" and e["to"] == "installer"]
    assert [entry["outcome"] for entry in boots] == ["done", "done"]


def test_a_machine_of_an_ipv6_only_network_is_reached(pair: Pair) -> None:
    endpoint = pair.first["six"]["endpoint"]["host"]
    assert endpoint.startswith(("fd77:77:3:", "3ffe:77:3:")), endpoint  # whichever answered first
    assert pair.bed.ssh("six", "ip -4 -o address show scope global") == ""


def test_a_changed_system_is_only_activated_and_the_old_one_comes_back(pair: Pair) -> None:
    boot = pair.bed.ssh("six", BOOT)
    generation = pair.bed.facts("six")["generation"]
    pair.bed.run("deploy", "six", VERSION="2")
    assert pair.ask("six") == "six version 2"
    assert pair.bed.facts("six")["generation"] == generation + 1
    pair.bed.run("deploy", "six")
    assert pair.ask("six") == "six version 1"
    assert pair.bed.ssh("six", BOOT) == boot


def test_a_stopped_machine_starts_and_a_rebooted_one_comes_back_with_its_generation(pair: Pair) -> None:
    """Its disk boots again and again, with whatever was activated last."""
    pair.bed.run("deploy", "six", VERSION="3")
    boots = {pair.bed.ssh("six", BOOT)}
    pair.bed.run("stop", "six")
    assert pair.bed.machine("six")["phase"] == "stopped"
    assert pair.bed.vms()[str(pair.first["six"]["vmid"])]["status"] == "stopped"
    pair.bed.run("start", "six")
    boots.add(pair.bed.ssh("six", BOOT))
    pair.bed.run("reboot", "six")
    boots.add(pair.bed.ssh("six", BOOT))
    assert len(boots) == 3
    assert pair.ask("six") == "six version 3"


@pytest.mark.weekly
def test_file_systems_grow_while_they_are_mounted_after_a_kill_between_two_layers_too(pair: Pair) -> None:
    """ext4 on a partition, ext4 on LVM on LUKS, and btrfs; and one that cannot grow."""
    from tests.qemu.bed import kill

    bed = pair.bed
    bed.ssh("six", FILL.format(**{slot: serial_of(bed, "six", slot) for slot in ("scsi1", "scsi2", "scsi3")}))
    boot, before = bed.ssh("six", BOOT), mounted(bed)

    plan = next(
        one
        for one in json.loads(bed.run("plan", "--json", check=True, **LARGER).stdout)["machines"]
        if one["machine"] == "six"
    )
    told = {line.partition(":")[0]: line for line in plan["disks in the guest"]}
    assert told["scsi0"].endswith("ext4 / then grow, live")
    assert told["scsi1"].endswith(
        "partition 1 and LUKS vault and PV vault and LV safe/data and ext4 /data then grow, live"
    )
    assert told["scsi2"].endswith("partition 1 and btrfs /tree then grow, live")
    assert BEHIND in told["scsi3"]

    process = bed.start("deploy", "six", "-v", **LARGER)
    bed.wait_until_said("scsi1: partition 1 is grown", process)
    kill(process)
    assert mounted(bed)["/data"] == before["/data"], "the kill came too late"
    assert f"scsi3 is not grown in the guest: {BEHIND}" in " ".join(
        bed.run("deploy", "six", check=True, **LARGER).stderr.split()
    )
    after = mounted(bed)
    assert {mount: after[mount] - size > 40 << 20 for mount, size in before.items()} == dict.fromkeys(before, True)
    assert bed.ssh("six", "cat /data/note /tree/note").split() == ["kept", "kept"]
    assert bed.ssh("six", BOOT) == boot


def mounted(bed: "GuestBed") -> dict[str, int]:
    """What statfs says of each, in bytes."""
    lines = bed.ssh("six", "for at in / /data /tree; do findmnt -b -n -o SIZE -M $at; done").split()
    return dict(zip(("/", "/data", "/tree"), map(int, lines), strict=True))


@pytest.mark.weekly
def test_a_reinstalled_machine_keeps_its_identity_and_the_kept_disk_its_bytes(pair: Pair) -> None:
    leave_alone(pair)
    pair.bed.ssh("gate", "mount LABEL=kept /mnt && echo precious > /mnt/data && umount /mnt && sync; touch /old")
    before = read_disk(pair.bed, "scsi1")
    pair.bed.run("reinstall", "gate", "--yes")
    after = pair.bed.facts("gate")
    same = ("vmid", "uuid", "macs", "host_key")
    assert {key: after[key] for key in same} == {key: pair.first["gate"][key] for key in same}
    assert pair.bed.machine("gate")["phase"] == "ready"
    assert pair.bed.ssh("gate", "ls /old 2>/dev/null; cat /var/log/pass").split() == ["1"]
    assert read_disk(pair.bed, "scsi1") == before
    assert pair.bed.ssh("gate", "mount -o ro LABEL=kept /mnt && cat /mnt/data && umount /mnt") == "precious\n"
    assert pair.ask("gate") == "gate version 1"


def read_disk(bed: "GuestBed", slot: str) -> str:
    """The digest of all that the gate sees of one of its disks."""
    device = f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{serial_of(bed, 'gate', slot)}"
    return bed.ssh("gate", f"sha256sum < {device}").split()[0]


def serial_of(bed: "GuestBed", machine: str, slot: str) -> str:
    settings = bed.config(bed.facts(machine)["vmid"])[slot].split(",")[1:]
    return str(dict(part.split("=", 1) for part in settings)["serial"])


@pytest.fixture(scope="module")
def inner(pair: Pair) -> Iterator["GuestBed"]:
    """A machine on a bridge where the operator has no address, behind the gate; its VM is there, and is off."""
    leave_alone(pair)
    gate = pair.first["gate"]
    address = gate["endpoint"]["host"]
    (pair.bed.home / ".ssh" / "known_hosts").write_text(f"{address} {gate['host_key']}\n")  # once checked by the user
    bed = pair.bed.named("inner", INNER.replace("GATE", address))
    try:
        bed.run("deploy", "--until", "defined")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def leave_alone(pair: Pair) -> None:
    """The gate is the only guest from now on, so that there are never more than two at a time."""
    if "six" in {machine["machine"] for machine in pair.bed.status()}:
        pair.bed.run("destroy", "six", "--yes")


def test_a_disk_of_another_size_than_declared_is_refused(inner: "GuestBed") -> None:
    vmid = inner.facts("inner")["vmid"]
    disk = inner.disk_file(vmid, "scsi0")
    run("qemu-img", "resize", "-q", disk, "3G")
    refused = inner.run("deploy", check=False)
    assert refused.returncode != 0
    assert f"{3 << 30} bytes, not the declared {1 << 30}; nothing was written" in refused.stderr
    assert inner.machine("inner")["phase"] == "reachable"
    inner.api("POST", f"/nodes/{inner.node(vmid)}/qemu/{vmid}/status/stop")
    inner.wait_until_off(vmid)
    run("qemu-img", "resize", "-q", "--shrink", disk, "1G")
    assert is_blank(disk), "something was written"


def test_a_disk_with_data_is_refused_until_it_is_wiped_and_then_installed_behind_the_jump_host(
    inner: "GuestBed", tmp_path: Path
) -> None:
    vmid = inner.facts("inner")["vmid"]
    disk = inner.disk_file(vmid, "scsi0")
    precious = tmp_path / "precious.raw"
    run("truncate", "-s", "1G", precious)
    run("mkfs.ext4", "-q", precious)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", precious, disk)

    refused = inner.run("deploy", check=False)
    assert refused.returncode != 0
    assert "is not blank: it holds ext4" in refused.stderr and "nothing was written" in refused.stderr
    run("qemu-img", "compare", "-q", "-U", "-f", "qcow2", "-F", "raw", disk, precious)

    agent = f"/nodes/{inner.node(vmid)}/qemu/{vmid}/agent"
    inner.api("POST", f"{agent}/exec", command=["wipefs", "-a", "/dev/sda"])
    inner.run("deploy")
    assert inner.machine("inner")["phase"] == "ready"
    assert inner.facts("inner")["endpoint"]["jump"], "it was reached directly, which cannot be"
    assert inner.ssh("inner", "hostname; fetch-http http://[::1]/ 20").split() == ["inner", "inner"]


def run(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True)


def is_blank(disk: Path) -> bool:
    extents = json.loads(subprocess.check_output(["qemu-img", "map", "--output=json", "-f", "qcow2", str(disk)]))
    return all(extent["zero"] for extent in extents)
