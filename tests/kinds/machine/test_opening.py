"""What a system tells of who opened its disk."""

import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.kinds.machine.opening import opening_script, parse_opening

BOOT = "0f3c9a52-7d41-4a67-9d0e-3c5d1b8f2a10"


@pytest.mark.parametrize(
    ("told", "by_itself"),
    [
        (f"nixops-proxmox-opened {BOOT} 1800000000 sealed\n", True),
        (f"nixops-proxmox-opened {BOOT} 1800000000 asked\n", False),
        (f"nixops-proxmox-opened {BOOT} 1800000000 unknown\n", False),
    ],
)
def test_a_boot_is_without_help_only_where_the_system_says_so(told: str, by_itself: bool) -> None:
    found = parse_opening(told)
    assert found is not None and (found.boot, found.booted, found.by_itself) == (BOOT, 1_800_000_000, by_itself)


@pytest.mark.parametrize("told", ["", f"nixops-proxmox-opened {BOOT}  sealed", f"x {BOOT} 1 sealed", "a\nb"])
def test_what_does_not_tell_is_passed_over(told: str) -> None:
    assert parse_opening(told) is None


@pytest.mark.parametrize(
    ("units", "how"),
    [
        ("cryptsetup-clevis-root.service", "sealed"),
        ("cryptsetup-clevis-root.service systemd-ask-password-console.service", "asked"),
        ("systemd-ask-password-console.service", "asked"),
        ("", "unknown"),
    ],
)
def test_the_journal_of_a_boot_is_asked_for_both_units(tmp_path: Path, units: str, how: str) -> None:
    journal = tmp_path / "journalctl"
    journal.write_text(f'#!/bin/sh\nfor unit in {units}; do case "$*" in *UNIT=$unit*) echo done ;; esac; done\n')
    journal.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", opening_script()], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == how and parse_opening(done.stdout) is not None
