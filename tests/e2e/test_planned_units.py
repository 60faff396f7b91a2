"""A plan says what becomes of the units of a machine that runs, and a deploy does just that."""

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

PIDS = 'for file in /run/services/*.pid; do echo "${file##*/} $(cat $file)"; done; readlink -f /run/current-system'


def planned(bed: "Bed", *arguments: str, version: str = "1") -> Any:
    return json.loads(bed.run("plan", "--json", *arguments, VERSION=version).stdout)["machines"][0]


def test_units_are_told_where_the_system_is_on_the_machine_and_a_plan_changes_nothing(bed: "Bed") -> None:
    bed.run("deploy")
    before = bed.ssh("web", PIDS)
    plan = planned(bed, version="2")
    assert plan["units"] is None and plan["units unknown"] == "the new system is not on the machine"
    assert bed.ssh("web", f"ls -d {plan['system']} 2>/dev/null || echo none").strip() == "none"
    lines = bed.run("plan", VERSION="2").stdout
    assert (
        "units: unknown, because the new system is not on the machine; `nixops-proxmox plan --copy` copies it" in lines
    )

    bed.forget_calls()
    plan = planned(bed, "--copy", version="2")
    assert plan["units"] == {"restarts": ["web.service"], "stops": [], "reloads": [], "starts": [], "keeps": []}
    assert plan["units unknown"] is None
    assert "    restarts web.service\n" in bed.run("plan", VERSION="2").stdout, "it is there now"
    assert [call for call in bed.calls() if call["method"] != "GET"] == []
    assert bed.ssh("web", PIDS) == before

    bed.run("deploy", VERSION="2")
    assert bed.ssh("web", PIDS) != before
    assert planned(bed, version="2")["units"] is None, "nothing is left to do"
    plan = planned(bed)
    assert plan["units"]["restarts"] == ["web.service"], "the old system is still there"
