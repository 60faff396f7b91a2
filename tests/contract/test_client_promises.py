"""Locks that only a task met, in PVE's other words: each is waited for, and a failure that does not pass is not."""

import re

import pytest

from nixops_proxmox.errors import TaskFailed
from tests.contract.client_bench import Bench
from tests.contract.test_client_patience import DEEDS, start

LOCK = "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout"


@pytest.mark.parametrize("deed", DEEDS)
def test_a_file_lock_that_the_task_did_not_get_is_asked_for_again(bench: Bench, deed: str) -> None:
    do, method, path = DEEDS[deed]
    machine = bench.created()
    if deed == "stop":
        start(bench, machine)
    bench.calls()
    bench.fault("fail_task", method, path, text=LOCK, times=2)
    do(bench, machine)
    asked = [one for one in bench.done if one.call.method == method and re.search(path, one.call.path)]
    assert len(asked) == 3
    assert any("lock-101.conf" in told for told in bench.told)


@pytest.mark.parametrize("deed", DEEDS)
def test_what_no_waiting_mends_is_told_at_once(bench: Bench, deed: str) -> None:
    do, method, path = DEEDS[deed]
    machine = bench.created()
    if deed == "stop":
        start(bench, machine)
    bench.fault("fail_task", method, path, text="command 'zfs' failed: exit code 1", times=2)
    before = bench.skew
    with pytest.raises(TaskFailed, match="exit code 1"):
        do(bench, machine)
    assert bench.skew - before < 10
