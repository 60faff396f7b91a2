"""Systems on probation by the command line: what breaks the machine does not stay, and what became of it is said."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.breaking import BREAKING
from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]
CURRENT = "readlink -f /run/current-system; readlink -f /nix/var/nix/profiles/system"
STATE = "cat /run/nixops-proxmox/probation/state"


@pytest.fixture(scope="module")
def web(lab_bed: "Bed") -> Iterator["Bed"]:
    from tests.e2e.bed import DEMO

    lab_bed.reset()
    bed = lab_bed.with_network("probation", BREAKING.replace("DEMO", str(DEMO)))
    bed.run("deploy")
    yield bed
    bed.run("destroy", "--yes", check=False)


def verdict(bed: "Bed") -> str:
    (machine,) = bed.status()
    return str(machine["probation"]["verdict"])


@pytest.mark.parametrize(
    ("broken", "told", "said"),
    [
        ("network", "reverted by the guest", "no confirmation came within 10 s"),
        ("service", "reverted by us", "health: http 80/: "),
        pytest.param("status", "reverted by the guest", "its activation ended with status", marks=pytest.mark.weekly),
        ("machine", "reverted by a restart", "the machine was restarted before it was confirmed"),
    ],
)
def test_what_breaks_the_machine_does_not_stay(web: "Bed", broken: str, told: str, said: str) -> None:
    before = web.ssh("web", CURRENT).split()
    assert len(set(before)) == 1
    done = web.run("deploy", check=False, BREAK=broken)
    assert done.returncode == 7, done.stderr
    assert f"does not stay ({told})" in done.stderr and said in done.stderr, done.stderr
    assert web.ssh("web", CURRENT).split() == before
    assert verdict(web) == told
    assert re.search(rf"the probation of \S+ is {told}", web.run("status").stdout)
    assert f"({told})" in web.run("history", "--json").stdout


def identity(bed: "Bed") -> dict[str, Any]:
    (found,) = json.loads(bed.run("identity", "show", "--json").stdout)["identities"]
    return dict(found)


def test_a_machine_gets_another_host_key_which_is_known_before_and_the_old_one_is_gone(web: "Bed") -> None:
    before = identity(web)
    web.run("identity", "rotate", "web", "--prepare")
    prepared = identity(web)
    assert prepared["host_key"] == before["host_key"] != prepared["next"]["host_key"]
    assert len(web.run("identity", "show", "--known-hosts").stdout.splitlines()) == 2
    done = web.run("identity", "rotate", "web")
    after = identity(web)
    assert after["host_key"] == prepared["next"]["host_key"] in done.stdout and after["next"] is None
    assert web.ssh("web", "cd /etc/ssh; ls; cat *_ed25519_key.pub").split().count(after["host_key"].split()[1]) == 1
    assert ".old" not in web.ssh("web", "ls /etc/ssh")
    assert web.run("check").returncode == 0


def snapshots(bed: "Bed") -> list[str]:
    return [str(one["name"]) for one in json.loads(bed.run("snapshot", "list", "--json").stdout)["snapshots"]]


def test_a_snapshot_is_kept_until_a_system_is_confirmed_and_returns_to_the_disks_before(web: "Bed") -> None:
    assert "take a snapshot of its disks before the switch" in web.run("plan", SNAPSHOT="1", VERSION="8").stdout
    web.ssh("web", "echo before >/root/data")
    done = web.run("deploy", check=False, SNAPSHOT="1", BREAK="service")
    (name,) = snapshots(web)
    assert done.returncode == 7 and f"nixops-proxmox snapshot rollback {name} web" in done.stderr
    web.ssh("web", "echo after >/root/data")
    web.run("snapshot", "rollback", name, "web", "--yes")
    assert web.ssh("web", "cat /root/data").strip() == "before"
    web.run("deploy", SNAPSHOT="1", VERSION="8")
    assert (verdict(web), snapshots(web)) == ("confirmed", [])


def test_a_supervisor_that_is_killed_does_not_cost_the_deploy(web: "Bed") -> None:
    web.run("deploy", BREAK="both")
    assert verdict(web) == "confirmed"
    running, boots = web.ssh("web", CURRENT).split()
    assert running == boots and "-web-both" in running


@pytest.mark.parametrize("wanted", [pytest.param("the same", marks=pytest.mark.weekly), "another"])
def test_the_deploy_after_one_that_was_killed_says_what_became_of_it(web: "Bed", wanted: str) -> None:
    web.run("deploy", VERSION="3")
    environment = {"BREAK": "service", "VERSION": wanted, "PROBATION": "15"}
    process = web.start("deploy", **environment)
    wait_until(lambda: web.ssh("web", f"{STATE} || true").strip() == "waiting", 60, "the probation", 0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = web.run("deploy", check=False, **(environment if wanted == "the same" else {}))
    if wanted == "the same":
        assert done.returncode == 7 and "does not stay (reverted by us)" in done.stderr, done.stderr
    else:
        assert done.returncode == 0 and "is reverted by us: another system is wanted by now" in done.stderr
    assert verdict(web) == ("reverted by us" if wanted == "the same" else "confirmed")
