"""The scripts are run by a real sh on a small tree that looks like a guest's root."""

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.activate import (
    activate_script,
    activate_system,
    active_script,
    explain_inactive,
    find_active_system,
    find_inactive_reason,
    generations_script,
    parse_activation,
    parse_generations,
    roll_back,
    rollback_script,
    seen_script,
)
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from tests.builds import BUILDER, nix_config
from tests.pace import patience, wait_until

NIX_ENV = """\
#!/bin/sh
# As much of nix-env as a profile needs: --set, --rollback, --switch-generation.
profile=$2
number() { link=$(readlink "$profile"); link=${link##*system-}; echo "${link%-link}"; }
case $3 in
  --set) last=$(ls -d "$profile"-*-link 2>/dev/null | wc -l); new=$((last + 1)); ln -s "$4" "$profile-$new-link" ;;
  --rollback) new=$(($(number) - 1)) ;;
  --switch-generation) new=$4 ;;
esac
[ -e "$profile-$new-link" ] || { echo "error: no generation $new" >&2; exit 1; }
ln -sfn "system-$new-link" "$profile"
"""


@dataclass
class SmallGuest:
    """Runs scripts with every absolute path of theirs moved below `root`."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        done = self.start(script).communicate(stdin, timeout)
        return Completed(self.status, done[0].decode(), done[1].decode())

    def start(self, script: str) -> "subprocess.Popen[bytes]":
        moved = re.sub(r"(?<![\w.}/])/(?=run/|nix/)", f"{self.root}/", script)
        environment = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}", **self.environment}
        self.process = subprocess.Popen(
            ["sh", "-c", moved], stdin=-1, stdout=-1, stderr=-1, env=environment, start_new_session=True
        )
        return self.process

    @property
    def status(self) -> int:
        return self.process.returncode

    def make_system(self, name: str, switch: str) -> str:
        system = self.root / "nix" / "store" / name
        (system / "bin").mkdir(parents=True)
        program = system / "bin" / "switch-to-configuration"
        current = self.root / "run" / "current-system"
        program.write_text(f"#!/bin/sh\necho {name} $1\n{switch}\nln -sfn {system} {current}\n")
        program.chmod(0o755)
        return str(system)

    @property
    def profile(self) -> Path:
        return self.root / "nix" / "var" / "nix" / "profiles" / "system"


@pytest.fixture
def guest(tmp_path: Path) -> SmallGuest:
    for directory in ("bin", "run", "nix/var/nix/profiles"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "bin" / "nix-env").write_text(NIX_ENV)
    (tmp_path / "bin" / "nix-env").chmod(0o755)
    return SmallGuest(tmp_path)


def _activate(guest: SmallGuest, system: str) -> int:
    return activate_system(system, guest, machine="web").generation


def test_a_system_becomes_generation_after_generation(guest: SmallGuest) -> None:
    one, two = guest.make_system("one", ""), guest.make_system("two", "")
    assert find_active_system(guest) == ""
    assert _activate(guest, one) == 1
    assert find_active_system(guest) == one
    assert _activate(guest, two) == 2
    assert find_active_system(guest) == two


def test_rolling_back_activates_the_one_before(guest: SmallGuest) -> None:
    one, two = guest.make_system("one", ""), guest.make_system("two", "")
    _activate(guest, one)
    _activate(guest, two)
    assert roll_back(guest, machine="web").generation == 1
    assert find_active_system(guest) == one
    assert roll_back(guest, machine="web", generation=2).generation == 2
    assert find_active_system(guest) == two


def test_there_is_nothing_before_the_first_generation(guest: SmallGuest) -> None:
    _activate(guest, guest.make_system("one", ""))
    with pytest.raises(ActivationFailed, match="could not be made the current generation"):
        roll_back(guest, machine="web")


def test_a_switch_that_fails_leaves_no_active_system(guest: SmallGuest) -> None:
    one, bad = guest.make_system("one", ""), guest.make_system("bad", "echo oh no >&2; exit 2")
    _activate(guest, one)
    with pytest.raises(ActivationFailed, match=r"web: .*status 2\nbad switch\noh no") as caught:
        _activate(guest, bad)
    assert "activation.log in the guest" in caught.value.hint
    assert find_active_system(guest) == ""
    assert roll_back(guest, machine="web").generation == 1
    assert find_active_system(guest) == one


def test_what_a_switch_with_failed_services_left_is_told(guest: SmallGuest) -> None:
    bad = guest.make_system("bad", "exit 4")
    with pytest.raises(ActivationFailed, match="some of its services did not start"):
        _activate(guest, bad)
    assert find_active_system(guest) == ""
    said = find_inactive_reason(guest, bad)
    assert said.startswith(f"{bad} is active, but its activation failed")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            "current /x\nnext /x\nhalf /x\ndown a.service\ndown b.service\n",
            "these services failed: a.service, b.service",
        ),
        ("current /x\nnext /x\nhalf /x\n", "/x is active, but its activation failed, though no service is"),
        ("current /w\nnext /x\nhalf /x\nworking\n", "/x is being activated right now"),
        ("current /x\nnext /w\n", "/x is active, but the next boot takes /w"),
        ("current /w\nnext /w\n", "/w is active, and /x is wanted"),
        ("", "an unknown system is active, and /x is wanted"),
    ],
)
def test_why_a_system_does_not_count_as_active(seen: str, said: str) -> None:
    assert said in explain_inactive(seen, "/x")


def test_a_switch_that_nixos_inhibits_is_left_to_the_next_boot(guest: SmallGuest) -> None:
    refuses = """[ "$1" = boot ] && exit 0; echo "Pre-switch check 'switchInhibitors' failed" >&2; exit 1"""
    done = activate_system(guest.make_system("new", refuses), guest, machine="web")
    assert done.needs_reboot and done.generation == 1
    assert "new boot" in done.output
    assert find_active_system(guest) == "", "it counts as half activated until the machine boots"


def test_another_check_that_fails_is_an_error(guest: SmallGuest) -> None:
    system = guest.make_system("new", "echo \"Pre-switch check 'disk' failed\"; exit 1")
    with pytest.raises(ActivationFailed, match="status 1"):
        activate_system(system, guest, machine="web")


def test_status_100_asks_for_a_reboot(guest: SmallGuest) -> None:
    done = activate_system(guest.make_system("new", "exit 100"), guest, machine="web")
    assert done.needs_reboot and done.generation == 1
    assert find_active_system(guest) == ""


def test_a_system_that_the_next_boot_would_not_take_is_not_active(guest: SmallGuest) -> None:
    one, two = guest.make_system("one", ""), guest.make_system("two", "")
    _activate(guest, one)
    (guest.root / "run" / "current-system").unlink()
    (guest.root / "run" / "current-system").symlink_to(two)
    assert find_active_system(guest) == ""


def test_a_broken_connection_does_not_break_the_switch(guest: SmallGuest) -> None:
    gate = guest.root / "gate"
    wait = f"while [ ! -e {gate} ]; do sleep 0.01; done"
    slow = guest.make_system("slow", wait)
    connection = guest.start(activate_script(slow))
    wait_until((guest.root / "run" / "nixops-proxmox" / "activation.pid").exists, 5)
    connection.kill()  # as sshd does to its child
    connection.communicate()
    assert find_active_system(guest) == "", "half activated is not active"
    gate.touch()
    wait_until(lambda: find_active_system(guest) == slow, 5)


def test_a_second_activation_waits_for_the_first(guest: SmallGuest) -> None:
    order, gate = guest.root / "order", guest.root / "gate"
    slow = guest.make_system("slow", f"while [ ! -e {gate} ]; do sleep 0.01; done; echo slow >>{order}")
    quick = guest.make_system("quick", f"echo quick >>{order}")
    first = guest.start(activate_script(slow))
    wait_until((guest.root / "run" / "nixops-proxmox" / "activation.pid").exists, 5)
    first.kill()
    first.communicate()
    second = guest.start(activate_script(quick))
    time.sleep(patience(0.5))  # long enough for one that does not wait to be through
    assert not order.exists()
    gate.touch()
    out, _ = second.communicate(timeout=patience(10))
    assert parse_activation(Completed(second.returncode, out.decode()), "web").output == "quick switch"
    assert order.read_text() == "slow\nquick\n"


def test_generations_are_listed(guest: SmallGuest) -> None:
    one, two = guest.make_system("one", ""), guest.make_system("two", "")
    _activate(guest, one)
    _activate(guest, two)
    assert parse_generations(guest.run(generations_script()).stdout) == {1: one, 2: two}


@pytest.mark.nix
def test_a_real_nix_env_makes_generations_and_goes_back(nix: Nix, tmp_path: Path) -> None:
    """In a store and a state below the guest's root; what becomes current must be valid there."""
    places = {"NIX_STORE_DIR": f"{tmp_path}/nix/store", "NIX_STATE_DIR": f"{tmp_path}/nix/var/nix"}
    (tmp_path / "nix" / "var" / "nix" / "profiles").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    places |= {"NIX_LOG_DIR": f"{tmp_path}/nix/var/log", "NIX_CONF_DIR": f"{tmp_path}/etc"}  # a user has no other
    own = {**places, "NIX_REMOTE": "", "NIX_CONFIG": nix_config()}
    guest = SmallGuest(tmp_path, {**own, "PATH": f"{nix.directory}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    one, two = (_build_system(nix, guest, name) for name in ("one", "two"))
    assert [_activate(guest, system) for system in (one, two, two)] == [1, 2, 2], "none is added for the current one"
    assert find_active_system(guest) == two
    assert roll_back(guest, machine="web").generation == 1
    assert find_active_system(guest) == one
    assert parse_generations(guest.run(generations_script()).stdout) == {1: one, 2: two}
    with pytest.raises(ActivationFailed, match=r"could not be made the current generation\n.*error: "):
        roll_back(guest, machine="web", generation=7)


def _build_system(nix: Nix, guest: SmallGuest, name: str) -> str:
    switch = f"#!/bin/sh\nln -sfn $(dirname $(dirname $0)) {guest.root}/run/current-system\n"
    text = f"""import {BUILDER} "{name}" {{ }} ''
      mkdir -p $out/bin
      cp ${{builtins.toFile "switch" {json.dumps(switch)}}} $out/bin/switch-to-configuration
      chmod +x $out/bin/*
    ''"""
    done = ProcessRunner(environment=guest.environment)(nix.argv("nix-build", "--no-out-link", "-E", text))
    assert done.status == 0, done.stderr
    return done.stdout.strip()


def test_failed_units_are_told_apart_from_a_failed_activation() -> None:
    done = Completed(4, "warning: the following units failed: x.service\nnixops-proxmox: generation system-3-link\n")
    with pytest.raises(ActivationFailed, match=r"some of its services did not start\nwarning: .*x\.service"):
        parse_activation(done, "web")


@pytest.mark.parametrize(
    "script", [active_script(), seen_script(), activate_script("/nix/store/x"), rollback_script(3)]
)
def test_scripts_are_posix(script: str) -> None:
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
