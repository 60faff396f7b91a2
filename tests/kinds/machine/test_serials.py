"""What the serials of a machine's disks follow from, and how the installer comes to know the disks by them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.kinds.machine.scripts import partition_script
from nixops_proxmox.kinds.machine.table import LIFECYCLE
from nixops_proxmox.model import Facts, GuestDisk, Machine, Phase
from nixops_proxmox.spec.serials import derived_serial, disk_path
from tests.kinds.machine.cluster import SPEC, Bench
from tests.pace import patience

UUID = "8c7f6d1e-0000-4000-8000-000000000001"


def is_reserved(machine: Machine) -> bool:
    return machine.phase is Phase.RESERVED


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Facts(), "shop/web"),
        (Facts(uuid=UUID), ""),
        (Facts(uuid=UUID, serials_from="older/www"), "older/www"),
    ],
)
def test_only_a_machine_that_is_not_there_yet_gets_the_serials_that_nix_foresees(known: Facts, expected: str) -> None:
    """What is recorded wins: disks may have these serials already."""
    bench, machine = Bench(), Machine("demo", "web", Phase.ABSENT, known)
    world = replace(bench.world(), serials_from="shop/web")
    made = pursue(LIFECYCLE, Phase.READY, machine, world, bench.record, enough=is_reserved)
    reserved = made.facts
    assert reserved.serials_from == expected
    assert reserved.serial_base == (expected or UUID)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (Facts(uuid=UUID), UUID),
        (Facts(uuid=UUID, serials_from="shop/web"), "shop/web"),
        (Facts(uuid=UUID, serials_from="shop/web", nameless=True), ""),
    ],
)
def test_nix_is_told_what_the_record_has(facts: Facts, told: str) -> None:
    assert Facts.from_json(facts.to_json()).serials_told == told


class Installer:
    """As much of an installer as the head of a partition script sees: `/dev` is a folder here."""

    def __init__(self, folder: Path) -> None:
        self.dev = folder / "dev"
        (self.dev / "disk" / "by-id").mkdir(parents=True)
        for name in ("sda", "sdb"):
            (self.dev / name).touch()

    def run(self, facts: Facts, body: str) -> "subprocess.CompletedProcess[str]":
        spec = SPEC.model_copy(
            update={"disks": SPEC.disks[:1], "install": SPEC.install.model_copy(update={"partition": body})}
        )
        script = partition_script(spec, facts, [GuestDisk("/dev/sda", 8 << 30, "s")], again=False)
        script = script.replace("/dev/", f"{self.dev}/").replace("grep -qs ' /mnt '", "false")
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=patience(20), check=False)


FACTS = Facts(uuid=UUID, serials_from="shop/web")
NAME = disk_path("scsi0", derived_serial("shop/web", "scsi0"))


def test_the_installer_gets_the_names_that_its_udev_does_not_make(tmp_path: Path) -> None:
    done = Installer(tmp_path).run(FACTS, f"readlink {NAME}")
    assert (done.returncode, done.stdout.strip()) == (0, f"{tmp_path}/dev/sda"), done.stderr


def test_a_name_of_a_declared_disk_that_leads_to_another_stops_the_script_before_it_writes(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    (installer.dev / "disk" / "by-id" / Path(NAME).name).symlink_to("../../sdb")
    done = installer.run(FACTS, "echo written")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the declared disk is" in done.stderr and "nothing was written" in done.stderr


def test_disks_that_somebody_else_made_keep_the_names_that_they_have(tmp_path: Path) -> None:
    done = Installer(tmp_path).run(replace(FACTS, nameless=True), "ls /dev/disk/by-id")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
