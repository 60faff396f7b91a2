"""A router is configured by the command line: its network before the first boot, its ports after it, and what cuts us
off does not stay."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nixops_proxmox.lab.routers.vyos_grammar import below
from tests.pace import patience

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NETWORK = """\
let from = name: default: let value = builtins.getEnv name; in if value == "" then default else value; in
{
  resources.routing.edge = {
    vlans = [ { interface = "eth1"; vlan = 20; addresses = [ "10.9.0.1/24" ]; } ];
    dhcp = [ { name = "LAB"; subnet = "10.9.0.0/24"; first = "10.9.0.100"; last = "10.9.0.200"; } ];
    hosts."www.lan" = [ "machine:web" ];
    forwards = [ { interface = "eth0"; port = from "PORT" "8443"; to = "machine:web"; toPort = 443; } ];
    groups.servers = [ "machine:web" ];
    rules = [ { action = "accept"; proto = "tcp"; port = 443; to = [ "group:servers" ]; } ];
    confirm = 1;
  };
  resources.reservations.edge = { domain = "lan"; };
  resources.reservations.office = { };
}
// (if from "WEB" "yes" == "yes" then { web = {
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo web"; };
    };
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; ipv4 = { method = "dhcp"; address = "10.9.0.23"; }; } ];
    };
  }; } else { })
"""


class Routers:
    """The stand-ins, in the lab's network."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def tell(self, command: str) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def wait_for(self, what: str, process: "subprocess.Popen[bytes]", command: str = "state") -> None:
        deadline = time.monotonic() + patience(60)
        while not self.tell(command)[what]:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def started(bed: "Bed", folder: Path) -> Iterator[Routers]:
    argv = bed.running.enter_argv([sys.executable, "-m", "tests.routers.standing", str(folder)])
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        profiles: dict[str, dict[str, Any]] = json.loads(process.stdout.readline())
        configuration = bed.home / "config" / "nixops-proxmox"
        configuration.mkdir(parents=True, exist_ok=True)
        file = configuration / "routers.toml"
        file.write_text("".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in profile.items())
            for name, profile in profiles.items()
        ))  # fmt: skip
        file.chmod(0o600)
        yield Routers(process)
    finally:
        process.stdin.close()
        process.wait(patience(20))
        process.stdout.close()


def run_to(bed: "Bed", *arguments: str, expected: int = 0, **extra: str) -> "CompletedProcess[str]":
    """To its end, with this exit status."""
    done = bed.run(*arguments, check=False, **extra)
    assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


SMALL = """\
let from = name: default: let value = builtins.getEnv name; in if value == "" then default else value; in
{
  resources.routing.edge = {
    vlans = [ { interface = "eth1"; vlan = 20; addresses = [ (from "ADDRESS" "10.9.0.1/24") ]; } ];
    forwards = [ { interface = "eth0"; port = 8443; to = "10.9.0.23"; } ];
  };
}
"""


def test_a_router_is_made_looked_at_and_left_as_it_was(bed: "Bed", tmp_path: Path) -> None:
    shop = bed.with_network("edge", SMALL)
    with started(shop, tmp_path) as routers:
        before = routers.tell("state")["running"]
        planned = shop.run("plan").stdout
        assert "routing edge: new\n  VLAN 20 on eth1, 10.9.0.1/24\n  tcp 8443 on eth0 goes to 10.9.0.23" in planned
        shop.run("deploy")
        drifted = shop.run("check", check=False, ADDRESS="10.9.0.2/24")
        assert drifted.returncode == 10 and "address 10.9.0.2/24 is missing" in drifted.stdout
        shop.run("destroy", "--yes")
        state = routers.tell("state")
        assert state["saved"] == state["running"] and not state["waits"]
        assert below(state["running"], "interfaces") == before["interfaces"]

        hand_made = '{ resources.routing.edge.masquerade = [ { interface = "eth0"; } ]; }'
        shop = bed.with_network("edge", hand_made)
        told = shop.run("adopt", "resources.routing.edge", "--yes")
        assert "gets our mark: nat source rule 10 (all leaves by eth0 as the router" in told.stdout + told.stderr
        rule = below(routers.tell("state")["saved"], "nat", "source", "rule", "10")
        assert rule["description"] == "theirs nixops-proxmox:edge/edge"
        shop.run("deploy")
        assert list(below(routers.tell("state")["saved"], "nat", "source", "rule")) == ["5000"]
        shop.run("destroy", "--yes")
        assert not below(routers.tell("state")["saved"], "nat", "source")


@pytest.mark.weekly
def test_a_router_serves_a_machine_from_before_its_first_boot_until_its_end(bed: "Bed", tmp_path: Path) -> None:
    from tests.e2e.bed import DEMO

    shop = bed.with_network("edge", NETWORK.replace("DEMO", str(DEMO)))

    run = partial(run_to, shop)

    with started(shop, tmp_path) as routers:
        assert "it answers: VyOS 1.5, 0 parts of its configuration are ours" in run("doctor").stdout
        planned = run("plan", "--check", expected=10).stdout
        assert "routing edge: new" in planned and "  DHCP LAB for 10.9.0.0/24, 10.9.0.100 to 10.9.0.200" in planned
        assert "forward tcp 8443 on eth0 to 443 of 10.9.0.23 on the router edge" in planned

        run("deploy")
        state = routers.tell("state")
        network = below(state["running"], "service", "dhcp-server", "shared-network-name", "LAB", "subnet")
        assert list(network["10.9.0.0/24"]["static-mapping"]) == ["nixops-edge_2fweb.net0"]
        assert below(state["running"], "nat", "destination", "rule", "5000", "translation")["address"] == "10.9.0.23"
        assert state["saved"] == state["running"] and not state["waits"]
        assert [row["ip_address"] for row in state["reservations"]] == ["10.9.0.23"]
        assert "routing edge: as described" in run("plan", "--check").stdout

        routers.tell("edit nat destination rule 5000 translation address 10.9.0.66")
        assert "translation address: 10.9.0.66 becomes 10.9.0.23" in run("check", expected=10).stdout
        run("deploy")

        _is_cut_off(shop, routers)
        _is_killed(shop, routers)

        gone = run("deploy", "--remove", "--yes", WEB="no", expected=2)
        assert "there is no such machine here" in gone.stderr
        run("destroy", "--yes")
        state = routers.tell("state")
        assert list(below(state["running"], "nat", "source", "rule")) == ["10"]
        assert not below(state["running"], "nat", "destination", "rule") and not state["reservations"]
        assert not below(state["running"], "interfaces", "ethernet", "eth1", "vif")
        assert state["saved"] == state["running"]


def _is_cut_off(shop: "Bed", routers: Routers) -> None:
    """Port 443 of eth0 is the API's. The router takes the change back."""
    before = routers.tell("state")["running"]
    process = subprocess.Popen(
        shop.inside("deploy"),
        env=shop.environment | {"PORT": "443"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    routers.wait_for("cut", process)  # type: ignore[arg-type]
    routers.tell("sleep 61")
    _, told = process.communicate(timeout=patience(90))
    assert process.returncode == 8, told
    assert "the change has cut us off from it; it has taken it back" in told
    state = routers.tell("state")
    assert state["running"] == state["saved"] == before and state["reverts"] == 1


def _is_killed(shop: "Bed", routers: Routers) -> None:
    """Between the commit and its confirmation. The router takes it back, and the next run does it again."""
    shop.run("deploy")
    before = routers.tell("state")["running"]
    routers.tell("stick 1")
    process = subprocess.Popen(
        shop.inside("deploy"),
        env=shop.environment | {"PORT": "9443"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    routers.wait_for("stuck", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(patience(20))
    assert routers.tell("state")["waits"]
    routers.tell("sleep 61")
    assert not routers.tell("state")["cut"] and routers.tell("state")["running"] == before
    assert "not be confirmed yet" in shop.run("plan", PORT="9443").stdout
    shop.run("deploy", PORT="9443")
    state = routers.tell("state")
    rule = below(state["running"], "nat", "destination", "rule", "5000")
    assert rule["destination"] == {"port": "9443"} and state["saved"] == state["running"] and not state["waits"]
    shop.run("deploy")


OFFICE = """\
let from = name: default: let value = builtins.getEnv name; in if value == "" then default else value; in
{
  resources.routing.office = {
    hosts."web.lan" = [ "machine:web" ];
    forwards = [ { interface = "wan"; port = from "PORT" "8443"; to = "machine:web"; toPort = 443; } ];
    groups.servers = [ "machine:web" ];
    rules = [
      { action = "accept"; proto = "tcp"; port = 443; fromInterface = "lan"; to = [ "group:servers" ]; }
    ] ++ (if from "BLOCK" "no" == "no" then [ ] else [
      { ruleSet = "input"; action = "drop"; fromInterface = "wan"; from = [ "192.0.2.0/24" ]; }
    ]);
  };
  resources.reservations.office = { };
  web = {
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo web"; };
    };
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ {
        bridge = "vmbr0";
        ipv4 = { method = "dhcp"; address = "10.9.0.23"; };
        ipv6 = { method = "dhcp"; address = "fd09::23"; };
      } ];
    };
  };
}
"""


@pytest.mark.weekly
def test_an_opnsense_serves_a_machine_and_finishes_what_a_killed_run_began(bed: "Bed", tmp_path: Path) -> None:
    from tests.e2e.bed import DEMO

    shop = bed.with_network("office", OFFICE.replace("DEMO", str(DEMO)))

    run = partial(run_to, shop)

    with started(shop, tmp_path) as routers:
        assert "it answers: OPNsense 26.1.2, 0 parts of its configuration are ours" in run("doctor").stdout
        run("deploy")
        state = routers.tell("office")
        assert [row["target"] for row in state["forward"]] == ["10.9.0.23"]
        assert "10.9.0.23" in state["alias"][0]["content"].splitlines()
        assert "10.9.0.23" in [row["server"] for row in state["override"]] and state["applied"] and not state["waits"]
        reserved = {row["ip_address"] for row in routers.tell("state")["reservations"]}
        assert reserved == {"10.9.0.23", "fd09::23"}
        assert "routing office: as described" in run("plan", "--check").stdout

        routers.tell("move forward target 10.9.0.66")
        assert "target: '10.9.0.66' becomes '10.9.0.23'" in run("check", expected=10).stdout
        run("deploy")

        _office_is_killed(shop, routers)
        _office_is_cut_off(shop, routers)

        run("destroy", "--yes")
        state = routers.tell("office")
        assert not any(state[what] for what in ("alias", "forward", "rule", "override")) and state["applied"]
        assert routers.tell("state")["reservations"] == []


def _office_is_killed(shop: "Bed", routers: Routers) -> None:
    """Before the confirmation. The next run lets the timer run out, and does it again."""
    routers.tell("move rule destination_port 1")
    routers.tell("stick 1")
    process = subprocess.Popen(
        shop.inside("deploy"),
        env=shop.environment | {"PORT": "9443"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    routers.wait_for("stuck", process, "office")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(patience(20))
    assert routers.tell("office")["waits"]
    assert "not be confirmed yet" in shop.run("plan", PORT="9443").stdout
    shop.run("deploy", PORT="9443")
    state = routers.tell("office")
    assert state["reverts"] == 1 and state["applied"] and not state["waits"]
    assert [row["destination.port"] for row in state["forward"]] == ["9443"]
    assert {row["destination_port"] for row in state["rule"]} == {"443"}
    shop.run("deploy")


def _office_is_cut_off(shop: "Bed", routers: Routers) -> None:
    """A rule for the API's own interface. The router takes it back."""
    before = routers.tell("office")
    process = subprocess.Popen(
        shop.inside("deploy"),
        env=shop.environment | {"BLOCK": "yes"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    routers.wait_for("cut", process, "office")  # type: ignore[arg-type]
    routers.tell("sleep 61")
    _, told = process.communicate(timeout=patience(120))
    assert process.returncode == 8, told
    assert "the change has cut us off from it; it has taken it back" in told
    after = routers.tell("office")
    assert after["rule"] == before["rule"] and after["reverts"] == before["reverts"] + 1
    shop.run("deploy")
