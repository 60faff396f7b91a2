"""A backup job: what differs, and what is never touched."""

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import StateError
from tests.kinds.benches import BackupJobBench
from tests.kinds.machine.cluster import Fuse


@pytest.fixture
def bench() -> BackupJobBench:
    made = BackupJobBench()
    made.run(Fuse(), wanted=True, keep={"last": 3, "daily": 7})
    return made


def test_the_order_of_what_is_kept_does_not_matter(bench: BackupJobBench) -> None:
    bench.there[bench.id]["prune-backups"] = "keep-daily=7,keep-last=3"
    entries = len(bench.record.entries)
    bench.run(Fuse(), wanted=True, keep={"last": 3, "daily": 7})
    assert len(bench.record.entries) == entries, "there was nothing to do"


def test_a_machine_that_got_another_vmid_is_followed(bench: BackupJobBench) -> None:
    bench.vmid = 123
    assert bench.run(Fuse(), wanted=True, keep={"last": 3, "daily": 7}).phase is Presence.PRESENT
    assert bench.there[bench.id]["vmid"] == "123"


def test_what_is_no_longer_described_goes_back_to_what_pve_does(bench: BackupJobBench) -> None:
    bench.run(Fuse(), wanted=True)
    assert "prune-backups" not in bench.there[bench.id]
    bench.run(Fuse(), wanted=True, machines=(), pool="front")
    assert bench.there[bench.id]["pool"] == "front" and "vmid" not in bench.there[bench.id]


def test_a_job_of_somebody_else_with_our_id_is_left_alone(bench: BackupJobBench) -> None:
    bench.there[bench.id]["comment"] = "mine"
    with pytest.raises(StateError, match="not ours"):
        bench.run(Fuse(), wanted=True)
    bench.run(Fuse(), wanted=False)
    assert bench.there[bench.id]["comment"] == "mine"


def test_a_machine_without_a_vm_is_named(bench: BackupJobBench) -> None:
    with pytest.raises(StateError, match="the machine db has no VM yet"):
        bench.run(Fuse(), wanted=True, machines=("db",))
