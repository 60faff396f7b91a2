"""Machines and other resources of NixOps 4 find each other by the record, in whatever order they are applied."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixops4.dialogue import Provider, create, update
from tests.nixops4.test_lab import Start, cli
from tests.nixops4.test_things import machine
from tests.pace import patience

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns]

LIST = """\
- Host: web.example.org
  IPv4: 10.9.0.41
  MAC: BC:24:11:00:00:41
  User:
  Date:
"""
SSH = {"macro": "SSH", "from": ["10.0.0.0/8"]}
FIREWALL = {"rules": [SSH, {"proto": "tcp", "port": 80, "from": ["machine:db"]}]}
BACK = {"name": "back", "profile": "lab", "vnet": "back", "subnet": "10.20.0.0/24", "gateway": "10.20.0.1"}


def place_of(made: dict[str, Any]) -> str:
    return f"/nodes/{made['node']}/qemu/{made['vmid']}"


def sources(bed: "Bed", made: dict[str, Any]) -> list[str]:
    return [rule.get("source", "") for rule in bed.api("GET", f"{place_of(made)}/firewall/rules")]


def test_a_machine_names_other_resources_and_has_some_of_its_own(
    bed: "Bed", provider: Provider, tmp_path: Path
) -> None:
    campus = tmp_path / "machines.yml"
    campus.write_text(LIST)
    lan = {"name": "lan", "profile": "lab", "bridge": "vmbr0"}
    named = machine("web", "", network=[{"network": "lan", "pool": "campus"}], pool="front")
    named |= {"macPools": {"campus": {"file": str(campus)}}}
    missing = provider.ask_error(create("vm", named))
    assert "web.deployment.proxmox.network[0].network: there is no lan in resources.networks" in missing
    assert bed.vms() == {}

    provider.ask_outputs(create("network", lan))
    provider.ask_outputs(create("pool", {"name": "front", "profile": "lab"}))
    named["proxmox"] |= {"ha": {"maxRestart": 3}, "firewall": FIREWALL}
    refused = provider.ask_error(create("vm", named))
    assert "resources.firewalls.web: it names machine:db, and there is no such machine here" in refused
    db = provider.ask_outputs(create("vm", machine("db", "10.9.0.23")))
    web = provider.ask_outputs(create("vm", named))
    assert web["machine"] == "web" and web["macs"] == ["bc:24:11:00:00:41"] and "User: " in campus.read_text()
    entry = {"mac": "bc:24:11:00:00:41", "host": "web.example.org", "ipv4": "10.9.0.41"}
    assert {**web["taken"]["net0"], "mac": web["taken"]["net0"]["mac"].lower()} == entry and db["taken"] == {}
    assert sources(bed, web)[0] == "10.0.0.0/8" and sources(bed, web)[1].startswith("10.9.0.23,10.77.")
    (managed,) = bed.api("GET", "/cluster/ha/resources")
    assert (managed["sid"], managed["max_restart"]) == (f"vm:{web['vmid']}", 3)
    assert [one["vmid"] for one in bed.api("GET", "/pools/front")["members"] if one["type"] == "qemu"] == [web["vmid"]]

    provider.ask_outputs(update("vm", machine("db", "10.9.0.23"), db, machine("db", "10.9.0.24")))
    assert sources(bed, web)[1].startswith("10.9.0.24,"), "nobody applied web again"

    twice = provider.ask_error(create("firewall", {"name": "web", "profile": "lab", **FIREWALL}))
    assert "is described under resources.firewalls, too" in twice
    assert "there is no resource 'pool/back'" in cli(bed, "destroy", "--resource", "pool/back", "--yes").stderr
    destroyed = cli(bed, "destroy", "--uuid", web["uuid"], "--yes")
    assert destroyed.returncode == 0, destroyed.stderr
    assert bed.api("GET", "/cluster/ha/resources") == []
    removed = cli(bed, "--deployment", "nixops4", "destroy", "--resource", "pool/front", "--yes")
    assert removed.returncode == 0 and bed.api("GET", "/pools") == [] and len(bed.vms()) == 1


def test_a_tenant_that_comes_later_is_kept_out_of_machines_that_are_there(bed: "Bed", provider: Provider) -> None:
    red = {
        "name": "red",
        "profile": "lab",
        "bridge": "vmbr0",
        "vlan": 20,
        "subnet": "10.20.0.0/24",
        "admins": ["10.0.0.0/8"],
    }
    blue = red | {"name": "blue", "vlan": 30, "subnet": "10.30.0.0/24"}
    provider.ask_outputs(create("tenant", red))
    nics = [{"bridge": "vmbr0"}, {"network": "red", "ipv4": "10.20.0.5/24"}]
    web = provider.ask_outputs(create("vm", machine("web", "", network=nics)))
    assert "10.30.0.0/24" not in sources(bed, web)
    provider.ask_outputs(create("tenant", blue))
    assert "10.30.0.0/24" in sources(bed, web)


@pytest.mark.parametrize("nth", [7, *(pytest.param(nth, marks=pytest.mark.weekly) for nth in (4, 9))])
def test_a_killed_creation_is_finished_by_the_next_one(bed: "Bed", start: Start, nth: int) -> None:
    killed = start()
    bed.forget_calls()
    bed.fault("slow", nth=nth, seconds=60)
    killed.send(create("network", BACK))
    deadline = time.monotonic() + patience(60)
    while len(bed.calls()) < nth and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.wait(patience(20))
    bed.forget_faults()

    assert start().ask_outputs(create("network", BACK)) == {"name": "back", "id": "back"}
    assert [one["vnet"] for one in bed.api("GET", "/cluster/sdn/vnets")] == ["back"]
    bed.forget_calls()
    start().ask_outputs(create("network", BACK))
    assert [call for call in bed.calls() if call["method"] != "GET"] == []


@pytest.mark.weekly
def test_providers_that_work_on_one_firewall_at_once_wait_for_each_other(bed: "Bed", start: Start) -> None:
    """NixOps 4 starts them all at the same time: one makes the firewall, another the machine that it names."""
    provider = start()
    provider.ask_outputs(create("vm", machine("db", "10.9.0.23")))
    web = provider.ask_outputs(create("vm", machine("web", "10.9.0.24")))
    firewall = {"name": "web", "profile": "lab", **FIREWALL}
    provider.ask_outputs(create("firewall", firewall))
    requests = [
        update("firewall", firewall, {}, firewall | {"policyOut": "DROP"}),
        update("vm", machine("db", "10.9.0.23"), {}, machine("db", "10.9.0.25")),
    ]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda request: start().ask(request), requests))
    assert [next(iter(answer)) for answer in answers] == ["updateResourceResponse"] * 2
    assert bed.api("GET", f"{place_of(web)}/firewall/options")["policy_out"] == "DROP"
    assert sources(bed, web)[1].startswith("10.9.0.25,")
