"""Templates that we make, with the real client on the lab: made of an image, told from others', cloned, deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.errors import StateError, VmidTaken
from nixops_proxmox.pve.cluster.template_store import Blueprint, TemplateFound, TemplateStore
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.template import TemplateSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.test_client_copies import IMAGE, finish, from_template, make_template, put_image

SPEC = TemplateSpec(name="base", image=IMAGE, storage="local-lvm")
MARK, DIGEST = mark_of("demo", "base"), "0123456789abcdef"


@pytest.fixture(params=["8.4", "9.1"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        put_image(made, tmp_path)
        yield made


def make(bench: Bench, spec: TemplateSpec = SPEC) -> TemplateFound:
    store = bench.hypervisor.template_store
    plan = Blueprint(spec, MARK, "pve2", DIGEST, IMAGE, store.propose(spec, "pve2"))
    store.make(plan, bench.note)
    (half,) = store.find(spec, MARK, [plan.vmid])
    assert not half.finished
    for _ in range(2):  # one that is finished needs nothing
        store.finish(half, bench.note)
    (found,) = store.find(spec, MARK, ())
    assert found == TemplateFound(plan.vmid, "pve2", "base", DIGEST, "pve2", finished=True)
    return found


@pytest.mark.parametrize("bios", ["seabios", "ovmf"])
def test_a_template_is_made_of_an_image_and_cloned(bench: Bench, bios: str) -> None:
    made = make(bench, SPEC.model_copy(update={"bios": bios}))
    described = from_template("base", bios=bios)
    machine = bench.created(described)
    vm = finish(bench, described, machine)
    assert (vm.uuid, vm.node) == (machine.facts.uuid, "pve2")
    assert f"base-{made.vmid}-disk-" in str(bench.lab.cluster.stores.find(vm.config["scsi0"].partition(",")[0], "pve2"))


def test_what_is_cloned_of_it_by_hand_is_not_ours_although_it_has_our_notes(bench: Bench) -> None:
    made, client = make(bench), bench.made[0]
    bench.hypervisor.wait_for_task(
        client.clone_vm("pve2", made.vmid, {"newid": 9500, "name": "base-copy", "full": True})
    )
    notes = client.get_config("pve2", made.vmid).values["description"]
    client.set_config("pve2", 9500, {"name": "base", "description": notes})
    assert [one.vmid for one in bench.hypervisor.template_store.find(SPEC, MARK, [9500])] == [made.vmid]
    assert not bench.hypervisor.template_store.find(SPEC, mark_of("other", "base"), ())


def test_a_template_of_that_name_that_is_not_ours_stops_us_before_anything_is_made(bench: Bench) -> None:
    theirs = make_template(bench, "base")
    with pytest.raises(StateError, match=f"VM {theirs.facts.vmid} on {theirs.facts.node} is a template of that name"):
        bench.hypervisor.template_store.propose(SPEC, theirs.facts.node)


def test_it_is_renamed_and_deleted(bench: Bench) -> None:
    store: TemplateStore = bench.hypervisor.template_store
    made = make(bench)
    store.rename(made, "base-01234567")
    (found,) = store.find(SPEC, MARK, ())
    assert found.name == "base-01234567" and store.propose(SPEC, "pve2") != made.vmid
    for _ in range(2):  # one that is gone needs nothing
        store.delete(found, bench.note)
    assert store.find(SPEC, MARK, [made.vmid]) == [] and bench.vmids == []


def test_a_vmid_that_somebody_took_meanwhile_is_said(bench: Bench) -> None:
    store, client = bench.hypervisor.template_store, bench.made[0]
    vmid = store.propose(SPEC, "pve2")
    bench.hypervisor.wait_for_task(client.create_vm("pve2", {"vmid": vmid, "name": "theirs"}))
    with pytest.raises(VmidTaken):
        store.make(Blueprint(SPEC, MARK, "pve2", DIGEST, IMAGE, vmid), bench.note)
    assert not store.find(SPEC, MARK, [vmid])


def test_a_machine_of_a_described_template_goes_to_any_node_that_fits(bench: Bench) -> None:
    described = from_template("base")
    install = described.install.model_copy(update={"described": True})
    place = bench.hypervisor.choose_place(described.model_copy(update={"install": install}))
    assert place.node and bench.hypervisor.template_store.find_node(bare(name="web")), "no node has it yet"
