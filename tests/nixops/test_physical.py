"""The module that NixOps adds to a machine's configuration."""

import json
import re

import pytest

from nixops_proxmox.model import Facts, GuestDisk
from nixops_proxmox.nixops2.physical import parse_hardware, physical_module
from nixops_proxmox.spec import parse_machine
from nixops_proxmox.texts import nix_string

SPEC = parse_machine("web", {"proxmox": {"disks": [{"storage": "local", "size": 8}], "network": [{"bridge": "vmbr0"}]}})
DISK = GuestDisk("/dev/sda", 8 << 30, "s", ("/dev/disk/by-id/scsi-s",))
ROOT = {"target": "/", "source": "/dev/sda2", "fstype": "ext4", "options": "rw,relatime", "uuid": "u-1"}


def told(*mounts: dict[str, object], efi: bool = False) -> dict[str, object]:
    return {"efi": efi, "mounts": {"filesystems": list(mounts)}}


def test_file_systems_are_named_by_uuid_and_the_boot_disk_by_id() -> None:
    assert parse_hardware(told(ROOT), DISK) == {
        "fileSystems": {"/": {"device": "/dev/disk/by-uuid/u-1", "fsType": "ext4"}},
        "bootDevice": "/dev/disk/by-id/scsi-s",
    }


def test_uefi_needs_no_disk() -> None:
    boot = {"target": "/boot", "source": "/dev/sda1", "fstype": "vfat", "options": "rw", "uuid": "AB-CD"}
    hardware = parse_hardware(told(ROOT, boot, efi=True), None)
    assert hardware["fileSystems"]["/boot"] == {"device": "/dev/disk/by-uuid/AB-CD", "fsType": "vfat"}
    assert hardware["bootDevice"] is None


@pytest.mark.parametrize(
    "more",
    [
        {"target": "/nix/store", "source": "/dev/sda2[/nix/store]", "fstype": "ext4", "options": "ro", "uuid": "u-1"},
        {"target": "/run/user/0", "source": "tmpfs", "fstype": "tmpfs", "options": "rw", "uuid": None},
        {"target": "/far", "source": "host:/x", "fstype": "nfs4", "options": "rw", "uuid": None},
        {"target": "/var/lib/lxcfs", "source": "lxcfs", "fstype": "fuse.lxcfs", "options": "rw", "uuid": None},
    ],
    ids=["the store's bind mount", "tmpfs", "NFS", "FUSE"],
)
def test_what_is_no_disk_of_its_own_is_left_out(more: dict[str, object]) -> None:
    assert list(parse_hardware(told(ROOT, more), DISK)["fileSystems"]) == ["/"]


def test_subvolumes_and_datasets_stay_what_they_are() -> None:
    sub = {"target": "/", "source": "/dev/sda2[/root]", "fstype": "btrfs", "options": "rw,subvol=/root", "uuid": "u-2"}
    zfs = {"target": "/data", "source": "tank/data", "fstype": "zfs", "options": "rw", "uuid": None}
    systems = parse_hardware(told(sub, zfs), DISK)["fileSystems"]
    assert systems["/"] == {"device": "/dev/disk/by-uuid/u-2", "fsType": "btrfs", "options": ["subvol=/root"]}
    assert systems["/data"] == {"device": "tank/data", "fsType": "zfs"}


def test_nothing_that_a_guest_says_becomes_code() -> None:
    evil = {**ROOT, "target": '/" + builtins.readFile /etc/shadow + "${builtins.abort "x"}\\'}
    module = physical_module(
        SPEC, Facts(macs=("aa",)), parse_hardware(told(evil), DISK), {"root": ("ssh-ed25519 A",)}, {}
    )
    literal = re.search(r"builtins\.fromJSON (\".*\");$", module, re.MULTILINE)
    assert literal is not None
    unescaped = re.sub(r"\\(.)", r"\1", literal[1][1:-1])
    assert evil["target"] in json.loads(unescaped)["fileSystems"]
    assert not re.search(r'(?<!\\)(?:\\\\)*"', literal[1][1:-1]) and not re.search(r"(?<!\\)\$\{", literal[1][1:-1])


def test_a_nix_string_is_the_text_again() -> None:
    assert nix_string('a"b\\c${d}\n') == '"a\\"b\\\\c\\${d}\n"'


def test_keys_and_macs_are_in_it() -> None:
    module = physical_module(SPEC, Facts(macs=("bc:24:11:00:00:01",)), {}, {"root": ("ssh-ed25519 AAAA",)}, {})
    assert "ssh-ed25519 AAAA" in module and "bc:24:11:00:00:01" in module and "net0" in module


def test_the_other_machines_names_are_in_it() -> None:
    module = physical_module(SPEC, Facts(), {}, {}, {"10.0.0.6": ["db"]})
    assert "networking.hosts = told.hosts;" in module and '\\"hosts\\": {\\"10.0.0.6\\": [\\"db\\"]}' in module


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("pvm2.example.com", {"hostName": "pvm2", "domain": "example.com"}),
        ("pvm2", {"hostName": "pvm2"}),
        ("", {}),
    ],
)
def test_what_nics_have_taken_from_lists_is_in_it(host: str, names: dict[str, str]) -> None:
    taken = {"net0": {"mac": "de:ad:be:ef:00:01", "ipv4": "10.9.0.2", **({"host": host} if host else {})}}
    module = physical_module(SPEC, Facts(), {}, {}, {}, {}, {"net1": {"host": "other"}, **taken})
    literal = re.search(r"builtins\.fromJSON (\".*\");$", module, re.MULTILINE)
    assert literal is not None
    told = json.loads(re.sub(r"\\(.)", r"\1", literal[1][1:-1]))
    assert told["taken"]["net0"] == {"mac": "de:ad:be:ef:00:01", "ipv4": "10.9.0.2"}
    assert told["names"] == names
