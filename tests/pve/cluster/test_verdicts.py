"""Of each node why and why not, and what the groups wish."""

from dataclasses import replace
from typing import Any

import pytest

from nixops_proxmox.pve.api.answers import ClusterResources, NodeSeen, Processor
from nixops_proxmox.pve.cluster.groups import Peer
from nixops_proxmox.pve.cluster.margin import find_shortfalls
from nixops_proxmox.pve.cluster.placement import Placed
from nixops_proxmox.pve.cluster.processors import processor_refusal
from nixops_proxmox.pve.cluster.verdicts import Verdict, candidates, judge
from nixops_proxmox.spec import Cpu, Placement
from tests.pve.cluster.test_placement import cluster, node, storage
from tests.pve.specs import GIB, spec

V2 = frozenset(["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3", "aes"])


def told(seen: ClusterResources, placed: Placed | None = None, at: str = "", **changes: Any) -> dict[str, Verdict]:
    return {one.node: one for one in judge(spec(**changes), seen, placed or Placed(), at=at)}


def peers(*of: tuple[str, str], **wanted: Any) -> Placed:
    return Placed(peers=tuple(Peer(name, where, Placement(**wanted)) for name, where in of))


def test_all_reasons_of_a_node_are_told() -> None:
    seen = cluster(node("a", 1), storages=(storage("local-lvm", "a", 4), storage("local", "a")))
    assert [text.split()[0] for text in told(seen)["a"].reasons] == ["storage", "it"]


def test_the_nodes_of_the_description_are_the_only_ones_and_others_are_no_refusals() -> None:
    seen = cluster(node("a", 8), node("b", 16), node("c", 32))
    nodes, refused = candidates(spec(placement={"nodes": ("a", "b")}), seen, Placed())
    assert [one.name for one in nodes] == ["b", "a"] and refused == {}
    _, refused = candidates(spec(placement={"nodes": ("a", "x")}), seen, Placed())
    assert "there is no such node" in refused["x"]
    assert told(seen, placement={"nodes": ("a", "b")})["c"].reasons == ("the description names a, b",)


def test_a_wish_comes_before_free_memory_and_a_condition_refuses() -> None:
    seen = cluster(node("a", 8), node("b", 32))
    standing = peers(("app1", "b"), spread="app")
    soft = judge(spec(placement={"spread": "app"}), seen, standing)
    assert [one.node for one in soft] == ["a", "b"] and all(one.fits for one in soft)
    assert soft[1].notes == ('app1 is there (spread "app")',)
    hard = told(seen, standing, placement={"spread": "app", "strict": True})
    assert not hard["b"].fits and hard["b"].reasons == ('app1 is there (spread "app")',)
    by_the_other = peers(("app1", "b"), spread="app", strict=True)
    assert not told(seen, by_the_other, placement={"spread": "app"})["b"].fits
    assert judge(spec(placement={"spread": "db"}), seen, standing)[0].node == "b", "another group is none of ours"
    assert judge(spec(), seen, standing)[0].node == "b"


def test_machines_that_belong_together_follow_each_other() -> None:
    seen = cluster(node("a", 8), node("b", 32))
    found = judge(spec(placement={"together": "shop"}), seen, peers(("db", "a"), together="shop"))
    assert [one.node for one in found] == ["a", "b"]
    assert found[1].notes == ('db is on a (together "shop")',)


def test_a_machine_is_no_peer_of_its_own_and_needs_no_more_room_where_it_is() -> None:
    seen = cluster(node("a", 1), node("b", 1))
    placed = peers(("web", "a"), spread="app")
    found = told(seen, placed, at="a", placement={"spread": "app"})
    assert found["a"].fits and found["a"].notes == () and found["a"].chosen
    assert not found["b"].fits


def test_a_node_in_maintenance_is_taken_only_by_name() -> None:
    seen = cluster(replace(node("a", 32), maintenance=True), node("b", 8))
    assert told(seen)["a"].reasons == ("it is in maintenance",)
    assert told(seen, node="a")["a"].notes == ("it is in maintenance",)


def test_memory_counts_most_then_storage_then_processors() -> None:
    isos = [storage("local", on, content=frozenset({"iso"})) for on in "ab"]
    disks = {"a": 190, "b": 100}
    seen = cluster(
        node("a", 16), node("b", 18), storages=(*isos, *(storage("local-lvm", k, v) for k, v in disks.items()))
    )
    assert judge(spec(), seen, Placed())[0].node == "a", "a little memory weighs less than half of the storage"
    busy = NodeSeen("a", True, 64 * GIB, 32 * GIB, 16, 0.9)
    idle = NodeSeen("b", True, 64 * GIB, 32 * GIB, 16, 0.1)
    assert judge(spec(), cluster(busy, idle), Placed())[0].node == "b"
    assert judge(spec(), cluster(busy, idle), Placed(cpus={"b": 15}))[0].node == "a"


def test_a_machine_with_more_cpus_than_a_node_does_not_fit_there() -> None:
    small, large = NodeSeen("a", True, cpus=4, load=0.0), NodeSeen("b", True, cpus=32, load=0.9)
    found = told(cluster(small, large), cpu=Cpu(sockets=2, cores=4))
    assert found["a"].reasons == ("it has 4 CPUs, and PVE starts no VM with more (8)",) and found["b"].fits


def test_a_volume_that_the_description_names_must_be_there() -> None:
    seen = cluster(node("a"), node("b"))
    extra = {"ide0": "tools:iso/tools.iso,media=cdrom", "ide1": "local-lvm:cloudinit", "ide3": "none,media=cdrom"}
    found = told(seen, extra=extra)
    assert found["a"].reasons == ("storage tools, where tools:iso/tools.iso is, is not available there",)


@pytest.mark.parametrize(
    ("wanted", "processor", "why"),
    [
        ({"cpu": Cpu(type="x86-64-v2-AES")}, Processor("x86_64", V2), ""),
        ({"cpu": Cpu(type="x86-64-v2-AES,flags=+pcid")}, Processor("x86_64", V2 - {"aes"}), "they lack aes"),
        ({"cpu": Cpu(type="x86-64-v3")}, Processor("x86_64", V2), "they lack abm, avx, avx2"),
        ({"cpu": Cpu(type="x86-64-v3")}, Processor(), ""),
        ({"cpu": Cpu(type="host")}, Processor("x86_64", V2), ""),
        ({"cpu": Cpu(type="x86-64-v3"), "extra": {"kvm": False}}, Processor("x86_64", V2), ""),
        ({"arch": "aarch64"}, Processor("x86_64", V2), "its processors are x86_64, not aarch64"),
        ({"arch": "aarch64", "extra": {"kvm": 0}}, Processor("x86_64", V2), ""),
        ({"arch": "aarch64"}, Processor("aarch64", frozenset({"fp"})), ""),
    ],
)
def test_a_processor_that_lacks_what_is_asked_for_is_refused(
    wanted: dict[str, Any], processor: Processor, why: str
) -> None:
    found = processor_refusal(spec(**wanted), processor)
    assert why in found and bool(why) is bool(found)


def ours(*of: tuple[str, str, int], **more: Any) -> Placed:
    return Placed(peers=tuple(Peer(name, where, Placement(), size * GIB, **more) for name, where, size in of))


def test_what_is_missing_when_a_node_fails_is_told() -> None:
    seen = cluster(node("pve1", 4), node("pve2", 10), node("pve3", 3))
    lines = list(find_shortfalls(seen, ours(("a", "pve1", 8), ("b", "pve1", 6), ("c", "pve2", 2))))
    assert lines == ["if pve1 fails, 6.0 GiB of memory are missing on the other nodes (b)"]
    assert not list(find_shortfalls(seen, ours(("a", "pve1", 8), ("b", "pve1", 6), runs=False)))
    promised = replace(ours(("a", "pve1", 8)), memory={"pve2": 4 * GIB})
    assert "8.0 GiB" in next(find_shortfalls(seen, promised)), "what this run placed there is taken"


def test_memory_in_two_halves_takes_no_whole_machine_and_a_node_in_maintenance_none() -> None:
    seen = cluster(node("pve1", 4), node("pve2", 5), node("pve3", 5))
    assert list(find_shortfalls(seen, ours(("a", "pve1", 8))))
    away = cluster(node("pve1", 4), replace(node("pve2", 32), maintenance=True), node("pve3", 32, online=False))
    assert list(find_shortfalls(away, ours(("a", "pve1", 1))))
    assert not list(find_shortfalls(cluster(node("pve1", 1)), ours(("a", "pve1", 8)))), "a node alone cannot be without"
    assert not list(find_shortfalls(cluster(node("a", 1), node("b", None)), ours(("a", "a", 8))))
