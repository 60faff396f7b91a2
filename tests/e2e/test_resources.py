"""What a network describes beside machines, by the command line: made, changed, replaced, drifted, removed."""

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
let from = name: default: let value = builtins.getEnv name; in if value == "" then default else value; in
{
  resources.pools = {
    front = { comment = from "COMMENT" "web servers"; pool = from "POOL" "front"; };
  } // (if from "BACK" "yes" == "yes" then { back = { }; } else { });
  resources.backupJobs.nightly = {
    schedule = "02:00";
    storage = "local";
    pool = "front";
    keep.daily = 7;
  };
  resources.sshKeyPairs.theirs = { pkgs, ... }: { };
}
"""


@pytest.fixture
def pools(bed: "Bed") -> "Bed":
    """The lab, with a network of two pools and no machine."""
    return bed.with_network("pools", NETWORK)


def there(bed: "Bed") -> dict[str, str]:
    return {pool["poolid"]: pool.get("comment", "") for pool in bed.api("GET", "/pools")}


def test_pools_are_taken_over_made_changed_replaced_and_removed(pools: "Bed") -> None:
    def run(*arguments: str, expected: int = 0, **extra: str) -> "CompletedProcess[str]":
        done = pools.run(*arguments, check=False, **extra)
        assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    planned = run("plan", "--check", expected=10)
    assert "pool front: new" in planned.stdout and "3 resources to make or change" in planned.stdout
    assert "resources.sshKeyPairs: no kind of ours" in planned.stderr
    pools.api("POST", "/pools", poolid="front", comment="by hand")
    assert "it is not ours" in run("deploy", expected=3).stderr
    assert "comment: 'by hand' becomes 'web servers'" in run("adopt", "resources.pools.front", "--yes").stderr
    assert there(pools)["front"] == "by hand nixops-proxmox:pools/front"
    assert "3 resources as described" in run("deploy").stderr
    assert there(pools) == {
        "front": "web servers nixops-proxmox:pools/front",
        "back": "nixops-proxmox:pools/back",
    }
    (job,) = pools.api("GET", "/cluster/backup")
    assert job["comment"] == "nixops-proxmox:pools/nightly" and job["pool"] == "front", job
    assert "pool front: as described" in run("plan", "--check").stdout

    pools.api("PUT", "/pools/front", comment="by hand nixops-proxmox:pools/front")
    assert "comment: 'by hand' becomes 'web servers'" in run("check", expected=10).stdout
    run("deploy")
    assert there(pools)["front"].startswith("web servers")

    assert "pool front: removed, and made again" in run("plan", POOL="edge").stdout
    run("deploy", POOL="edge")
    assert sorted(there(pools)) == ["back", "edge"]

    left = run("deploy", POOL="edge", BACK="no")
    assert "pool back is no longer in the description" in left.stderr and "back" in there(pools)
    run("deploy", "--remove", "--yes", POOL="edge", BACK="no")
    assert sorted(there(pools)) == ["edge"]

    shown: dict[str, Any] = json.loads(run("plan", "--json", POOL="edge", BACK="no").stdout)
    assert shown["resources"][1:] == [
        {
            "kind": "pool",
            "name": "front",
            "phase": "present",
            "described": True,
            "replaced": False,
            "differences": [],
            "remarks": [],
            "error": None,
            "more": None,
        }
    ]
    run("destroy", "--yes", POOL="edge", BACK="no")
    assert there(pools) == {} and pools.api("GET", "/cluster/backup") == []
