from collections.abc import Sequence

import pytest

from nixops_proxmox.model import Level
from nixops_proxmox.operations.tools import find_program, find_ssh

from .test_verbs import Cli, cli

__all__ = ["cli"]


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.20\n", Level.OK),
        ("OpenSSH_7.3p1, LibreSSL\n", Level.OK),
        ("OpenSSH_7.2p2 Ubuntu\n", Level.PROBLEM),
        ("Dropbear v2022.83\n", Level.WARNING),
        ("", Level.WARNING),
    ],
)
def test_ssh_must_know_jump_hosts(said: str, level: Level) -> None:
    def ask(argv: Sequence[str]) -> str:
        assert list(argv) == ["ssh", "-V"]
        return said

    (finding,) = find_ssh(lambda _: "/usr/bin/ssh", ask)
    assert finding.level is level


def test_a_missing_program_is_named() -> None:
    (finding,) = find_ssh(lambda name: None if name == "scp" else "/usr/bin/ssh", lambda _: "")
    assert (finding.level, finding.text) == (Level.PROBLEM, "there is no scp")


def test_what_only_one_door_needs_is_a_warning() -> None:
    missing = find_program("rsync", "NixOps copies files by it", lambda _: None)
    here = find_program("rsync", "NixOps copies files by it", lambda _: "/usr/bin/rsync")
    assert (missing.level, missing.text) == (
        Level.WARNING,
        "there is no rsync on this computer: NixOps copies files by it",
    )
    assert here.level is Level.OK


def test_without_a_profile_the_doctor_says_how_to_write_one(cli: Cli) -> None:
    done = cli("doctor", described=[])
    assert done.status == 2
    assert "✗ default: there is no profile 'default'" in done.out
    assert "✓ state: " in done.out


def test_in_json_every_finding_has_level_subject_text_and_hint(cli: Cli) -> None:
    findings = cli("doctor", "--json", described=[]).value["findings"]
    assert {finding["subject"] for finding in findings} >= {"Nix", "OpenSSH", "state", "default"}
    assert {"level", "subject", "text", "hint"} == set(findings[0])


def test_a_description_that_cannot_be_read_is_a_finding_and_the_rest_is_looked_at(cli: Cli) -> None:
    done = cli("doctor", "-f", "missing.nix")
    assert "✗ network: there is no network file" in done.out
    assert "✗ default" in done.out
    assert done.status == 2


def test_an_unusable_state_is_a_finding(cli: Cli) -> None:
    done = cli("doctor", "--state", "/dev/null/x", described=[])
    assert "✗ state: " in done.out
