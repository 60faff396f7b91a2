"""A VM's life through the API: claimed, created, started, changed, stopped, deleted."""

import concurrent.futures

import pytest

from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.machines.base import Ended, StartFailed
from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.lab.http import DISK, QEMU, Client


def test_the_id_is_claimed_before_the_task_has_done_anything() -> None:
    with start_lab(latency=Latency(tasks={"qmcreate": 0.3}, refused_login=0)) as lab, Client(lab) as api:
        assert api.call("POST", QEMU, {"vmid": 100, **DISK}).status == 200
        assert api.get(f"{QEMU}/100/config")["lock"] == "create"
        again = api.call("POST", "/nodes/pve2/qemu", {"vmid": 100})
        assert (again.status, again.reason) == (500, "unable to create VM 100 - VM 100 already exists on node 'pve1'")
        locked = api.call("PUT", f"{QEMU}/100/config", {"memory": 512})
        assert locked.reason == "VM is locked (create)"
        lab.settle()
        assert "lock" not in api.get(f"{QEMU}/100/config")


def test_of_many_who_want_one_id_exactly_one_gets_it(lab: RunningLab) -> None:
    def create(node: str) -> int:
        with Client(lab) as api:
            return api.call("POST", f"/nodes/{node}/qemu", {"vmid": 100}).status

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(create, ["pve1", "pve2", "pve3"] * 2))
    assert sorted(answers) == [200, 500, 500, 500, 500, 500]


def test_a_failed_create_leaves_neither_id_nor_volumes(lab: RunningLab, api: Client) -> None:
    status = api.task(
        "POST",
        QEMU,
        {"vmid": 100, "ide2": "local:iso/none.iso,media=cdrom", "scsi0": "local-lvm:1", "efidisk0": "local-lvm:0"},
    )
    assert status["exitstatus"] == "unable to create VM 100 - volume 'local:iso/none.iso' does not exist"
    assert api.call("GET", f"{QEMU}/100/config").status == 500
    assert api.get("/nodes/pve1/storage/local-lvm/content") == []
    assert api.get("/cluster/nextid") == "100"


def test_disks_are_named_in_key_order_and_read_back_reprinted(api: Client) -> None:
    api.task(
        "POST",
        QEMU,
        {
            "vmid": 101,
            "efidisk0": "local-lvm:0,efitype=4m",
            "scsi0": "local-lvm:4.5,ssd=1,discard=on",
            "scsi10": "local-lvm:1",
            "scsi2": "local-lvm:1",
        },
    )
    config = api.get(f"{QEMU}/101/config")
    assert config["efidisk0"] == "local-lvm:vm-101-disk-0,efitype=4m,size=4M"
    assert config["scsi0"] == "local-lvm:vm-101-disk-1,discard=on,size=4608M,ssd=1"
    assert config["scsi10"].startswith("local-lvm:vm-101-disk-2")
    assert config["scsi2"].startswith("local-lvm:vm-101-disk-3")
    assert config["boot"] == "order=scsi0"


def test_it_starts_runs_and_stops(lab: RunningLab, api: Client, vm: int) -> None:
    assert api.task("POST", f"{QEMU}/{vm}/status/start")["exitstatus"] == "OK"
    status = api.get(f"{QEMU}/{vm}/status/current")
    assert (status["status"], status["qmpstatus"], status["agent"]) == ("running", "running", 1)
    assert api.task("POST", f"{QEMU}/{vm}/status/start")["exitstatus"] == f"VM {vm} already running"
    assert api.call("DELETE", f"{QEMU}/{vm}").reason == f"VM {vm} is running - destroy failed"
    assert api.task("POST", f"{QEMU}/{vm}/status/stop")["exitstatus"] == "OK"
    assert api.task("POST", f"{QEMU}/{vm}/status/stop")["exitstatus"] == "OK"
    assert api.task("DELETE", f"{QEMU}/{vm}")["exitstatus"] == "OK"
    assert api.get("/nodes/pve1/storage/local-lvm/content") == []
    assert lab.cluster.vms == {}


def test_a_guest_that_shuts_itself_down_is_stopped(lab: RunningLab, api: Client, running: int) -> None:
    async def end() -> None:
        lab.driver.machines[running].end(Ended.GUEST_SHUTDOWN)

    lab.run(end())
    assert api.get(f"{QEMU}/{running}/status/current")["status"] == "stopped"


def test_a_guest_that_ignores_the_button_fails_the_shutdown_unless_forced(
    lab: RunningLab, api: Client, running: int
) -> None:
    lab.driver.guest(running).obeys = False
    assert (
        api.task("POST", f"{QEMU}/{running}/status/shutdown", {"timeout": 1})["exitstatus"]
        == "VM quit/powerdown failed - got timeout"
    )
    assert api.task("POST", f"{QEMU}/{running}/status/shutdown", {"timeout": 1, "forceStop": 1})["exitstatus"] == "OK"
    assert api.get(f"{QEMU}/{running}/status/current")["status"] == "stopped"


def test_reboot_starts_again_in_a_task_of_roots(lab: RunningLab, api: Client, running: int) -> None:
    assert api.task("POST", f"{QEMU}/{running}/status/reboot")["exitstatus"] == "OK"
    lab.settle()
    assert api.get(f"{QEMU}/{running}/status/current")["status"] == "running"
    starts = [task for task in api.get("/nodes/pve1/tasks", typefilter="qmstart") if task["user"] == "root@pam"]
    assert len(starts) == 1


def test_qemus_own_words_are_in_the_log_when_it_does_not_start(lab: RunningLab, api: Client, vm: int) -> None:
    lab.driver.fails[vm] = StartFailed("start failed: QEMU exited with code 1", ("kvm: something is wrong",))
    status = api.task("POST", f"{QEMU}/{vm}/status/start")
    assert status["exitstatus"] == "start failed: QEMU exited with code 1"
    assert api.log(status["upid"]) == ["kvm: something is wrong", "TASK ERROR: start failed: QEMU exited with code 1"]


def test_a_bridge_that_is_not_there_shows_at_the_start_only(api: Client) -> None:
    assert api.task("POST", QEMU, {"vmid": 101, "net0": "virtio,bridge=vmbr9"})["exitstatus"] == "OK"
    status = api.task("POST", f"{QEMU}/101/status/start")
    assert status["exitstatus"] == "start failed: QEMU exited with code 1"
    assert api.log(status["upid"])[0] == "bridge 'vmbr9' does not exist"


def test_create_with_start_makes_a_second_task(lab: RunningLab, api: Client) -> None:
    api.task("POST", QEMU, {"vmid": 101, "start": 1})
    lab.settle()
    assert [task["type"] for task in api.get("/nodes/pve1/tasks")] == ["qmstart", "qmcreate"]
    assert api.get(f"{QEMU}/101/status/current")["status"] == "running"


@pytest.mark.parametrize("version", ["7.4", "8.4", "9.1"])
def test_memory_is_a_number_in_7_and_a_string_since(version: str) -> None:
    with start_lab(version=version) as lab, Client(lab) as api:
        api.task("POST", QEMU, {"vmid": 100, "memory": 1024})
        assert api.get(f"{QEMU}/100/config")["memory"] == (1024 if version == "7.4" else "1024")
        assert api.get("/version")["release"] == version
        if version == "7.4":
            assert "mac_prefix" not in lab.cluster.options
