"""Encrypted data disks of real guests: made by the installer, kept by a reinstall, and given new keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(900)]

NETWORK = """\
{
  vault = {
    deployment.proxmox = {
      memory = 768;
      disks = [
        { storage = "local-lvm"; size = "2G"; }
        { storage = "local-lvm"; size = "256M"; encrypt = true; keep = true; }
      ];
      network = [ { bridge = "vmbr0"; } ];
      install.iso = "local:iso/lab-installer.iso";
      encryption = {
        unlock.tool = true;
        recovery.sink.folder = "SINK";
      };
    };
    toplevel = import DEMO/system.nix { name = "vault"; hosts = { }; service = { port = 80; handler = "echo"; }; };
  };
}
"""
KEY = "/etc/nixops-proxmox/encryption/scsi1.key"
DEVICE = "$(findfs LABEL=nixos-scsi1)"
OPENS = f"cryptsetup open --test-passphrase --key-slot 2 --key-file {KEY} {DEVICE} && echo opened"


@pytest.fixture
def vault(guest_bed: "GuestBed", tmp_path: Path) -> Iterator["GuestBed"]:
    bed = guest_bed.named("encrypted-disks", NETWORK.replace("SINK", str(tmp_path / "sink")))
    try:
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def test_a_reinstall_keeps_an_encrypted_disk_whose_system_opens_it_and_which_gets_new_keys(
    vault: "GuestBed", tmp_path: Path
) -> None:
    vault.run("deploy")
    luks = vault.facts("vault")["luks"]
    assert vault.ssh("vault", f"cryptsetup luksUUID {DEVICE}").strip() == luks["scsi1 uuid"] != luks["uuid"]
    assert vault.ssh("vault", f"stat -c %a {KEY}").strip() == "400" and "opened" in vault.ssh("vault", OPENS)
    written = f"cryptsetup open --key-file {KEY} {DEVICE} scsi1 && echo kept > /dev/mapper/scsi1 && sync"
    vault.ssh("vault", f"{written} && cryptsetup close scsi1")
    vault.run("check")

    vault.run("recovery", "rotate", "vault")
    vault.run("recovery", "test", "vault")
    vault.run("check")
    before = vault.ssh("vault", f"cat {KEY}")
    assert "opened" in vault.ssh("vault", OPENS)

    vault.run("reinstall", "--yes")
    after = vault.facts("vault")["luks"]
    assert after["uuid"] != luks["uuid"] and after["scsi1 uuid"] == luks["scsi1 uuid"]
    assert vault.ssh("vault", f"cat {KEY}") == before and "opened" in vault.ssh("vault", OPENS)
    told = vault.ssh("vault", f"cryptsetup open --key-file {KEY} {DEVICE} scsi1 && head -n 1 /dev/mapper/scsi1")
    assert told.strip() == "kept"
    assert len(list((tmp_path / "sink").glob("vault-scsi1-*.key"))) == 1
    vault.run("recovery", "test", "vault", "--disk", "scsi1")
