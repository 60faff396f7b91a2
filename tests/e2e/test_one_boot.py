"""A new kernel by the command line: its system is booted once, and stays only if that boot is seen well."""

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.breaking import KERNELS
from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

LOOK = "readlink -f /run/booted-system; readlink -f /nix/var/nix/profiles/system; lab-boot-choose"
BOOT = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def web(lab_bed: "Bed") -> Iterator["Bed"]:
    from tests.e2e.bed import DEMO

    lab_bed.reset()
    bed = lab_bed.with_network("kernels", KERNELS.replace("MORE", "").replace("DEMO", str(DEMO)))
    bed.run("deploy")
    yield bed
    bed.run("destroy", "--yes", check=False)


def runs(bed: "Bed") -> str:
    """The system that was booted, which is the profile's and the default, too."""
    systems = bed.ssh("web", LOOK).split()
    assert len(set(systems)) == 1 and len(systems) == 3, systems
    return systems[0].partition("-web-")[2]


def verdict(bed: "Bed") -> str:
    (machine,) = bed.status()
    return str(machine["probation"]["verdict"])


def test_a_kernel_that_boots_well_is_kept(web: "Bed") -> None:
    plan = web.run("plan", "--allow-reboot", VERSION="2").stdout
    assert "boot, then reboot: it is booted once, and becomes what boots when that boot is confirmed" in plan
    boot = web.ssh("web", BOOT)
    web.run("deploy", "--allow-reboot", VERSION="2")
    assert (verdict(web), runs(web)) == ("confirmed", "2-")
    assert web.ssh("web", BOOT) != boot
    assert "nothing to do" in web.run("plan", "--allow-reboot", VERSION="2").stdout


@pytest.mark.parametrize(
    ("broken", "told", "said"),
    [
        ("ill", "reverted by us", "http 80/: "),
        ("panic", "reverted by the guest", "its boot came to no end, and the machine booted again"),
    ],
)
def test_a_boot_that_goes_wrong_does_not_stay(web: "Bed", broken: str, told: str, said: str) -> None:
    before = runs(web)
    done = web.run("deploy", "--allow-reboot", check=False, VERSION="3", BREAK=broken)
    assert done.returncode == 7, done.stderr
    assert f"booted once, does not stay ({told})" in done.stderr and said in done.stderr, done.stderr
    assert (runs(web), verdict(web)) == (before, told)
    again = web.run("deploy", check=False, VERSION="3", BREAK=broken)
    assert again.returncode == 3 and "was booted once, and did not stay" in again.stderr, again.stderr


def test_a_run_that_was_killed_after_the_boot_costs_nothing(web: "Bed") -> None:
    before, boot = runs(web), web.ssh("web", BOOT)
    process = web.start("deploy", "--allow-reboot", VERSION="4")
    wait_until(lambda: boot_of(web) not in ("", boot), 60, "another boot", 0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    web.run("deploy", VERSION="4")
    assert (verdict(web), runs(web)) == ("confirmed", "4-") and before != "4-"


def boot_of(bed: "Bed") -> str:
    done = bed.run("ssh", "web", "--", BOOT, check=False)
    return done.stdout if done.returncode == 0 else ""
