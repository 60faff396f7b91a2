"""Pools, networks, firewalls, HA and reservations in the hands of the real NixOps: made, changed and destroyed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.nixops.bed import Nixops, kill_all, machine, network
from tests.nixops.conftest import MakeNixops
from tests.pace import wait_until

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]

STORAGE = "network.storage.legacy = { };"


def shop(*, comment: str = "web servers", port: int = 80, pool: str = "front", more: str = "") -> str:
    resources = f"""
  resources.pools.front = {{ comment = "{comment}"; pool = "{pool}"; }};
  resources.networks.lan = {{ bridge = "vmbr0"; subnet = "10.77.0.0/24"; }};
  resources.networks.back = {{ vnet = "back"; subnet = "10.20.0.0/24"; gateway = "10.20.0.1"; }};
  resources.ipSets.trusted.addresses = [ "10.0.0.0/8" ];
  resources.reservations.router = {{ domain = "lan"; }};
  {more}
"""
    web = f"""
        pool = "{pool}";
        ha = {{ maxRestart = 2; }};
        firewall.rules = [
          {{ macro = "SSH"; from = [ "set:trusted" ]; }}
          {{ proto = "tcp"; port = {port}; from = [ "machine:db" ]; }}
        ];
"""
    machines = {
        "web": machine(ipv4="10.77.0.71/24", proxmox=web).replace('bridge = "vmbr0"', 'network = "lan"'),
        "db": machine(ipv4="10.77.0.72/24"),
    }
    return network(
        {name: text.replace("local-lvm", "shared") for name, text in machines.items()}, more=STORAGE + resources
    )


@pytest.fixture
def router(lab: Any) -> Path:
    """The folder that dnsmasq would watch."""
    folder: Path = lab.home / "hosts.d"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = lab.home / "config" / "nixops-proxmox" / "routers.toml"
    file.write_text(f'[router]\ntype = "dnsmasq"\ndirectory = "{folder}"\nreload = "true"\n')
    file.chmod(0o600)
    return folder


def vm_of(one: Nixops, name: str) -> str:
    facts = one.records()[name]["facts"]
    return f"/nodes/{facts['node']}/qemu/{facts['vmid']}"


def rules(one: Nixops) -> list[tuple[str, str]]:
    found = one.bed.api("GET", f"{vm_of(one, 'web')}/firewall/rules")
    return [(rule.get("source", ""), str(rule.get("dport", ""))) for rule in found]


def entries(router: Path) -> list[str]:
    return sorted(file.read_text().splitlines()[1].partition(",")[2] for file in router.iterdir())


def pools(one: Nixops) -> dict[str, str]:
    return {
        pool["poolid"]: pool.get("comment", "").partition(" nixops-proxmox:")[0]
        for pool in one.bed.api("GET", "/pools")
    }


def test_all_of_them_from_nothing_to_nothing(make_nixops: MakeNixops, router: Path) -> None:
    one = make_nixops(shop(), deployment="things")
    planned = one.deploy("--plan-only").stderr
    assert "pool front: new" in planned and "network back: new" in planned and pools(one) == {}

    one.deploy()
    assert pools(one) == {"front": "web servers"}
    assert [vnet["vnet"] for vnet in one.bed.api("GET", "/cluster/sdn/vnets")] == ["back"]
    assert rules(one) == [("+trusted", ""), ("10.77.0.72", "80")]
    assert [service["max_restart"] for service in one.bed.api("GET", "/cluster/ha/resources")] == [2]
    assert entries(router) == ["10.77.0.71,web.lan", "10.77.0.72,db.lan"]
    info = {line.split("\t")[0]: line.split("\t") for line in one.run("info", "--plain").stdout.splitlines()}
    assert (info["front"][1], info["front"][3]) == ("up", "front") and info["back"][3] == "back"

    one.bed.forget_calls()
    one.deploy()
    assert [call["path"] for call in one.bed.calls() if call["method"] != "GET" and "agent" not in call["path"]] == []

    one.bed.api("PUT", "/pools/front", comment=one.bed.api("GET", "/pools/front")["comment"].replace("web", "my"))
    assert "comment: 'my servers' becomes 'web servers'" in one.run("check", check=False).stderr
    drifted = one.run("proxmox", "check", check=False)
    assert drifted.returncode == 10 and "becomes 'web servers'" in drifted.stdout
    one.write(shop(port=81, comment="all"))
    assert "pool front: changes" in one.run("proxmox", "plan").stdout
    one.deploy()
    assert pools(one) == {"front": "all"} and rules(one)[1] == ("10.77.0.72", "81")

    one.write(shop(more="resources.firewalls.web = { };"))
    refused = one.deploy("--plan-only", check=False)
    assert "say it as web.deployment.proxmox.firewall" in refused.stderr
    one.write(shop(more="resources.pools.other.colour = 1;"))
    assert "colour" in one.deploy("--plan-only", check=False).stderr
    one.write(shop().replace("machine:db", "machine:bd"))
    refused = one.deploy(check=False)
    assert "it names machine:bd, and there is no such machine" in refused.stderr and "Traceback" not in refused.stderr

    one.write(shop(port=81, comment="all"))
    one.run("destroy", "--confirm", "--include", "db")
    assert rules(one) == [("+trusted", "")] and entries(router) == ["10.77.0.71,web.lan"]
    one.run("destroy", "--confirm")
    assert pools(one) == {} and one.bed.vms() == {} and entries(router) == []
    assert one.bed.api("GET", "/cluster/sdn/vnets") == one.bed.api("GET", "/cluster/ha/resources") == []
    assert one.query("select name from Resources") == []


@pytest.mark.parametrize("nth", [6, 9])
def test_a_killed_deploy_of_a_network_is_finished_by_the_next(make_nixops: MakeNixops, nth: int) -> None:
    rear = 'resources.networks.rear = { vnet = "rear"; subnet = "10.21.0.0/24"; gateway = "10.21.0.1"; };'
    text = f"{{ {STORAGE} {rear} }}"
    one = make_nixops(text, deployment=f"killed-{nth}")
    one.bed.forget_calls()
    one.bed.fault("slow", nth=nth, seconds=60)
    process = one.start("deploy")
    wait_until(lambda: len(one.bed.calls()) >= nth or process.poll() is not None)
    kill_all(process)
    one.bed.forget_faults()
    one.deploy()
    assert [vnet["vnet"] for vnet in one.bed.api("GET", "/cluster/sdn/vnets")] == ["rear"]
    one.run("destroy", "--confirm")
    assert one.bed.api("GET", "/cluster/sdn/vnets") == [] == one.bed.api("GET", "/cluster/sdn/zones", pending=1)


LIST = """\
# who has which
- Host: pvm7.example.org
  IPv4: 10.77.0.87
  MAC: DE:AD:BE:EF:00:07
  User:
  Date:
"""


def test_a_machine_has_the_address_and_the_name_of_its_entry_in_a_list_of_macs(make_nixops: MakeNixops) -> None:
    nic = '{ bridge = "vmbr0"; pool = "campus"; ipv4 = { method = "static"; prefix = 24; }; ipv6 = "none"; }'
    ci = machine().replace('{ bridge = "vmbr0"; ipv4 = "none"; ipv6 = "none"; }', nic)
    assert nic in ci
    pools = "resources.macPools.campus.file = ./machines.yml;"
    one = make_nixops("{ }", deployment="lists", create=False)
    listing = one.folder / "machines.yml"
    listing.write_text(LIST)
    one.write(network({"ci": ci}, more=f"{STORAGE} {pools}"))
    one.create()
    one.deploy()
    assert one.records()["ci"]["facts"]["macs"] == ["de:ad:be:ef:00:07"]
    assert "(lists/ci)" in listing.read_text() and listing.read_text().startswith("# who has which")
    told = json.loads(one.run("ssh", "ci", "cat", "/run/current-system/told.json").stdout)
    assert (told["hostName"], told["domain"]) == ("pvm7", "example.org")
    assert told["networks"]["00-proxmox-net0"]["address"] == ["10.77.0.87/24"]
    assert one.records()["ci"]["facts"]["endpoint"]["host"] == "10.77.0.87"

    before = listing.read_text()
    one.bed.forget_calls()
    one.deploy()
    assert listing.read_text() == before
    assert [call["path"] for call in one.bed.calls() if call["method"] != "GET" and "agent" not in call["path"]] == []
    one.run("destroy", "--confirm")
    assert "(lists/ci)" in listing.read_text(), "it gets the same one again"
