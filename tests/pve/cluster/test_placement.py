"""Which node, which VMID; and of each node why not."""

from typing import Any

import pytest

from nixops_proxmox.errors import VmidTaken
from nixops_proxmox.pve.api.answers import ClusterResources, NodeSeen, StorageSeen
from nixops_proxmox.pve.cluster.placement import LAG, Placed, Reservations, no_place, overcommitted
from nixops_proxmox.pve.cluster.thin import is_thin
from nixops_proxmox.pve.cluster.verdicts import candidates
from tests.pve.specs import GIB, full_spec, spec

IMAGES = frozenset({"images"})


def node(name: str, free: int | None = 16, *, online: bool = True) -> NodeSeen:
    return NodeSeen(name, online, None if free is None else 64 * GIB, None if free is None else (64 - free) * GIB)


def storage(name: str, on: str, free: int = 100, **more: Any) -> StorageSeen:
    values: dict[str, Any] = {
        "available": True,
        "shared": False,
        "content": IMAGES,
        "total": 200 * GIB,
        "used": (200 - free) * GIB,
    }
    return StorageSeen(name, on, **(values | more))


def cluster(*nodes: NodeSeen, storages: tuple[StorageSeen, ...] | None = None) -> ClusterResources:
    if storages is None:
        storages = tuple(storage("local-lvm", one.name) for one in nodes)
        storages += tuple(storage("local", one.name, content=frozenset({"iso"})) for one in nodes)
    return ClusterResources(0.0, nodes, {}, storages)


def order(seen: ClusterResources, placed: Placed | None = None, **changes: Any) -> list[str]:
    return [one.name for one in candidates(spec(**changes), seen, placed or Placed())[0]]


def test_the_node_with_the_most_free_memory_comes_first() -> None:
    assert order(cluster(node("a", 8), node("b", 32), node("c", 16))) == ["b", "c", "a"]


def test_what_this_run_placed_counts_as_taken() -> None:
    placed = Placed(memory={"b": 20 * GIB})
    assert order(cluster(node("a", 8), node("b", 32), node("c", 16)), placed) == ["c", "b", "a"]


def test_machines_are_spread_where_memory_is_not_told() -> None:
    assert order(cluster(node("a", None), node("b", None)), Placed(machines={"a": 1})) == ["b", "a"]


def test_a_declared_node_is_taken_even_if_its_memory_is_short() -> None:
    assert order(cluster(node("a", 1), node("b", 32)), node="a") == ["a"]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (cluster(node("a", online=False)), "offline"),
        (cluster(node("a", 1)), "1.0 GiB of memory free, 2.0 GiB are needed"),
        (cluster(node("a"), storages=()), "storage local-lvm is not there"),
        (cluster(node("a"), storages=(storage("local-lvm", "a", available=False),)), "not active"),
        (cluster(node("a"), storages=(storage("local-lvm", "a", content=frozenset({"iso"})),)), "does not take disk"),
        (cluster(node("a"), storages=(storage("local-lvm", "a", 4),)), "4.0 GiB free, 8.0 GiB are needed"),
        (cluster(node("a"), storages=(storage("local-lvm", "a"),)), "storage local, where the ISO is"),
        (cluster(node("b")), "no such node"),
    ],
)
def test_a_refusal_says_why(seen: ClusterResources, why: str) -> None:
    nodes, refused = candidates(spec(node="a" if "no such" in why else None), seen, Placed())
    assert nodes == ()
    assert why in refused["a"]
    assert why in str(no_place(spec(), refused))


def test_space_promised_to_others_is_taken_and_shared_storages_are_one() -> None:
    nodes = (node("a"), node("b"))
    shared = tuple(storage(name, on, 20, shared=True) for name in ("local-lvm", "shared") for on in "ab")
    isos = tuple(storage("local", on, content=frozenset({"iso"})) for on in "ab")
    seen = cluster(*nodes, storages=shared + isos)
    reservations = Reservations((100, 200))
    for vmid in (100, 101):
        reservations.take_room(spec(), vmid, "a", seen)
    assert candidates(spec(), seen, reservations.placed(0.0))[0] == ()
    reservations.give_back(100)
    assert [one.name for one in candidates(spec(), seen, reservations.placed(0.0))[0]] == ["b", "a"]


def test_room_is_counted_until_pve_counts_it_itself() -> None:
    reservations = Reservations((100, 200))
    reservations.take_room(full_spec(), 100, "a", cluster(node("a")))
    assert reservations.placed(50.0).memory == {"a": 4 * GIB}
    reservations.settle(100, 50.0)
    assert reservations.placed(50.0 + LAG / 2).memory == {"a": 4 * GIB}
    assert reservations.placed(51.0 + LAG).memory == {}
    assert reservations.placed(51.0 + LAG).machines == {"a": 1}


def test_vmids_are_drawn_from_the_range_and_never_twice() -> None:
    reservations = Reservations((100, 109))
    drawn = [reservations.take_vmid(spec(), {105}) for _ in range(9)]
    assert sorted([*drawn, 105]) == list(range(100, 110))
    with pytest.raises(VmidTaken, match="no VMID"):
        reservations.take_vmid(spec(), {105})


def test_a_declared_vmid_is_taken_or_refused() -> None:
    reservations = Reservations((100, 109))
    assert reservations.take_vmid(spec(vmid=5000), set()) == 5000
    with pytest.raises(VmidTaken, match="5000"):
        reservations.take_vmid(spec(vmid=5000), {5000})


def thin_cluster(free: int) -> ClusterResources:
    isos = storage("local", "a", content=frozenset({"iso"}))
    return cluster(node("a", 64), storages=(storage("local-lvm", "a", free, thin=True), isos))


def test_declared_sizes_do_not_fill_a_thin_storage_and_overcommitment_is_told() -> None:
    reservations = Reservations((100, 200))
    seen = thin_cluster(20)
    for vmid in range(100, 140):
        assert candidates(spec(memory=64), seen, reservations.placed(0.0))[0], f"the {vmid - 99}th has no place"
        reservations.take_room(spec(memory=64), vmid, "a", seen)
        assert bool(overcommitted(seen, reservations.placed(0.0))) is (vmid > 101)  # three of 8 GiB exceed 20 GiB
    (line,) = overcommitted(seen, reservations.placed(0.0))
    assert "local-lvm on a is thin and overcommitted" in line and "320.0 GiB, and 20.0 GiB are free" in line
    assert overcommitted(cluster(node("a")), reservations.placed(0.0)) == []


@pytest.mark.parametrize(("free", "size", "why"), [(0, 8, "is full"), (200, 201, "200.0 GiB in all, a single disk")])
def test_a_thin_storage_refuses_when_it_is_full_or_smaller_than_one_disk(free: int, size: int, why: str) -> None:
    disk = {"slot": "scsi0", "storage": "local-lvm", "size": size * GIB}
    nodes, refused = candidates(spec(disks=[disk]), thin_cluster(free), Placed())
    assert nodes == () and why in refused["a"]


@pytest.mark.parametrize(
    ("kind", "settings", "thin"),
    [
        ("lvmthin", {}, True),
        ("lvm", {}, False),
        ("rbd", {}, True),
        ("zfspool", {}, False),
        ("zfspool", {"sparse": 1}, True),
        ("zfspool", {"sparse": "0"}, False),
        ("dir", {}, True),
        ("nfs", {"preallocation": "metadata"}, True),
        ("nfs", {"preallocation": "full"}, False),
        ("what-comes-next", {}, False),
    ],
)
def test_which_storages_are_thin(kind: str, settings: dict[str, Any], thin: bool) -> None:
    assert is_thin(kind, settings) is thin
