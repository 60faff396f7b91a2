"""Replication jobs by the real client against the lab: made, put right, turned round, removed before their machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import PveRefused, StateError
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.operations import Deployed
from nixops_proxmox.spec.replication import ReplicationSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment
from tests.pve.specs import GIB

ZFS: dict[str, Any] = {"disks": ({"slot": "scsi0", "storage": "tank", "size": GIB},)}
COPY = ReplicationSpec(name="copy", machine="web", target="pve2", rate=10)
REF = Ref("replication", "copy")


@pytest.fixture(scope="module", params=["8.4", "9.1"])
def lab(request: pytest.FixtureRequest) -> Iterator[Bench]:
    latency = Latency(refused_login=0.0, statistics=0.0)
    with start_bench(request.param, latency=latency) as made:
        root = Deployment(made, Path("/nowhere"))
        root.by_hand("POST", "/storage", storage="tank", type="zfspool", pool="tank", sparse=1)
        root.by_hand("POST", "/storage", storage="few", type="zfspool", pool="few", nodes="pve1")
        yield made


@pytest.fixture
def made(lab: Bench, tmp_path: Path) -> Deployment:
    lab.empty()
    found = Deployment(lab, tmp_path)
    found.make(node="pve1", **ZFS)
    return found


def ensure(deployed: Deployed) -> None:
    with deployed.record.lease() as lease:
        deployed._keep(lease)
        deployed.resources.ensure(REF)


def jobs(made: Deployment) -> list[tuple[str, str]]:
    return [(job["source"], job["target"]) for job in made.by_hand("GET", "/cluster/replication")]


def test_a_job_that_is_off_is_removed_all_the_same(made: Deployment) -> None:
    job = f"{made.recorded().facts.vmid}-0"
    made.by_hand("POST", "/cluster/replication", id=job, type="local", target="pve2", disable=1)
    made.by_hand("DELETE", f"/cluster/replication/{job}")
    assert jobs(made) == [("pve1", "pve2")], "PVE passes over it"
    made.bench.hypervisor.replication_store.remove(job)
    assert jobs(made) == []


def test_a_job_is_made_drifts_and_is_removed(made: Deployment) -> None:
    with made.opened(bare(name="web", **ZFS), beside=(COPY,)) as deployed:
        ensure(deployed)
        [seen] = deployed.list_resources()
        assert seen.phase is Presence.PRESENT and seen.differences == ()
        [job] = made.by_hand("GET", "/cluster/replication")
        made.by_hand("PUT", f"/cluster/replication/{job['id']}", schedule="*/5", disable=1)
        [seen] = deployed.list_resources()
        assert seen.differences == ("disable: 1 becomes 0", "schedule: */5 becomes */15")
        ensure(deployed)
        assert [one.error for one in deployed.remove_resources([REF])] == [None]
    assert jobs(made) == []


def test_its_machine_moves_to_the_target_and_is_destroyed_after_it(made: Deployment) -> None:
    web = made.recorded()
    with made.opened(bare(name="web", **ZFS), beside=(COPY,)) as deployed:
        ensure(deployed)
        made.by_hand("POST", f"/nodes/pve1/qemu/{web.facts.vmid}/migrate", target="pve2")
        assert jobs(made) == [("pve2", "pve1")]
        [seen] = deployed.list_resources()
        assert seen.phase is Presence.PRESENT and seen.differences == ()
        assert seen.remarks[0] == "web is on pve2, so its disks are copied to pve1"
        since = len(made.bench.lab.calls)
        [outcome] = deployed.destroy(["web"])
        assert outcome.error is None
    paths = [call["path"] for call in made.bench.lab.calls[since:] if call["method"] == "DELETE"]
    assert ["replication" in path for path in paths] == [True, False], "the copies go before the machine"
    assert jobs(made) == []


def test_a_job_whose_vm_is_gone_is_taken_out_of_the_list(made: Deployment) -> None:
    web = made.recorded()
    with made.opened(bare(name="web", **ZFS), beside=(COPY,)) as deployed:
        ensure(deployed)
        cluster = made.bench.lab.cluster
        made.bench.change(lambda: cluster.drop(cluster.vms[web.facts.vmid]))
        assert [one.error for one in deployed.remove_resources([REF])] == [None]
    assert not cluster.replications.jobs


def test_a_target_that_fails_is_told_and_keeps_the_job(made: Deployment) -> None:
    with made.opened(bare(name="web", **ZFS), beside=(COPY,)) as deployed:
        made.bench.change(lambda: setattr(made.bench.lab.cluster.nodes["pve2"], "online", False))
        ensure(deployed)
        made.bench.lab.settle()
        told = [remark for _ in range(50) for remark in deployed.list_resources()[0].remarks if "failed" in remark]
    assert told and told[0].startswith("it failed 1 times since the last copy: command")


LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "scsi0 is on local-lvm, which is not ZFS": ({"storage": "local-lvm"}, "pve2"),
    "scsi0 is on few, which pve2 does not have": ({"storage": "few"}, "pve2"),
    "it has no disk that PVE replicates": ({"storage": "shared"}, "pve2"),
    "is on pve1 itself": ({"storage": "tank"}, "pve1"),
    "the cluster has no node pve9": ({"storage": "tank"}, "pve9"),
}


@pytest.mark.parametrize("reason", LACKING)
def test_what_pve_could_not_copy_is_refused_before_it_is_asked(made: Deployment, reason: str) -> None:
    disk, target = LACKING[reason]
    described: dict[str, Any] = {"disks": ({"slot": "scsi0", "size": GIB, **disk},)}
    made.make(node="pve1", **described)
    spec = ReplicationSpec(name="copy", machine="web", target=target)
    with made.opened(bare(name="web", **described), beside=(spec,)) as deployed:
        assert reason in deployed.list_resources()[0].differences[0], "the plan says it"
        assert [reason in one.text for _, look in deployed.resources.examinations() for one in look()] == [True]
        with pytest.raises(StateError) as raised:
            ensure(deployed)
    assert reason in raised.value.message
    vmid = made.recorded().facts.vmid
    if target == "pve2" and disk["storage"] != "few":  # PVE itself sees that only when it copies
        with pytest.raises(PveRefused, match="replic"):
            made.by_hand("POST", "/cluster/replication", id=f"{vmid}-0", type="local", target=target)
    assert jobs(made) == []
