"""`examples/two-tenants` on the lab: networks and firewalls are made; machines see their own tenant, and no other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly]

EXAMPLE = Path(__file__).parents[2] / "examples" / "two-tenants" / "network.nix"


def firewall(bed: "Bed", name: str) -> tuple[dict[str, Any], list[str]]:
    """The options, and the rules in few words."""
    (guest,) = [one for one in bed.api("GET", "/cluster/resources", type="vm") if one["name"] == name]
    base = f"/nodes/{guest['node']}/qemu/{guest['vmid']}"
    assert "firewall=1" in bed.api("GET", f"{base}/config")["net0"]
    rules = bed.api("GET", f"{base}/firewall/rules")
    said = ("type", "action", "source", "dest", "macro")
    return bed.api("GET", f"{base}/firewall/options"), [
        " ".join(str(one[key]) for key in said if key in one) for one in rules
    ]


def test_two_tenants_are_made_and_do_not_see_each_other(bed: "Bed") -> None:
    tenants = replace(bed, network=EXAMPLE)
    planned = tenants.run("plan").stdout
    assert "network red: new" in planned and "firewall red-web: new" in planned
    done = tenants.run("deploy")
    assert "the firewall of the whole cluster is off" in done.stderr

    options, rules = firewall(tenants, "red-web")
    assert (options["enable"], options["dhcp"]) == (1, 1)
    assert rules == [
        "out DROP 10.78.30.0/24", "in DROP 10.78.30.0/24", "in ACCEPT 10.78.20.0/24",
        "in ACCEPT 10.78.20.1,10.78.30.1", "in ACCEPT fd77:78::/32", "in ACCEPT HTTP",
    ]  # fmt: skip
    assert "nothing to do" in tenants.run("plan", "--check").stdout

    addresses = {}
    for machine in json.loads(tenants.run("status", "--json").stdout)["machines"]:
        seen = [one["ip"] for one in machine["addresses"] if one["ip"].startswith("10.78.")]
        addresses[machine["machine"]] = seen[0]
    assert addresses["red-db"].startswith("10.78.20.") and addresses["blue-web"].startswith("10.78.30.")

    def reaches(machine: str, other: str) -> bool:
        port = f"exec 3<>/dev/tcp/{addresses[other]}/22"
        asked = ["--", "bash", "-c", f"'timeout 3 bash -c \"{port}\" && echo yes || echo no'"]
        return "yes" in tenants.run("ssh", machine, *asked, check=False).stdout

    assert reaches("red-web", "red-db"), "inside"
    assert not reaches("red-web", "blue-web") and not reaches("blue-web", "red-db"), "across"

    tenants.run("destroy", "--yes")
    assert tenants.api("GET", "/cluster/sdn/vnets") == []
