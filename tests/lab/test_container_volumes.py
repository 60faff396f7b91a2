"""Volumes that go from one container to another (`move_volume` with `target-vmid`), as pve-container moves them."""

import pytest

from nixops_proxmox.lab.testing import RunningLab
from tests.lab.http import Client
from tests.lab.test_containers import CT, LXC, add_seed
from tests.lab.test_permissions import as_user

PLACE = "/mnt/nixops-volumes/npv-0123456789abcdef"
MOVE = {"volume": "mp0", "target-vmid": 201, "target-volume": "mp7"}


@pytest.fixture(autouse=True)
def two(lab: RunningLab, api: Client) -> None:
    """Container 200 with a mount point, and 201 without one."""
    add_seed(lab)
    mount = {"mp0": f"local-lvm:1,mp={PLACE},backup=0"}
    assert api.task("POST", LXC, {**CT, **mount})["exitstatus"] == "OK"
    nic = "name=eth0,bridge=vmbr0,ip=dhcp,hwaddr=BC:24:11:00:00:02"
    assert api.task("POST", LXC, {**CT, "vmid": 201, "net0": nic})["exitstatus"] == "OK"


def move(api: Client, **more: object) -> object:
    return api.task("POST", f"{LXC}/200/move_volume", {**MOVE, **more})["exitstatus"]


def test_the_volume_is_renamed_and_keeps_its_options(lab: RunningLab, api: Client) -> None:
    lab.cluster.stores.get_volume("local-lvm:vm-200-disk-1", "pve1").path.write_bytes(b"data")
    done = api.task("POST", f"{LXC}/200/move_volume", MOVE)
    assert (done["exitstatus"], done["type"], done["upid"].split(":")[6]) == ("OK", "move_volume", "200-mp0>201-mp7")
    assert not [key for key in api.get(f"{LXC}/200/config") if key.startswith(("mp", "unused"))]
    assert api.get(f"{LXC}/201/config")["mp7"] == f"local-lvm:vm-201-disk-1,backup=0,mp={PLACE},size=1G"
    moved = lab.cluster.stores.get_volume("local-lvm:vm-201-disk-1", "pve1").path
    assert moved.read_bytes() == b"data"


def test_a_running_target_gets_it_at_once_and_a_running_source_refuses(api: Client) -> None:
    assert api.task("POST", f"{LXC}/201/status/start")["exitstatus"] == "OK"
    assert move(api) == "OK"
    assert "mp7" not in {item["key"] for item in api.get(f"{LXC}/201/pending") if "pending" in item}
    back = {"volume": "mp7", "target-vmid": 200, "target-volume": "mp0"}
    assert api.call("POST", f"{LXC}/201/move_volume", back).reason == (
        "Cannot move in-use volume while the source CT is running - detach or shutdown first"
    )


def test_one_that_is_detached_stays_so_and_has_no_place(api: Client) -> None:
    assert api.call("PUT", f"{LXC}/200/config", {"delete": "mp0"}).status == 200
    asked = {**MOVE, "volume": "unused0"}
    assert api.call("POST", f"{LXC}/200/move_volume", asked).reason == (
        "Moving an unused volume to a used one is not possible"
    )
    assert move(api, volume="unused0", **{"target-volume": "unused3"}) == "OK"
    assert api.get(f"{LXC}/201/config")["unused3"] == "local-lvm:vm-201-disk-1"


def test_a_protected_target_refuses_when_the_source_has_lost_it_already(lab: RunningLab, api: Client) -> None:
    """As PVE does it: nothing has the volume then, so whoever moves one must look first."""
    assert api.call("PUT", f"{LXC}/201/config", {"protection": 1}).status == 200
    assert "protection mode enabled" in str(move(api))
    assert "mp0" not in api.get(f"{LXC}/200/config") and "mp7" not in api.get(f"{LXC}/201/config")
    assert lab.cluster.stores.find("local-lvm:vm-201-disk-1", "pve1") is not None
    assert api.call("PUT", f"{LXC}/201/config", {"protection": 0}).status == 200
    again = {"mp7": f"local-lvm:vm-201-disk-1,mp={PLACE}"}
    assert api.call("PUT", f"{LXC}/201/config", again).status == 200


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "two places": ({"storage": "shared"}, "Parameter verification failed."),
    "no container": ({"target-vmid": 999}, "could not find CT 999"),
    "no volume": ({"volume": "mp5"}, "volume 'mp5' for container '200' does not exist"),
    "a root": ({"volume": "rootfs"}, "Cannot move to/from 'rootfs'"),
    "into a root": ({"target-volume": "rootfs"}, "Cannot move to/from 'rootfs'"),
    "another source": ({"digest": "0" * 40}, "Container 200: detected modified configuration - file changed by other"),
    "another target": ({"target-digest": "0" * 40}, "Container 201: detected modified configuration - file changed"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_pve_refuses(api: Client, what: str) -> None:
    change, refusal = REFUSED[what]
    assert api.call("POST", f"{LXC}/200/move_volume", {**MOVE, **change}).reason.startswith(refusal)


def test_a_key_that_is_in_use_is_refused(api: Client) -> None:
    assert api.call("PUT", f"{LXC}/201/config", {"mp7": "local-lvm:1,mp=/other"}).status == 200
    assert api.call("POST", f"{LXC}/200/move_volume", MOVE).reason == (
        "Target volume key 'mp7' is already in use for container '201'"
    )


def test_a_volume_in_a_snapshot_stays(api: Client) -> None:
    assert api.task("POST", f"{LXC}/200/snapshot", {"snapname": "before"})["exitstatus"] == "OK"
    answer = api.call("POST", f"{LXC}/200/move_volume", MOVE)
    assert answer.reason == "Cannot move volume used by a snapshot to another container"


def test_a_vm_neither_gives_one_nor_gets_one(api: Client) -> None:
    assert api.task("POST", "/nodes/pve1/qemu", {"vmid": 300, "scsi0": "local-lvm:1"})["exitstatus"] == "OK"
    assert api.call("POST", f"{LXC}/200/move_volume", {**MOVE, "target-vmid": 300}).status == 500
    assert api.call("POST", f"{LXC}/300/move_volume", MOVE).status == 500


def test_both_must_be_on_one_node(lab: RunningLab, api: Client) -> None:
    assert (
        api.task("POST", "/nodes/pve2/lxc", {"vmid": 202, "ostemplate": CT["ostemplate"], "rootfs": CT["rootfs"]})[
            "exitstatus"
        ]
        == "OK"
    )
    answer = api.call("POST", f"{LXC}/200/move_volume", {**MOVE, "target-vmid": 202})
    assert answer.reason == "Both containers need to be on the same node (pve1 != pve2)"


RIGHTS = (("/vms/200", "VM.Config.Disk"), ("/vms/201", "VM.Config.Disk"), ("/storage", "Datastore.AllocateSpace"))


@pytest.mark.parametrize("missing", [*RIGHTS, None])
def test_who_moves_one_needs_the_rights_to_both_and_to_the_storage(
    lab: RunningLab, missing: tuple[str, str] | None
) -> None:
    with as_user(lab, *(one for one in RIGHTS if one != missing)) as mine:
        assert mine.call("POST", f"{LXC}/200/move_volume", MOVE).status == (200 if missing is None else 403)


def test_the_volume_of_another_container_is_not_attached_by_its_name_alone(lab: RunningLab) -> None:
    with as_user(lab, ("/vms/201", "VM.Config.Disk"), ("/storage", "Datastore.AllocateSpace")) as mine:
        stolen = {"mp0": "local-lvm:vm-200-disk-1,mp=/data"}
        assert mine.call("PUT", f"{LXC}/201/config", stolen).status == 403
