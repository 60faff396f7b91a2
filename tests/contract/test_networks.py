"""Networks of PVE's SDN, by the real client against the lab: made, put right, removed; what is not ours is left."""

from collections.abc import Iterator
from typing import Any

import pytest

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds import network
from nixops_proxmox.kinds.resource import ResourceWorld
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.testing import start_lab
from nixops_proxmox.options import Silent
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.virtual_network import VirtualNetwork
from tests.contract.client_bench import Bench
from tests.kinds.record import Record

SDN = "/cluster/sdn"
TENANT = VirtualNetwork(name="tenant-a", vnet="tena", bridge="vmbr0", vlan=20)
SERVED = VirtualNetwork.model_validate_json(
    '{"name": "lan", "vnet": "lan", "nodes": ["pve1", "pve2"], "subnet": "10.9.0.0/24", "gateway": "10.9.0.1",'
    ' "dhcp_from": "10.9.0.100", "dhcp_to": "10.9.0.199", "dns": "10.9.0.1"}',
    strict=True,
)


class Cluster:
    """One deployment's networks on a lab."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.records: dict[str, Record[Thing]] = {}

    def ask(self, method: Any, path: str, **values: Any) -> Any:
        return self.bench.hypervisor.client._ask(method, path, values)

    def run(self, spec: VirtualNetwork, goal: Presence = Presence.PRESENT) -> Thing:
        record = self.records.setdefault(spec.name, Record(Thing("network", "demo", spec.name), Known.from_json))
        world = self.world(spec)
        return pursue(network.LIFECYCLE, goal, record.thing, world, record)

    def differences(self, spec: VirtualNetwork) -> tuple[str, ...]:
        _, shown = network.LIFECYCLE.look_closely(self.world(spec), self.records[spec.name].thing)
        return () if shown is None else tuple(shown.differences)

    def world(self, spec: VirtualNetwork) -> network.World:
        hypervisor, mark = self.bench.hypervisor, mark_of("demo", spec.name)
        return ResourceWorld(spec, mark, hypervisor.network_store, self, Silent(), hypervisor.wait_for_task)

    def now(self) -> float:
        return self.bench.now()

    def sleep(self, seconds: float) -> None:
        self.bench.sleep(seconds)

    def bridges(self, node: str) -> tuple[str, ...]:
        return self.bench.hypervisor.client.list_bridges(node)


@pytest.fixture(params=["8.4", "9.1"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    slow = Latency(refused_login=0, statistics=0, tasks={"srvreload": 0.3})
    with start_lab(version=request.param, latency=slow) as lab:
        bench = Bench(lab)
        yield Cluster(bench)
        for client in bench.made:
            client.close()


def test_a_network_is_there_on_every_node_of_its_zone_when_the_run_ends(cluster: Cluster) -> None:
    assert cluster.run(SERVED).phase is Presence.PRESENT
    assert ["lan" in cluster.bridges(node) for node in ("pve1", "pve2", "pve3")] == [True, True, False]
    [subnet] = cluster.ask("GET", f"{SDN}/vnets/lan/subnets")
    assert subnet["dhcp-range"] == [{"start-address": "10.9.0.100", "end-address": "10.9.0.199"}]
    assert (subnet["gateway"], subnet["dhcp-dns-server"]) == ("10.9.0.1", "10.9.0.1")
    cluster.bench.calls()
    cluster.run(SERVED)
    assert not [name for name in cluster.bench.calls() if not name.startswith("GET")], "a second run only looks"
    cluster.run(SERVED, Presence.ABSENT)
    assert "lan" not in cluster.bridges("pve1"), "also the removal waits for the nodes"
    assert cluster.ask("GET", f"{SDN}/zones") == []


def test_what_was_changed_by_hand_is_told_and_put_right(cluster: Cluster) -> None:
    cluster.run(TENANT)
    cluster.ask("PUT", f"{SDN}/vnets/tena", tag=30)
    assert cluster.differences(TENANT) == ("vnet tena: tag 30 becomes 20", "vnet tena waits to be applied")
    cluster.run(TENANT)
    assert cluster.differences(TENANT) == ()
    assert cluster.ask("GET", f"{SDN}/vnets/tena")["tag"] == 20


def test_what_others_have_changed_and_not_applied_is_never_applied(cluster: Cluster) -> None:
    cluster.run(TENANT)
    cluster.ask("POST", f"{SDN}/zones", zone="theirs", type="simple")
    with pytest.raises(StateError, match=r"changes of others wait to be applied with it: zone theirs \(new\)"):
        cluster.run(SERVED)
    with pytest.raises(StateError, match="theirs"):
        cluster.run(TENANT, Presence.ABSENT)
    [waiting] = [one for one in cluster.ask("GET", f"{SDN}/zones", pending=True) if one.get("state")]
    assert (waiting["zone"], waiting["state"]) == ("theirs", "new")
    assert "tena" in cluster.bridges("pve1")
    cluster.ask("DELETE", f"{SDN}/zones/theirs")
    cluster.run(TENANT, Presence.ABSENT)
    assert "tena" not in cluster.bridges("pve1")


def test_a_vnet_or_a_zone_of_somebody_else_is_neither_used_nor_removed(cluster: Cluster) -> None:
    cluster.ask("POST", f"{SDN}/zones", zone="tena", type="simple")
    cluster.bench.hypervisor.wait_for_task(cluster.ask("PUT", SDN))
    with pytest.raises(StateError, match=r"there is a zone tena .* not ours"):
        cluster.run(TENANT)
    cluster.ask("POST", f"{SDN}/vnets", vnet="tena", zone="tena")
    with pytest.raises(StateError, match=r"there is a vnet tena .* not ours"):
        cluster.run(TENANT)
    cluster.run(TENANT, Presence.ABSENT)
    assert [one["vnet"] for one in cluster.ask("GET", f"{SDN}/vnets")] == ["tena"]


def test_a_network_in_a_zone_of_others_leaves_the_zone(cluster: Cluster) -> None:
    cluster.ask("POST", f"{SDN}/zones", zone="shared", type="vlan", bridge="vmbr0")
    cluster.bench.hypervisor.wait_for_task(cluster.ask("PUT", SDN))
    guest = VirtualNetwork(name="guest", vnet="guest", zone="shared", vlan=7)
    cluster.run(guest)
    assert "guest" in cluster.bridges("pve3")
    cluster.run(guest, Presence.ABSENT)
    assert [one["zone"] for one in cluster.ask("GET", f"{SDN}/zones")] == ["shared"]
    with pytest.raises(StateError, match="there is no zone other"):
        cluster.run(VirtualNetwork(name="b", vnet="bb", zone="other"))


def test_the_lock_of_9_is_ours_while_we_write_and_free_afterwards() -> None:
    with start_lab(version="9.1") as lab:
        cluster = Cluster(Bench(lab))
        cluster.run(TENANT)
        named = cluster.bench.calls()
        assert named["POST /cluster/sdn/lock"] == named["PUT /cluster/sdn"] == 1
        assert lab.cluster.sdn.lock == ""
        cluster.ask("POST", f"{SDN}/lock")
        with pytest.raises(Exception, match="invalid lock token"):
            cluster.run(SERVED)
        assert [one["zone"] for one in cluster.ask("GET", f"{SDN}/zones")] == ["tena"]
        for client in cluster.bench.made:
            client.close()


def test_a_pve_without_sdn_says_so_and_a_bridge_needs_none() -> None:
    with start_lab(version="7.4") as lab:
        cluster = Cluster(Bench(lab))
        with pytest.raises(StateError, match=r"PVE 7.4 has no SDN"):
            cluster.run(TENANT)
        plain = VirtualNetwork(name="mgmt", bridge="vmbr0", vlan=5)
        assert cluster.run(plain).phase is Presence.PRESENT
        assert cluster.run(plain, Presence.ABSENT).phase is Presence.ABSENT
        for client in cluster.bench.made:
            client.close()
