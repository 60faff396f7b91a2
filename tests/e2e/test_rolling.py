"""A deploy of some machines at a time by the command line: the order, the commands around it, and killed runs."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

# SICK: the machine whose new system answers on another port than its health wants.
NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  machine = name: {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      deploy = {
        probation = 6;
        health.http = [ { port = 80; } ];
        strategy = { group = "web"; batch = 1; canary = name == "b"; };
        hooks = {
          before = [ "./note" ] ++ (if from "REFUSE" "" == name then [ "refuse" ] else [ ]);
          after = [ "./note" ];
        };
      };
    };
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = {
        port = if from "SICK" "" == name then 81 else 80;
        handler = "echo version ${from "VERSION" "1"}";
      };
    };
  };
in
{ a = machine "a"; b = machine "b"; c = machine "c"; }
"""
NOTE = """\
#!PYTHON
import json, os, sys
told = json.load(sys.stdin)
with open("notes", "a") as notes:
    print(told["when"], told["machine"], file=notes)
sys.exit(len(sys.argv) - 1)
"""


@pytest.fixture(scope="module")
def web(lab_bed: "Bed") -> Iterator["Bed"]:
    import sys

    from tests.e2e.bed import DEMO

    lab_bed.reset()
    bed = lab_bed.with_network("rolling", NETWORK.replace("DEMO", str(DEMO)))
    note = bed.network.parent / "note"
    note.write_text(NOTE.replace("PYTHON", sys.executable))
    note.chmod(0o755)
    bed.run("deploy")
    yield bed
    bed.run("destroy", "--yes", check=False)


def notes(bed: "Bed") -> list[str]:
    """What the commands wrote since this was asked last."""
    file = Path(bed.network.parent, "notes")
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_machines_are_changed_one_after_the_other_the_canary_first(web: "Bed") -> None:
    assert notes(web) == ["after b", "after a", "after c"]  # nobody was served before
    plan = web.run("plan", VERSION="2").stdout
    assert "order of the group web: b, then a, then c; no more begin after 1 failure" in plan
    assert plan.count("run deploy.hooks.before first") == 3
    web.run("deploy", VERSION="2")
    assert notes(web) == [f"{when} {name}" for name in "bac" for when in ("before", "after")]
    assert json.loads(web.run("plan", "--json", VERSION="2").stdout)["order"] == [
        {"group": "web", "batches": [["b"], ["a"], ["c"]], "canaries": True, "max failures": 0}
    ]


def test_a_canary_that_is_ill_costs_the_others_nothing(web: "Bed") -> None:
    done = web.run("deploy", check=False, VERSION="3", SICK="b")
    assert done.returncode == 7, done.stderr  # why b failed; the others have not
    assert "a: not begun, because b failed, which comes first in the group web" in done.stderr
    assert "not begun: a (ready), c (ready)" in done.stderr
    assert notes(web) == ["before b"]
    web.run("deploy", "--canary", "c", "--batch", "100%", VERSION="3")
    ran = notes(web)
    assert ran[:2] == ["before c", "after c"] and {"after a", "after b"} <= set(ran[2:])


@pytest.mark.weekly
def test_a_command_that_refuses_leaves_the_machine_and_those_after_it(web: "Bed") -> None:
    done = web.run("deploy", check=False, VERSION="4", REFUSE="a")
    assert done.returncode == 9, done.stderr
    assert "a.deployment.proxmox.deploy.hooks.before: it ended with exit status 1" in done.stderr
    assert "not begun: c (ready)" in done.stderr
    assert notes(web) == ["before b", "after b", "before a"]
    assert {machine["phase"] for machine in web.status()} == {"ready"}


def test_a_run_that_was_killed_goes_on_where_it_was(web: "Bed") -> None:
    notes(web)
    process = web.start("deploy", VERSION="5")
    file = Path(web.network.parent, "notes")
    wait_until(lambda: file.exists() and "before a" in file.read_text(), 60, "the second machine's command", 0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    web.run("deploy", VERSION="5")
    ran = notes(web)
    assert ran[:3] == ["before b", "after b", "before a"] and ran[-2:] == ["before c", "after c"]
    assert "after a" in ran and "before b" not in ran[3:]  # what was done is not done again
    assert {machine["phase"] for machine in web.status()} == {"ready"}
