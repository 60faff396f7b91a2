"""Machines' entries on a router, by the command line: before the first boot, and until after the end."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  machine = name: address: {
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = { port = 80; handler = "echo ${name}"; };
    };
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; ipv4 = { method = "dhcp"; inherit address; }; } ];
    };
  };
in
{ web = machine "web" (from "WEB" "10.9.0.23"); }
// (if from "DB" "yes" == "yes" then { db = machine "db" "10.9.0.24"; } else { })
// (if from "ROUTER" "lan" == "none" then { } else {
  resources.reservations.lan = { domain = "lan"; };
})
"""
THEIRS = "# somebody else's\nde:ad:be:ef:00:99,10.9.0.99,theirs\n"


@pytest.fixture
def shop(bed: "Bed") -> "Bed":
    from tests.e2e.bed import DEMO

    return bed.with_network("lan", NETWORK.replace("DEMO", str(DEMO)))


@pytest.fixture
def hosts(bed: "Bed") -> Path:
    """The folder that dnsmasq would watch, with somebody else's file."""
    folder = bed.home / "hosts.d"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "theirs").write_text(THEIRS)
    configuration = bed.home / "config" / "nixops-proxmox"
    configuration.mkdir(parents=True, exist_ok=True)
    file = configuration / "routers.toml"
    file.write_text(f'[lan]\ntype = "dnsmasq"\ndirectory = "{folder}"\nreload = "touch {bed.home}/reloaded"\n')
    file.chmod(0o600)
    return folder


def entries(hosts: Path) -> dict[str, str]:
    """What each file of ours says, by machine, without the MAC."""
    files = [file for file in hosts.iterdir() if file.name.startswith("nixops-proxmox-")]
    assert (hosts / "theirs").read_text() == THEIRS
    return {file.name.rpartition("_")[2]: file.read_text().splitlines()[1].partition(",")[2] for file in files}


def power(bed: "Bed") -> dict[str, str]:
    guests: list[dict[str, Any]] = bed.api("GET", "/cluster/resources", type="vm")
    return {guest["name"]: guest["status"] for guest in guests}


def run(shop: "Bed", *arguments: str, expected: int = 0, **extra: str) -> "CompletedProcess[str]":
    done = shop.run(*arguments, check=False, **extra)
    assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_entries_come_before_the_first_boot_and_go_after_the_end(bed: "Bed", shop: "Bed", hosts: Path) -> None:
    planned = run(shop, "plan").stdout
    assert "reserve 10.9.0.23 for net0, whose MAC follows from its UUID on the router lan" in planned
    assert entries(hosts) == {}, "a plan changes nothing"

    (hosts / "theirs").write_text(THEIRS.replace("99,t", "24,t"))
    refused = run(shop, "deploy", expected=3)
    assert "somebody else, with the same IPv4 address" in refused.stderr
    assert power(bed) == {"web": "running", "db": "stopped"}, "db is made, and does not boot"
    (hosts / "theirs").write_text(THEIRS)
    run(shop, "deploy")
    assert entries(hosts) == {"web.net0": "10.9.0.23,web.lan", "db.net0": "10.9.0.24,db.lan"}

    hosts.rename(hosts.with_name("away"))
    assert "exit status" in run(shop, "destroy", "--yes", "web", expected=8).stderr
    assert list(power(bed)) == ["db"], "the machine goes before its entry"
    hosts.with_name("away").rename(hosts)
    run(shop, "destroy", "--yes")
    assert entries(hosts) == {} and power(bed) == {}


@pytest.mark.weekly
def test_entries_follow_the_description_and_drift_is_seen(bed: "Bed", shop: "Bed", hosts: Path) -> None:
    assert "it answers: 1 reservations, 0 of them ours" in run(shop, "doctor").stdout
    run(shop, "deploy")
    assert "reservation lan: as described" in run(shop, "plan", "--check").stdout
    assert "10.9.0.33" in run(shop, "plan", "--check", expected=10, WEB="10.9.0.33").stdout
    run(shop, "deploy", WEB="10.9.0.33")
    assert entries(hosts)["web.net0"] == "10.9.0.33,web.lan"
    (file,) = hosts.glob("*web*")
    file.unlink()
    assert "web.net0: web.lan" in run(shop, "check", expected=10, WEB="10.9.0.33").stdout

    run(shop, "deploy", "--remove", "--yes", DB="no")
    assert entries(hosts) == {"web.net0": "10.9.0.23,web.lan"}, "one comes again, and one goes with its machine"
    left = run(shop, "deploy", DB="no", ROUTER="none")
    assert "reservation lan is no longer in the description" in left.stderr
    assert list(entries(hosts)) == ["web.net0"]
    run(shop, "deploy", "--remove", "--yes", DB="no", ROUTER="none")
    assert entries(hosts) == {} and power(bed) == {"web": "running"}
