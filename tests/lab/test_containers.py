"""Containers of the lab: as strict as PVE's, on each of its releases."""

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.lab.testing import RunningLab, start_lab
from nixops_proxmox.lab.vms.outage import cut_power, give_power
from tests.lab.http import Client
from tests.lab.test_permissions import as_user

LXC = "/nodes/pve1/lxc"
VLANS = "/sdn/zones/localnetwork/vmbr0/{}"
SEED = "local:vztmpl/nixos-seed.tar.gz"
CT = {
    "vmid": 200, "ostemplate": SEED, "hostname": "web", "rootfs": "local-lvm:8", "unprivileged": 1,
    "features": "nesting=1", "net0": "name=eth0,bridge=vmbr0,ip=dhcp,hwaddr=BC:24:11:00:00:01",
}  # fmt: skip
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2b4JwTBJ+FsUUHi0iTQBnqbRnZmjTqXyBwGM8uJC6q ours"


def add_seed(lab: RunningLab, *names: str) -> None:
    """A template on each node."""
    stores = lab.cluster.stores
    for node in lab.cluster.nodes:
        stored = stores.record(
            stores.get("local"), node, SEED.partition(":")[2], size=1, format="tgz", content="vztmpl"
        )
        write_archive(stored.path, names or ("etc/ssh", "nix/store", "sbin"))


def write_archive(path: Path, names: tuple[str, ...]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            folder = tarfile.TarInfo(f"./{name}")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        init = tarfile.TarInfo("./init")
        init.size = 5
        archive.addfile(init, io.BytesIO(b"init\n"))


@pytest.fixture
def seeded(lab: RunningLab, api: Client) -> Client:
    add_seed(lab)
    return api


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def each(request: pytest.FixtureRequest) -> Iterator[Client]:
    with start_lab(version=request.param) as lab, Client(lab) as client:
        add_seed(lab)
        yield client


def make(api: Client, **more: object) -> str:
    status = api.task("POST", LXC, {**CT, **more})
    return str(status["exitstatus"])


def log_of(api: Client, kind: str) -> str:
    upid = next(task["upid"] for task in api.get("/nodes/pve1/tasks", typefilter=kind, source="all"))
    return "\n".join(line["t"] for line in api.get(f"/nodes/pve1/tasks/{upid}/log", limit=500))


def test_a_container_is_made_from_a_template_and_reads_back_as_pve_prints_it(each: Client) -> None:
    assert make(each, **{"ssh-public-keys": KEY, "tags": "b;A"}) == "OK"
    config = each.get(f"{LXC}/200/config")
    assert config["rootfs"] == "local-lvm:vm-200-disk-0,size=8G"
    assert config["net0"] == "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"
    assert (config["memory"], config["swap"], config["unprivileged"]) == (512, 512, 1)
    assert (config["tags"], config["hostname"], config["ostype"]) == ("a;b", "web", "nixos")
    assert "ssh-public-keys" not in config, "they are never told again"
    (listed,) = each.get(LXC)
    assert (listed["vmid"], listed["status"], listed["type"]) == (200, "stopped", "lxc")
    assert [one["id"] for one in each.get("/cluster/resources", type="vm")] == ["lxc/200"]
    assert each.get("/nodes/pve1/qemu") == []


def test_the_task_tells_the_fingerprints_of_the_host_keys_that_pve_makes(lab: RunningLab, seeded: Client) -> None:
    make(seeded)
    told = dict(re.findall(r"SSH host key '(\w+)' .*\ndone: (SHA256:\S{43}) root@web", log_of(seeded, "vzcreate")))
    assert sorted(told) == ["ssh_host_ecdsa_key", "ssh_host_ed25519_key", "ssh_host_rsa_key"]


def test_a_template_without_a_folder_for_ssh_gets_no_host_keys(lab: RunningLab, api: Client) -> None:
    add_seed(lab, "nix/store")
    assert make(api) == "OK"
    assert "SSH host key" not in log_of(api, "vzcreate")


def test_what_is_no_system_that_pve_knows_is_refused_unless_it_is_said(lab: RunningLab, api: Client) -> None:
    add_seed(lab, "etc")
    assert "unable to detect OS distribution" in make(api)
    assert lab.cluster.vms == {}, "nothing is left of it"
    assert make(api, ostype="unmanaged") == "OK"


def test_numbers_are_shared_with_vms(seeded: Client) -> None:
    make(seeded)
    taken = seeded.call("POST", "/nodes/pve1/qemu", {"vmid": 200})
    assert taken.status == 500 and "CT 200 already exists on node 'pve1'" in taken.reason
    seeded.task("POST", "/nodes/pve1/qemu", {"vmid": 201})
    other = seeded.call("POST", LXC, {**CT, "vmid": 201})
    assert other.status == 500 and "VM 201 already exists" in other.reason
    assert seeded.call("GET", "/nodes/pve1/qemu/200/config").reason.endswith("200.conf' does not exist")
    assert seeded.call("GET", f"{LXC}/201/config").reason.endswith("lxc/201.conf' does not exist")
    assert seeded.call("GET", "/cluster/nextid", {"vmid": 200}).status == 400


REFUSED: dict[str, tuple[dict[str, str | None], int]] = {
    "a storage that takes no containers": ({"rootfs": "local:8"}, 400),
    "an ISO": ({"ostemplate": "local:iso/x.iso"}, 400),
    "a template that is not there": ({"ostemplate": "local:vztmpl/none.tar.gz"}, 500),
    "a mount point without a root": ({"rootfs": None, "mp0": "local-lvm:4,mp=/data"}, 500),
    "a mount point without a place": ({"mp0": "local-lvm:4"}, 400),
    "a NIC without a name": ({"net0": "bridge=vmbr0"}, 400),
    "a VM's parameter": ({"agent": "1"}, 400),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(seeded: Client, what: str) -> None:
    params, status = REFUSED[what]
    asked = {key: value for key, value in {**CT, **params}.items() if value is not None}
    assert seeded.call("POST", LXC, asked).status == status


ONLY_ROOT = {
    "fuse": {"features": "nesting=1,fuse=1"},
    "a folder of the node": {"mp0": "/srv,mp=/data"},
    "a device": {"dev0": "/dev/null"},
    "a hook": {"hookscript": "local:snippets/x.sh"},
}


@pytest.mark.parametrize("what", ONLY_ROOT)
def test_only_root_itself_may(seeded: Client, what: str) -> None:
    assert seeded.call("POST", LXC, {**CT, **ONLY_ROOT[what]}).status == 403


def test_before_9_a_container_is_privileged_unless_told_otherwise_and_that_never_changes(each: Client) -> None:
    asked = {key: value for key, value in CT.items() if key not in ("unprivileged", "features")}
    each.task("POST", LXC, asked)
    release = each.get("/version")["release"]
    assert each.get(f"{LXC}/200/config").get("unprivileged", 0) == (1 if release.startswith("9") else 0)
    changed = each.call("PUT", f"{LXC}/200/config", {"unprivileged": 1})
    assert changed.status == 500 and "read-only option: 'unprivileged'" in changed.reason


def test_it_starts_and_stops_and_says_so_when_it_does_already(each: Client) -> None:
    make(each)
    off = each.call("POST", f"{LXC}/200/status/shutdown")
    assert (off.status, off.reason) == (500, "CT 200 not running")
    assert each.task("POST", f"{LXC}/200/status/start")["type"] == "vzstart"
    assert each.get(f"{LXC}/200/status/current")["status"] == "running"
    again = each.call("POST", f"{LXC}/200/status/start")
    assert (again.status, again.reason) == (500, "CT 200 already running")
    assert each.call("DELETE", f"{LXC}/200").reason.endswith("container is running")
    assert each.task("POST", f"{LXC}/200/status/reboot")["exitstatus"] == "OK"
    assert each.task("POST", f"{LXC}/200/status/shutdown", {"forceStop": 1})["exitstatus"] == "OK"
    assert each.get(f"{LXC}/200/status/current")["status"] == "stopped"
    assert each.task("DELETE", f"{LXC}/200", {"purge": 1})["type"] == "vzdestroy"
    assert each.get("/cluster/resources", type="vm") == []


def test_there_is_no_agent_and_no_serial_port_but_a_terminal(seeded: Client) -> None:
    make(seeded)
    seeded.task("POST", f"{LXC}/200/status/start")
    assert seeded.call("POST", f"{LXC}/200/agent/ping").status == 501
    opened = seeded.call("POST", f"{LXC}/200/termproxy")
    assert opened.status == 200 and opened.data["ticket"].startswith("PVEVNC:")
    assert seeded.call("POST", f"{LXC}/200/termproxy", {"serial": "serial0"}).status == 400


def test_the_host_sees_its_addresses_unless_it_is_too_old(each: Client) -> None:
    make(each)
    path = f"{LXC}/200/interfaces"
    if each.get("/version")["release"] == "7.4":
        assert each.call("GET", path).status == 501
        return
    assert each.get(path) is None
    each.task("POST", f"{LXC}/200/status/start")
    eth0 = next(one for one in each.get(path) if one["name"] == "eth0")
    assert eth0["hwaddr"] == eth0["hardware-address"] == "bc:24:11:00:00:01"
    loopback = next(one for one in each.get(path) if one["name"] == "lo")
    assert loopback["inet"] == "127.0.0.1/8"
    assert loopback["ip-addresses"][1] == {"ip-address": "::1", "ip-address-type": "inet6", "prefix": 128}


def test_some_changes_act_at_once_and_others_wait_for_a_start(seeded: Client) -> None:
    make(seeded)
    seeded.task("POST", f"{LXC}/200/status/start")
    change = {"cores": 2, "memory": 1024, "tty": 3, "mp0": "local-lvm:4,mp=/data", "features": "nesting=0"}
    assert seeded.call("PUT", f"{LXC}/200/config", change).data is None
    waiting = {one["key"]: one["pending"] for one in seeded.get(f"{LXC}/200/pending") if "pending" in one}
    assert waiting == {"tty": 3, "features": "nesting=0"}
    assert seeded.get(f"{LXC}/200/config")["mp0"] == "local-lvm:vm-200-disk-1,mp=/data,size=4G"
    assert seeded.call("PUT", f"{LXC}/200/config", {"delete": "mp0"}).status == 200
    assert seeded.get(f"{LXC}/200/config", current=1)["mp0"], "it is in use until the container stops"
    seeded.task("POST", f"{LXC}/200/status/reboot")
    config = seeded.get(f"{LXC}/200/config")
    assert "mp0" not in config and config["unused0"] == "local-lvm:vm-200-disk-1"


def test_a_root_grows_at_once_and_never_shrinks(seeded: Client) -> None:
    make(seeded)
    assert seeded.task("PUT", f"{LXC}/200/resize", {"disk": "rootfs", "size": "+2G"})["exitstatus"] == "OK"
    assert seeded.get(f"{LXC}/200/config")["rootfs"].endswith("size=10G")
    for size, why in (("4G", "unable to shrink disk size"), ("10G", "disk is already at specified size")):
        assert seeded.call("PUT", f"{LXC}/200/resize", {"disk": "rootfs", "size": size}).reason == why


def test_a_snapshot_brings_the_configuration_back(seeded: Client) -> None:
    make(seeded)
    assert seeded.task("POST", f"{LXC}/200/snapshot", {"snapname": "before"})["type"] == "vzsnapshot"
    seeded.call("PUT", f"{LXC}/200/config", {"memory": 1024})
    assert seeded.task("POST", f"{LXC}/200/snapshot/before/rollback")["exitstatus"] == "OK"
    assert seeded.get(f"{LXC}/200/config")["memory"] == 512
    assert seeded.task("DELETE", f"{LXC}/200/snapshot/before")["exitstatus"] == "OK"
    assert seeded.call("POST", f"{LXC}/200/snapshot", {"snapname": "ram", "vmstate": 1}).status == 400


def test_a_container_that_runs_goes_to_another_node_only_by_a_restart(seeded: Client) -> None:
    make(seeded)
    seeded.task("POST", f"{LXC}/200/status/start")
    refused = seeded.call("POST", f"{LXC}/200/migrate", {"target": "pve2"})
    assert refused.reason == "can't migrate running container without --online or --restart"
    status = seeded.task("POST", f"{LXC}/200/migrate", {"target": "pve2", "online": 1})
    assert status["exitstatus"] == "lxc live migration is currently not implemented"
    assert seeded.task("POST", f"{LXC}/200/migrate", {"target": "pve2", "restart": 1})["exitstatus"] == "OK"
    assert seeded.get("/nodes/pve2/lxc/200/status/current")["status"] == "running"


def test_one_that_is_protected_stays(seeded: Client) -> None:
    make(seeded, protection=1)
    assert "protection mode enabled" in seeded.call("DELETE", f"{LXC}/200").reason
    assert "protection mode enabled" in seeded.call("PUT", f"{LXC}/200/config", {"rootfs": "local-lvm:9"}).reason


def test_a_trunk_needs_the_right_to_each_of_its_vlans(lab: RunningLab, seeded: Client) -> None:
    create = "VM.Allocate,VM.Config.Network,VM.Config.Options,VM.Config.Disk"
    rights = (("/vms", create), ("/storage", "Datastore.AllocateSpace,Datastore.Audit"), (VLANS.format(5), "SDN.Use"))
    trunk = {**CT, "net0": f"{CT['net0']},trunks=5;6"}
    with as_user(lab, *rights) as mine:
        answer = mine.call("POST", LXC, trunk)
        assert (answer.status, f"{VLANS.format(6)}, SDN.Use" in answer.reason) == (403, True)
    with as_user(lab, *rights, (VLANS.format(6), "SDN.Use")) as mine:
        answer = mine.call("POST", LXC, trunk)
        assert answer.status == 200, answer.reason


def test_a_node_that_gets_its_power_back_starts_the_containers_that_say_onboot(lab: RunningLab, seeded: Client) -> None:
    cluster = lab.cluster
    for vmid, onboot in ((200, 1), (201, 0)):
        assert make(seeded, vmid=vmid, onboot=onboot, start=1) == "OK"
    lab.settle()
    assert {200, 201} <= {vmid for vmid, one in cluster.vms.items() if one.running}
    lab.run(cut_power(cluster, "pve1"))
    assert not {vmid for vmid, one in cluster.vms.items() if one.running} & {200, 201}
    lab.run(give_power(cluster, "pve1"))
    lab.settle()
    assert {vmid for vmid, one in cluster.vms.items() if one.running} & {200, 201} == {200}
