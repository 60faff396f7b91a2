import stat
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nixops_proxmox.lab.testing import RunningLab, start_lab
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


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RunningLab]:
    """With a profile that names a token which nobody has made yet."""
    with start_lab() as running:
        file = tmp_path / "config" / "nixops-proxmox" / "profiles.toml"
        file.parent.mkdir(parents=True)
        file.touch(mode=0o600)
        file.write_text(
            f'# mine\n[default]\nurl = "{running.url}"\nfingerprint = "{running.fingerprint}"\n'
            'token_id = "nixops@pve!deploy"\n'
        )
        yield running


def test_apply_makes_the_token_and_its_rights_with_a_password_that_stays_nowhere(
    cli: Cli, lab: RunningLab, tmp_path: Path
) -> None:
    file = tmp_path / "config" / "nixops-proxmox" / "profiles.toml"
    before = file.read_text()
    refused = cli("doctor", "--apply", described=[], stdin=f"{lab.root_password}\n")
    assert refused.status == 3 and "do this on default, as root@pam?" in refused.err, refused.err
    assert "make the user nixops@pve" in refused.err and file.read_text() == before
    done = cli("doctor", "--apply", "--yes", described=[], stdin=f"{lab.root_password}\n")
    assert "the token's secret is in" in done.err, done.err
    assert file.read_text().startswith(before.strip()) and 'token_secret = "' in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = tomllib.loads(file.read_text())["default"]["token_secret"]
    for text in (done.out, done.err, refused.out, refused.err):
        assert secret not in text and lab.root_password not in text
    assert lab.root_password not in file.read_text()
    again = cli("doctor", "--apply", "--yes", described=[], stdin=f"{lab.root_password}\n")
    assert "nixops@pve!deploy has all that is needed" in again.err


def test_apply_needs_a_profile_that_says_for_whom_and_a_password(cli: Cli, lab: RunningLab, tmp_path: Path) -> None:
    file = tmp_path / "config" / "nixops-proxmox" / "profiles.toml"
    none = cli("doctor", "--apply", "--yes", described=[])
    assert none.status == 2 and "no secret was given" in none.err
    file.write_text(file.read_text().replace("token_id", "# token_id"))
    nobody = cli("doctor", "--apply", "--yes", described=[], stdin=f"{lab.root_password}\n")
    assert nobody.status == 2 and "does not say who is to get the rights" in nobody.err
