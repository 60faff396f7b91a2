"""A template beside the sweep: where it is made, when it goes, and what is left alone."""

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds import template
from nixops_proxmox.kinds.template.kind import TRIES, outline
from nixops_proxmox.model import Facts, Machine, Phase
from tests.kinds.machine.cluster import Fuse
from tests.kinds.template_bench import TemplateBench


def nodes(bench: TemplateBench) -> list[str]:
    return sorted(vm.node for vm in bench.templates.vms.values())


def differences(bench: TemplateBench, image: str = "one") -> list[str]:
    world = bench.world(Fuse(), image=image)
    _, seen = template.LIFECYCLE.look_closely(world, bench.record.thing)
    return [] if seen is None else list(seen.differences)


def test_it_is_made_only_where_a_machine_needs_it() -> None:
    bench = TemplateBench()
    bench.machines = {"web": "pve2", "db": "pve2"}
    assert list(outline(bench.world(Fuse()))) == ["it is made on pve2"]
    bench.run(Fuse(), wanted=True)
    assert nodes(bench) == ["pve2"] and bench.templates.made == 1
    bench.machines = {"web": "pve2", "db": "pve1"}
    assert differences(bench) == ["it is made on pve1"]
    bench.run(Fuse(), wanted=True)
    assert nodes(bench) == ["pve1", "pve2"] and bench.templates.made == 2


def test_what_no_machine_needs_is_as_described_and_not_made() -> None:
    bench = TemplateBench()
    bench.machines = {}
    assert bench.run(Fuse(), wanted=True).phase is Presence.PRESENT
    assert not bench.templates.made and differences(bench) == []
    assert bench.run(Fuse(), wanted=False).phase is Presence.ABSENT


def test_it_is_made_on_described_nodes_before_a_machine_needs_it() -> None:
    bench = TemplateBench()
    bench.machines, bench.nodes = {"web": "pve1"}, ("pve1", "pve3")
    bench.run(Fuse(), wanted=True)
    assert nodes(bench) == ["pve1", "pve3"] and bench.templates.made == 2


def test_a_machine_that_has_its_place_already_gets_its_template_there() -> None:
    bench = TemplateBench()
    bench.machines = {"web": "pve1"}
    bench.recorded = [Machine("demo", "web", Phase.RESERVED, Facts(vmid=100, node="pve3", profile="default"))]
    bench.run(Fuse(), wanted=True)
    assert nodes(bench) == ["pve3"]


def test_one_on_a_shared_storage_serves_all_nodes() -> None:
    bench = TemplateBench()
    bench.templates.shared = True
    bench.machines = {"web": "pve1"}
    bench.run(Fuse(), wanted=True)
    bench.machines = {"web": "pve1", "db": "pve2"}
    assert differences(bench) == []


def test_another_image_is_another_template_and_the_one_of_before_goes_when_nothing_is_cloned_of_it() -> None:
    bench = TemplateBench()
    bench.machines = {"web": "pve1"}
    bench.run(Fuse(), wanted=True)
    (before,) = bench.templates.vms.values()
    bench.cloned("web", before.vmid)
    bench.machines = {"web": "pve1", "db": "pve1"}
    bench.run(Fuse(), wanted=True, image="two")
    assert sorted((vm.vmid, vm.name) for vm in bench.templates.vms.values()) == [
        (before.vmid, "base-one-scsi"),
        (before.vmid + 1, "base"),
    ]
    assert differences(bench, "two") == [], "a template with a clone is no difference"
    bench.recorded.clear()
    assert differences(bench, "two") == [f"VM {before.vmid} on pve1, of before, is deleted"]
    bench.run(Fuse(), wanted=True, image="two")
    assert [vm.name for vm in bench.templates.vms.values()] == ["base"]


def test_one_of_which_a_machine_is_a_linked_clone_is_not_deleted() -> None:
    bench = TemplateBench()
    bench.run(Fuse(), wanted=True)
    bench.cloned("web", min(bench.templates.vms))
    with pytest.raises(StateError, match=r"linked clones of it exist \(web: VM 9001\)"):
        bench.run(Fuse(), wanted=False)
    assert len(bench.templates.vms) == 2, "one of them was deleted all the same"


def test_a_vmid_that_somebody_takes_meanwhile_is_given_up_for_another() -> None:
    bench = TemplateBench()
    bench.machines = {"web": "pve1"}
    bench.templates.strangers = {9001, 9002}
    bench.run(Fuse(), wanted=True)
    assert list(bench.templates.vms) == [9003] and TRIES > 2


def test_a_name_that_somebody_changed_is_put_right() -> None:
    bench = TemplateBench()
    bench.machines = {"web": "pve1"}
    bench.run(Fuse(), wanted=True)
    (made,) = bench.templates.vms.values()
    bench.templates.rename(made, "mine")
    assert differences(bench) == [f"VM {made.vmid} on pve1 is called mine"]
    bench.run(Fuse(), wanted=True)
    assert [vm.name for vm in bench.templates.vms.values()] == ["base"]
