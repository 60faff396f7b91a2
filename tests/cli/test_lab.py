"""The lab by the command line; the service itself is tested with the lab."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_verbs import Cli, cli

__all__ = ["cli"]


@pytest.fixture
def lab(cli: Cli) -> Iterator[Cli]:
    """A command line whose lab is gone afterwards."""
    yield cli
    cli("lab", "down", real=True)


@pytest.mark.netns
def test_the_lab_comes_up_leads_to_itself_by_a_profile_and_goes_down(lab: Cli, tmp_path: Path) -> None:
    up = lab("lab", "up", "--pve", "9.1", "--nodes", "2", "--port", "0", real=True)
    assert up.status == 0, up.err
    assert "Proxmox VE 9.1, simulated guests" in up.err
    profile = tomllib.loads((tmp_path / "config" / "nixops-proxmox" / "profiles.toml").read_text())["lab"]
    url, other = profile["url"]
    assert url in up.err and other != url, "another node is asked if the first one has no power"
    status = lab("lab", "status", "--json", real=True).value
    assert (status["up"], status["url"], status["calls"], status["vms"]) == (True, url, 0, {})
    assert set(status["nodes"]) == {"pve1", "pve2"}
    doctor = lab("doctor", "--profile", "lab", described=[])
    assert "✓ connection: PVE 9.1" in doctor.out, "it answers inside of its network on the same URL"
    assert lab("lab", "status", "--json", real=True).value["calls"] > 0
    assert lab("lab", "status", real=True).out.startswith("up since")
    if "namespace" in profile:
        inside = lab("lab", "exec", "--", "readlink", "/proc/self/ns/net", real=True).out.strip()
        assert inside != os.readlink("/proc/self/ns/net")
    assert lab("lab", "power", "pve1", "off", real=True).err == "pve1: off\n"
    assert lab("lab", "status", "--json", real=True).value["nodes"]["pve1"] == {"online": False}
    assert "✓ connection: PVE 9.1" in lab("doctor", "--profile", "lab", described=[]).out
    assert "its nodes: pve1, pve2" in lab("lab", "power", "pve3", "off", real=True).err
    assert lab("lab", "reset", real=True).status == 0
    again = lab("lab", "status", "--json", real=True).value
    assert (again["url"], again["calls"]) == (url, 0)
    assert lab("lab", "down", real=True).err == "the lab is down\n"
    assert lab("lab", "status", "--json", real=True).value == {"up": False}


@pytest.mark.parametrize("words", [["exec", "--", "true"], ["screenshot", "100"]])
def test_a_lab_that_is_not_up_is_told_with_how_to_start_it(cli: Cli, words: list[str]) -> None:
    done = cli("lab", "--name", "other", *words, real=True)
    assert done.status == 1
    assert "hint: start it: nixops-proxmox lab --name other up" in done.err


@pytest.mark.parametrize("words", [["--name", "../x", "status"], ["up", "--pve", "8.5"], ["upp"], []])
def test_wrong_words_are_status_2(cli: Cli, words: list[str]) -> None:
    assert cli("lab", *words, real=True).status == 2
