"""`examples/campus` on the lab: machines take their MACs from a list that people share, and give them back."""

import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nixes import SMALL_NIXOS, nixpkgs_lib
from tests.pace import patience

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "campus"


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org", "-C", str(folder)]
    done = subprocess.run(["git", *settings, *words], capture_output=True, text=True, check=True, timeout=patience(60))
    return done.stdout


@pytest.fixture
def campus(bed: "Bed") -> "Bed":
    """The lab, and the example in a git work tree of its own."""
    folder = bed.home / "campus"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLE, folder)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return replace(bed, network=folder / "network.nix")


def macs(bed: "Bed") -> dict[str, str]:
    """The MAC of each VM on the cluster, by name."""
    found = {}
    for guest in bed.api("GET", "/cluster/resources", type="vm"):
        config = bed.api("GET", f"/nodes/{guest['node']}/qemu/{guest['vmid']}/config")
        found[guest["name"]] = config["net0"].split(",")[0].partition("=")[2]
    return found


def changed(bed: "Bed") -> list[str]:
    """The lines of the list that differ from what was committed."""
    shown = git(bed.network.parent, "diff", "-U0", "--", "machines.yml").splitlines()
    return [line for line in shown if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def test_machines_take_entries_and_give_them_back_by_word(campus: "Bed") -> None:
    planned = campus.run("plan").stdout
    assert "take pvm003.example.com, DE:AD:BE:EF:00:02 from the pool campus" in planned
    assert "take pvm002.example.com, DE:AD:BE:EF:00:01 from the pool campus" in planned
    assert changed(campus) == [], "a plan writes nothing"

    done = campus.run("deploy")
    assert macs(campus) == {"pvm003": "DE:AD:BE:EF:00:02", "ci": "DE:AD:BE:EF:00:01"}
    lines = changed(campus)
    assert [line for line in lines if line[0] == "-"] == ["-  User:", "-  Date:"] * 2, "all else stays as it is"
    assert "(campus/ci)" in lines[2] and "(campus/pvm003)" in lines[6]
    assert "nothing to do" in campus.run("plan", "--check").stdout

    (offer,) = [line for line in done.stderr.splitlines() if "to commit it: " in line]
    assert git(campus.network.parent, "log", "--format=%s").splitlines() == ["first"], "we never commit"
    git(campus.network.parent, *shlex.split(offer.partition("to commit it: ")[2])[3:])
    assert changed(campus) == []

    table = json.loads(campus.run("macs", "list", "--check", "--json").stdout)["macs"]
    assert [(one["machine"], one["mac"], one["from"], one["host"], one["elsewhere"]) for one in table] == [
        ("ci", "DE:AD:BE:EF:00:01", "pool campus", "pvm002.example.com", None),
        ("pvm003", "DE:AD:BE:EF:00:02", "pool campus", "pvm003.example.com", None),
    ]

    told = campus.run("destroy", "--yes", "ci").stderr
    assert "still taken: pvm002.example.com of the pool campus" in told
    assert changed(campus) == []
    campus.run("macs", "release", "ci")
    assert [line for line in changed(campus) if line[0] == "+"] == ["+  User:", "+  Date:"]
    refused = campus.run("macs", "release", "pvm003", check=False)
    assert refused.returncode == 3 and "its VM has the MAC" in refused.stderr
    text = campus.network.read_text()
    campus.network.write_text(text.replace("pvm003 = machine;", "").replace("ci = machine;", ""))
    told = campus.run("deploy", "--remove", "--release", "--yes").stderr
    assert "given back: pvm003.example.com of the pool campus" in told and "gives back pvm003" in told
    assert git(campus.network.parent, "diff", "HEAD~1", "--", "machines.yml") == "", "all is as it was"


def test_an_entry_whose_mac_another_vm_has_is_not_taken(campus: "Bed") -> None:
    somebody = {"vmid": 777, "name": "gitea", "net0": "virtio=DE:AD:BE:EF:00:01,bridge=vmbr0"}
    campus.api("POST", "/nodes/pve1/qemu", **somebody)
    done = campus.run("deploy", check=False)
    assert done.returncode == 3
    assert "has no free entry" in done.stderr and "is on VM 777 (gitea) on pve1" in done.stderr
    assert macs(campus) == {"gitea": "DE:AD:BE:EF:00:01", "pvm003": "DE:AD:BE:EF:00:02"}, "the other machine is made"
    listing = (campus.network.parent / "machines.yml").read_text()
    (campus.network.parent / "machines.yml").write_text(listing.replace("DE:AD:BE:EF:00:01", "de:ad:be:ef:00:1"))
    broken = campus.run("deploy", check=False)
    assert broken.returncode == 2 and "machines.yml, line 9: expected a MAC address" in broken.stderr


STATIC = """\
{
  network.nixpkgs = NIXPKGS;
  resources.macPools.campus.file = ./machines.yml;
  ci = { ... }: {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 256;
      network = [ { bridge = "vmbr0"; pool = "campus"; ipv4 = { method = "static"; prefix = 24; }; } ];
    };
  };
}
"""


@pytest.mark.weekly
def test_the_system_has_the_static_address_and_the_name_of_its_entry(campus: "Bed") -> None:
    path = f"nixpkgs-lib={nixpkgs_lib()}"
    campus.network.write_text(STATIC.replace("NIXPKGS", str(SMALL_NIXOS)))
    campus.run("deploy", NIX_PATH=path)
    assert (
        json.loads(campus.run("macs", "list", "--json", NIX_PATH=path).stdout)["macs"][0]["host"]
        == "pvm002.example.com"
    )
    told = json.loads(campus.ssh("ci", "cat /run/current-system/told.json"))
    assert (told["hostName"], told["domain"]) == ("pvm002", "example.com")
    assert told["networks"]["00-proxmox-net0"]["address"] == ["131.173.12.23/24"]
    assert "nothing to do" in campus.run("plan", "--check", NIX_PATH=path).stdout

    listing = (campus.network.parent / "machines.yml").read_text()
    (campus.network.parent / "machines.yml").write_text(listing.replace("  IPv4: 131.173.12.24\n", "", 1))
    two = STATIC.replace("ci = {", "db = {").replace("NIXPKGS", str(SMALL_NIXOS))
    refused = campus.with_network("campus", two).run("deploy", check=False, NIX_PATH=path)
    assert refused.returncode == 3 and "is to have a static IPv4 address, and the entry pvm003" in refused.stderr
