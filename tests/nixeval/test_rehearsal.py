"""What `dry-activate` says, in the words of both of NixOS's programs, and what a hostile guest says."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.rehearsal import Rehearsal, Units, parse_rehearsal, rehearse, rehearse_script

OLD = """\
would stop the following units: acpid.service, nginx.service
would NOT stop the following changed units: systemd-udevd.service
would activate the configuration...
would stop the following units as well: simple-service.service
would NOT restart the following changed units as well: getty@tty1.service
would restart systemd
would reload the following units: dbus.service, firewall.service
would restart the following units: nix-daemon.service, sshd.service
would start the following units: nginx.service, simple-service.service, new.socket
"""
NEW = """\
Checking switch inhibitors... done
would stop the following units: nginx.service
would activate the configuration...
setting up /etc...
would restart the following user units: pipewire.service
would start the following units: dev-disk-by\\x2dlabel-swap.swap, nginx.service
"""


def said(text: str, status: int = 0) -> Completed:
    return Completed(0, f"{text}\nnixops-proxmox: status {status}\n")


def test_perls_words_are_understood() -> None:
    assert parse_rehearsal(said(OLD)).units == Units(
        restarts=("nginx.service", "nix-daemon.service", "simple-service.service", "sshd.service", "systemd"),
        stops=("acpid.service",),
        reloads=("dbus.service", "firewall.service"),
        starts=("new.socket",),
        keeps=("getty@tty1.service", "systemd-udevd.service"),
    )


def test_so_are_those_of_switch_to_configuration_ng() -> None:
    assert parse_rehearsal(said(NEW)).units == Units(
        restarts=("nginx.service", "pipewire.service (user)"), starts=("dev-disk-by\\x2dlabel-swap.swap",)
    )


def test_what_the_machine_was_booted_with_is_told_beside_it() -> None:
    kernel = "booted kernel /nix/store/x-linux-6.12.1/bzImage\n"
    head = f"{kernel}booted kernel-params quiet loglevel=4\nnixops-proxmox: booted\n"
    booted = {"kernel": "/nix/store/x-linux-6.12.1/bzImage", "kernel-params": "quiet loglevel=4"}
    assert parse_rehearsal(Completed(0, f"{head}{said(NEW).stdout}")) == replace(
        parse_rehearsal(said(NEW)), booted=booted
    )
    assert parse_rehearsal(Completed(0, f"{head}absent\n")).booted == booted
    assert parse_rehearsal(Completed(0, f"{head}absent\n")).absent


def test_a_system_that_touches_no_unit_says_so() -> None:
    assert parse_rehearsal(said("would activate the configuration...\n")) == Rehearsal(Units())


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Completed(0, "absent\n"), "is not on the machine"),
        (Completed(0, ""), "failed: it said nothing"),
        (Completed(1, "", "sh: killed"), "failed: it said nothing"),
        (said("error: nothing works\n", 1), "failed: error: nothing works"),
        (said("would activate /nix/store/x\n"), "does not name units"),
        (said("would stop the following units: \x1b[2Jweb.service"), "names units that cannot be"),
        (said("would stop the following units: web.service; reboot"), "names units that cannot be"),
        (said("would stop the following units: "), "names units that cannot be"),
        (said(f"would stop the following units: {'x' * 300}.service"), "names units that cannot be"),
        (Completed(0, "would stop the following units: web.service\n"), "failed: would stop"),
        (Completed(0, "x\nnixops-proxmox: status 0; x\n"), "failed: "),
    ],
)
def test_what_is_not_understood_is_unknown(done: Completed, why: str) -> None:
    found = parse_rehearsal(done)
    assert found.units is None and why in found.why
    assert found.absent is (done.stdout == "absent\n")


class Guest:
    """A real sh, with a store of one system."""

    def __init__(self, folder: Path, valid: bool) -> None:
        self.environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
        (folder / "nix-store").write_text(f"#!/bin/sh\nexit {0 if valid else 1}\n")
        (folder / "nix-store").chmod(0o755)
        self.system = folder / "a system"
        (self.system / "bin").mkdir(parents=True)

    def has(self, script: str) -> None:
        program = self.system / "bin" / "switch-to-configuration"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        done = subprocess.run(["sh", "-c", script], input=stdin, env=self.environment, capture_output=True)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_only_a_rehearsal_is_asked_for_and_its_end_is_seen(tmp_path: Path) -> None:
    guest = Guest(tmp_path, valid=True)
    assert rehearse(str(guest.system), guest).absent
    guest.has('[ "$*" = dry-activate ] || exit 9; echo "would start the following units: a.timer" >&2')
    assert rehearse(str(guest.system), guest).units == Units(starts=("a.timer",))
    guest.has("echo it fails; exit 3")
    assert "failed: it fails" in rehearse(str(guest.system), guest).why
    guest.has("yes | head -c 3000000")
    assert "does not name units" in rehearse(str(guest.system), guest).why


def test_a_system_that_is_half_copied_is_not_there(tmp_path: Path) -> None:
    guest = Guest(tmp_path, valid=False)
    guest.has("echo would activate the configuration...")
    assert rehearse(str(guest.system), guest).absent


def test_the_script_is_named_for_models_of_guests() -> None:
    assert rehearse_script("/nix/store/x").startswith("# nixops-proxmox: rehearse /nix/store/x\n")
