"""A real `kill -9` of verbs that work beside the table, at every call of each; then the same verb again finishes it.

`hang`: a call is sent, and nothing happens. `slow`: it happens, and the answer never comes. A GET changes nothing, so
only one of the two goes through them.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_kill import WRITES, kill_at

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly]

AT_ONCE = 15  # calls that one test goes through
BEFORE, AFTER = "before", "after"


def nothing(bed: "Bed") -> None:
    """A machine that is ready is all that is needed."""


def take_snapshot(bed: "Bed") -> None:
    bed.run("snapshot", "create", "clean", "web", "--ram")


def back_up(bed: "Bed") -> None:
    bed.run("backup", "web")


@dataclass(frozen=True)
class Verb:
    """`left`: what the machine's note says afterwards. `label`: how the journal calls the verb. `most`, `writes`: more
    calls than it makes, and more of those that change something."""

    words: tuple[str, ...]
    label: str
    most: int
    writes: int
    left: str = AFTER
    prepare: Callable[["Bed"], None] = nothing

    def firsts(self, methods: str) -> range:
        return range(1, self.most if methods == "*" else self.writes, AT_ONCE)


VERBS = {
    "rollback": Verb(
        ("snapshot", "rollback", "clean", "web", "--yes"), "Return to the snapshot", 30, 10, BEFORE, take_snapshot
    ),
    "restore": Verb(("restore", "web", "--yes"), "Restore the backup", 60, 10, BEFORE, back_up),
    "backup": Verb(("backup", "web"), "Back the machine up", 30, 10),
    "reboot": Verb(("reboot", "web", "--hard"), "Switch the machine off and boot its system", 30, 10),
}
CASES = [
    pytest.param(name, action, methods, first, id=f"{name}-{when}-from-call-{first}")
    for name, verb in VERBS.items()
    for when, action, methods in (("before-it-acts", "hang", "*"), ("after-it-acted", "slow", WRITES))
    for first in verb.firsts(methods)
]


def swap_note(bed: "Bed", text: str) -> str:
    """What the machine's note said, and from now on it says `text`."""
    return bed.ssh("web", f"cat /root/note 2>/dev/null; echo {text} > /root/note; sync").strip()


def asked(bed: "Bed", query: str) -> list[tuple[Any, ...]]:
    """Of the record itself: to start our own program for it would take most of the test's time."""
    with closing(sqlite3.connect(bed.home / "state" / "nixops-proxmox" / "state.sqlite")) as state:
        return state.execute(query).fetchall()


def check(bed: "Bed", verb: Verb, vmid: int) -> None:
    """One VM, the same; it does what the verb promises, and the journal says how it came to be."""
    assert [(phase, json.loads(facts)["vmid"]) for phase, facts in asked(bed, "SELECT phase, facts FROM things")] == [
        ("ready", vmid)
    ]
    ((number, vm),) = bed.vms().items()
    assert int(number) == vmid and vm["status"] == "running" and "lock" not in vm["config"]
    assert len([volume for volume in bed.images() if f"vm-{vmid}-disk" in volume]) == 1, "a disk was left behind"
    entries = asked(bed, "SELECT label, outcome FROM journal ORDER BY id")
    assert "running" not in [outcome for _, outcome in entries], "an attempt looks as if it went on"
    done = [outcome for label, outcome in entries if label.startswith(verb.label)]
    assert done and done[-1] == "done", entries
    assert swap_note(bed, AFTER) == verb.left


@pytest.mark.parametrize(("name", "action", "methods", "first"), CASES)
def test_a_verb_that_was_killed_at_any_call_is_finished_by_the_same_verb(
    bed: "Bed", name: str, action: str, methods: str, first: int
) -> None:
    verb = VERBS[name]
    bed.run("deploy")
    ((vmid, _),) = bed.vms().items()
    swap_note(bed, BEFORE)
    verb.prepare(bed)
    swap_note(bed, AFTER)
    for call in range(first, first + AT_ONCE):
        bed.forget_calls()
        if not kill_at(bed, call, action, methods, verb.words):
            assert call > 1, "such a verb has more calls than that"
            return
        bed.run(*verb.words)
        check(bed, verb, int(vmid))
    assert call < (verb.most if methods == "*" else verb.writes), "the verb has more calls than this test expects"
