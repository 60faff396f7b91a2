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


@pytest.fixture
def iso(lab: RunningLab) -> str:
    file = lab.cluster.directory / "a.iso"
    file.write_bytes(b"iso")
    lab.lab.add_file("local", "iso", file)
    return "local:iso/a.iso,media=cdrom"


def test_a_cd_that_is_not_in_the_active_boot_order_joins_it_before_or_after_the_order_of_the_same_call(
    api: Client, vm: int, iso: str
) -> None:
    ends = set()
    for _ in range(50):
        api.call("PUT", f"{QEMU}/{vm}/config", {"boot": "order=scsi0"})
        assert api.call("PUT", f"{QEMU}/{vm}/config", {"ide2": iso, "boot": "order=ide2;scsi0"}).status == 200
        ends.add(api.get(f"{QEMU}/{vm}/config")["boot"])
        api.call("PUT", f"{QEMU}/{vm}/config", {"delete": "ide2"})
    assert ends == {"order=ide2;scsi0", "order=scsi0;ide2"}


def test_a_cd_in_a_running_vm_makes_a_boot_order_pending(api: Client, running: int, iso: str) -> None:
    active = api.get(f"{QEMU}/{running}/config", current=1)["boot"]
    api.call("PUT", f"{QEMU}/{running}/config", {"ide2": iso})
    assert pending(api, running)["boot"] == {"key": "boot", "value": active, "pending": f"{active};ide2"}


def test_a_boot_order_may_name_what_the_same_call_adds_and_nothing_that_it_deletes(api: Client, vm: int) -> None:
    assert api.call("PUT", f"{QEMU}/{vm}/config", {"boot": "order=scsi1", "scsi1": "local-lvm:1"}).status == 200
    refused = api.call("PUT", f"{QEMU}/{vm}/config", {"boot": "order=scsi1", "delete": "scsi1"})
    assert "invalid bootorder: device 'scsi1' does not exist" in refused.reason


def test_a_device_that_leaves_is_taken_out_of_the_boot_order(api: Client, running: int) -> None:
    api.call("PUT", f"{QEMU}/{running}/config", {"delete": "net0"})
    assert pending(api, running)["boot"]["pending"] == "order=scsi0"


@pytest.mark.parametrize("way", ["stop", "shutdown"])
def test_what_is_pending_is_applied_when_the_vm_stops(api: Client, running: int, way: str) -> None:
    api.call("PUT", f"{QEMU}/{running}/config", {"cores": 2})
    api.task("POST", f"{QEMU}/{running}/status/{way}")
    assert pending(api, running)["cores"] == {"key": "cores", "value": 2}


def test_a_guest_that_powers_off_by_itself_leaves_it_pending(lab: RunningLab, api: Client, running: int) -> None:
    from nixops_proxmox.lab.machines.base import Ended

    api.call("PUT", f"{QEMU}/{running}/config", {"cores": 2})

    async def power_off() -> None:
        lab.driver.machines[running].end(Ended.GUEST_SHUTDOWN)

    lab.run(power_off())
    assert "pending" in pending(api, running)["cores"]


def test_a_missing_bridge_is_a_hotplug_problem_and_the_nic_stays_pending(api: Client, running: int) -> None:
    answer = api.call("PUT", f"{QEMU}/{running}/config", {"net1": "virtio,bridge=vmbr9", "name": "other"})
    assert answer.status == 400
    assert "hotplug problem" in answer.json["errors"]["net1"]
    assert "pending" in pending(api, running)["net1"]
    assert api.get(f"{QEMU}/{running}/config", current=1)["name"] == "other"


def test_a_guest_that_does_not_let_go_is_a_hotplug_problem_and_asking_again_tries_again(
    lab: RunningLab, api: Client, running: int
) -> None:
    guest = lab.driver.guest(running)
    guest.plugs = "error on hot-unplugging device 'net0' - still busy in guest?"
    asked = {"delete": "net0"}
    assert api.call("PUT", f"{QEMU}/{running}/config", asked).status == 400
    assert pending(api, running)["net0"]["delete"] == 1
    guest.plugs = ""
    assert api.call("PUT", f"{QEMU}/{running}/config", asked).status == 200
    assert "net0" not in pending(api, running)


def test_a_failed_disk_is_pending_with_its_volume_and_the_same_words_plug_it(
    lab: RunningLab, api: Client, running: int
) -> None:
    guest = lab.driver.guest(running)
    guest.plugs = "VM 100 qmp command 'device_add' failed - got timeout"
    failed = api.task("POST", f"{QEMU}/{running}/config", {"scsi1": "local-lvm:1", "memory": 2048})
    assert failed["exitstatus"].startswith("Parameter verification failed.")
    waiting = pending(api, running)["scsi1"]["pending"]
    guest.plugs = ""
    assert api.task("POST", f"{QEMU}/{running}/config", {"scsi1": waiting})["exitstatus"] == "OK"
    config = api.get(f"{QEMU}/{running}/config", current=1)
    assert config["scsi1"] == waiting
    assert "unused0" not in config


def test_an_allocation_for_a_slot_that_waits_makes_a_second_volume(lab: RunningLab, api: Client, running: int) -> None:
    lab.driver.guest(running).plugs = "got timeout"
    for _ in range(2):
        api.task("POST", f"{QEMU}/{running}/config", {"scsi1": "local-lvm:1"})
    assert api.get(f"{QEMU}/{running}/config")["unused0"] == "local-lvm:vm-100-disk-1"


def test_what_hotplug_may_do_is_what_was_active_when_the_call_came(api: Client, vm: int) -> None:
    api.call("PUT", f"{QEMU}/{vm}/config", {"hotplug": "disk"})
    api.task("POST", f"{QEMU}/{vm}/status/start")
    both = {"hotplug": "disk,network", "net1": "virtio,bridge=vmbr1"}
    assert api.call("PUT", f"{QEMU}/{vm}/config", both).status == 200
    assert "pending" in pending(api, vm)["net1"]
    assert "pending" not in pending(api, vm)["hotplug"]


def test_a_disks_cache_waits_and_its_backup_flag_does_not(api: Client, running: int) -> None:
    disk = api.get(f"{QEMU}/{running}/config")["scsi0"]
    api.call("PUT", f"{QEMU}/{running}/config", {"scsi0": f"{disk},backup=0"})
    assert "pending" not in pending(api, running)["scsi0"]
    api.call("PUT", f"{QEMU}/{running}/config", {"scsi0": f"{disk},backup=0,cache=writeback"})
    assert "pending" in pending(api, running)["scsi0"]


def test_the_firmwares_variables_of_a_running_vm_are_not_resized(api: Client, vm: int) -> None:
    api.task("POST", f"{QEMU}/{vm}/config", {"bios": "ovmf", "efidisk0": "local-lvm:1,efitype=4m"})
    api.task("POST", f"{QEMU}/{vm}/status/start")
    ended = api.task("PUT", f"{QEMU}/{vm}/resize", {"disk": "efidisk0", "size": "+1M"})
    assert "block_resize" in ended["exitstatus"]


def test_ovmf_without_a_disk_for_its_variables_starts_with_a_warning(api: Client, vm: int) -> None:
    api.call("PUT", f"{QEMU}/{vm}/config", {"bios": "ovmf"})
    ended = api.task("POST", f"{QEMU}/{vm}/status/start")
    assert ended["exitstatus"] == "WARNINGS: 1"


def test_an_empty_body_that_calls_itself_json_is_an_error(api: Client, vm: int) -> None:
    url = f"/api2/json{QEMU}/{vm}/status/start"
    answer = api.send("POST", url, b"", {"Content-Type": "application/json"})
    assert answer.status == 500
    assert "malformed JSON string" in answer.reason


def test_the_cloud_init_drive_is_written_at_a_start_and_when_it_is_asked_for(
    lab: RunningLab, api: Client, vm: int
) -> None:
    told = {"ide2": "local-lvm:cloudinit", "ciuser": "admin", "cipassword": "geheim"}
    api.call("PUT", f"{QEMU}/{vm}/config", told)
    assert lab.driver.burnt == {}
    api.task("POST", f"{QEMU}/{vm}/status/start")
    (drive,) = lab.driver.burnt
    before = lab.driver.burnt[drive]
    assert drive == f"local-lvm:vm-{vm}-cloudinit" and before["label"] == "cidata"
    assert "user: admin" in before["user-data"] and "****" not in before["user-data"]
    assert "password: ****" in api.get(f"{QEMU}/{vm}/cloudinit/dump", type="user"), "nobody is shown the password"
    api.call("PUT", f"{QEMU}/{vm}/config", {"ciuser": "other"})
    assert lab.driver.burnt[drive] == before
    api.call("PUT", f"{QEMU}/{vm}/cloudinit")
    after = lab.driver.burnt[drive]
    assert "user: other" in after["user-data"] and after["meta-data"] != before["meta-data"]
