"""Backups of containers against the lab: taken, and put in the container's place."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations import Deployed
from nixops_proxmox.operations.backups import back_up
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.restoring import restore
from nixops_proxmox.pve.vm.container import restored_volumes, unsaved_mounts
from nixops_proxmox.pve.wire.calls import Trace, no_trace
from nixops_proxmox.spec.volume import PLACE
from tests.contract.hypervisors import Hypervisors, ends, find_obstacle, start_hypervisors
from tests.contract.kills import killed_at
from tests.contract.test_container_volumes import described, holder, ledger, resources
from tests.contract.test_containers import config, container, seed

needs_guests = pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle())
WEB = ["web"]
MOUNT = {"path": "/data", "storage": "local-lvm", "size": "1G"}


@pytest.fixture(params=["7.4", "9.1"])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hypervisors]:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}, {"pve": request.param}) as found:
        yield found


def backed_up(web: Pursuit, _: object) -> Machine:
    back_up(web)
    return web.machine


def save(deployed: Deployed) -> str:
    return ends(deployed.work_on(WEB, backed_up))["web"]


def bring_back(deployed: Deployed) -> str:
    """What it says against it; empty: it is there."""
    try:
        hypervisor = deployed.hypervisor_of("web")
        return ends(deployed.work_on(WEB, lambda web, _: restore(hypervisor, web)))["web"]
    except DeployError as error:
        return f"{error.message} {error.hint}"


def note(bed: Hypervisors, key: str, text: str = "") -> str:
    """A file in one of its volumes: written, or read."""
    vm = next(vm for vm in bed.labs["pve"].cluster.vms.values() if vm.config.get("hostname") == "web")
    stored = bed.labs["pve"].cluster.stores.get_volume(vm.config[key].partition(",")[0], vm.node)
    path = Path(stored.path) / "now" / "parts" / "0" / "note"
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path.read_text() if path.exists() else ""


@needs_guests
def test_a_backup_brings_it_back_as_it_was_whether_it_stands_or_is_gone(bed: Hypervisors) -> None:
    wanted = {"web": container(bed, node="pve1", container={"mounts": [MOUNT | {"backup": True}]})}
    with bed.opened(wanted) as deployed:
        assert ends(deployed.deploy(WEB)) == {"web": ""}
        note(bed, "rootfs", "then")
        note(bed, "mp0", "data then")
        assert save(deployed) == ""
    before, facts = config(bed), bed.recorded().facts
    volumes = bed.labs["pve"].cluster.stores.volumes
    (archive,) = [one for one in volumes.values() if one.content == "backup"]
    assert archive.volid.startswith(f"shared:backup/vzdump-lxc-{facts.vmid}-")
    assert f"nixops-proxmox {facts.uuid}" in archive.notes
    of_a_vm = replace(archive, volid=archive.volid.replace("-lxc-", "-qemu-"), ctime=archive.ctime + 9)
    volumes["", of_a_vm.volid] = of_a_vm  # the VM that had this VMID once
    for gone in (False, True):
        note(bed, "rootfs", "now")
        note(bed, "mp0", "data now")
        if gone:
            bed.by_hand("pve", "POST", f"/nodes/pve1/lxc/{facts.vmid}/status/stop")
            bed.by_hand("pve", "DELETE", f"/nodes/pve1/lxc/{facts.vmid}")
        with bed.opened(wanted) as deployed:
            assert bring_back(deployed) == ""
        assert (note(bed, "rootfs"), note(bed, "mp0")) == ("then", "data then")
        after = config(bed)
        assert {key: after[key] for key in after if key not in ("rootfs", "mp0")} == {
            key: before[key] for key in before if key not in ("rootfs", "mp0")
        }
        assert after["mp0"].partition(",")[2] == before["mp0"].partition(",")[2]
        assert (bed.recorded().facts.host_key, bed.recorded().facts.vmid) == (facts.host_key, facts.vmid)
    with bed.opened(wanted) as deployed:
        assert ends(deployed.deploy(WEB)) == {"web": ""}
    assert bed.recorded().phase is Phase.READY


@needs_guests
def test_a_volume_is_in_no_backup_and_stays_as_it_is(bed: Hypervisors) -> None:
    with bed.opened(described(bed), resources=resources()) as deployed:
        assert set(ends(deployed.deploy(WEB)).values()) == {""}
        ledger(bed).parent.mkdir(parents=True, exist_ok=True)
        ledger(bed).write_text("then")
        assert save(deployed) == ""
        ledger(bed).write_text("now")
        assert bring_back(deployed) == ""
        assert set(ends(deployed.deploy(WEB)).values()) == {""}
    assert (holder(bed)[0], ledger(bed).read_text()) == ("web", "now")


@needs_guests
def test_a_restore_never_deletes_data_that_the_backup_does_not_have(bed: Hypervisors) -> None:
    wanted = {"web": container(bed, container={"mounts": [MOUNT]})}
    with bed.opened(wanted) as deployed:
        assert ends(deployed.deploy(WEB)) == {"web": ""}
        note(bed, "mp0", "precious")
        assert save(deployed) == ""
        refused = bring_back(deployed)
    assert "has nothing of mp0 (/data), and a restore would delete it" in refused
    assert note(bed, "mp0") == "precious"


@needs_guests
def test_the_backup_of_another_machine_is_refused(bed: Hypervisors) -> None:
    wanted = {"web": container(bed)}
    with bed.opened(wanted) as deployed:
        assert ends(deployed.deploy(WEB)) == {"web": ""}
        assert save(deployed) == ""
    cluster = bed.labs["pve"].cluster
    (archive,) = [one for one in cluster.stores.volumes.values() if one.content == "backup"]
    uuid = bed.recorded().facts.uuid
    archive.path.write_text(archive.path.read_text().replace(uuid, "33333333-3333-4333-8333-333333333333"))
    before = config(bed)
    with bed.opened(wanted) as deployed:
        assert "nothing would prove who answers" in bring_back(deployed)
    assert config(bed) == before


ARCHIVED = {
    "rootfs": "ssd:vm-100-disk-0,size=8G",
    "mp0": "hdd:vm-100-disk-1,mp=/data,backup=1,size=1536M",
    "mp1": f"hdd:vm-100-disk-2,mp={PLACE}npv-0123456789abcdef,backup=0,size=1G",
    "mp2": "/srv,mp=/srv",
}


def test_each_volume_goes_where_it_was_or_where_it_is_told_to_go() -> None:
    assert restored_volumes(ARCHIVED) == {"rootfs": "ssd:8", "mp0": "hdd:1.5,mp=/data,backup=1"}
    assert restored_volumes(ARCHIVED, {"mp0": "new"}) == {"rootfs": "ssd:8", "mp0": "new:1.5,mp=/data,backup=1"}


def test_what_is_in_no_backup_is_what_was_not_named_then() -> None:
    now = {**ARCHIVED, "mp3": "ssd:vm-100-disk-4,mp=/more,backup=1,size=1G"}
    assert unsaved_mounts(now, ARCHIVED) == ["mp3 (/more)"], "volumes stay, and folders of the node are none"


Act = Callable[[Deployed], str]


@pytest.mark.weekly
@needs_guests
@pytest.mark.parametrize("act", [save, bring_back])
def test_a_verb_that_is_killed_at_any_call_is_finished_by_the_next(tmp_path: Path, act: Act) -> None:
    with start_hypervisors(tmp_path, {"pve": ["pve1"]}) as bed:
        for number in range(1, 60):
            (bed.folder / str(number)).mkdir()
            bench = bed.emptied(bed.folder / str(number))
            seed(bench)
            with bench.opened(described(bench), resources=resources()) as deployed:
                assert set(ends(deployed.deploy(WEB)).values()) == {""}
                assert save(deployed) == ""

            def run(trace: Trace, options: Mapping[str, Any] = {"break_lock": True}) -> str:
                with bench.opened(described(bench), resources=resources(), trace=trace, **options) as deployed:  # noqa: B023
                    return act(deployed)

            killed = killed_at(run, number)
            bench.labs["pve"].settle()
            if killed:
                assert run(no_trace) == "", number
            with bench.opened(described(bench), resources=resources(), break_lock=True) as deployed:
                assert set(ends(deployed.deploy(WEB)).values()) == {""}, number
            assert bench.recorded().phase is Phase.READY and holder(bench)[0] == "web", number
            if not killed:
                assert number > 1
                return
    raise AssertionError("it never came to its end")
