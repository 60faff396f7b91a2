"""A machine that runs is taken over: what it is is told, and its host key compared through both doors."""

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]


def examine(bed: "Bed", vmid: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bed.run("adopt", vmid, "--dry-run", "--json").stdout)["vms"][0]
    return found


def test_the_host_key_is_compared_through_the_agent_and_through_ssh(bed: "Bed") -> None:
    bed.run("deploy")
    ((vmid, vm),) = bed.vms().items()
    key = bed.ssh("web", "cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub").strip()
    bed.run("destroy", "--forget", "web", "--yes")
    bed.api("PUT", f"/nodes/{vm['node']}/qemu/{vmid}/config", description="", tags="", agent="1")
    found = examine(bed, vmid)
    assert found["problem"] is None and found["host key"] == key
    assert any("the same through the agent and through SSH (" in line for line in found["remarks"]), found
    assert any(line.startswith("inside: ") and ", / on " in line for line in found["remarks"]), found
