"""The supervisor of a probation, run by a real sh on a small tree that looks like a guest's root."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.model import Completed, Probation, ProbationState
from nixops_proxmox.nixeval.activate import find_active_system
from nixops_proxmox.nixeval.probation import (
    begin_probation,
    begin_script,
    confirm_probation,
    confirm_script,
    find_probation,
    find_script,
    parse_probation,
    refuse_probation,
    refuse_script,
)
from nixops_proxmox.spec import DeploySpec
from tests.nixeval.test_activate import NIX_ENV, SmallGuest
from tests.pace import wait_until

S = ProbationState


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[SmallGuest]:
    """It runs `one`, its first generation."""
    for directory in ("bin", "run", "nix/var/nix/profiles"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "bin" / "nix-env").write_text(NIX_ENV)
    (tmp_path / "bin" / "nix-env").chmod(0o755)
    guest = SmallGuest(tmp_path)
    one = guest.make_system("one", "")
    guest.profile.with_name("system-1-link").symlink_to(one)
    guest.profile.symlink_to("system-1-link")
    (tmp_path / "run" / "current-system").symlink_to(one)
    yield guest
    for name in ("keeper", "pid"):
        kill_supervisor(guest, name)


def kill_supervisor(guest: SmallGuest, name: str = "pid") -> None:
    """`kill -9` of it, or of its keeper, if it lives."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((guest.root / "run/nixops-proxmox/probation" / name).read_text()), signal.SIGKILL)


def begin(
    guest: SmallGuest, system: str, number: str = "n1", *, seconds: int = 30, policy: str = "revert"
) -> Probation:
    deploy = DeploySpec.model_validate({"probation": seconds, "failed_units": policy})
    return known(begin_probation(system, guest, number, deploy))


def known(seen: Probation | None) -> Probation:
    assert seen is not None
    return seen


def wait_for(guest: SmallGuest, state: ProbationState) -> Probation:
    wait_until(lambda: known(find_probation(guest)).state is state, 10)
    return known(find_probation(guest))


def current(guest: SmallGuest) -> str:
    return os.path.realpath(guest.root / "run" / "current-system")


def test_what_is_confirmed_becomes_the_next_generation_and_boots(guest: SmallGuest) -> None:
    one, two = str(guest.root / "nix/store/one"), guest.make_system("two", "")
    seen = begin(guest, two)
    assert (seen.state, seen.previous, seen.status, seen.alive) == (S.WAITING, one, 0, True)
    assert current(guest) == two and os.path.realpath(guest.profile) == one, "a boot would bring back the old one"
    assert find_active_system(guest) == ""
    seen = known(confirm_probation(guest, "n1"))
    assert (seen.state, seen.generation, seen.why) == (S.CONFIRMED, 2, "")
    assert find_active_system(guest) == two
    assert seen.log.splitlines() == ["two test", "two boot"]
    assert not (guest.root / "nix/var/nix/gcroots/nixops-proxmox").exists()


def test_what_nobody_confirms_is_left_by_the_guest_itself(guest: SmallGuest) -> None:
    one, two = str(guest.root / "nix/store/one"), guest.make_system("two", "")
    begin(guest, two, seconds=1)
    seen = wait_for(guest, S.REVERTED)
    assert seen.why == "no confirmation came within 1 s"
    assert find_active_system(guest) == one and os.path.realpath(guest.profile) == one
    assert known(confirm_probation(guest, "n1")).state is S.REVERTED, "a confirmation that comes too late is none"


def test_what_we_refuse_is_left_at_once_with_our_reason(guest: SmallGuest) -> None:
    begin(guest, guest.make_system("two", ""))
    seen = known(refuse_probation(guest, "n1", "tcp 80:\nno 'answer'"))
    assert (seen.state, seen.why) == (S.REVERTED, "tcp 80: no 'answer'")
    assert find_active_system(guest) == str(guest.root / "nix/store/one")


@pytest.mark.parametrize(
    ("switch", "why"),
    [("exit 2", "its activation ended with status 2"), ("exit 4", "some of its services did not start")],
)
def test_an_activation_that_fails_is_taken_back_at_once(guest: SmallGuest, switch: str, why: str) -> None:
    begin(guest, guest.make_system("two", switch))
    seen = wait_for(guest, S.REVERTED)
    assert why in seen.why
    assert find_active_system(guest) == str(guest.root / "nix/store/one")


ACTIVE = 'top=${0%/bin/*}; ln -sfn "$top" "${top%/nix/store/*}/run/current-system"'


def fail_units(guest: SmallGuest, *units: str) -> None:
    file = guest.root / "failed-units"
    file.write_text("".join(f"{unit} loaded failed failed\n" for unit in units))
    tool = guest.root / "bin" / "systemctl"
    tool.write_text(f'#!/bin/sh\n[ "$1" != list-units ] || cat {file}\n')
    tool.chmod(0o755)


@pytest.mark.parametrize(
    ("before", "after", "policy", "state"),
    [
        ([], ["new.service"], "revert", S.REVERTED),
        (["old.service"], ["old.service"], "revert", S.WAITING),
        (["old.service"], ["old.service", "new.service"], "revert", S.REVERTED),
        ([], ["new.service"], "accept", S.WAITING),
    ],
)
def test_only_units_that_had_not_failed_before_count(
    guest: SmallGuest, before: list[str], after: list[str], policy: str, state: ProbationState
) -> None:
    fail_units(guest, *before)
    told = "".join(f"{unit} loaded failed failed\\n" for unit in after)
    two = guest.make_system("two", f"printf '{told}' >{guest.root}/failed-units; {ACTIVE}; exit 4")
    begin(guest, two, policy=policy)
    seen = wait_for(guest, state)
    assert seen.units == tuple(unit for unit in after if unit not in before)


def test_what_cannot_be_made_to_boot_is_not_kept(guest: SmallGuest) -> None:
    one = str(guest.root / "nix/store/one")
    two = guest.make_system("two", '[ "$1" != boot ] || exit 1')
    begin(guest, two)
    seen = known(confirm_probation(guest, "n1"))
    assert (seen.state, seen.why) == (S.REVERTED, "it could not be made the one that boots")
    assert find_active_system(guest) == one
    assert seen.log.splitlines()[-1] == "one switch", "the boot loader is told, too"


@pytest.mark.parametrize("refusal", ["echo \"Pre-switch check 'switchInhibitors' failed\"; exit 1", "exit 100"])
def test_what_nixos_cannot_switch_to_is_left_to_the_next_boot(guest: SmallGuest, refusal: str) -> None:
    seen = begin(guest, guest.make_system("two", f'[ "$1" = boot ] && exit 0; {refusal}'))
    assert (seen.state, seen.generation) == (S.NEXT_BOOT, 2)
    assert find_active_system(guest) == "", "it counts as half activated until the machine boots"


def test_a_way_back_that_fails_is_stuck(guest: SmallGuest) -> None:
    one = guest.root / "nix/store/one/bin/switch-to-configuration"
    one.write_text("#!/bin/sh\nexit 1\n")
    begin(guest, guest.make_system("two", ""))
    seen = known(refuse_probation(guest, "n1", "no"))
    assert (seen.state, seen.back) == (S.STUCK, 1)


@pytest.mark.parametrize("is_well", [True, False])
def test_a_supervisor_that_is_killed_comes_back_and_goes_on(guest: SmallGuest, *, is_well: bool) -> None:
    two = guest.make_system("two", "")
    begin(guest, two)
    kill_supervisor(guest)
    seen = known(confirm_probation(guest, "n1") if is_well else refuse_probation(guest, "n1", "no"))
    assert seen.state is (S.CONFIRMED if is_well else S.REVERTED)


def test_a_supervisor_that_is_killed_and_whose_keeper_is_killed_is_started_by_the_next_look(guest: SmallGuest) -> None:
    begin(guest, guest.make_system("two", ""), seconds=1)
    for name in ("keeper", "pid"):
        kill_supervisor(guest, name)
    assert known(confirm_probation(guest, "n1")).state in (S.CONFIRMED, S.REVERTED)


def test_a_connection_that_breaks_in_the_middle_changes_nothing(guest: SmallGuest) -> None:
    gate = guest.root / "gate"
    two = guest.make_system("two", f"while [ ! -e {gate} ]; do sleep 0.01; done")
    connection = guest.start(begin_script(two, "n1", seconds=30, policy="revert"))
    wait_until((guest.root / "run/nixops-proxmox/probation/switch.pid").exists, 5)
    os.killpg(connection.pid, signal.SIGKILL)  # harder than sshd does
    connection.communicate()
    assert known(find_probation(guest)).state is S.SWITCHING
    gate.touch()
    assert wait_for(guest, S.WAITING).alive
    assert known(confirm_probation(guest, "n1")).state is S.CONFIRMED


def test_what_takes_long_is_not_waited_for_in_one_call(guest: SmallGuest) -> None:
    """A network that the new system broke would tell us nothing for as long."""
    gate = guest.root / "gate"
    two = guest.make_system("two", f"while [ ! -e {gate} ]; do sleep 0.01; done")
    assert known(begin_probation(two, guest, "n1", DeploySpec())).state is S.SWITCHING
    gate.touch()
    assert wait_for(guest, S.WAITING).alive
    assert known(confirm_probation(guest, "n1")).state is S.CONFIRMED


def test_a_probation_is_begun_once_and_no_other_beside_it(guest: SmallGuest) -> None:
    two, three = guest.make_system("two", ""), guest.make_system("three", "")
    begin(guest, two)
    assert begin(guest, two).log.splitlines() == ["two test"], "begun again, it is the same probation"
    with pytest.raises(ActivationFailed, match="could not be begun\nanother probation is under way"):
        begin(guest, three, "n2")
    refuse_probation(guest, "n1", "no")
    assert begin(guest, three, "n2").system == three


# `mv` that waits for `gate` when it has made a state final: as long as that takes on a busy machine.
MV = """\
#!/bin/sh
/bin/mv "$@" || exit
[ "${2##*/}" = state ] && grep -qs confirmed "$2" || exit 0
touch {root}/held
while [ ! -e {root}/gate ]; do sleep 0.01; done
"""


def test_a_probation_that_begins_at_the_end_of_one_has_its_own_supervisor_and_roots(guest: SmallGuest) -> None:
    """The last supervisor has said how it ended, and is still there."""
    two, three = guest.make_system("two", ""), guest.make_system("three", "")
    roots = guest.root / "nix/var/nix/gcroots/nixops-proxmox"
    (guest.root / "bin/mv").write_text(MV.replace("{root}", str(guest.root)))
    (guest.root / "bin/mv").chmod(0o755)
    begin(guest, two)
    assert known(confirm_probation(guest, "n1")).state is S.CONFIRMED
    wait_until((guest.root / "held").exists, 5)
    assert not roots.exists(), "whoever sees the end may begin: nothing of the last one is still to be done"
    next_one = guest.start(begin_script(three, "n2", seconds=30, policy="revert"))
    wait_until(lambda: known(find_probation(guest)).number == "n2", 5)
    (guest.root / "gate").touch()
    next_one.communicate()
    assert wait_for(guest, S.WAITING).log.splitlines() == ["three test"]
    assert {root.name: os.readlink(root) for root in roots.iterdir()} == {"probation": three, "previous": two}


def test_a_guest_without_a_system_to_go_back_to_is_left_alone(guest: SmallGuest) -> None:
    (guest.root / "run" / "current-system").unlink()
    assert begin_probation(guest.make_system("two", ""), guest, "n1", DeploySpec()) is None
    assert known(find_probation(guest)).state is S.NONE


def test_an_activation_that_hangs_is_ended(guest: SmallGuest) -> None:
    script = begin_script(guest.make_system("two", "sleep 60"), "n1", seconds=30, policy="revert", limit=1)
    guest.run(script)
    assert "status 137" in wait_for(guest, S.REVERTED).why


def test_an_earlier_generation_is_tried_without_a_new_one(guest: SmallGuest) -> None:
    one, two = str(guest.root / "nix/store/one"), guest.make_system("two", "")
    begin(guest, two)
    confirm_probation(guest, "n1")
    guest.run(begin_script(one, "n2", seconds=30, policy="revert", generation=1))
    assert known(confirm_probation(guest, "n2")).generation == 1
    assert find_active_system(guest) == one


@pytest.mark.parametrize(
    "told",
    ["", "nixops-proxmox-probation 2\n", "sh: not found\n", "id x\nnixops-proxmox-probation 1\n"],
)
def test_what_is_no_report_is_none(told: str) -> None:
    assert parse_probation(Completed(0, told)) is None


def test_a_strange_report_is_read_with_types() -> None:
    lines = ["id ../x y", "state fine", "status 1e3", "became /x-7-link", "units a.service $(b) ", "left x", "log", ""]
    told = "\n".join(["nixops-proxmox-probation 1", *lines])
    assert parse_probation(Completed(0, told)) == Probation(units=("a.service",))


@pytest.mark.parametrize(
    "script",
    [
        begin_script("/nix/store/x", "n", seconds=5, policy="accept"),
        begin_script("/nix/store/x", "n", seconds=5, policy="accept", generation=3),
        find_script(),
        confirm_script("n"),
        refuse_script("n", "it's\nbad"),
    ],
)
def test_scripts_are_plain_sh(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
