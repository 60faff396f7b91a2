"""HA by the command line: two machines are deployed and managed, one's node fails, and the same verbs follow it."""

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.pace import patience

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.weekly]

NETWORK = """\
let
  machine = name: node: {
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = { port = 80; handler = "echo ${name}"; };
    };
    deployment.proxmox = {
      inherit node;
      ha = { maxRestart = 2; };
      disks = [ { storage = "shared"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
    };
  };
in
{
  web = machine "web" "pve2";
  db = machine "db" "pve1";
  resources.haRules.near = { machines = [ "web" "db" ]; nodes = { pve1 = 1; pve2 = 2; pve3 = 1; }; };
}
"""


@pytest.fixture
def pair(bed: "Bed") -> "Bed":
    from tests.e2e.bed import DEMO

    return bed.with_network("pair", NETWORK.replace("DEMO", str(DEMO)))


def run(pair: "Bed", *arguments: str, expected: int = 0) -> "CompletedProcess[str]":
    done = pair.run(*arguments, check=False)
    assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def guests(pair: "Bed") -> dict[str, tuple[str, str, str]]:
    """Where each is, what it does, and what HA is at."""
    found: list[dict[str, Any]] = pair.api("GET", "/cluster/resources", type="vm")
    return {one.get("name", ""): (one["node"], one["status"], one.get("hastate", "")) for one in found}


def wait_until_elsewhere(pair: "Bed", node: str) -> None:
    """A guest on a node that is gone has no name."""
    deadline = time.monotonic() + patience(60)
    while (found := guests(pair).get("web", (node, "", "")))[0] == node or found[1:] != ("running", "started"):
        assert time.monotonic() < deadline, guests(pair)
        time.sleep(0.2)


def test_a_pair_is_managed_and_followed_when_a_node_fails(pair: "Bed") -> None:
    assert "ha web: new" in run(pair, "plan", "--check", expected=10).stdout
    run(pair, "deploy")
    assert guests(pair) == {"web": ("pve2", "running", "started"), "db": ("pve1", "running", "started")}
    assert {one["max_restart"] for one in pair.api("GET", "/cluster/ha/resources")} == {2}
    run(pair, "check")

    run(pair, "stop", "web")
    assert "state: stopped becomes started" in run(pair, "check", expected=10).stdout
    run(pair, "deploy", "web")
    assert guests(pair)["web"] == ("pve2", "running", "started")

    pair.control("POST", "nodes", {"pve2": False})
    wait_until_elsewhere(pair, "pve2")
    made = pair.vms()
    run(pair, "deploy")
    assert pair.vms().keys() == made.keys() and len(made) == 2
    assert pair.ssh("web", "hostname").strip() == "web"
    pair.control("POST", "nodes", {"pve2": True})

    run(pair, "destroy", "--yes")
    assert guests(pair) == {} and pair.api("GET", "/cluster/ha/resources") == []
