"""A volume that becomes another VM's (`move_disk` with `target-vmid`), as qemu-server does it."""

import pytest

from nixops_proxmox.lab.testing import RunningLab
from tests.lab.http import QEMU, Client

SERIAL = "npv-0123456789abcdef"
MOVE = {"disk": "scsi1", "target-vmid": 101, "target-disk": "scsi30"}


@pytest.fixture(autouse=True)
def two(api: Client) -> None:
    """VM 100 with two disks, the second with a serial; VM 101 with one."""
    disks = {"scsi0": "local-lvm:1", "scsi1": f"local-lvm:1,serial={SERIAL},backup=0"}
    assert api.task("POST", QEMU, {"vmid": 100, "boot": "order=scsi1;scsi0", **disks})["exitstatus"] == "OK"
    assert api.task("POST", QEMU, {"vmid": 101, "scsi0": "local-lvm:1"})["exitstatus"] == "OK"


def test_the_volume_is_renamed_and_keeps_its_options(lab: RunningLab, api: Client) -> None:
    path = lab.cluster.stores.get_volume("local-lvm:vm-100-disk-1", "pve1").path
    path.write_bytes(b"data")
    done = api.task("POST", f"{QEMU}/100/move_disk", MOVE)
    assert done["exitstatus"] == "OK"
    assert done["upid"].split(":")[6] == "100-scsi1>101-scsi30"
    source, target = api.get(f"{QEMU}/100/config"), api.get(f"{QEMU}/101/config")
    assert "scsi1" not in source and not [key for key in source if key.startswith("unused")]
    assert source["boot"] == "order=scsi0"
    assert target["scsi30"] == f"local-lvm:vm-101-disk-1,backup=0,serial={SERIAL},size=1G"
    moved = lab.cluster.stores.get_volume("local-lvm:vm-101-disk-1", "pve1").path
    assert moved.read_bytes()[:4] == b"data"


def test_a_running_target_gets_it_at_once_and_a_running_source_refuses(api: Client) -> None:
    assert api.task("POST", f"{QEMU}/101/status/start")["exitstatus"] == "OK"
    assert api.task("POST", f"{QEMU}/100/move_disk", MOVE)["exitstatus"] == "OK"
    assert "scsi30" not in {item["key"] for item in api.get(f"{QEMU}/101/pending") if "pending" in item}
    back = {"disk": "scsi30", "target-vmid": 100, "target-disk": "scsi1"}
    assert api.call("POST", f"{QEMU}/101/move_disk", back).reason == (
        "Cannot move disk to another VM while the source VM is running - detach first"
    )


def test_a_detached_volume_moves_without_its_options(api: Client) -> None:
    assert api.task("POST", f"{QEMU}/100/config", {"delete": "scsi1"})["exitstatus"] == "OK"
    assert api.task("POST", f"{QEMU}/100/move_disk", {**MOVE, "disk": "unused0"})["exitstatus"] == "OK"
    assert api.get(f"{QEMU}/101/config")["scsi30"] == "local-lvm:vm-101-disk-1,size=1G"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"storage": "shared"}, "Parameter verification failed."),
        ({"target-vmid": 100}, "Parameter verification failed."),
        ({"target-vmid": 999}, "could not find target VM 999"),
        ({"disk": "scsi7"}, "Disk 'scsi7' for VM '100' does not exist"),
        ({"target-disk": "scsi0"}, "Target disk key 'scsi0' is already in use for VM '101'"),
        (
            {"target-digest": "0" * 40},
            "VM 101: detected modified configuration - file changed by other user? Try again.",
        ),
        ({"digest": "0" * 40}, "VM 100: detected modified configuration - file changed by other user? Try again."),
    ],
)
def test_what_qemu_server_refuses(api: Client, change: dict[str, object], refusal: str) -> None:
    assert api.call("POST", f"{QEMU}/100/move_disk", {**MOVE, **change}).reason == refusal


def test_a_volume_in_a_snapshot_stays(api: Client) -> None:
    assert api.task("POST", f"{QEMU}/100/snapshot", {"snapname": "before"})["exitstatus"] == "OK"
    answer = api.call("POST", f"{QEMU}/100/move_disk", MOVE)
    assert answer.reason == "Can't move disk used by a snapshot to another VM"


def test_both_must_be_on_one_node(api: Client) -> None:
    assert api.task("POST", "/nodes/pve2/qemu", {"vmid": 102})["exitstatus"] == "OK"
    answer = api.call("POST", f"{QEMU}/100/move_disk", {**MOVE, "target-vmid": 102})
    assert answer.reason == "Both VMs need to be on the same node (pve1 != pve2)"
