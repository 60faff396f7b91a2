"""Several hypervisors in one network, by the command line: the example of two, and one cluster with two beside it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nixes import find_obstacle

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "two-hypervisors" / "network.nix"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Bed"]:
    """A cluster of three nodes, and two hypervisors of one node each."""
    from tests.e2e.bed import start_bed

    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    home = tmp_path_factory.mktemp("hypervisors")
    with start_bed(home, EXAMPLE, "--simulated", "--beside", "mgmt", "--beside", "tenant") as made:
        yield replace(made, profile="")


def vms(bed: "Bed", profile: str) -> dict[str, str]:
    """Power by name, as the hypervisor itself says."""
    running = bed.running if profile == "lab" else bed.running.beside[profile]
    found = replace(bed, running=running).vms()
    return {str(one["name"]): str(one["status"]) for one in found.values()}


def places(bed: "Bed") -> dict[str, str]:
    return {one["machine"]: one["hypervisor"] for one in bed.status()}


def with_care(bed: "Bed") -> None:
    """What an administrator says of `mgmt`."""
    path = bed.home / "config" / "nixops-proxmox" / "profiles.toml"
    path.write_text(path.read_text().replace("[mgmt]\n", "[mgmt]\nconfirm = true\n"))


def test_the_example_keeps_what_others_depend_on_apart(bed: "Bed") -> None:
    with_care(bed)
    refused = bed.run("deploy", check=False)
    assert refused.returncode == 3 and "mgmt" in refused.stderr, "there is no one to ask"
    assert vms(bed, "mgmt") == {}
    iso = bed.home / "small.iso"
    iso.write_bytes(b"not much")
    puts = [json.loads(bed.run("iso", "upload", "--each", "--json", str(iso)).stdout)["uploads"] for _ in range(2)]
    assert [[(one["hypervisor"], one["uploaded"]) for one in put] for put in puts] == [
        [("mgmt", True), ("tenant", True)],
        [("mgmt", False), ("tenant", False)],
    ]
    bed.run("deploy", "--confirm")
    assert vms(bed, "mgmt") == {"metrics": "running", "jump": "running"}
    assert vms(bed, "tenant") == {"iot": "running", "sandbox": "running"}
    (metrics,) = [one for one in bed.status() if one["machine"] == "metrics"]
    assert metrics["macs"] == ["02:4d:01:10:00:01"]
    shown = bed.run("plan", "--check").stdout
    lines = [line.partition(":")[0] for line in shown.splitlines()]
    assert lines[:6] == ["on mgmt", "jump", "metrics", "on tenant", "iot", "sandbox"] and "nothing to do" in shown
    assert json.loads(bed.run("status", "--json").stdout)["hypervisors"] == {
        "mgmt": ["jump", "metrics"],
        "tenant": ["iot", "sandbox"],
    }

    told = bed.run("move", "iot", "--to", "mgmt", "--yes", check=False)
    assert "tenant → mgmt" in told.stderr
    bed.run("destroy", "--yes", "--confirm")
    assert vms(bed, "mgmt") == vms(bed, "tenant") == {}


THREE = """
let
  machine = profile: number: {
    deployment.proxmox = {
      inherit profile;
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install = { iso = "local:iso/lab-installer.iso"; method = "configuration"; };
      memory = 256;
      network = [ { bridge = "vmbr0"; mac = "02:4d:02:00:00:0${toString number}"; } ];
    };
  };
in
{ a = machine "lab" 1; b = machine "HOME" 2; c = machine "tenant" 3; }
"""


def test_three_hypervisors_are_deployed_looked_at_and_a_machine_moves(bed: "Bed") -> None:
    three = bed.with_network("three", THREE.replace("HOME", "lab"))
    three.run("deploy")
    assert places(three) == {"a": "lab", "b": "lab", "c": "tenant"}
    moved = bed.with_network("three", THREE.replace("HOME", "mgmt"))
    assert (
        "b: ready, and not where it is described; `nixops-proxmox move b` takes it there"
        in moved.run("plan", check=False).stdout
    )
    key = {one["machine"]: one["host_key"] for one in three.status()}
    told = moved.run("move", "--yes", "--confirm").stderr
    assert "b: lab → mgmt" in told and "a:" not in told.partition("move b?")[0]
    assert places(moved) == {"a": "lab", "b": "mgmt", "c": "tenant"}
    assert vms(bed, "lab") == {"a": "running"} and vms(bed, "mgmt") == {"b": "running"}
    assert {one["machine"]: one["host_key"] for one in moved.status()} == key
    assert moved.ssh("b", "hostname").strip() == "b"
    assert moved.run("check", check=False).returncode in (0, 10)
    moved.run("destroy", "--yes", "--confirm")
    assert vms(bed, "lab") == vms(bed, "mgmt") == vms(bed, "tenant") == {}
