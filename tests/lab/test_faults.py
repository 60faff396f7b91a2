"""Faults as data: each does what it says, at the call it names, and the control door shows and sets them."""

import http.client
import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from nixops_proxmox.lab.faults import Fault
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.lab.http import QEMU, Answer, Client
from tests.pace import patience, wait_until

GONE = (http.client.RemoteDisconnected, ConnectionResetError, ssl.SSLError)


def control(lab: RunningLab, method: str, path: str, body: Any = None, token: str | None = None) -> Answer:
    with Client(lab, {"Authorization": f"Bearer {token or lab.control_token}"}) as client:
        return client.send(method, f"/lab/{path}", None if body is None else json.dumps(body).encode())


def test_a_fault_strikes_at_the_nth_match_and_as_often_as_told() -> None:
    fault = Fault("refuse", "POST", "/qemu$", nth=2, times=2)
    strikes = [fault.strikes(*call) for call in [("GET", "/qemu"), *[("POST", "/nodes/pve1/qemu")] * 4]]
    assert strikes == [False, False, True, True, False]
    always = Fault("refuse", times=0)
    assert all(always.strikes("GET", "/x") for _ in range(5))


def test_refuse_answers_instead_of_acting(lab: RunningLab, api: Client) -> None:
    lab.faults.add(Fault("refuse", "POST", "/qemu$", status=500, text="out of luck"))
    answer = api.call("POST", QEMU, {"vmid": 100})
    assert (answer.status, answer.reason) == (500, "out of luck")
    assert lab.cluster.vms == {}
    assert api.call("POST", QEMU, {"vmid": 100}).status == 200


@pytest.mark.parametrize(("action", "exists"), [("drop_before", False), ("drop_after", True)])
def test_a_dropped_answer_leaves_the_outcome_to_be_looked_up(
    lab: RunningLab, api: Client, action: Any, exists: bool
) -> None:
    lab.faults.add(Fault(action, "POST", "/qemu$"))
    with pytest.raises(GONE):
        api.call("POST", QEMU, {"vmid": 100})
    lab.settle()
    assert (100 in lab.cluster.vms) is exists


def test_what_takes_longer_than_30_seconds_is_a_596_and_happens_all_the_same() -> None:
    with start_lab(latency=Latency(proxied=0.1, statistics=0)) as lab, Client(lab) as api:
        lab.faults.add(Fault("delay", "POST", "/qemu$", seconds=0.3))
        answer = api.call("POST", QEMU, {"vmid": 100})
        assert (answer.status, answer.reason) == (596, "Connection timed out")

        async def later() -> None:
            while 100 not in lab.cluster.vms:
                await lab.cluster.clock.sleep(0.02)

        lab.run(later(), timeout=patience(5))


def test_a_lab_that_ends_waits_for_no_answer() -> None:
    """It would not end in time: neither the answer nor the 596 comes."""

    def ask(lab: RunningLab) -> None:
        with Client(lab) as api, pytest.raises(GONE):
            api.call("POST", QEMU, {"vmid": 100})

    with ThreadPoolExecutor() as threads:
        with start_lab(latency=Latency(proxied=10_000, statistics=0)) as lab:
            lab.faults.add(Fault("slow", "POST", "/qemu$", seconds=10_000))
            asked = threads.submit(ask, lab)
            wait_until(lambda: 100 in lab.cluster.vms, what="the call")
        asked.result(patience(30))


@pytest.mark.parametrize(
    ("fault", "status", "exists"),
    [
        (Fault("fail_task", text="no space left on device"), "no space left on device", False),
        (Fault("fail_task", text="late", late=True), "late", True),
        (Fault("kill_task"), "unexpected status", True),
        (Fault("warn_task", text="odd"), "WARNINGS: 1", True),
    ],
)
def test_a_task_ends_as_the_fault_wants(lab: RunningLab, api: Client, fault: Fault, status: str, exists: bool) -> None:
    lab.faults.add(fault)
    assert api.task("POST", QEMU, {"vmid": 100})["exitstatus"] == status
    assert (100 in lab.cluster.vms) is exists


def test_locks_come_and_go(lab: RunningLab, api: Client, vm: int) -> None:
    lab.faults.add(Fault("lock_vm", "GET", f"/qemu/{vm}/config", seconds=0.2, text="snapshot"))
    assert api.get(f"{QEMU}/{vm}/config")["lock"] == "snapshot"
    assert api.call("PUT", f"{QEMU}/{vm}/config", {"cores": 2}).reason == "VM is locked (snapshot)"

    async def wait() -> None:
        while lab.cluster.vms[vm].lock:
            await lab.cluster.clock.sleep(0.02)

    lab.run(wait())
    assert api.call("PUT", f"{QEMU}/{vm}/config", {"cores": 2}).status == 200


IMPATIENT = replace(Latency.instant(), flock=0.2, cluster_lock=0.2)


def test_a_busy_storage_times_the_allocation_out() -> None:
    with start_lab(latency=IMPATIENT) as lab, Client(lab) as api:
        lab.faults.add(Fault("lock_storage", "POST", "/qemu$", target="local-lvm", seconds=30))
        status = api.task("POST", QEMU, {"vmid": 100, "scsi0": "local-lvm:1"})
        assert status["exitstatus"].endswith(
            "can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout"
        )
        assert lab.cluster.vms == {}


def test_a_held_lock_file_times_a_change_out() -> None:
    with start_lab(latency=IMPATIENT) as lab, Client(lab) as api:
        api.task("POST", QEMU, {"vmid": 100})
        lab.faults.add(Fault("flock_vm", "PUT", "/config", seconds=30))
        answer = api.call("PUT", f"{QEMU}/100/config", {"cores": 2})
        assert answer.reason == "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"


def test_without_quorum_nothing_is_written_but_everything_read(lab: RunningLab, api: Client, vm: int) -> None:
    lab.faults.add(Fault("no_quorum", "GET", "/version"))
    api.get("/version")
    assert api.call("POST", QEMU, {"vmid": 101}).reason == "cluster not ready - no quorum?"
    assert api.call("PUT", f"{QEMU}/{vm}/config", {"cores": 2}).reason == "cluster not ready - no quorum?"
    assert api.get(f"{QEMU}/{vm}/config")["name"] == "web"


def test_a_stolen_id_is_somebody_elses(lab: RunningLab, api: Client) -> None:
    lab.faults.add(Fault("steal_vmid", "POST", "/qemu$"))
    assert (
        api.call("POST", QEMU, {"vmid": 100}).reason == "unable to create VM 100 - VM 100 already exists on node 'pve1'"
    )
    assert api.get(f"{QEMU}/100/config")["name"] == "somebody-elses"


def test_a_silent_agent_speaks_again(lab: RunningLab, api: Client, running: int) -> None:
    lab.faults.add(Fault("agent_silent", "GET", "/status/current", count=2))
    api.get(f"{QEMU}/{running}/status/current")
    answers = [api.call("POST", f"{QEMU}/{running}/agent/ping").status for _ in range(3)]
    assert answers == [500, 500, 200]


def test_the_control_door_needs_its_own_token(lab: RunningLab) -> None:
    assert control(lab, "GET", "state", token="wrong").status == 401
    assert control(lab, "GET", "state", token=lab.token).status == 401
    assert control(lab, "GET", "state").json["version"] == "8.4.21"


def test_faults_are_set_shown_and_refused_over_http(lab: RunningLab, api: Client) -> None:
    assert control(lab, "POST", "faults", [{"action": "refuse", "path": "/version", "text": "x"}]).status == 200
    assert api.call("GET", "/version").reason == "x"
    assert control(lab, "GET", "faults").json[0]["seen"] == 1
    assert control(lab, "POST", "faults", {"action": "explode"}).status == 400
    assert control(lab, "POST", "faults", {"action": "refuse", "colour": "red"}).json["error"] == "unknown keys: colour"
    assert control(lab, "DELETE", "faults").json == []


def test_calls_are_counted_in_order_and_reset_clears_all(lab: RunningLab, api: Client, vm: int) -> None:
    calls = control(lab, "GET", "calls").json
    assert (calls[0]["method"], calls[0]["path"]) == ("POST", QEMU)
    assert calls[0]["who"] == "deploy@pve!lab"
    assert control(lab, "POST", "reset").json["vms"] == {}
    assert api.get("/nodes/pve1/storage/local-lvm/content") == []
    assert [call["path"] for call in lab.calls] == ["/nodes/pve1/storage/local-lvm/content"]
