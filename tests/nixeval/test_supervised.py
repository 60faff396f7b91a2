"""The supervisor of a probation as what it is on NixOS: a transient unit of a real systemd."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from nixops_proxmox.model import Probation, ProbationState
from nixops_proxmox.nixeval.probation import (
    UNIT,
    begin_probation,
    begin_script,
    confirm_probation,
    find_probation,
)
from nixops_proxmox.reach.health import units_script
from nixops_proxmox.spec import DeploySpec
from tests.nixeval.systemd_guest import SystemdGuest, find_lack, start_guest
from tests.pace import wait_until

S = ProbationState
SHOW = f"systemctl show --property=ActiveState,MainPID {UNIT}"


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdGuest]:
    if why := find_lack():
        pytest.skip(why)
    with start_guest(tmp_path_factory.mktemp("systemd")) as guest:
        yield guest


@pytest.fixture
def guest(booted: SystemdGuest) -> Iterator[SystemdGuest]:
    yield booted
    booted.run(f"systemctl stop {UNIT}; systemctl reset-failed; rm -rf /run/nixops-proxmox")
    booted.tell("ln -sfn /nix/store/one /run/current-system; ln -sfn system-1-link /nix/var/nix/profiles/system")


def begin(guest: SystemdGuest, system: str, *, seconds: int = 60) -> Probation:
    seen = begin_probation(system, guest, "n1", DeploySpec(probation=seconds))
    assert seen is not None
    return seen


def state(guest: SystemdGuest) -> ProbationState:
    seen = find_probation(guest)
    assert seen is not None
    return seen.state


def supervisor(guest: SystemdGuest) -> tuple[str, str]:
    """Its state and its process. While systemd executes itself again, nobody answers."""
    said = dict(line.split("=", 1) for line in guest.run(SHOW).stdout.splitlines())
    return said.get("ActiveState", ""), said.get("MainPID", "")


def test_the_supervisor_is_a_unit_and_outlives_the_login_that_began_it(guest: SystemdGuest) -> None:
    two = guest.make_system("two", "sleep 2")
    script = begin_script(two, "n1", seconds=60, policy="revert")
    login = subprocess.Popen(guest.argv(script), stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: supervisor(guest)[0] == "active", 20)
    os.killpg(login.pid, signal.SIGKILL)
    login.wait()
    wait_until(lambda: state(guest) is S.WAITING, 20)
    assert supervisor(guest) == ("active", guest.tell("cat /run/nixops-proxmox/probation/pid"))
    assert guest.run("[ -e /run/nixops-proxmox/probation/keeper ]").status == 1, "systemd alone looks after it"
    done = confirm_probation(guest, "n1")
    assert done is not None and (done.state, done.generation) == (S.CONFIRMED, 2)
    wait_until(lambda: supervisor(guest)[0] == "inactive", 10, "no unit is left over")


@pytest.mark.parametrize("when", ["switching", "waiting"])
def test_systemd_starts_one_again_that_was_killed_and_it_goes_on(guest: SystemdGuest, when: str) -> None:
    gate = "while [ ! -e /run/nixops-proxmox/gate ]; do sleep 0.1; done"
    begin(guest, guest.make_system("two", gate if when == "switching" else ":"))
    assert state(guest).value == when
    wait_until(lambda: supervisor(guest)[0] == "active", 20)
    pid = guest.tell("cat /run/nixops-proxmox/probation/pid")
    guest.tell(f"kill -9 {pid}")
    wait_until(lambda: supervisor(guest)[0] == "active" and supervisor(guest)[1] != pid, 20)
    guest.tell("touch /run/nixops-proxmox/gate")
    wait_until(lambda: state(guest) is S.WAITING, 20)
    done = confirm_probation(guest, "n1")
    assert done is not None and done.state is S.CONFIRMED
    log = guest.tell("cat /run/nixops-proxmox/probation/log").splitlines()
    assert log.count("two boot") == 1 and log.count("two test") <= 2


@pytest.mark.parametrize(
    "start", ['systemd-run "$@"', '(sleep 8; systemd-run "$@") >/dev/null 2>&1 &'], ids=["at once", "later"]
)
def test_a_start_that_succeeds_and_says_that_it_failed_makes_no_two_supervisors(
    guest: SystemdGuest, start: str
) -> None:
    program = "/usr/local/sbin/systemd-run"
    text = f"#!/bin/sh\nPATH=/usr/bin:/bin\n{start}\nexit 1"
    guest.tell(f"cat >{program} <<'END'\n{text}\nEND\nchmod +x {program}")
    try:
        begin(guest, guest.make_system("two", "sleep 6"))
        wait_until(lambda: state(guest) is S.WAITING, 30)
        wait_until(lambda: supervisor(guest)[0] == "active", 20)
        done = confirm_probation(guest, "n1")
    finally:
        guest.tell(f"rm {program}")
    assert done is not None and done.state is S.CONFIRMED
    wait_until(lambda: supervisor(guest)[0] == "inactive", 20)
    assert guest.tell("cat /run/nixops-proxmox/probation/log").splitlines() == ["two test", "two boot"]


def test_what_nobody_confirms_is_left_by_the_unit_itself(guest: SystemdGuest) -> None:
    begin(guest, guest.make_system("two"), seconds=1)
    wait_until(lambda: state(guest) is S.REVERTED, 20)
    assert guest.tell("readlink /run/current-system") == "/nix/store/one"
    wait_until(lambda: supervisor(guest)[0] == "inactive", 10)


def test_systemd_names_the_services_that_failed_and_only_new_ones_count(guest: SystemdGuest) -> None:
    system = guest.make_system(
        "two", "systemctl start broken.service\nln -sfn /nix/store/two /run/current-system\nexit 4"
    )
    seen = begin(guest, system)
    wait_until(lambda: state(guest) is S.REVERTED, 20)
    seen = find_probation(guest) or seen
    assert seen.units == ("broken.service",) and "broken.service" in seen.why
    guest.run("rm -rf /run/nixops-proxmox")
    assert guest.tell("systemctl is-failed broken.service") == "failed", "it had failed before, this time"
    assert begin(guest, system).state is S.WAITING


def test_a_unit_that_is_not_active_is_told_with_its_state(guest: SystemdGuest) -> None:
    guest.tell("systemctl start well.service")
    guest.run("systemctl start broken.service")
    assert guest.tell(units_script(("well.service",))) == ""
    told = guest.tell(units_script(("well.service", "broken.service", "none.service"))).splitlines()
    assert told == ["broken.service failed", "none.service inactive"]
