"""HA as PVE has it: requests that are done later, groups and rules, fencing and recovery, and its refusals."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nixops_proxmox.lab.testing import start_lab
from nixops_proxmox.lab.vms.ha import wake
from nixops_proxmox.lab.vms.outage import cut_power, give_power
from tests.lab.http import DISK, QEMU, Client

HA = "/cluster/ha"
SHARED = {"scsi0": "shared:1"}


@pytest.fixture(scope="module", params=["7.4", "8.4", "9.0", "9.1"])
def lab_api(request: pytest.FixtureRequest) -> Iterator[Client]:
    with start_lab(version=request.param) as lab, Client(lab) as client:
        yield client


@pytest.fixture
def api(lab_api: Client) -> Client:
    lab_api.lab.run(lab_api.lab.cluster.stop_all())
    lab_api.lab.cluster.reset()
    return lab_api


def is_9(api: Client) -> bool:
    return api.lab.cluster.release.since(9)


def do(api: Client, method: str, path: str, **params: Any) -> Any:
    answer = api.call(method, path, {key.replace("__", "-"): value for key, value in params.items()})
    assert answer.status == 200, (answer.reason, answer.body)
    api.lab.settle()
    return answer.data


def refused(api: Client, method: str, path: str, **params: Any) -> str:
    answer = api.call(method, path, params)
    assert answer.status in (400, 403, 500, 501), answer.body
    errors: dict[str, str] = answer.json.get("errors") or {}
    return " ".join(f"{name}: {text}" for name, text in errors.items()) or answer.reason


def made(api: Client, *vmids: int, node: str = "pve1", **ha: Any) -> None:
    for vmid in vmids:
        do(api, "POST", f"/nodes/{node}/qemu", vmid=vmid, memory=64, **SHARED)
        do(api, "POST", f"{HA}/resources", sid=f"vm:{vmid}", **ha)


def seen(api: Client, vmid: int = 100) -> tuple[str, str, str]:
    """Where it is, what it does, and what HA says of it."""
    (one,) = (one for one in api.get("/cluster/resources") if one.get("vmid") == vmid)
    return one["node"], one["status"], one.get("hastate", "")


def requested(api: Client, vmid: int = 100) -> str:
    return str(api.get(f"{HA}/resources/vm:{vmid}")["state"])


def test_a_new_resource_starts_its_vm_unless_told_otherwise(api: Client) -> None:
    made(api, 100)
    assert seen(api) == ("pve1", "running", "started")
    made(api, 101, state="stopped")
    made(api, 102, state="ignored")
    assert (seen(api, 101)[1:], seen(api, 102)[1:]) == (("stopped", "stopped"), ("stopped", "ignored"))
    assert set(api.get(f"{HA}/resources/102")) == {"sid", "type", "state", "digest"}
    assert "already defined" in refused(api, "POST", f"{HA}/resources", sid="100")


def test_power_is_a_request_whose_task_ends_before_its_effect(api: Client) -> None:
    made(api, 100)
    upid = api.call("POST", f"{QEMU}/100/status/stop").data
    assert ":hastop:" in upid
    api.lab.settle()
    assert (seen(api)[1:], requested(api)) == (("stopped", "stopped"), "stopped")
    assert ":hastart:" in do(api, "POST", f"{QEMU}/100/status/start")
    assert (seen(api)[1:], requested(api)) == (("running", "started"), "started")
    assert ":hastop:" in do(api, "POST", f"{QEMU}/100/status/shutdown", timeout=5)
    assert seen(api)[1] == "stopped"


def test_a_guest_that_powers_itself_off_is_started_again(api: Client) -> None:
    made(api, 100)
    first = api.lab.cluster.vms[100].running
    assert first is not None
    api.lab.run(first.power_off())
    api.lab.settle()
    assert seen(api)[1] == "running" and api.lab.cluster.vms[100].running is not first


def test_an_ignored_one_is_in_the_hands_of_whoever_calls(api: Client) -> None:
    made(api, 100)
    do(api, "PUT", f"{HA}/resources/vm:100", state="ignored")
    assert ":qmstop:" in do(api, "POST", f"{QEMU}/100/status/stop")
    assert seen(api)[1:] == ("stopped", "ignored")


def test_what_does_not_start_is_in_error_until_it_is_disabled(api: Client) -> None:
    made(api, 100, state="stopped")
    do(api, "PUT", f"{QEMU}/100/config", net0="virtio,bridge=vmbr9")
    do(api, "PUT", f"{HA}/resources/vm:100", state="started")
    assert seen(api)[1:] == ("stopped", "error")
    text = "service 'vm:100' in error state, must be disabled and fixed first"
    assert refused(api, "PUT", f"{HA}/resources/vm:100", state="started") == text
    upid = api.call("POST", f"{QEMU}/100/status/start").data
    api.lab.settle()
    assert api.get(f"/nodes/pve1/tasks/{upid}/status")["exitstatus"] == text
    do(api, "PUT", f"{HA}/resources/vm:100", state="disabled")
    do(api, "PUT", f"{QEMU}/100/config", delete="net0")
    do(api, "PUT", f"{HA}/resources/vm:100", state="started")
    assert seen(api)[1:] == ("running", "started")


def lose(api: Client, node: str) -> None:
    cluster = api.lab.cluster

    async def on_loop() -> None:
        cluster.nodes[node].online = False
        wake(cluster)

    api.lab.run(on_loop())
    api.lab.settle()


def test_a_node_that_fails_is_fenced_and_its_vms_start_elsewhere(api: Client) -> None:
    made(api, 100, node="pve2")
    first = api.lab.cluster.vms[100].running
    if is_9(api):
        do(api, "POST", f"{HA}/rules", rule="near", type="node-affinity", resources="vm:100", nodes="pve2:2,pve3:1")
    else:
        do(api, "POST", f"{HA}/groups", group="near", nodes="pve2:2,pve3:1")
        do(api, "PUT", f"{HA}/resources/vm:100", group="near")
    lose(api, "pve2")
    assert seen(api) == ("pve3", "running", "started")
    assert api.lab.cluster.vms[100].running is not first


def test_a_node_without_power_takes_its_guests_along_and_ha_waits_until_it_is_fenced(api: Client) -> None:
    made(api, 100, node="pve2")
    for vmid, onboot in ((101, 1), (102, 0)):
        do(api, "POST", "/nodes/pve2/qemu", vmid=vmid, memory=64, onboot=onboot)
        do(api, "POST", f"/nodes/pve2/qemu/{vmid}/status/start")
    cluster = api.lab.cluster
    instant, cluster.latency = cluster.latency, replace(cluster.latency, ha=0.01, fence=0.5)
    began = cluster.clock.time()
    api.lab.run(cut_power(cluster, "pve2"))
    assert {vmid for vmid, vm in cluster.vms.items() if vm.running} == set(), "all of them end with it"
    api.lab.settle()
    assert seen(api) == ("pve1", "running", "started") and cluster.clock.time() - began >= 0.5
    cluster.latency = instant
    api.lab.run(give_power(cluster, "pve2"))
    api.lab.settle()
    assert {vmid for vmid, vm in cluster.vms.items() if vm.running} == {100, 101}, "those start that say onboot"


def test_a_vm_with_a_local_disk_is_not_recovered(api: Client) -> None:
    do(api, "POST", "/nodes/pve2/qemu", vmid=100, **DISK)
    do(api, "POST", f"{HA}/resources", sid="vm:100")
    lose(api, "pve2")
    assert seen(api) == ("pve2", "unknown", "recovery")


def test_a_deletion_purges_the_resource_and_since_9_1_the_rules(api: Client) -> None:
    made(api, 100, 101, state="stopped")
    if is_9(api):
        do(api, "POST", f"{HA}/rules", rule="far", type="resource-affinity", resources="vm:100,vm:101",
           affinity="negative")  # fmt: skip
    assert "used in HA resources" in refused(api, "DELETE", f"{QEMU}/100")
    do(api, "DELETE", f"{QEMU}/100", purge=1)
    assert [one["sid"] for one in api.get(f"{HA}/resources")] == ["vm:101"]
    if is_9(api):
        left = "vm:101" if api.lab.cluster.release.since(9, 1) else "vm:100,vm:101"
        assert api.get(f"{HA}/rules/far")["resources"] == left


def test_groups_are_of_older_releases(api: Client) -> None:
    if is_9(api):
        assert "migrated to rules" in refused(api, "GET", f"{HA}/groups")
        assert "migrated to rules" in refused(api, "POST", f"{HA}/groups", group="near", nodes="pve1")
        return
    assert "not implemented" in refused(api, "GET", f"{HA}/rules")
    do(api, "POST", f"{HA}/groups", group="near", nodes="pve1:2,pve2", restricted=1)
    made(api, 100, group="near", state="stopped")
    assert "already defined" in refused(api, "POST", f"{HA}/groups", group="near", nodes="pve1")
    assert "'far' does not exist" in refused(api, "PUT", f"{HA}/resources/vm:100", group="far")
    assert "used by service 'vm:100'" in refused(api, "DELETE", f"{HA}/groups/near")
    do(api, "PUT", f"{HA}/groups/near", nofailback=1, delete="restricted")
    shown = api.get(f"{HA}/groups/near")
    assert (shown["nofailback"], "restricted" in shown, shown["type"]) == (1, False, "group")
    do(api, "PUT", f"{HA}/resources/vm:100", delete="group")
    do(api, "DELETE", f"{HA}/groups/near")
    assert api.get(f"{HA}/groups") == []


RULE = {"rule": "new", "resources": "vm:100,vm:101"}
NEAR, FAR = {**RULE, "type": "node-affinity"}, {**RULE, "type": "resource-affinity"}
WRONG: dict[str, dict[str, str]] = {
    "nodes: property is missing": NEAR,
    "affinity: unexpected property": {**NEAR, "nodes": "pve1", "affinity": "positive"},
    "cannot use unmanaged resource(s) vm:103.": {**NEAR, "nodes": "pve1", "resources": "vm:100,vm:103"},
    "cannot use non-existant node(s) pve9.": {**NEAR, "nodes": "pve1,pve9"},
    "resources: resource 'vm:102' is already used in another node affinity rule": {
        **NEAR, "nodes": "pve1", "resources": "vm:102"
    },
    "resources: rule is ineffective": {**FAR, "affinity": "negative", "resources": "vm:100"},
    "resources: rule defines more": {**FAR, "affinity": "negative", "resources": "vm:100,vm:101,vm:102,vm:104"},
    "resources: rule shares two or more resources with a negative": {**FAR, "affinity": "positive"},
    "HA rule 'far' already defined": {**FAR, "rule": "far", "affinity": "negative"},
}  # fmt: skip


@pytest.fixture
def ruled(api: Client) -> Client:
    if not is_9(api):
        pytest.skip("rules came with 9.0")
    made(api, 100, 101, 102, 104, state="stopped")
    do(api, "POST", f"{HA}/rules", rule="near", type="node-affinity", resources="vm:102", nodes="pve1:2,pve2")
    do(api, "POST", f"{HA}/rules", rule="far", type="resource-affinity", resources="vm:100,vm:101", affinity="negative")
    return api


@pytest.mark.parametrize("text", WRONG)
def test_a_rule_that_cannot_hold_is_refused(ruled: Client, text: str) -> None:
    assert text in refused(ruled, "POST", f"{HA}/rules", **WRONG[text])
    assert [one["rule"] for one in ruled.get(f"{HA}/rules")] == ["near", "far"]


def test_rules_change_and_go(ruled: Client) -> None:
    shown = ruled.get(f"{HA}/rules/near")
    assert (shown["strict"], shown["nodes"], shown["order"]) == (0, "pve1:2,pve2", 1)
    assert "type" in refused(ruled, "PUT", f"{HA}/rules/near", strict=1)
    do(ruled, "PUT", f"{HA}/rules/near", type="node-affinity", strict=1, digest=shown["digest"])
    assert "modified" in refused(ruled, "PUT", f"{HA}/rules/near", type="node-affinity", digest=shown["digest"])
    do(ruled, "DELETE", f"{HA}/rules/near")
    do(ruled, "DELETE", f"{HA}/rules/near")
    assert "no such ha rule" in refused(ruled, "GET", f"{HA}/rules/near")
