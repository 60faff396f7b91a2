"""A real `kill -9` of verbs that work beside the table, at every call that changes something; then the same verb again.

`hang`: a call is sent, and nothing happens.
"""

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_kill import WRITES, kill_at

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

CALLS = 3  # that change something: the first ones of each verb, as far as it has so many; then it waits for the guest


def note(bed: "Bed") -> str:
    return bed.ssh("web", "cat /root/note").strip()


def prepare(bed: "Bed") -> None:
    """One machine for all that follows: saved with a note from before."""
    bed.run("deploy")
    bed.run("ssh", "web", "--", "echo before > /root/note; sync")
    bed.run("snapshot", "create", "clean", "web", "--ram")


VERBS = {
    "rollback": ("snapshot", "rollback", "clean", "web", "--yes"),
}


def check(bed: "Bed") -> None:
    (machine,) = bed.status()
    assert machine["phase"] == "ready"
    ((vmid, vm),) = bed.vms().items()
    assert int(vmid) == machine["vmid"] and vm["status"] == "running"
    assert note(bed) == "before"


@pytest.mark.parametrize("action", ["hang"], ids=["before-it-acts"])
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_that_was_killed_is_finished_by_the_same_verb(bed: "Bed", name: str, action: str) -> None:
    prepare(bed)
    for call in range(1, CALLS + 1):
        bed.forget_calls()
        if not kill_at(bed, call, action, WRITES, VERBS[name]):
            assert call > 1, "such a verb changes something"
            return
        bed.run(*VERBS[name])
        check(bed)
