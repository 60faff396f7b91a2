"""`examples/behind-a-gateway` on the lab: one deploy, from nothing, through a gateway that it makes first."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixes import SMALL_NIXOS, nixpkgs_lib
from tests.pace import patience

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "behind-a-gateway" / "network.nix"
NIXOS = f"nixpkgs={SMALL_NIXOS}:nixpkgs-lib={nixpkgs_lib()}"


@pytest.fixture
def behind(bed: "Bed", monkeypatch: pytest.MonkeyPatch) -> "Bed":
    monkeypatch.setenv("NIX_PATH", NIXOS)
    return replace(bed, network=EXAMPLE)


def endpoints(bed: "Bed") -> dict[str, dict[str, Any]]:
    machines = json.loads(bed.run("status", "--json").stdout)["machines"]
    return {one["machine"]: one["endpoint"] for one in machines}


def entries(bed: "Bed") -> list[tuple[str, str]]:
    """The machines and the phases that they reached, in order."""
    found = json.loads(bed.run("history", "--json").stdout)["history"]
    return [(one["machine"], one["to"]) for one in found]


def by_openssh(bed: "Bed", machine: str, command: str) -> "subprocess.CompletedProcess[str]":
    """OpenSSH itself, by the file that we export for it, inside of the lab's network."""
    config = bed.home / "exported"
    bed.run("export", "ssh-config", "--out", str(config))
    argv = bed.running.enter_argv(["ssh", "-F", str(config), "-o", "BatchMode=yes", machine, command])
    return subprocess.run(argv, env=bed.environment, capture_output=True, text=True, timeout=patience(60))


def test_one_deploy_makes_the_gateway_and_then_what_is_behind_it(behind: "Bed") -> None:
    from nixops_proxmox.model import Endpoint
    from nixops_proxmox.ssh.argv import jump_text

    refused = behind.run("deploy", "web", check=False)
    assert refused.returncode == 3 and "the way to it leads through gate, which is absent" in refused.stderr
    assert entries(behind) == [], "nothing was begun"

    behind.run("deploy")
    done = entries(behind)
    for gate, *others in (("gate", "web", "ci-1", "ci-2", "cellar"), ("cellar", "vault")):
        first = min(index for index, (machine, _) in enumerate(done) if machine in others)
        assert (gate, "ready") in done[:first], f"{others} waited for {gate}"

    found = endpoints(behind)
    to_gate = jump_text(Endpoint.from_json(found["gate"]))
    assert not found["gate"]["jump"]
    assert {found[name]["jump"] for name in ("web", "ci-1", "ci-2", "cellar")} == {to_gate}
    assert found["vault"]["jump"] == f"{to_gate},root@10.77.1.20:22", "two hops"
    assert found["vault"]["host"] == "fd77:77:4::10", "IPv6 alone"
    told = json.loads(behind.run("ssh", "vault", "--", "cat /run/current-system/told.json").stdout)
    assert told["hostName"] == "vault"
    assert "nothing to do" in behind.run("plan", "--check").stdout

    said = by_openssh(behind, "vault", "ip -6 -o address")
    assert "fd77:77:4::10/64" in said.stdout, said.stderr
    assert not (behind.home / ".ssh" / "known_hosts").exists(), "each jump host had to prove the key that we gave it"


@pytest.mark.weekly
def test_a_gateway_that_fails_stops_what_is_behind_it_and_the_next_run_goes_on(behind: "Bed") -> None:
    deploy = behind.start("deploy")
    assert behind.wait_for_calls(40, deploy)
    deploy.kill()
    deploy.wait()
    behind.run("deploy")
    assert set(endpoints(behind)) == {"gate", "web", "ci-1", "ci-2", "cellar", "vault"}
    behind.run("stop", "gate")
    behind.run("reboot", "web", check=False)
    behind.run("start")
    assert "nothing to do" in behind.run("plan", "--check").stdout
    behind.run("destroy", "--yes")
    assert behind.api("GET", "/cluster/resources", type="vm") == []
