"""Software-defined networks: what waits, what runs, what each node has; locks, refusals and addresses."""

from collections.abc import Iterator

import pytest

from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.lab.http import QEMU, Client, ok
from tests.lab.test_permissions import as_user

SDN = "/cluster/sdn"
RANGE = "start-address=10.9.0.100,end-address=10.9.0.199"


@pytest.fixture(params=["8.4", "9.1"])
def api(request: pytest.FixtureRequest) -> Iterator[Client]:
    with start_lab(version=request.param) as lab, Client(lab) as client:
        yield client


def refused(api: Client, method: str, path: str, **params: object) -> str:
    answer = api.call(method, path, {key.replace("_", "-"): value for key, value in params.items()})
    assert answer.status >= 400
    return answer.reason + str(answer.json.get("errors") or "")


def make_lan(api: Client) -> None:
    ok(api, "POST", f"{SDN}/zones", zone="lan", type="simple", ipam="pve", dhcp="dnsmasq", nodes="pve1,pve2")
    ok(api, "POST", f"{SDN}/vnets", vnet="blue", zone="lan", alias="ours")
    ok(api, "POST", f"{SDN}/vnets/blue/subnets", subnet="10.9.0.0/24", type="subnet", gateway="10.9.0.1",
       dhcp_range=RANGE)  # fmt: skip


def test_what_is_written_waits_until_it_is_applied(api: Client) -> None:
    make_lan(api)
    assert [one["zone"] for one in api.get(f"{SDN}/zones")] == ["lan"]
    assert api.get(f"{SDN}/zones", running=1) == []
    [waiting] = api.get(f"{SDN}/vnets", pending=1)
    assert (waiting["state"], waiting["pending"]) == ("new", {"zone": "lan", "alias": "ours"})
    assert not [one for one in api.get("/nodes/pve1/network", type="any_bridge") if one["iface"] == "blue"]
    assert api.task("PUT", SDN)["type"] == "reloadnetworkall"
    assert [one.get("state") for one in api.get(f"{SDN}/vnets", pending=1)] == [None]
    bridges = {node: [one["iface"] for one in api.get(f"/nodes/{node}/network", type="any_bridge")] for node in
               ("pve1", "pve2", "pve3")}  # fmt: skip
    assert [("blue" in names) for names in bridges.values()] == [True, True, False]
    [subnet] = api.get(f"{SDN}/vnets/blue/subnets")
    assert (subnet["subnet"], subnet["cidr"]) == ("lan-10.9.0.0-24", "10.9.0.0/24")
    assert subnet["dhcp-range"] == [{"start-address": "10.9.0.100", "end-address": "10.9.0.199"}]


def test_a_change_and_a_deletion_wait_too(api: Client) -> None:
    make_lan(api)
    api.task("PUT", SDN)
    ok(api, "PUT", f"{SDN}/vnets/blue", alias="other")
    [waiting] = api.get(f"{SDN}/vnets", pending=1)
    assert (waiting["state"], waiting["alias"], waiting["pending"]) == ("changed", "ours", {"alias": "other"})
    ok(api, "DELETE", f"{SDN}/vnets/blue/subnets/lan-10.9.0.0-24")
    ok(api, "DELETE", f"{SDN}/vnets/blue")
    ok(api, "DELETE", f"{SDN}/zones/lan")
    assert [one["state"] for one in api.get(f"{SDN}/zones", pending=1)] == ["deleted"]
    api.task("PUT", SDN)
    assert api.get(f"{SDN}/zones", pending=1) == []
    assert "blue" not in api.lab.cluster.bridges


def test_the_parent_ends_before_its_children() -> None:
    slow = Latency(refused_login=0, statistics=0, tasks={"srvreload": 3600})
    with start_lab(latency=slow) as lab, Client(lab) as api:
        make_lan(api)
        upid = api.call("PUT", SDN).data
        status = f"/nodes/{upid.split(':')[1]}/tasks/{upid}/status"
        for _ in range(1000):
            if api.get(status)["status"] == "stopped":
                break
        assert api.get(status)["exitstatus"] == "OK"
        assert api.get("/nodes/pve1/sdn/zones") == [{"zone": "lan", "status": "pending"}]
        assert api.get("/nodes/pve3/sdn/zones") == []
        assert api.get("/nodes/pve1/sdn/zones/lan/content")[0]["status"] == "pending"
        running = api.get("/nodes/pve1/tasks", typefilter="srvreload", source="active")
        assert [one["type"] for one in running] == ["srvreload"]
        assert "blue" not in lab.cluster.bridges


@pytest.mark.parametrize("name", ["x", "toolongname", "with-dash", "1st"])
def test_names_have_two_to_eight_letters_and_digits(api: Client, name: str) -> None:
    assert "vnet" in refused(api, "POST", f"{SDN}/vnets", vnet=name, zone="lan")
    assert "zone" in refused(api, "POST", f"{SDN}/zones", zone=name, type="simple")


def test_refusals_are_pves(api: Client) -> None:
    make_lan(api)
    assert "sdn zone object ID 'lan' already defined" in refused(api, "POST", f"{SDN}/zones", zone="lan", type="simple")
    assert "sdn vnet object ID 'blue' already defined" in refused(api, "POST", f"{SDN}/vnets", vnet="blue", zone="lan")
    assert "vlan tag is not allowed on simple zone" in refused(
        api, "POST", f"{SDN}/vnets", vnet="red", zone="lan", tag=5
    )
    assert "zone lan is used by vnet blue" in refused(api, "DELETE", f"{SDN}/zones/lan")
    assert "Can't delete vnet if subnets exists" in refused(api, "DELETE", f"{SDN}/vnets/blue")
    assert "not compatible with subnets" in refused(api, "PUT", f"{SDN}/vnets/blue", vlanaware=1)
    subnets = f"{SDN}/vnets/blue/subnets"
    assert "is not in subnet" in refused(api, "POST", subnets, subnet="10.8.0.0/24", type="subnet", gateway="10.9.0.1")
    assert "must not overlap" in refused(
        api, "PUT", f"{subnets}/lan-10.9.0.0-24", dhcp_range=[RANGE, "start-address=10.9.0.150,end-address=10.9.0.160"]
    )
    ok(api, "POST", f"{SDN}/zones", zone="vl", type="vlan", bridge="vmbr0")
    assert "missing vlan tag" in refused(api, "POST", f"{SDN}/vnets", vnet="v1", zone="vl")
    ok(api, "POST", f"{SDN}/vnets", vnet="v1", zone="vl", tag=20)
    assert "tag 20 already exist in vnet v1" in refused(api, "POST", f"{SDN}/vnets", vnet="v2", zone="vl", tag=20)
    assert "checked" not in refused(api, "PUT", f"{SDN}/vnets/v1", digest="0" * 40, alias="x")


def test_who_holds_the_lock_writes_alone() -> None:
    with start_lab(version="9.1") as lab, Client(lab) as api:
        token = api.call("POST", f"{SDN}/lock").data
        assert "invalid lock token provided!" in refused(api, "POST", f"{SDN}/zones", zone="lan", type="simple")
        assert "invalid lock token provided!" in refused(api, "PUT", SDN)
        ok(api, "POST", f"{SDN}/zones", zone="lan", type="simple", lock_token=token)
        ok(api, "POST", f"{SDN}/vnets", vnet="blue", zone="lan", lock_token=token)
        assert "+iface blue" in api.get(f"{SDN}/dry-run", node="pve1")["interfaces-diff"]
        api.task("PUT", SDN, {"lock-token": token})
        assert api.get(f"{SDN}/dry-run", node="pve1")["interfaces-diff"] is None
        ok(api, "PUT", f"{SDN}/vnets/blue", alias="x")  # the apply has released it
        assert "configuration has pending changes" in refused(api, "POST", f"{SDN}/lock")
        token = api.call("POST", f"{SDN}/lock", {"allow-pending": 1}).data
        ok(api, "POST", f"{SDN}/rollback", lock_token=token)
        assert "alias" not in api.get(f"{SDN}/vnets/blue")
        api.call("POST", f"{SDN}/lock")
        assert "invalid lock token" in refused(api, "DELETE", f"{SDN}/lock")
        ok(api, "DELETE", f"{SDN}/lock", force=1)


def test_older_releases_have_no_lock_and_the_oldest_no_writes() -> None:
    with start_lab(version="8.4") as lab, Client(lab) as api:
        assert api.call("POST", f"{SDN}/lock").status == 501
        assert api.call("GET", f"{SDN}/dry-run", {"node": "pve1"}).status == 501
    with start_lab(version="7.4") as lab, Client(lab) as api:
        assert api.call("POST", f"{SDN}/zones", {"zone": "lan", "type": "simple"}).status == 501


def test_addresses_are_taken_with_the_nic_and_given_back_with_it(api: Client) -> None:
    make_lan(api)
    assert "can't find any subnet" in refused(
        api, "POST", f"{SDN}/vnets/blue/ips", zone="lan", ip="10.9.0.7", mac="BC:24:11:00:00:01"
    )
    api.task("PUT", SDN)
    assert api.task("POST", QEMU, {"vmid": 100, "net0": "virtio=BC:24:11:00:00:01,bridge=blue"})["exitstatus"] == "OK"

    def held() -> dict[str, object]:
        return {one["ip"]: one.get("vmid") for one in api.get(f"{SDN}/ipams/pve/status") if not one.get("gateway")}

    assert held() == {"10.9.0.100": 100}
    ok(api, "PUT", f"{SDN}/vnets/blue/ips", zone="lan", ip="10.9.0.7", mac="BC:24:11:00:00:01", vmid=100)
    assert held() == {"10.9.0.7": 100}
    assert "already exist" in refused(
        api, "POST", f"{SDN}/vnets/blue/ips", zone="lan", ip="10.9.0.7", mac="BC:24:11:00:00:02"
    )
    assert "not empty" in refused(api, "DELETE", f"{SDN}/vnets/blue/subnets/lan-10.9.0.0-24")
    assert api.task("DELETE", f"{QEMU}/100")["exitstatus"] == "OK"
    assert held() == {}
    ok(api, "DELETE", f"{SDN}/vnets/blue/subnets/lan-10.9.0.0-24")


def test_a_vnet_that_is_not_vlan_aware_refuses_tags_when_the_vm_starts(api: Client) -> None:
    make_lan(api)
    api.task("PUT", SDN)
    api.task("POST", QEMU, {"vmid": 100, "net0": "virtio,bridge=blue,tag=7"})
    assert api.task("POST", f"{QEMU}/100/status/start")["exitstatus"] == "start failed: QEMU exited with code 1"


def test_a_vnet_of_a_vlan_zone_is_a_vlan_of_its_bridge(lab: RunningLab) -> None:
    with Client(lab) as api:
        ok(api, "POST", f"{SDN}/zones", zone="vl", type="vlan", bridge="vmbr0")
        ok(api, "POST", f"{SDN}/vnets", vnet="v20", zone="vl", tag=20)
        api.task("PUT", SDN)
        api.task("POST", QEMU, {"vmid": 100, "net0": "virtio,bridge=v20"})
        api.task("POST", f"{QEMU}/100/status/start")
        running = lab.cluster.vms[100].running
        assert running is not None
        [nic] = running.hardware.nics  # type: ignore[attr-defined]
        assert (nic.bridge, nic.tag) == ("vmbr0", 20)


def test_the_right_to_one_vlan_is_the_right_to_no_other(lab: RunningLab) -> None:
    create = "VM.Allocate,VM.Config.Network,VM.Config.Options"
    with as_user(lab, ("/vms", create), ("/sdn/zones/localnetwork/vmbr0/20", "SDN.Use")) as mine:
        answer = mine.call("POST", QEMU, {"vmid": 100, "net0": "virtio,bridge=vmbr0,tag=21"})
        assert (answer.status, "/sdn/zones/localnetwork/vmbr0/21, SDN.Use" in answer.reason) == (403, True)
        assert mine.call("POST", QEMU, {"vmid": 100, "net0": "virtio,bridge=vmbr0,tag=20"}).status == 200


def test_writing_and_applying_need_rights_of_their_own(lab: RunningLab) -> None:
    with Client(lab) as api:
        make_lan(api)
        api.task("PUT", SDN)
    with as_user(lab, ("/sdn/zones/lan", "SDN.Allocate")) as mine:
        assert mine.call("PUT", f"{SDN}/vnets/blue", {"alias": "x"}).status == 200
        assert mine.call("POST", f"{SDN}/zones", {"zone": "own", "type": "simple"}).status == 403
        assert "/sdn, SDN.Allocate" in mine.call("PUT", SDN).reason
