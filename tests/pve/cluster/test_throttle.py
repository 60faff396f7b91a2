"""Nobody waits longer for a storage than PVE is willing to."""

import threading

import pytest

from nixops_proxmox.errors import PveRefused, TaskFailed
from nixops_proxmox.pve.cluster.throttle import FIRST, Throttle
from nixops_proxmox.pve.cluster.work import is_busy
from nixops_proxmox.pve.wire.refusals import StorageBusy
from tests.pace import patience


def test_more_are_let_in_while_it_goes_well() -> None:
    gate = Throttle(FIRST + 2)
    for _ in range(5):
        with gate.passing(is_busy):
            pass
    assert gate.room == FIRST + 2


def test_half_as_many_are_let_in_when_a_lock_was_not_had() -> None:
    gate = Throttle(32)
    for room in (FIRST // 2, FIRST // 4, 1, 1):
        with pytest.raises(StorageBusy), gate.passing(is_busy):
            raise StorageBusy("got timeout")
        assert gate.room == room


def test_other_failures_say_nothing_of_the_storage() -> None:
    gate = Throttle(32)
    with pytest.raises(PveRefused), gate.passing(is_busy):
        raise PveRefused("no")
    assert gate.room == FIRST


def test_no_more_than_there_is_room_for_are_inside() -> None:
    gate, inside, most = Throttle(2), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with gate.passing(is_busy):
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.002)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=patience(5))
    assert most == 2


UPID = "UPID:pve1:00000001:00000001:00000001:qmcreate:100:root@pam:"


@pytest.mark.parametrize(
    ("text", "busy"),
    [
        ("unable to create VM 100 - can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout", True),
        ("unable to create VM 100 - cfs-lock 'storage-shared' error: got lock request timeout", True),
        ("can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", True),
        ("unable to create VM 100 - no space left", False),
        ("start failed: QEMU exited with code 1", False),
    ],
)
def test_a_task_tells_that_it_waited_in_vain(text: str, *, busy: bool) -> None:
    assert is_busy(TaskFailed(text, upid=UPID, exit_status_text=text)) is busy
