"""Snapshots, templates, clones, backups, moves and migrations."""

from pathlib import Path

import pytest

from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.lab.http import DISK, QEMU, Client


def write(lab: RunningLab, volid: str, data: bytes, node: str = "pve1") -> Path:
    path = lab.cluster.stores.get_volume(volid, node).path
    with path.open("r+b") as file:
        file.write(data)
    return path


def read(lab: RunningLab, volid: str, node: str = "pve1") -> bytes:
    with lab.cluster.stores.get_volume(volid, node).path.open("rb") as file:
        return file.read(4)


def test_rollback_brings_bytes_and_configuration_back(lab: RunningLab, api: Client) -> None:
    api.task("POST", QEMU, {"vmid": 100, "scsi0": "local-lvm:0.01", "memory": 512})
    write(lab, "local-lvm:vm-100-disk-0", b"old!")
    assert api.task("POST", f"{QEMU}/100/snapshot", {"snapname": "before"})["exitstatus"] == "OK"
    write(lab, "local-lvm:vm-100-disk-0", b"new!")
    api.call("PUT", f"{QEMU}/100/config", {"memory": 1024})
    assert api.task("POST", f"{QEMU}/100/snapshot/before/rollback")["exitstatus"] == "OK"
    assert read(lab, "local-lvm:vm-100-disk-0") == b"old!"
    assert api.get(f"{QEMU}/100/config")["memory"] == "512"
    assert [item["name"] for item in api.get(f"{QEMU}/100/snapshot")] == ["before", "current"]
    assert api.task("DELETE", f"{QEMU}/100/snapshot/before")["exitstatus"] == "OK"


def test_a_snapshot_with_ram_runs_again_after_the_rollback(api: Client, running: int) -> None:
    assert api.task("POST", f"{QEMU}/{running}/snapshot", {"snapname": "ram", "vmstate": 1})["exitstatus"] == "OK"
    api.task("POST", f"{QEMU}/{running}/status/stop")
    assert api.task("POST", f"{QEMU}/{running}/snapshot/ram/rollback")["exitstatus"] == "OK"
    assert api.get(f"{QEMU}/{running}/status/current")["status"] == "running"


def test_a_template_is_cloned_linked_with_an_identity_of_its_own(lab: RunningLab, api: Client, vm: int) -> None:
    write(lab, "local-lvm:vm-100-disk-0", b"base")
    assert api.task("POST", f"{QEMU}/{vm}/template")["exitstatus"] == "OK"
    assert api.get(f"{QEMU}/{vm}/config")["scsi0"].startswith("local-lvm:base-100-disk-0,")
    assert api.task("POST", f"{QEMU}/{vm}/status/start")["exitstatus"] == "you can't start a vm if it's a template"
    assert api.task("POST", f"{QEMU}/{vm}/clone", {"newid": 101, "name": "copy"})["exitstatus"] == "OK"
    old, new = api.get(f"{QEMU}/{vm}/config"), api.get(f"{QEMU}/101/config")
    assert new["scsi0"].startswith("local-lvm:vm-101-disk-0,")
    assert read(lab, "local-lvm:vm-101-disk-0") == b"base"
    for key in ("net0", "smbios1", "vmgenid"):
        assert old[key] != new[key]
    assert (
        api.task("DELETE", f"{QEMU}/{vm}")["exitstatus"]
        == "base volume 'local-lvm:base-100-disk-0' is still in use by linked cloned"
    )


def test_a_clone_to_another_node_wants_shared_disks(api: Client, vm: int) -> None:
    answer = api.call("POST", f"{QEMU}/{vm}/clone", {"newid": 101, "target": "pve2"})
    assert answer.reason == "can't clone VM to node 'pve2' (VM uses local storage)"
    api.task("POST", QEMU, {"vmid": 102, "scsi0": "shared:1"})
    assert api.task("POST", f"{QEMU}/102/clone", {"newid": 103, "target": "pve2"})["exitstatus"] == "OK"
    assert api.get("/nodes/pve2/qemu/103/config")["scsi0"].startswith("shared:103/vm-103-disk-0.raw")


def test_a_backup_comes_back_over_the_vm_or_beside_it(lab: RunningLab, api: Client) -> None:
    api.task("POST", QEMU, {"vmid": 100, "scsi0": "local-lvm:0.01", "net0": "virtio,bridge=vmbr0"})
    write(lab, "local-lvm:vm-100-disk-0", b"good")
    assert (
        api.task("POST", "/nodes/pve1/vzdump", {"vmid": 100, "storage": "local", "compress": "zstd"})["exitstatus"]
        == "OK"
    )
    archive = api.get("/nodes/pve1/storage/local/content", content="backup")[0]["volid"]
    assert archive.startswith("local:backup/vzdump-qemu-100-")
    write(lab, "local-lvm:vm-100-disk-0", b"bad!")
    assert api.call("POST", QEMU, {"vmid": 100, "archive": archive}).reason.startswith(
        "unable to create VM 100 - VM 100 already exists"
    )
    assert api.task("POST", QEMU, {"vmid": 100, "archive": archive, "force": 1})["exitstatus"] == "OK"
    volid = api.get(f"{QEMU}/100/config")["scsi0"].partition(",")[0]
    assert read(lab, volid) == b"good"
    assert api.task("POST", QEMU, {"vmid": 105, "archive": archive, "unique": 1})["exitstatus"] == "OK"
    assert api.get(f"{QEMU}/105/config")["net0"] != api.get(f"{QEMU}/100/config")["net0"]


def test_a_backup_passes_over_guests_of_other_nodes(api: Client, vm: int) -> None:
    assert api.call("POST", "/nodes/pve2/vzdump", {"vmid": vm, "storage": "local"}).data == "OK"


def test_a_locked_guest_fails_the_backup_job(lab: RunningLab, api: Client, vm: int) -> None:
    lab.cluster.vms[vm].config["lock"] = "migrate"
    status = api.task("POST", "/nodes/pve1/vzdump", {"vmid": vm, "storage": "local"})
    assert status["exitstatus"] == "job errors"
    assert "ERROR: Backup of VM 100 failed - VM is locked (migrate)" in api.log(status["upid"])


def test_a_vm_moves_to_another_node_and_is_found_there(api: Client) -> None:
    api.task("POST", QEMU, {"vmid": 100, "scsi0": "shared:1"})
    api.task("POST", f"{QEMU}/100/status/start")
    assert (
        api.call("POST", f"{QEMU}/100/migrate", {"target": "pve2"}).reason
        == "can't migrate running VM without --online"
    )
    assert api.task("POST", f"{QEMU}/100/migrate", {"target": "pve2", "online": 1})["exitstatus"] == "OK"
    assert api.call("GET", f"{QEMU}/100/config").status == 500
    assert api.get("/nodes/pve2/qemu/100/status/current")["status"] == "running"


def test_a_disk_moves_to_another_storage_and_the_old_one_stays_unused(api: Client, vm: int) -> None:
    assert api.task("POST", f"{QEMU}/{vm}/move_disk", {"disk": "scsi0", "storage": "shared"})["exitstatus"] == "OK"
    config = api.get(f"{QEMU}/{vm}/config")
    assert config["scsi0"].startswith("shared:100/vm-100-disk-0.raw")
    assert config["unused0"] == "local-lvm:vm-100-disk-0"


@pytest.mark.parametrize(("version", "is_task"), [("7.4", False), ("8.4", True)])
def test_resize_is_a_task_since_8(version: str, is_task: bool) -> None:
    with start_lab(version=version) as lab, Client(lab) as api:
        api.task("POST", QEMU, {"vmid": 100, **DISK})
        answer = api.call("PUT", f"{QEMU}/100/resize", {"disk": "scsi0", "size": "+1G"})
        assert (answer.data is not None) is is_task
        lab.settle()
        assert "size=5G" in api.get(f"{QEMU}/100/config")["scsi0"]


def test_an_uploaded_image_becomes_a_disk(lab: RunningLab, api: Client) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n'
        b'--x\r\nContent-Disposition: form-data; name="filename"; filename="a b.iso"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nDATA\r\n--x--\r\n"
    )
    answer = api.send(
        "POST", "/api2/json/nodes/pve2/storage/local/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert answer.status == 200
    lab.settle()
    assert api.get("/nodes/pve2/storage/local/content", content="iso")[0]["volid"] == "local:iso/a_b.iso"
    assert api.get("/nodes/pve1/storage/local/content", content="iso") == []
