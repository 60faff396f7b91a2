"""Changes of a configuration: at once, hot, or pending until a full stop and start."""

import pytest

from nixops_proxmox.lab.testing import RunningLab
from tests.lab.http import QEMU, Client


def pending(api: Client, vmid: int) -> dict[str, dict[str, object]]:
    return {item["key"]: item for item in api.get(f"{QEMU}/{vmid}/pending")}


def test_a_stopped_vm_changes_at_once(api: Client, vm: int) -> None:
    assert api.call("PUT", f"{QEMU}/{vm}/config", {"memory": 2048, "delete": "name"}).data is None
    config = api.get(f"{QEMU}/{vm}/config", current=1)
    assert config["memory"] == "2048"
    assert "name" not in config


@pytest.mark.parametrize("key", ["memory", "cores", "boot", "bios", "serial0"])
def test_what_cannot_be_hotplugged_waits(api: Client, running: int, key: str) -> None:
    value = {"memory": "2048", "cores": "2", "boot": "order=net0", "bios": "ovmf", "serial0": "socket"}[key]
    api.call("PUT", f"{QEMU}/{running}/config", {key: value})
    assert str(pending(api, running)[key]["pending"]) == value
    assert str(api.get(f"{QEMU}/{running}/config")[key]) == value
    assert str(api.get(f"{QEMU}/{running}/config", current=1).get(key)) != value


def test_reset_does_not_apply_but_stop_and_start_does(api: Client, running: int) -> None:
    api.call("PUT", f"{QEMU}/{running}/config", {"cores": 2})
    api.task("POST", f"{QEMU}/{running}/status/reset")
    assert "pending" in pending(api, running)["cores"]
    api.task("POST", f"{QEMU}/{running}/status/stop")
    api.task("POST", f"{QEMU}/{running}/status/start")
    assert pending(api, running)["cores"] == {"key": "cores", "value": 2}


def test_an_api_reboot_applies(lab: RunningLab, api: Client, running: int) -> None:
    api.call("PUT", f"{QEMU}/{running}/config", {"cores": 2})
    api.task("POST", f"{QEMU}/{running}/status/reboot")
    lab.settle()
    assert api.get(f"{QEMU}/{running}/config", current=1)["cores"] == 2


def test_names_nics_and_disks_are_hot(lab: RunningLab, api: Client, running: int) -> None:
    api.call(
        "PUT", f"{QEMU}/{running}/config", {"name": "other", "net1": "virtio,bridge=vmbr1", "scsi1": "local-lvm:1"}
    )
    assert not any("pending" in item for item in pending(api, running).values())
    assert {nic.key for nic in lab.driver.machines[running].hardware.nics} == {"net0", "net1"}


def test_a_medium_is_ejected_from_a_running_vm(lab: RunningLab, api: Client, vm: int) -> None:
    iso = lab.cluster.directory / "a.iso"
    iso.write_bytes(b"iso")
    lab.lab.add_file("local", "iso", iso)
    api.call("PUT", f"{QEMU}/{vm}/config", {"ide2": "local:iso/a.iso,media=cdrom"})
    api.task("POST", f"{QEMU}/{vm}/status/start")
    api.call("PUT", f"{QEMU}/{vm}/config", {"ide2": "none,media=cdrom"})
    assert api.get(f"{QEMU}/{vm}/config", current=1)["ide2"] == "none,media=cdrom"
    assert lab.driver.machines[vm].hardware.disks[0].volume is None


def test_revert_drops_what_is_pending(api: Client, running: int) -> None:
    api.call("PUT", f"{QEMU}/{running}/config", {"cores": 2})
    api.call("PUT", f"{QEMU}/{running}/config", {"revert": "cores"})
    assert "cores" not in pending(api, running)


def test_a_deletion_can_be_pending_too(api: Client, running: int) -> None:
    api.call("PUT", f"{QEMU}/{running}/config", {"delete": "memory"})
    assert pending(api, running)["memory"] == {"key": "memory", "value": "1024", "delete": 1}
    assert "memory" not in api.get(f"{QEMU}/{running}/config")


def test_the_agent_answers_only_after_the_start_that_follows_its_option(api: Client, vm: int) -> None:
    api.call("PUT", f"{QEMU}/{vm}/config", {"delete": "agent"})
    api.task("POST", f"{QEMU}/{vm}/status/start")
    api.call("PUT", f"{QEMU}/{vm}/config", {"agent": "1"})
    assert api.call("POST", f"{QEMU}/{vm}/agent/ping").reason == "No QEMU guest agent configured"
    api.task("POST", f"{QEMU}/{vm}/status/stop")
    api.task("POST", f"{QEMU}/{vm}/status/start")
    assert api.call("POST", f"{QEMU}/{vm}/agent/ping").status == 200


def test_every_write_changes_the_digest_and_an_old_one_is_refused(api: Client, vm: int) -> None:
    first = api.get(f"{QEMU}/{vm}/config")["digest"]
    assert api.call("PUT", f"{QEMU}/{vm}/config", {"cores": 2, "digest": first}).status == 200
    stale = api.call("PUT", f"{QEMU}/{vm}/config", {"cores": 3, "digest": first})
    assert (stale.status, stale.reason) == (500, "checksum mismatch (file change by other user?)")


def test_a_replaced_disk_becomes_unused_and_its_data_stays(api: Client, vm: int) -> None:
    api.call("PUT", f"{QEMU}/{vm}/config", {"scsi0": "local-lvm:2"})
    config = api.get(f"{QEMU}/{vm}/config")
    assert config["unused0"] == "local-lvm:vm-100-disk-0"
    assert config["scsi0"] == "local-lvm:vm-100-disk-1,size=2G"
    assert len(api.get("/nodes/pve1/storage/local-lvm/content")) == 2


def test_the_asynchronous_way_is_a_task_and_may_be_waited_for(api: Client, vm: int) -> None:
    assert api.call("POST", f"{QEMU}/{vm}/config", {"cores": 2, "background_delay": 5}).data is None
    assert api.task("POST", f"{QEMU}/{vm}/config", {"cores": 3})["type"] == "qmconfig"
