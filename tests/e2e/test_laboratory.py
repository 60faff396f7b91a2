"""`examples/laboratory` on a cluster of three nodes: two routers apart, services behind them, and HA over all; and
`scripts/demo laboratory`, with real keepalived, haproxy, dnsmasq and Prometheus."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.story import run_story
from tests.nixes import SMALL_NIXOS, find_obstacle, nixpkgs_lib

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly]

EXAMPLE = Path(__file__).parents[2] / "examples" / "laboratory" / "network.nix"
NIXOS = f"nixpkgs={SMALL_NIXOS}:nixpkgs-lib={nixpkgs_lib()}"
SECONDS = 600.0  # two minutes of it are HA's
KUBES = ("kube1", "kube2", "kube3")
SERVICES = {"dns", "proxy", "metrics", "desk", *KUBES}


def _password_store(folder: Path) -> Path:
    """The example's secret comes from `pass`."""
    folder.mkdir()
    (folder / "pass").write_text("#!/bin/sh\necho hunter2\n")
    (folder / "pass").chmod(0o755)
    return folder


def test_a_laboratory_is_made_in_one_deploy_and_watched_by_what_is_exported(bed: "Bed") -> None:
    laboratory = replace(bed, network=EXAMPLE)
    path = f"{_password_store(bed.home / 'bin')}:{os.environ['PATH']}"
    laboratory.run("deploy", NIX_PATH=NIXOS, PATH=path)
    guests = {one["name"]: one for one in bed.api("GET", "/cluster/resources", type="vm")}
    assert guests.keys() == SERVICES | {"router1", "router2"}
    assert guests["router1"]["node"] != guests["router2"]["node"] and len({guests[name]["node"] for name in KUBES}) == 3
    assert {one["hastate"] for one in guests.values()} == {"started"}, (
        "all of them are started elsewhere if a node fails"
    )
    machines = json.loads(laboratory.run("status", "--json", NIX_PATH=NIXOS, PATH=path).stdout)["machines"]
    ways = {one["machine"]: one["endpoint"]["jump"] for one in machines}
    assert all(ways[name] for name in SERVICES) and not ways["router1"] and not ways["router2"]
    assert "nothing to do" in laboratory.run("plan", "--check", NIX_PATH=NIXOS, PATH=path).stdout

    # As the example says: Prometheus is given its targets.
    targets = bed.home / "machines.json"
    laboratory.run("export", "prometheus", "--out", str(targets), NIX_PATH=NIXOS, PATH=path)
    watched = {one["labels"]["machine"]: one["targets"] for one in json.loads(targets.read_text())}
    assert watched.keys() == guests.keys() and watched["metrics"] == ["10.77.1.90:9100"]
    laboratory.run("ssh", "metrics", "--", "mkdir -p /var/lib/prometheus-targets", NIX_PATH=NIXOS, PATH=path)
    laboratory.run("scp", str(targets), "metrics:/var/lib/prometheus-targets/", NIX_PATH=NIXOS, PATH=path)
    found = laboratory.run(
        "ssh", "metrics", "--", "cat /var/lib/prometheus-targets/machines.json", NIX_PATH=NIXOS, PATH=path
    )
    assert json.loads(found.stdout) == json.loads(targets.read_text())

    viewer = bed.home / "desk.vv"
    laboratory.run("console", "--spice", "--out", str(viewer), "desk", NIX_PATH=NIXOS, PATH=path)
    assert "type=spice" in viewer.read_text()


@pytest.mark.timeout(2 * SECONDS)
def test_a_node_without_power_costs_the_service_seconds_and_ha_starts_its_machines_elsewhere(tmp_path: Path) -> None:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    run_story("laboratory", "simulated", tmp_path, SECONDS)
