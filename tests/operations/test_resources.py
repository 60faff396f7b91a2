"""What the record says of resources, and what is done by it."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.errors import Locked, RouterError, StateError
from nixops_proxmox.kinds.registry import find_described
from nixops_proxmox.kinds.resource import with_spec
from nixops_proxmox.operations.resources import Outside, ResourceKeeper
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.firewall import of_vm
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.spec.firewall import IpSet, MachineFirewall
from nixops_proxmox.spec.ha import HaRuleSpec
from nixops_proxmox.spec.marks import mark_of, with_mark
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.reservations import ReservationsSpec
from nixops_proxmox.spec.routing import RouterVlan, RoutingSpec
from nixops_proxmox.spec.virtual_network import VirtualNetwork
from nixops_proxmox.state import open_state
from nixops_proxmox.state.store import Deployment
from tests.clocks import SteppedClock
from tests.kinds.benches import Pools
from tests.kinds.firewall_bench import Firewall, machine_at
from tests.kinds.machine.cluster import Fuse
from tests.kinds.routing_bench import Shelf

FRONT = Ref("pool", "front")


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Deployment]:
    with open_state(f"sqlite:///{tmp_path}/state.sqlite") as state:
        yield state.deployment("demo")


def keeper(record: Deployment, there: dict[str, str], lease: Any, *described: PoolSpec) -> ResourceKeeper:
    hypervisor = SimpleNamespace(pool_store=Pools(there, Fuse()), wait_for_task=lambda _upid: None)
    kinds = {entry.name: entry for entry in find_described().values()}
    network = NetworkSpec(name="demo", resources=described)
    return ResourceKeeper(record, network, outside(hypervisor), kinds, lease)


def outside(hypervisor: Any) -> Outside:
    return Outside(lambda _profile: hypervisor, SteppedClock(), Silent())


def begun(record: Deployment, lease: Any, spec: PoolSpec) -> None:
    """As a run leaves it that is killed before it records what it has made."""
    thing = Thing("pool", "demo", "front")
    journal = record.journal(lease)
    attempt = journal.begin(thing, "Make it as described", "present")
    journal.note(attempt, thing.moved(Presence.ABSENT, with_spec(Known(), spec)))


def test_what_a_killed_run_had_begun_to_make_is_removed(record: Deployment) -> None:
    there = {"front": mark_of("demo", "front"), "theirs": "not ours"}
    with record.lease() as lease:
        begun(record, lease, PoolSpec(name="front"))
        resources = keeper(record, there, lease)
        assert resources.recorded() == resources.forgotten() == [FRONT]
        resources.remove(FRONT)
        assert there == {"theirs": "not ours"}
        assert keeper(record, there, lease).recorded() == []


def test_what_a_killed_run_had_begun_under_another_name_is_removed_first(record: Deployment) -> None:
    mark = mark_of("demo", "front")
    there = {"old": mark}
    with record.lease() as lease:
        begun(record, lease, PoolSpec(name="front", pool="old"))
        keeper(record, there, lease, PoolSpec(name="front", pool="new", comment="web")).ensure(FRONT)
    assert there == {"new": with_mark("web", mark)}


def test_a_damaged_record_is_told_with_its_name(record: Deployment) -> None:
    with record.lease() as lease:
        thing = Thing("pool", "demo", "front", Presence.PRESENT, Known({"spec": '{"colour": 1}'}))
        record.journal(lease).record(thing, "damaged")
        (shown,) = keeper(record, {}, None).look()
    assert isinstance(shown.error, StateError)
    assert "the record of the pool front cannot be read" in shown.error.message


# Firewalls follow the machines that their rules name.

WEB = MachineFirewall.model_validate({"name": "web", "rules": [{"macro": "SSH", "sources": ("machine:db",)}]})
FIREWALL = Ref("firewall", "web")


def test_before_a_first_boot_a_router_has_its_networks_before_the_reservations_in_them(record: Deployment) -> None:
    asked: list[str] = []

    def router(name: str) -> Any:
        asked.append(name)
        raise RouterError("it does not answer")

    vlan = RouterVlan(interface="eth1", vlan=20)
    specs = (ReservationsSpec(name="early", router="lan"), RoutingSpec(name="late", router="edge", vlans=(vlan,)))
    kinds = {entry.name: entry for entry in find_described().values()}
    with record.lease() as lease:
        network = NetworkSpec(name="demo", resources=specs)
        keeper = ResourceKeeper(record, network, replace(outside(None), router=router), kinds, lease)
        with pytest.raises(RouterError):
            keeper.follow("web")
    assert asked == ["edge"]


def firewalls(record: Deployment, there: Firewall, lease: Any, *, described: bool = True) -> ResourceKeeper:
    hypervisor = SimpleNamespace(firewall_store=there, wait_for_task=lambda _upid: None)
    kinds = {entry.name: entry for entry in find_described().values()}
    network = NetworkSpec(name="demo", resources=(WEB,)) if described else None
    return ResourceKeeper(record, network, outside(hypervisor), kinds, lease)


@pytest.mark.parametrize("described", [True, False])
def test_a_machine_that_is_gone_leaves_the_rules_that_name_it(record: Deployment, described: bool) -> None:
    there = Firewall(Fuse())
    with record.lease() as lease:
        for machine in (machine_at("web", 100, "10.0.0.5"), machine_at("db", 101, "10.0.0.7")):
            record.journal(lease).record(machine, "made")
        firewalls(record, there, lease).ensure(FIREWALL)
        assert [rule["source"] for rule in there.rules(of_vm("pve1", 100))] == ["10.0.0.7"]
        keeper = firewalls(record, there, lease, described=described)
        assert (keeper.followers("db"), keeper.followers("web")) == ([FIREWALL], [])
        record.forget("db", lease)
        keeper.refresh(FIREWALL)
        assert there.rules(of_vm("pve1", 100)) == [], "without its address, the rule would be open to all"


def test_rules_that_name_sets_too_follow_a_machine_that_is_gone_without_a_description(record: Deployment) -> None:
    there = Firewall(Fuse())
    told = {"rules": [{"macro": "SSH", "sources": ("set:trusted", "machine:db")}]}
    web, trusted = MachineFirewall.model_validate({"name": "web", **told}), IpSet(name="trusted")
    hypervisor = SimpleNamespace(firewall_store=there, wait_for_task=lambda _upid: None)
    kinds = {entry.name: entry for entry in find_described().values()}

    def among(network: NetworkSpec | None, lease: Any) -> ResourceKeeper:
        return ResourceKeeper(record, network, outside(hypervisor), kinds, lease)

    with record.lease() as lease:
        for machine in (machine_at("web", 100, "10.0.0.5"), machine_at("db", 101, "10.0.0.7")):
            record.journal(lease).record(machine, "made")
        described = among(NetworkSpec(name="demo", resources=(web, trusted)), lease)
        described.ensure(Ref("ip-set", "trusted"))
        described.ensure(FIREWALL)
        record.forget("db", lease)
        keeper = among(None, lease)
        assert keeper.followers("db") == [FIREWALL]
        keeper.refresh(FIREWALL)
    assert [rule["source"] for rule in there.rules(of_vm("pve1", 100))] == ["+trusted"]


def test_a_router_that_is_told_networks_too_forgets_a_machine_that_is_gone_without_a_description(
    record: Deployment,
) -> None:
    forward = {"interface": "eth0", "port": "443", "to": "machine:db"}
    told = {"forwards": [forward], "masquerade": [{"interface": "eth0", "from": ["network:lab"]}]}
    edge = RoutingSpec.model_validate({"name": "edge", **told})
    lab = VirtualNetwork(name="lab", bridge="vmbr1", subnet="10.9.0.0/24")
    shelf = Shelf(SteppedClock())
    hypervisor = SimpleNamespace(network_store=None, wait_for_task=lambda _upid: None)
    described = replace(outside(hypervisor), router=lambda _name: SimpleNamespace(routing=shelf))
    kinds = {entry.name: entry for entry in find_described().values()}

    def told_of(kind: str) -> list[str]:
        return [text for _owner, text in sorted(shelf.running) if text.startswith(kind)]

    with record.lease() as lease:
        record.journal(lease).record(machine_at("db", 101, "10.9.0.7"), "made")
        network = NetworkSpec(name="demo", machines=(MachineSpec(name="db"),), resources=(edge, lab))
        first = ResourceKeeper(record, network, described, kinds, lease)
        first.ensure(Ref("network", "lab"))
        first.ensure(Ref("routing", "edge"))
        assert len(told_of("Forward")) == 1
        record.forget("db", lease)
        keeper = ResourceKeeper(record, None, described, kinds, lease)
        assert keeper.followers("db") == [Ref("routing", "edge")]
        keeper.refresh(Ref("routing", "edge"))
    assert told_of("Forward") == [], "nobody who gets its address next is reached from outside"
    assert ["10.9.0.0/24" in text for text in told_of("SourceNat")] == [True]


def test_a_deploy_of_a_machine_works_on_the_firewalls_that_name_it(record: Deployment) -> None:
    keeper = firewalls(record, Firewall(Fuse()), None)
    assert keeper.following([Ref("machine", "db")]) == [], "the firewall's own machine does not exist yet"
    assert keeper.following([Ref("machine", "web")]) == [FIREWALL], "it is made after its machine"
    with record.lease() as lease:
        record.journal(lease).record(machine_at("web", 100), "made")
    assert keeper.following([Ref("machine", "db")]) == [FIREWALL]
    assert keeper.comes_after(FIREWALL) == [Ref("machine", "web"), Ref("machine", "db")]


# Runs about one thing each, beside each other.


@pytest.mark.parametrize("free", [True, False])
def test_a_run_about_another_thing_waits_for_the_one_that_is_about_this(record: Deployment, free: bool) -> None:
    there: dict[str, str] = {}
    with record.only("web").lease() as lease, nullcontext() if free else record.only("front", "pool").lease():
        made = keeper(record, there, lease, PoolSpec(name="front"))
        if free:
            made.ensure(FRONT)
        else:
            with pytest.raises(Locked, match="the pool 'front' of deployment 'demo' is being changed"):
                made.ensure(FRONT)
    assert bool(there) is free
    assert record.holders() == []


def test_what_a_door_was_told_stays_with_the_thing_and_goes_with_it(record: Deployment) -> None:
    there: dict[str, str] = {}
    with record.lease() as lease:
        made = keeper(record, there, lease, PoolSpec(name="front"))
        made.ensure(FRONT, "told")
        keeper(record, there, lease, PoolSpec(name="front", comment="web")).ensure(FRONT)
        (stored,) = record.stored("pool")
        assert stored.facts["values"]["said"] == "told"
        made.remove(FRONT)
    assert record.stored("pool") == []


def test_what_wants_several_machines_follows_a_deploy_of_all_of_them_and_not_of_one(record: Deployment) -> None:
    rule = HaRuleSpec(name="apart", machines=("db", "web"), affinity="negative")
    network = NetworkSpec(name="demo", machines=(MachineSpec(name="web"), MachineSpec(name="db")), resources=(rule,))
    keeper = ResourceKeeper(record, network, outside(SimpleNamespace()), {})
    web, db = Ref("machine", "web"), Ref("machine", "db")
    assert [keeper.following([one]) for one in (web, db)] == [[], []]
    assert keeper.following([web, db]) == [Ref("ha-rule", "apart")]
