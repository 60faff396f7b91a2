"""A run that was stopped (SIGSTOP, a laptop that slept) while another took over: awake again, it changes nothing."""

import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.pace import patience, wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

HARMLESS = ("/access/ticket", "/agent/ping")
SLOW = 2.0  # seconds that the lab keeps an answer back: long enough to stop whoever waits for it


LOOK = r"/qemu/\d+/config$"  # right before each call that does something to a VM
NICS = "agent/network-get-interfaces$"


@contextmanager
def standing_still(bed: "Bed", path: str, nth: int) -> Iterator[None]:
    """The lab keeps back the answer to the n-th GET of such a path."""
    bed.forget_calls()
    bed.fault("slow", method="GET", path=path, nth=nth, seconds=SLOW)
    yield
    bed.forget_faults()


@contextmanager
def stopped(bed: "Bed", path: str, nth: int, *verb: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A run that stands still since its n-th GET of such a path, and goes on at the end."""
    with standing_still(bed, path, nth):
        process = bed.start(*verb)
        wait_for(bed, path, nth, process)
        os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGCONT)


def wait_for(bed: "Bed", path: str, nth: int, process: "subprocess.Popen[bytes]") -> None:
    def asked() -> bool:
        assert process.poll() is None, f"it ended before {path} was asked for {nth} times"
        found = [one for one in bed.calls() if one["method"] == "GET" and re.search(path, one["path"])]
        return len(found) >= nth

    wait_until(asked, 60, f"{path}, {nth} times")


def changing(bed: "Bed") -> list[str]:
    calls = [f"{call['method']} {call['path']}" for call in bed.calls() if call["method"] != "GET"]
    return [call for call in calls if not call.endswith(HARMLESS)]


def end_of(process: "subprocess.Popen[bytes]") -> int:
    return process.wait(patience(60))


def machine_of(bed: "Bed") -> dict[str, Any]:
    (machine,) = bed.status()
    return machine


@pytest.mark.parametrize(
    ("path", "nth"),
    [("/storage/local/content$", 1), (LOOK, 1), (NICS, 1), (LOOK, 3)],
    ids=["create", "start", "install", "boot-order"],
)
def test_an_overtaken_deploy_changes_nothing_when_it_wakes_up(bed: "Bed", path: str, nth: int) -> None:
    with stopped(bed, path, nth, "deploy") as process:
        bed.run("deploy", "--break-lock")
        before = machine_of(bed)
        boot = bed.ssh("web", "cat /proc/sys/kernel/random/boot_id")
        bed.forget_calls()
    assert end_of(process) == 3, (bed.home / "killed.log").read_text()
    assert changing(bed) == []
    assert machine_of(bed) == before and before["phase"] == "ready"
    assert bed.ssh("web", "cat /proc/sys/kernel/random/boot_id") == boot
    assert "somebody else has taken over" in (bed.home / "killed.log").read_text()


@pytest.mark.parametrize("nth", [1, 2], ids=["stop", "delete"])
def test_an_overtaken_destroy_leaves_what_the_other_made(bed: "Bed", nth: int) -> None:
    bed.run("deploy")
    with stopped(bed, LOOK, nth, "destroy", "--yes") as process:
        bed.run("deploy", "--break-lock")
        before = machine_of(bed)
        bed.forget_calls()
    assert end_of(process) == 3, (bed.home / "killed.log").read_text()
    assert changing(bed) == []
    assert machine_of(bed) == before and bed.vms()[str(before["vmid"])]["status"] == "running"
    bed.run("deploy")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_deploy_that_is_told_to_end_gives_its_lock_back_and_is_gone_on_with(
    bed: "Bed", number: signal.Signals
) -> None:
    with standing_still(bed, LOOK, 1):
        process = bed.start("deploy")
        wait_for(bed, LOOK, 1, process)
        process.send_signal(number)
    assert end_of(process) == 128 + number
    state = sqlite3.connect(bed.home / "state" / "nixops-proxmox" / "state.sqlite")
    assert state.execute("SELECT count(*) FROM leases").fetchone() == (0,)
    state.close()
    assert machine_of(bed)["phase"] == "installer"
    bed.run("deploy")


def test_status_does_not_name_a_dead_process_as_at_work(bed: "Bed") -> None:
    with standing_still(bed, LOOK, 1):
        process = bed.start("deploy")
        wait_for(bed, LOOK, 1, process)
        assert f"(process {process.pid})" in bed.run("status").stderr
        os.killpg(process.pid, signal.SIGKILL)
    said = bed.run("status").stderr  # nobody has waited for the process: it is dead all the same
    assert "is being changed" not in said and "was cut off; the next run continues from there" in said
    process.wait()
    bed.run("deploy")
    assert bed.run("status").stderr == ""
