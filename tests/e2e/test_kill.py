"""A real `kill -9` of a real `deploy` at every API call; then the same command again finishes the job."""

import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

MOST_CALLS = 60  # more than any one-machine deploy makes; the tests beyond its end find that it was not killed
AT_ONCE = 10  # calls that one test goes through
WRITES = "POST|PUT|DELETE"
# Where the later calls break is looked at once a week: in memory, every run is broken at each of its calls.
KILLS = [
    pytest.param(
        action, methods, first, id=f"{when}-from-call-{first}", marks=[pytest.mark.weekly] if first > AT_ONCE else []
    )
    for action, methods, when in (("hang", "*", "before-it-acts"), ("slow", WRITES, "after-it-acted"))
    for first in range(1, MOST_CALLS, AT_ONCE)
]
LEAST_CALLS = {"*": 10, WRITES: 9}  # of a whole deploy, by method


def kill_at(bed: "Bed", call: int, action: str, methods: str, words: tuple[str, ...] = ("deploy",)) -> bool:
    """Run a verb, and kill it while the lab sits on its n-th call with such a method; False if it has fewer."""
    bed.fault(action, nth=call, method=methods, seconds=60)
    process = bed.start(*words)
    try:
        killed = bed.wait_for_calls(call, process, methods)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    bed.control("DELETE", "faults")
    return killed


def check_finished(bed: "Bed") -> None:
    (machine,) = bed.status()
    assert machine["phase"] == "ready"
    ((vmid, vm),) = bed.vms().items()
    assert int(vmid) == machine["vmid"] and vm["status"] == "running"
    assert len(bed.images()) == 1, "a disk was left behind"
    assert len(bed.tasks("qmcreate")) == 1, "a second VM was asked for"
    assert not bed.tasks("qmdestroy")
    running = bed.home / "state" / "nixops-proxmox" / "running"
    assert [path for path in running.rglob("*") if path.is_file()] == [], "an install's private key was left behind"


@pytest.mark.parametrize(("action", "methods", "first"), KILLS)
def test_a_deploy_that_was_killed_at_any_call_is_finished_by_the_next_one(
    bed: "Bed", action: str, methods: str, first: int
) -> None:
    """`hang`: the call was sent and nothing happened; `slow`: it happened, and the answer never came.

    A GET changes nothing: whether it acted makes no difference, so only one of the two goes through them.
    """
    for call in range(first, first + AT_ONCE):
        bed.reset()
        clear_state(bed)
        if not kill_at(bed, call, action, methods):
            assert call > LEAST_CALLS[methods], "a whole deploy has more calls than that"
            return
        bed.run("deploy")
        check_finished(bed)
    assert call < MOST_CALLS, "a deploy has more calls than this test expects"


def clear_state(bed: "Bed") -> None:
    import shutil

    state = bed.home / "state" / "nixops-proxmox"
    for left in state.glob("state.sqlite*"):
        left.unlink()
    shutil.rmtree(state / "deployments", ignore_errors=True)
