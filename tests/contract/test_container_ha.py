"""Containers that HA manages, by the verbs: made, stopped, started, moved, made new and destroyed."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import PveRefused
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.model import Phase
from nixops_proxmox.operations import Deployed
from nixops_proxmox.pve.wire.calls import Trace, no_trace
from tests.contract.hypervisors import Hypervisors, ends, find_obstacle, start_hypervisors
from tests.contract.kills import killed_at
from tests.contract.test_containers import container

pytestmark = pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle())
WEB = ["web"]


@pytest.fixture(params=[pytest.param("8.4", marks=pytest.mark.weekly), "9.1"])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hypervisors]:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2", "pve3"]}, {"pve": request.param}) as found:
        prepare(found)
        yield found


def prepare(bed: Hypervisors) -> None:
    """A storage that all nodes have takes containers, and HA is quick."""
    cluster = bed.labs["pve"].cluster
    shared = cluster.stores.storages["shared"]
    cluster.stores.storages["shared"] = replace(shared, content=(*shared.content, "rootdir"))
    cluster.latency = Latency(refused_login=0.0, statistics=0.0, ha=0.02)


def managed(bed: Hypervisors, **changes: Any) -> dict[str, Any]:
    root = {"storage": "shared", "size": "8G"}
    return {"web": container(bed, ha={"maxRestart": 2}, node="pve1", container={"root": root}) | changes}


def service(bed: Hypervisors) -> tuple[str, str, str]:
    """What HA has, what it was asked for, and on which node that is."""
    bed.labs["pve"].settle()
    (vm,) = bed.labs["pve"].cluster.vms.values()
    return (vm.sid, vm.ha.state, vm.node) if vm.ha else ("", "", vm.node)


def runs(bed: Hypervisors) -> bool:
    (vm,) = bed.labs["pve"].cluster.vms.values()
    return vm.running is not None


def test_a_container_follows_its_verbs_through_ha(bed: Hypervisors) -> None:
    described = managed(bed)
    with bed.opened(described) as deployed:
        assert ends(deployed.deploy(WEB)) == {"web": ""}
        sid = f"ct:{bed.recorded().facts.vmid}"
        assert (service(bed), runs(bed)) == ((sid, "started", "pve1"), True)
        assert ends(deployed.stop(WEB)) == {"web": ""}
        assert (service(bed), runs(bed)) == ((sid, "stopped", "pve1"), False)
        assert differences(deployed) == ["state: stopped becomes started"]
        assert ends(deployed.start(WEB)) == {"web": ""}
        assert (service(bed), runs(bed), differences(deployed)) == ((sid, "started", "pve1"), True, [])
        assert ends(deployed.reboot(WEB)) == {"web": ""}
        assert ends(deployed.migrate(WEB, "pve3")) == {"web": ""}
        assert (service(bed), runs(bed)) == ((sid, "started", "pve3"), True)
        assert ends(deployed.destroy(WEB)) == {"web": ""}
    assert bed.labs["pve"].cluster.vms == {}


def test_pve_is_told_of_a_container_that_was_made_new_what_it_knew_of_the_old_one(bed: Hypervisors) -> None:
    firewall = {"enable": True, "rules": [{"proto": "tcp", "port": "22"}]}
    jobs = {"backupJobs": {"night": {"profile": "pve", "machines": WEB, "schedule": "02:00", "storage": "local"}}}
    with bed.opened(managed(bed, firewall=firewall), resources=jobs) as deployed:
        assert set(ends(deployed.deploy(WEB)).values()) == {""}
        before = known(bed)
        assert ends(deployed.reinstall(WEB)) == {"web": ""}
        assert known(bed) == before
        made = [one for one in bed.labs["pve"].cluster.tasks.tasks.values() if one.type == "vzcreate"]
    assert (len(made), runs(bed)) == (2, True)


def known(bed: Hypervisors) -> object:
    """What PVE has of a container beside its configuration."""
    cluster, sid = bed.labs["pve"].cluster, service(bed)[:2]
    return sid, copy.deepcopy(cluster.vm_firewalls), copy.deepcopy(cluster.backup_jobs)


def differences(deployed: Deployed) -> list[str]:
    return [line for one in deployed.list_resources() for line in one.differences]


def test_a_rule_keeps_it_where_it_may_be(bed: Hypervisors) -> None:
    near = {"haRules": {"near": {"profile": "pve", "machines": WEB, "nodes": {"pve1": 1}, "strict": True}}}
    with bed.opened(managed(bed), resources=near) as deployed:
        assert ends(deployed.deploy(WEB)) == {"web": "", "near": ""}
        assert [one.phase for one in deployed.list_resources()] == [Presence.PRESENT] * 2
        (said,) = ends(deployed.migrate(WEB, "pve2")).values()
    assert "names pve1" in said
    assert service(bed)[2] == "pve1"


def test_what_ha_starts_again_in_that_moment_is_stopped_all_the_same(bed: Hypervisors) -> None:
    """PVE refuses to stop what does not run, and HA goes on wanting that it runs."""
    with bed.opened(managed(bed)) as deployed:
        deployed.deploy(WEB)
        lab = bed.labs["pve"]
        lab.cluster.latency = replace(lab.cluster.latency, ha=0.5)
        (vm,) = lab.cluster.vms.values()
        first = vm.running
        assert first is not None
        lab.run(first.power_off())
        deployed.hypervisor_of("web").stop_vm(bed.recorded().facts, lambda _upid: None)
        assert vm.running is None
        assert service(bed)[1] == "stopped"
        assert not runs(bed)


def test_what_ha_gave_up_on_is_said(bed: Hypervisors) -> None:
    with bed.opened(managed(bed)) as deployed:
        deployed.deploy(WEB)
        facts, hypervisor = bed.recorded().facts, deployed.hypervisor_of("web")
        hypervisor.stop_vm(facts, lambda _upid: None)
        (vm,) = bed.labs["pve"].cluster.vms.values()
        bed.change("pve", lambda: vm.config.update(net0=vm.config["net0"].replace("vmbr0", "vmbr9")))
        with pytest.raises(PveRefused, match=rf"container {facts.vmid}: HA gave up on it"):
            hypervisor.start_vm(facts, lambda _upid: None)


@pytest.mark.weekly
def test_a_migration_through_ha_that_is_killed_at_any_call_is_finished_by_the_next(bed: Hypervisors) -> None:
    for number in range(1, 40):
        (bed.folder / str(number)).mkdir()
        again = bed.emptied(bed.folder / str(number))
        prepare(again)
        described = managed(again)
        with again.opened(described) as deployed:
            deployed.deploy(WEB)
        if not killed_at(lambda trace: migrate(again, described, trace), number):  # noqa: B023
            assert number > 1
            return
        assert migrate(again, described, no_trace) == "", number
        assert (service(again)[1:], runs(again)) == (("started", "pve2"), True), number
        machine = again.recorded()
        assert (machine.phase, machine.facts.node, machine.facts.errand) == (Phase.READY, "pve2", {}), number
    raise AssertionError("it never came to its end")


def migrate(bed: Hypervisors, described: dict[str, Any], trace: Trace) -> str:
    with bed.opened(described, trace=trace, break_lock=True) as deployed:
        return ends(deployed.migrate(WEB, "pve2"))["web"]
