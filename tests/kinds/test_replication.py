"""A replication job: what differs, what is followed, what is waited for, and what is never touched."""

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.replication.kind import REMOVAL_SECONDS, find_stranger, remarks
from nixops_proxmox.pve.api.replication import ReplicationState
from tests.kinds.machine.cluster import Fuse
from tests.kinds.replication_bench import ReplicationBench


@pytest.fixture
def bench() -> ReplicationBench:
    made = ReplicationBench()
    made.run(Fuse(), wanted=True)
    return made


def told(bench: ReplicationBench) -> list[str]:
    return list(remarks(bench.world(Fuse())))


def test_what_is_no_longer_described_goes_back_to_what_pve_does(bench: ReplicationBench) -> None:
    bench.run(Fuse(), wanted=True, rate=10, enabled=False)
    bench.store.there["100-1"]["rate"] = "10.0"
    entries = len(bench.record.entries)
    bench.run(Fuse(), wanted=True, rate=10, enabled=False)
    assert len(bench.record.entries) == entries, "there was nothing to do"
    bench.run(Fuse(), wanted=True)
    assert "rate" not in bench.ours["100-1"] and bench.ours["100-1"]["disable"] == "0"


def test_a_machine_that_got_another_vmid_is_followed(bench: ReplicationBench) -> None:
    bench.vmid = 123
    assert bench.run(Fuse(), wanted=True).phase is Presence.PRESENT
    assert list(bench.ours) == ["123-0"]


def test_a_machine_that_moved_to_the_target_is_copied_back(bench: ReplicationBench) -> None:
    bench.store.nodes[100], bench.store.there["100-1"]["target"] = "pve2", "pve1"
    entries = len(bench.record.entries)
    bench.run(Fuse(), wanted=True)
    assert len(bench.record.entries) == entries, "PVE has turned the job round, and nothing is to be done"
    assert told(bench)[0] == "web is on pve2, so its disks are copied to pve1"


def test_a_job_that_copies_elsewhere_is_made_again(bench: ReplicationBench) -> None:
    bench.store.there["100-1"]["target"] = "pve4"
    bench.run(Fuse(), wanted=True)
    bench.check(wanted=True)


def test_a_removal_that_never_ends_says_who_does_not_answer(bench: ReplicationBench) -> None:
    bench.store.stuck = True
    with pytest.raises(StateError, match="pve1 has not removed the job 100-1 in 600 s") as raised:
        bench.run(Fuse(), wanted=False)
    assert "pvescheduler" in raised.value.hint
    assert bench.clock.time < REMOVAL_SECONDS + 20


def test_a_job_of_somebody_else_is_left_alone() -> None:
    bench = ReplicationBench()
    with pytest.raises(StateError, match="has a job to pve3, 100-0, and its comment says that it is not ours"):
        bench.run(Fuse(), wanted=True, target="pve3")
    bench.run(Fuse(), wanted=False, target="pve3")
    bench.check(wanted=False)
    stranger = find_stranger(bench.world(Fuse(), target="pve3", schedule="*/5", comment="not ours"))
    assert stranger is not None and list(stranger.differences) == ["schedule: */15 becomes */5"]
    stranger.claim()
    assert bench.store.there["100-0"]["comment"] == "not ours nixops-proxmox:demo/copy"


def test_what_pve_cannot_replicate_is_refused_with_the_reason() -> None:
    bench = ReplicationBench()
    bench.store.reason = "scsi0 is on local-lvm, which is not ZFS"
    with pytest.raises(StateError, match="web cannot be copied to pve2: scsi0 is on local-lvm"):
        bench.run(Fuse(), wanted=True)
    bench.check(wanted=False)


def test_the_state_of_a_job_is_told(bench: ReplicationBench) -> None:
    assert told(bench) == ["nothing is copied yet"]
    bench.store.states["100-1"] = ReplicationState(last_sync=1, failures=3, error="no route")
    assert told(bench) == ["it failed 3 times since the last copy: no route"]
    bench.store.states["100-1"] = ReplicationState(last_sync=1)
    assert told(bench) == []
