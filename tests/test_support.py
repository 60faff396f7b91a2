"""The table of what it runs with says what the tests really use."""

import re
import tomllib
from pathlib import Path

import pytest

from nixops_proxmox import __version__
from nixops_proxmox.cli.lab import VERSIONS
from nixops_proxmox.nixeval.tools import OLDEST as OLDEST_NIX
from nixops_proxmox.pve.cluster.doctor import OLDEST as OLDEST_PVE

ROOT = Path(__file__).resolve().parents[1]
NUMBER = r"\d+\.\d+"


def row(name: str) -> list[str]:
    (found,) = re.findall(rf"(?m)^\| {name} \|(.*)\|$", (ROOT / "docs" / "support.md").read_text())
    return [cell.strip() for cell in found.split("|")]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def test_proxmox_ve_is_what_the_lab_imitates_and_the_tests_start() -> None:
    tested, _, expected = row("Proxmox VE")
    assert tuple(re.findall(NUMBER, tested)) == VERSIONS
    assert expected.startswith(f"{OLDEST_PVE} and later")
    started = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for version in VERSIONS:
        assert re.search(rf"[\"']{re.escape(version)}[\"']", started), version


def test_nix_is_debians_and_the_one_that_the_tests_unpack() -> None:
    tested, _, expected = row("Nix")
    (suite,) = re.findall(r"(?m)^SUITE=(\w+)", text("scripts/current-nix"))
    assert f"({suite})" in tested and 'NIX_PACKAGES="nix-bin"' in text("scripts/environment.sh")
    assert expected == f"{'.'.join(map(str, OLDEST_NIX))} and later"


def test_python_is_the_oldest_that_is_allowed() -> None:
    tested, _, expected = row("Python")
    (least,) = re.findall(r'python_requires=">=(\S+)"', text("setup.py"))
    assert re.findall(NUMBER, tested) == [least] and expected == f"{least} and later"
    assert tomllib.loads(text("pyproject.toml"))["tool"]["mypy"]["python_version"] == least


@pytest.mark.parametrize("program", ["postgresql", "zsh", "fish"])
def test_what_ci_tests_with_is_installed_there(program: str) -> None:
    (packages,) = re.findall(r'(?m)^SERVER_PACKAGES="([^"]*)"', text("scripts/environment.sh"))
    assert program in packages.split()
    assert program in f"{row('state')[0]} {row('shells. completion')[0]}".lower()


def test_nixos_is_real_only_where_a_variable_names_it() -> None:
    tested, by_hand, _ = row("NixOS")
    assert "stand-ins" in tested and "NIXOPS_PROXMOX_NIXPKGS" in by_hand
    assert "NIXOPS_PROXMOX_NIXPKGS" in text("tests/nix/conftest.py")


def test_one_version_is_everywhere_and_the_changelog_tells_of_it() -> None:
    assert re.findall(r'version="([^"]+)"', text("setup.py")) == [__version__]
    assert re.findall(r'(?m)^  version = "([^"]+)"', text("nix/package.nix")) == [__version__]
    assert re.search(rf"(?m)^## \[{re.escape(__version__)}\]", text("CHANGELOG.md"))
