"""Containers that HA manages, as PVE has them: requests, restarts, recovery, and refusals of its own."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nixops_proxmox.lab.testing import RunningLab, start_lab
from nixops_proxmox.lab.vms.ha import wake
from tests.lab.http import Client
from tests.lab.test_containers import CT, LXC, add_seed

HA = "/cluster/ha/resources"
CONTAINER = {**CT, "rootfs": "shared:8"}


@pytest.fixture(scope="module", params=["7.4", "9.1"])
def made(request: pytest.FixtureRequest) -> Iterator[Client]:
    with start_lab(version=request.param) as lab, Client(lab) as client:
        share(lab)
        add_seed(lab)
        yield client


@pytest.fixture
def api(made: Client) -> Client:
    """A container that runs, because HA was told of it."""
    made.lab.run(made.lab.cluster.stop_all())
    made.lab.cluster.reset()
    made.task("POST", LXC, CONTAINER)
    ask(made, "POST", HA, sid="ct:200")
    return made


def share(lab: RunningLab) -> None:
    """The storage that all nodes have takes containers."""
    storages = lab.cluster.stores.storages
    storages["shared"] = replace(storages["shared"], content=(*storages["shared"].content, "rootdir"))


def ask(api: Client, method: str, path: str, **params: object) -> None:
    answer = api.call(method, path, params)
    assert answer.status == 200, answer.reason
    api.lab.settle()


def seen(api: Client) -> tuple[str, str, str]:
    """Where it is, what it does, and what HA says of it."""
    (one,) = api.get("/cluster/resources", type="vm")
    return one["node"], one["status"], one["hastate"]


def test_what_ha_is_told_of_is_started_and_read_back(api: Client) -> None:
    assert seen(api) == ("pve1", "running", "started")
    assert api.get(f"{LXC}/200/status/current")["ha"] == {"managed": 1, "state": "started"}
    assert [(one["sid"], one["type"]) for one in api.get(HA, type="ct")] == [("ct:200", "ct")]
    assert api.get(HA, type="vm") == []
    assert api.get(f"{HA}/200")["sid"] == "ct:200"


def test_power_is_a_request_and_one_that_does_not_run_is_not_stopped(api: Client) -> None:
    upid = api.call("POST", f"{LXC}/200/status/shutdown").data
    assert ":hastop:" in upid
    api.lab.settle()
    assert seen(api)[1:] == ("stopped", "stopped")
    assert api.call("POST", f"{LXC}/200/status/stop").reason == "CT 200 not running"
    assert ":hastart:" in api.call("POST", f"{LXC}/200/status/start").data
    api.lab.settle()
    assert seen(api)[1:] == ("running", "started")
    if api.lab.cluster.release.since(8, 2):
        refused = api.call("POST", f"{LXC}/200/status/stop", {"overrule-shutdown": 1})
        assert refused.status == 400


def test_one_that_powers_itself_off_is_started_again(api: Client) -> None:
    first = api.lab.cluster.vms[200].running
    assert first is not None
    api.lab.run(first.power_off())
    api.lab.settle()
    assert seen(api)[1] == "running" and api.lab.cluster.vms[200].running is not first


def test_it_is_taken_to_another_node_while_it_stands_still_and_started_there(api: Client) -> None:
    first = api.lab.cluster.vms[200].running
    refused = api.call("POST", f"{LXC}/200/migrate", {"target": "pve2"})
    assert refused.reason == "can't migrate running container without --online or --restart"
    upid = api.call("POST", f"{LXC}/200/migrate", {"target": "pve2", "restart": 1}).data
    assert ":hamigrate:" in upid
    api.lab.settle()
    assert seen(api) == ("pve2", "running", "started")
    assert api.lab.cluster.vms[200].running is not first
    ask(api, "POST", f"{HA}/ct:200/migrate", node="pve3")
    assert seen(api) == ("pve3", "running", "started")


@pytest.mark.parametrize("storage", ["shared", "local-lvm"])
def test_a_node_that_fails_takes_along_what_only_it_has(api: Client, storage: str) -> None:
    ask(api, "PUT", f"{LXC}/200/config", mp0=f"{storage}:1,mp=/data")
    ask(api, "POST", f"{HA}/ct:200/migrate", node="pve2")

    async def fail() -> None:
        api.lab.cluster.nodes["pve2"].online = False
        wake(api.lab.cluster)

    api.lab.run(fail())
    api.lab.settle()
    node, *told = seen(api)
    assert told == (["running", "started"] if storage == "shared" else ["unknown", "recovery"])
    assert (node == "pve2") is (storage != "shared")


def test_it_is_destroyed_with_its_resource_or_not_at_all(api: Client) -> None:
    ask(api, "POST", f"{LXC}/200/status/stop")
    text = "unable to remove CT 200 - used in HA resources and purge parameter not set."
    assert api.call("DELETE", f"{LXC}/200").reason == text
    assert api.task("DELETE", f"{LXC}/200", {"purge": 1})["exitstatus"] == "OK"
    assert api.get(HA) == []


NONE = {
    "vm:200": "resource 'vm:200' - guest with ID 200 is not a VM",
    "ct:999": "resource 'ct:999' does not exist in cluster",
    "999": "unable to detect SID from VMID - VM/CT 999 does not exist",
    "pod:200": "unable to parse service ID 'pod:200'",
}


def test_what_is_no_container_is_not_taken_for_one(api: Client) -> None:
    assert {sid: api.call("POST", HA, {"sid": sid}).reason for sid in NONE} == NONE
