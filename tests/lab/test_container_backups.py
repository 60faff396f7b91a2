"""Backups of containers in the lab: what is in them, and what a restore over a container does and refuses."""

import pytest

from nixops_proxmox.lab.testing import RunningLab
from tests.lab.http import Client
from tests.lab.test_containers import CT, LXC, add_seed
from tests.lab.test_permissions import as_user

RESTORE = {"vmid": 200, "restore": 1, "force": 1}


@pytest.fixture(autouse=True)
def one(lab: RunningLab, api: Client) -> None:
    """Container 200 with a mount point that is in backups, and one that is not."""
    add_seed(lab)
    mounts = {"mp0": "local-lvm:1,mp=/data,backup=1", "mp1": "local-lvm:2,mp=/cache"}
    assert api.task("POST", LXC, {**CT, **mounts})["exitstatus"] == "OK"


def backed_up(api: Client) -> str:
    assert api.task("POST", "/nodes/pve1/vzdump", {"vmid": 200, "storage": "local"})["exitstatus"] == "OK"
    (archive,) = [str(one["volid"]) for one in api.get("/nodes/pve1/storage/local/content", content="backup")]
    return archive


def test_an_archive_tells_the_configuration_and_its_name_the_kind(api: Client) -> None:
    archive = backed_up(api)
    assert archive.startswith("local:backup/vzdump-lxc-200-") and archive.endswith(".tar")
    told = api.get("/nodes/pve1/vzdump/extractconfig", volume=archive)
    assert "hostname: web" in told and "mp1: local-lvm:vm-200-disk-2,mp=/cache,size=2G" in told
    refused = api.call("POST", "/nodes/pve1/qemu", {"vmid": 300, "archive": archive})
    assert refused.status == 500 and "is no backup of a VM" in refused.reason


def test_without_a_word_all_volumes_go_to_the_storage_local(lab: RunningLab, api: Client) -> None:
    archive = backed_up(api)
    refused = api.call("POST", LXC, {**RESTORE, "ostemplate": archive})
    assert refused.status == 400 and b"storage 'local' does not support container directories" in refused.body
    assert api.get(f"{LXC}/200/config")["mp1"], "nothing was done"


def test_what_the_call_names_is_made_and_the_old_volumes_go(lab: RunningLab, api: Client) -> None:
    archive = backed_up(api)
    volumes = {"rootfs": "local-lvm:8", "mp0": "local-lvm:1,mp=/data,backup=1"}
    done = api.task("POST", LXC, {**RESTORE, "ostemplate": archive, **volumes})
    assert (done["exitstatus"], done["type"]) == ("OK", "vzrestore")
    config = api.get(f"{LXC}/200/config")
    assert config["mp0"] == "local-lvm:vm-200-disk-4,backup=1,mp=/data,size=1G" and "mp1" not in config
    assert (config["hostname"], config["memory"], config["unprivileged"]) == ("web", 512, 1)
    left = [one["volid"] for one in api.get("/nodes/pve1/storage/local-lvm/content", vmid=200)]
    assert sorted(left) == ["local-lvm:vm-200-disk-3", "local-lvm:vm-200-disk-4"]


def test_a_container_that_runs_or_is_protected_is_not_overwritten(api: Client) -> None:
    asked = {**RESTORE, "ostemplate": backed_up(api), "rootfs": "local-lvm:8"}
    assert api.task("POST", f"{LXC}/200/status/start")["exitstatus"] == "OK"
    assert api.call("POST", LXC, asked).reason == "can't overwrite running container"
    assert api.task("POST", f"{LXC}/200/status/stop")["exitstatus"] == "OK"
    assert api.call("PUT", f"{LXC}/200/config", {"protection": 1}).status == 200
    assert api.call("POST", LXC, asked).reason == "unable to restore CT 200 - protection mode enabled"
    assert "already exists" in api.call("POST", LXC, {**asked, "force": 0}).reason


def test_who_may_back_it_up_may_put_it_back(lab: RunningLab, api: Client) -> None:
    archive = backed_up(api)
    asked = {**RESTORE, "ostemplate": archive, "rootfs": "local-lvm:8"}
    storage = ("/storage", "Datastore.AllocateSpace")
    with as_user(lab, ("/vms/200", "VM.Config.Disk"), storage) as mine:
        assert mine.call("POST", LXC, asked).status == 403
    with as_user(lab, ("/vms/200", "VM.Config.Disk,VM.Backup"), storage) as mine:
        answer = mine.call("POST", LXC, asked)
        assert answer.status == 200, answer.reason
