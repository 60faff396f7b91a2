"""Where new machines go on a cluster: nodes, groups, maintenance and processors, for the whole set at once."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import DeployError, PveRefused
from nixops_proxmox.model import Phase
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment
from tests.pve.specs import GIB

NODES = ("pve1", "pve2", "pve3")


def app(name: str, **wanted: Any) -> MachineSpec:
    memory = wanted.pop("memory", 1024)
    return bare(name=name, memory=memory, placement={"spread": "app"} | wanted)


def placed(bench: Bench, *specs: MachineSpec) -> dict[str, str]:
    assert bench.hypervisor.place_all(specs) == {}
    return {spec.name: bench.hypervisor.choose_place(spec).node for spec in specs}


def test_a_group_is_spread_over_the_nodes_and_the_rest_follows_memory() -> None:
    with start_bench(nodes=NODES) as bench:
        big = [bare(name=f"big{number}", memory=16384) for number in range(3)]
        found = placed(bench, *big, *(app(f"app{number}") for number in range(3)))
        assert {found[f"app{number}"] for number in range(3)} == set(NODES)


def test_what_one_machine_gets_leaves_the_others_theirs() -> None:
    """By itself, each would take the node with most room, and leave none for the one that can be there only."""
    with start_bench(nodes=NODES) as bench:
        wanted = [
            app("a", strict=True),
            app("b", strict=True, nodes=("pve1", "pve2"), memory=4096),
            app("c", strict=True, nodes=("pve1",)),
        ]
        assert placed(bench, *wanted) == {"a": "pve3", "b": "pve2", "c": "pve1"}


def test_more_than_there_are_nodes_is_told_or_refused() -> None:
    with start_bench(nodes=NODES[:2]) as bench:
        assert len(placed(bench, app("a"), app("b"), app("c"))) == 3
        (warning,) = bench.warned
        assert "c: it is created on pve" in warning and 'is there (spread "app")' in warning
    with start_bench(nodes=NODES[:2]) as bench:
        refused = bench.hypervisor.place_all([app(name, strict=True) for name in "abc"])
        assert sorted(refused) == ["a", "b", "c"]
        assert 'is there (spread "app")' in refused["c"].message


def test_machines_that_belong_together_share_a_node() -> None:
    with start_bench(nodes=NODES) as bench:
        specs = [bare(name=name, memory=8192, placement={"together": "shop"}) for name in ("db", "web", "mail")]
        assert len(set(placed(bench, *specs).values())) == 1


@pytest.mark.parametrize("version", ["7.4", "9.1"])
def test_a_node_in_maintenance_is_left_out_on_every_release(version: str) -> None:
    with start_bench(version, nodes=NODES) as bench:
        for name in NODES[:2]:
            bench.change(partial(setattr, bench.lab.lab.cluster.nodes[name], "maintenance", True))
        assert bench.hypervisor.choose_place(bare()).node == "pve3"
        with pytest.raises(PveRefused, match="pve1: it is in maintenance"):
            bench.another().choose_place(bare(placement={"nodes": ("pve1", "pve2")}))
        assert bench.another().choose_place(bare(node="pve1")).node == "pve1", "who names it wants it"


def test_a_token_that_may_not_ask_about_maintenance_still_finds_a_place() -> None:
    with start_bench(nodes=NODES) as bench:
        bench.fault("refuse", "GET", r"/cluster/ha/status/current", status=403, text="Permission check failed")
        assert bench.hypervisor.choose_place(bare()).node in NODES


def test_a_processor_that_cannot_be_the_one_asked_for_is_left_out() -> None:
    with start_bench(nodes=NODES) as bench:
        for name in NODES[:2]:
            bench.change(partial(setattr, bench.lab.lab.cluster.nodes[name], "flags", "fpu sse sse2"))
        assert bench.hypervisor.choose_place(bare(cpu={"type": "x86-64-v3"})).node == "pve3"
        explained = bench.hypervisor.explain_place(bare(name="new", cpu={"type": "x86-64-v3"}))
        assert explained.node == "pve3" and [one.node for one in explained.nodes if one.chosen] == ["pve3"]
        assert "they lack" in explained.nodes[1].reasons[0]


def test_a_cd_on_a_node_of_its_own_decides(tmp_path: Path) -> None:
    iso = tmp_path / "tools.iso"
    iso.write_bytes(b"tools")
    with start_bench(nodes=NODES) as bench:
        bench.lab.lab.add_file("local", "iso", iso)
        with_cd = bare(extra={"ide0": "local:iso/tools.iso,media=cdrom"})
        bench.hypervisor.choose_place(with_cd)
        with pytest.raises(PveRefused, match=r"pve1: it does not have local:iso/other.iso"):
            bench.hypervisor.choose_place(bare(extra={"ide0": "local:iso/other.iso,media=cdrom"}))


def test_a_machine_that_exists_counts_where_it_is_now_and_stays_there(tmp_path: Path) -> None:
    with start_bench(nodes=NODES[:2]) as bench:
        made = Deployment(bench, tmp_path)
        one, two = app("one"), app("two")
        with made.opened(one) as deployed:
            (first,) = deployed.deploy(["one"], until=Phase.DEFINED)
        assert first.error is None
        before = made.recorded("one").facts
        there = {"pve1": "pve2", "pve2": "pve1"}[before.node]
        made.by_hand("POST", f"/nodes/{before.node}/qemu/{before.vmid}/migrate", target=there)
        with made.opened(one, two) as deployed:
            (planned,) = deployed.plan(["two"])
            assert planned.node == before.node, "the other one is on the other node by now"
            outcomes = deployed.deploy(["one", "two"], until=Phase.DEFINED)
        assert [outcome.error for outcome in outcomes] == [None, None]
        guests = {guest.vmid: guest.node for guest in bench.another().client.get_resources(0.0).guests.values()}
        assert guests[before.vmid] == there, "it was not moved back"
        assert guests[made.recorded("two").facts.vmid] == before.node


def test_the_table_of_a_machine_says_of_each_node_why_and_why_not(tmp_path: Path) -> None:
    with start_bench(nodes=(*NODES, "pve4")) as bench:
        made = Deployment(bench, tmp_path)
        bench.fault("lose_node", "GET", r"/version", target="pve4", seconds=600)
        bench.hypervisor.client.get_version()
        one, two = app("one"), app("two", nodes=("pve1", "pve2", "pve4"))
        with made.opened(one) as deployed:
            deployed.deploy(["one"], until=Phase.DEFINED)
        where = made.recorded("one").facts.node
        with made.opened(one, two) as deployed:
            new, old = (deployed.plan_in_full(name).placement for name in ("two", "one"))
        assert new is not None and old is not None
        assert old.node == where and next(one for one in old.nodes if one.node == where).chosen
        table = {verdict.node: verdict for verdict in new.nodes}
        assert table["pve4"].reasons == ("it is offline",)
        assert table["pve3"].reasons == ("the description names pve1, pve2, pve4",)
        assert table[where].notes == ('one is there (spread "app")',) or where == "pve3"
        assert table[new.node].chosen and table[new.node].fits and table[new.node].memory == 64 * GIB


def test_a_machine_that_fits_nowhere_has_a_table_too(tmp_path: Path) -> None:
    with start_bench(nodes=NODES) as bench, Deployment(bench, tmp_path).opened(bare(memory=1 << 20)) as deployed:
        plan = deployed.plan_in_full("web")
        explained = plan.placement
        assert isinstance(plan.error, DeployError) and explained is not None
        assert explained.node == "" and not any(one.fits or one.chosen for one in explained.nodes)
        assert all("GiB of memory free" in one.reasons[0] for one in explained.nodes)


def test_one_machine_is_explained_with_the_place_that_it_gets_among_all(tmp_path: Path) -> None:
    specs = [
        app("a", strict=True),
        app("b", strict=True, nodes=("pve1", "pve2"), memory=4096),
        app("c", nodes=("pve1",)),
    ]
    with start_bench(nodes=NODES) as bench, Deployment(bench, tmp_path).opened(*specs) as deployed:
        alone = {name: deployed.plan_in_full(name) for name in "abc"}
        together = {plan.name: plan.node for plan in deployed.plan(["a", "b", "c"])}
    for name, plan in alone.items():
        assert plan.placement is not None and plan.placement.node == plan.node == together[name]
