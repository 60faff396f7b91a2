"""What other people's clients ask on their default path: they stop at a 501, so the lab answers as an idle PVE does."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.machines.simulated import Body, Options, SimulatedDriver
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.lab.http import DISK, QEMU, Client

QUESTIONS: dict[str, Any] = {
    "/nodes/pve1/lxc": [],
    "/access/groups": [],
    "/cluster/sdn/zones": [],
    "/cluster/sdn/vnets": [],
    "/cluster/replication": [],
    "/cluster/config/qdevice": {},
    "/nodes/pve1/replication": [],
    "/cluster/firewall/groups": [],
    "/cluster/firewall/rules": [],
    "/cluster/firewall/aliases": [],
    "/cluster/firewall/ipset": [],
    "/cluster/backup-info/not-backed-up": [],
}


@pytest.mark.parametrize("path", QUESTIONS)
def test_an_idle_cluster_has_none_of_these(api: Client, path: str) -> None:
    answer = api.call("GET", path)

    assert (answer.status, answer.data) == (200, QUESTIONS[path])


def test_a_vm_that_ha_does_not_manage_is_no_resource(api: Client, vm: int) -> None:
    for sid in (f"vm:{vm}", str(vm)):
        answer = api.call("GET", f"/cluster/ha/resources/{sid}")
        assert (answer.status, answer.reason) == (500, f"no such resource 'vm:{vm}'")

    api.call("POST", "/cluster/ha/resources", {"sid": f"vm:{vm}", "state": "stopped"})

    assert api.call("GET", f"/cluster/ha/resources/vm:{vm}").data["state"] == "stopped"


def test_what_the_lab_does_not_do_says_so(api: Client) -> None:
    answer = api.call("GET", "/cluster/ceph/status")

    assert answer.status == 501
    assert "the lab does not do this" in answer.json["message"]
    assert answer.reason == "Method 'GET /cluster/ceph/status' not implemented"


def test_a_subscription_is_not_found_and_that_is_no_error(api: Client) -> None:
    assert api.call("GET", "/nodes/pve1/subscription").data["status"] == "notfound"


def test_statistics_end_with_what_is_true_now(api: Client) -> None:
    points = api.call("GET", "/nodes/pve1/rrddata", {"timeframe": "hour"}).data

    assert len(points) == 70
    assert [two["time"] - one["time"] for one, two in pairwise(points)] == [60] * 69
    assert points[-1]["memtotal"] > points[-1]["memused"] > 0
    assert api.call("GET", "/nodes/pve1/storage/local/rrddata", {"timeframe": "day"}).data[-1]["total"] > 0
    assert api.call("GET", "/nodes/pve1/rrddata").status == 400


def test_a_report_names_the_node_and_the_version(api: Client) -> None:
    assert "pve1" in api.call("GET", "/nodes/pve1/report").data


def test_no_url_can_be_looked_at(api: Client) -> None:
    answer = api.call("GET", "/nodes/pve1/query-url-metadata", {"url": "https://example.org/nixos.iso"})

    assert answer.status == 500
    assert "invalid server response" in answer.reason
    assert api.call("GET", "/nodes/pve1/query-url-metadata", {"url": "ftp://example.org"}).status == 400


# Users and groups.


def test_a_user_keeps_what_it_was_given(api: Client) -> None:
    given = {"email": "a@example.org", "firstname": "Ada", "lastname": "L.", "keys": "x!abc", "comment": "first"}
    assert api.call("POST", "/access/groups", {"groupid": "admins", "comment": "they may"}).status == 200
    assert api.call("POST", "/access/users", {"userid": "ada@pve", "groups": "admins", **given}).status == 200

    shown = api.call("GET", "/access/users/ada@pve").data
    assert {key: shown[key] for key in given} == given
    assert shown["groups"] == ["admins"]
    full = {user["userid"]: user for user in api.call("GET", "/access/users", {"full": 1}).data}
    assert full["ada@pve"]["groups"] == "admins"

    api.call("PUT", "/access/users/ada@pve", {"email": "b@example.org"})
    assert api.call("GET", "/access/users/ada@pve").data["firstname"] == "Ada"
    assert api.call("GET", "/access/groups/admins").data == {"members": ["ada@pve"], "comment": "they may"}
    assert api.call("GET", "/access/groups").data == [{"groupid": "admins", "users": "ada@pve", "comment": "they may"}]

    api.call("DELETE", "/access/users/ada@pve")
    assert api.call("GET", "/access/groups/admins").data["members"] == []


def test_groups_are_refused_in_pves_words(api: Client) -> None:
    api.call("POST", "/access/groups", {"groupid": "admins"})

    assert api.call("POST", "/access/groups", {"groupid": "admins"}).reason == (
        "create group failed: group 'admins' already exists"
    )
    assert api.call("GET", "/access/groups/others").reason == "group 'others' does not exist"
    assert api.call("DELETE", "/access/groups/others").reason == "delete group failed: group 'others' does not exist"


# Backup jobs and datacenter options.


def test_a_backup_job_is_typed_and_can_be_changed(api: Client, vm: int) -> None:
    job = {"id": "nightly", "schedule": "02:00", "storage": "shared", "vmid": str(vm), "enabled": 1}
    assert api.call("POST", "/cluster/backup", job).status == 200

    shown = api.call("GET", "/cluster/backup/nightly").data
    assert (shown["enabled"], shown["type"], shown["vmid"]) == (1, "vzdump", str(vm))
    assert api.call("GET", "/cluster/backup-info/not-backed-up").data == []

    assert api.call("PUT", "/cluster/backup/nightly", {"enabled": 0, "delete": "schedule"}).status == 200
    shown = api.call("GET", "/cluster/backup/nightly").data
    assert (shown["enabled"], "schedule" in shown) == (0, False)
    assert [guest["vmid"] for guest in api.call("GET", "/cluster/backup-info/not-backed-up").data] == [vm]

    api.call("PUT", "/cluster/backup/nightly", {"all": 1, "enabled": 1})
    assert "vmid" not in api.call("GET", "/cluster/backup/nightly").data
    assert api.call("PUT", "/cluster/backup/nightly").reason == "no options specified"
    assert api.call("PUT", "/cluster/backup/other", {"enabled": 1}).reason == "no such vzdump job"
    assert api.call("POST", "/cluster/backup", job).json["errors"] == {"id": "Job 'nightly' already exists"}


def test_datacenter_options_come_as_objects(api: Client) -> None:
    given = {
        "next-id": "lower=500,upper=600",
        "migration": "insecure,network=192.0.2.0/24",
        "registered-tags": "db;web",
        "user-tag-access": "user-allow=list,user-allow-list=a;b",
        "console": "applet",
    }
    assert api.call("PUT", "/cluster/options", given).status == 200

    shown = api.call("GET", "/cluster/options").data
    assert shown["next-id"] == {"lower": "500", "upper": "600"}
    assert shown["migration"] == {"type": "insecure", "network": "192.0.2.0/24"}
    assert shown["registered-tags"] == ["db", "web"]
    assert shown["user-tag-access"] == {"user-allow": "list", "user-allow-list": ["a", "b"]}
    assert shown["console"] == "html5"
    assert api.call("GET", "/cluster/nextid").data == "500"


def test_the_bounds_of_the_next_vmid_hold(api: Client, vm: int) -> None:
    assert api.call("PUT", "/cluster/options", {"next-id": "lower=900,upper=200"}).reason == (
        "lower (900) <= upper (200) boundary rule broken"
    )
    assert api.call("PUT", "/cluster/options", {"next-id": f"lower={vm},upper={vm + 1}"}).status == 200

    assert api.call("GET", "/cluster/nextid").reason == f"unable to get any free VMID in range [{vm}, {vm}]"


# Nodes, networks, storages, firewall rules.


def test_dns_and_time_of_a_node_can_be_set(api: Client) -> None:
    assert api.call("PUT", "/nodes/pve1/dns", {"search": "example.org", "dns1": "192.0.2.1"}).status == 200
    assert api.call("GET", "/nodes/pve1/dns").data == {"search": "example.org", "dns1": "192.0.2.1"}
    assert "dns1" in api.call("PUT", "/nodes/pve1/dns", {"search": "x", "dns1": "nonsense"}).json["errors"]

    assert api.call("PUT", "/nodes/pve1/time", {"timezone": "Asia/Tokyo"}).status == 200
    now = api.call("GET", "/nodes/pve1/time").data
    assert (now["timezone"], now["localtime"] - now["time"]) == ("Asia/Tokyo", 9 * 3600)
    assert api.call("PUT", "/nodes/pve1/time", {"timezone": "Moon/Base"}).status == 400


def test_a_bridge_is_there_when_it_has_been_applied() -> None:
    with start_lab(nodes=("pve1", "pve2")) as lab, Client(lab) as api:
        bridge = {"iface": "vmbr9", "type": "bridge", "cidr": "192.0.2.129/25", "bridge_vlan_aware": 1}
        assert api.call("POST", "/nodes/pve1/network", bridge).status == 200
        assert "vmbr9" not in _bridges(api, "pve1")

        assert api.task("PUT", "/nodes/pve1/network")["exitstatus"] == "OK"
        assert "vmbr9" in _bridges(api, "pve1")
        assert "vmbr9" not in _bridges(api, "pve2")
        assert api.call("POST", "/nodes/pve1/network", bridge).json["errors"] == {"iface": "interface already exists"}

        api.call("DELETE", "/nodes/pve1/network/vmbr9")
        api.call("DELETE", "/nodes/pve1/network")  # the change is dropped
        api.task("PUT", "/nodes/pve1/network")
        assert "vmbr9" in _bridges(api, "pve1")

        api.call("DELETE", "/nodes/pve1/network/vmbr0")
        api.task("PUT", "/nodes/pve1/network")
        assert "vmbr0" not in _bridges(api, "pve1")
        assert "vmbr0" in _bridges(api, "pve2")


def _bridges(api: Client, node: str) -> list[str]:
    return [entry["iface"] for entry in api.call("GET", f"/nodes/{node}/network").data]


def test_a_storage_is_made_changed_and_removed(lab: RunningLab, api: Client) -> None:
    made = api.call("POST", "/storage", {"storage": "tank", "type": "zfspool", "pool": "rpool/vms", "nodes": "pve1"})
    assert made.data == {"storage": "tank", "type": "zfspool"}
    assert api.call("GET", "/storage/tank").data["pool"] == "rpool/vms"
    assert api.call("POST", "/storage", {"storage": "tank", "type": "dir", "path": "/x"}).reason == (
        "create storage failed: storage ID 'tank' already defined"
    )
    assert api.call("POST", "/storage", {"storage": "d2", "type": "dir"}).status == 400
    assert api.call("POST", "/storage", {"storage": "c1", "type": "cephfs"}).status == 501

    disk = {"vmid": 300, "scsi0": "tank:1"}
    assert api.task("POST", "/nodes/pve1/qemu", disk)["exitstatus"] == "OK"

    assert api.call("PUT", "/storage/tank", {"content": "iso"}).status == 500
    assert api.call("PUT", "/storage/tank", {"disable": 1}).status == 200
    assert api.call("GET", "/storage/tank").data["disable"] == 1
    assert api.call("PUT", "/storage/tank", {"delete": "disable,nodes"}).status == 200
    assert api.call("PUT", "/storage/tank", {"delete": "pool"}).reason == (
        "update storage failed: unable to delete required option 'pool'"
    )
    assert api.call("DELETE", "/storage/tank").status == 200
    assert api.call("GET", "/storage/tank").reason == "storage 'tank' does not exist"


def test_rules_are_read_moved_changed_and_deleted_by_position(api: Client, vm: int) -> None:
    base = f"/nodes/pve1/qemu/{vm}/firewall/rules"
    for port in ("1", "2", "3"):
        api.call("POST", base, {"type": "in", "action": "ACCEPT", "proto": "tcp", "dport": port, "pos": 0})
    assert [rule["dport"] for rule in api.call("GET", base).data] == ["3", "2", "1"]

    api.call("PUT", f"{base}/0", {"moveto": 3})
    assert [rule["dport"] for rule in api.call("GET", base).data] == ["2", "1", "3"]
    api.call("PUT", f"{base}/1", {"comment": "one", "delete": "dport"})
    shown = api.call("GET", f"{base}/1").data
    assert (shown["comment"], "dport" in shown) == ("one", False)
    assert api.call("DELETE", f"{base}/0", {"digest": "0" * 40}).reason == (
        "detected modified configuration - file changed by other user? Try again."
    )
    api.call("DELETE", f"{base}/0", {"digest": shown["digest"]})
    assert [rule.get("dport") for rule in api.call("GET", base).data] == [None, "3"]
    assert api.call("GET", f"{base}/7").reason == "no rule at position 7"


# Tasks end.


def test_a_worker_that_dies_of_anything_ends_its_task(lab: RunningLab, api: Client, vm: int) -> None:
    async def work(_: Log) -> None:
        raise ZeroDivisionError("division by zero")

    async def start() -> str:
        return lab.cluster.tasks.start("pve1", "qmstart", str(vm), Auth("root@pam"), work)

    upid = lab.run(start())
    lab.settle()

    assert api.get(f"/nodes/pve1/tasks/{upid}/status")["exitstatus"] == "division by zero"
    assert api.log(upid)[-1] == "TASK ERROR: division by zero"


def test_a_simulated_guest_is_snapshotted_with_its_ram(tmp_path: Path) -> None:
    options = Options(body=Body.SCRIPTED, loopback=True, ssh_port=0)
    with start_lab(driver=SimulatedDriver(tmp_path / "machines", options)) as lab, Client(lab) as api:
        api.task("POST", QEMU, {"vmid": 100, **DISK})
        api.task("POST", f"{QEMU}/100/status/start")
        _snapshot_and_back(api, 100)


def test_a_running_vm_is_snapshotted_with_its_ram(api: Client, running: int) -> None:
    _snapshot_and_back(api, running)


def _snapshot_and_back(api: Client, running: int) -> None:
    base = f"/nodes/pve1/qemu/{running}/snapshot"

    assert api.task("POST", base, {"snapname": "warm", "vmstate": 1})["exitstatus"] == "OK"
    assert api.task("POST", f"{base}/warm/rollback", {"start": 1})["exitstatus"] == "OK"
    assert api.call("GET", f"/nodes/pve1/qemu/{running}/status/current").data["status"] == "running"
