"""A new kernel on a real guest with systemd-boot is booted once, and a boot that goes wrong costs nothing."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.e2e.breaking import KERNELS

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.timeout(1500)]

SECONDS = "40"  # of probation
PATIENT = 1500.0  # seconds: a guest that says that it still boots is waited for a quarter of an hour
LOOK = "readlink -f /run/booted-system; readlink -f /nix/var/nix/profiles/system"
ONCE = "ls /sys/firmware/efi/efivars | grep -c LoaderEntryOneShot || true"


@pytest.fixture(scope="module")
def web(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("kernels", KERNELS.replace("MORE", 'efi = { storage = "local-lvm"; };'))
    try:
        bed.run("deploy", PROBATION=SECONDS)
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def runs(bed: "GuestBed") -> str:
    """The system that was booted, which is the profile's, too; and nothing waits for one boot."""
    booted, boots = bed.ssh("web", LOOK).split()
    assert booted == boots and bed.ssh("web", ONCE).strip() == "0"
    return booted.partition("-web-")[2]


def verdict(bed: "GuestBed") -> str:
    (machine,) = bed.status()
    return str(machine["probation"]["verdict"])


def test_a_kernel_that_boots_is_kept_and_one_that_does_not_is_left(web: "GuestBed") -> None:
    web.run("deploy", "--allow-reboot", VERSION="2", PROBATION=SECONDS)
    assert (verdict(web), runs(web)) == ("confirmed", "2-")
    assert_left(web, "panic", "reverted by the guest")
    web.run("deploy", VERSION="2", PROBATION=SECONDS)


@pytest.mark.weekly
@pytest.mark.timeout(2400)
def test_a_machine_whose_boot_hangs_is_switched_off_and_on(web: "GuestBed") -> None:
    web.run("deploy", "--allow-reboot", VERSION="2", PROBATION=SECONDS)
    assert_left(replace(web, seconds=PATIENT), "hang", "reverted by us")


def assert_left(web: "GuestBed", broken: str, told: str) -> None:
    done = web.run("deploy", "--allow-reboot", check=False, VERSION="3", BREAK=broken, PROBATION=SECONDS)
    assert done.returncode == 7, done.stderr
    assert f"booted once, does not stay ({told})" in done.stderr, done.stderr
    assert (runs(web), verdict(web)) == ("2-", told)
