"""A real `kill -9` of verbs that work beside the table, and of moves between nodes and storages, at every call of each;
then the same verb again finishes it.

`hang`: a call is sent, and nothing happens. `slow`: it happens, and the answer never comes. A GET changes nothing, so
only one of the two goes through them.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
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


def keep_words(bed: "Bed", words: tuple[str, ...]) -> tuple[str, ...]:
    """The verb can be told the same again and again."""
    return words


def to_another_node(bed: "Bed", words: tuple[str, ...]) -> tuple[str, ...]:
    ((_, vm),) = bed.vms().items()
    return (*words, "--to", "pve2" if vm["node"] == "pve1" else "pve1")


def to_another_storage(bed: "Bed", words: tuple[str, ...]) -> tuple[str, ...]:
    """The description says the storage where the disk is not."""
    (image,) = bed.images()
    have, want = ("local-lvm", "shared") if image.startswith("local-lvm:") else ("shared", "local-lvm")
    text = bed.network.read_text()
    bed.network.write_text(text.replace(f'storage = "{have}"', f'storage = "{want}"'))
    return words


@dataclass(frozen=True)
class Verb:
    """`left`: what the machine's note says afterwards. `label`: how the journal calls the verb. `most`, `writes`: more
    calls than it makes, and more of those that change something. `aim`: what is asked for, each time anew."""

    words: tuple[str, ...]
    label: str
    most: int
    writes: int
    left: str = AFTER
    prepare: Callable[["Bed"], None] = nothing
    aim: Callable[["Bed", tuple[str, ...]], tuple[str, ...]] = keep_words

    def firsts(self, methods: str) -> range:
        return range(1, self.most if methods == "*" else self.writes, AT_ONCE)


VERBS = {
    "rollback": Verb(
        ("snapshot", "rollback", "clean", "web", "--yes"), "Return to the snapshot", 30, 10, BEFORE, take_snapshot
    ),
    "restore": Verb(("restore", "web", "--yes"), "Restore the backup", 60, 10, BEFORE, back_up),
    "backup": Verb(("backup", "web"), "Back the machine up", 30, 10),
    "reboot": Verb(("reboot", "web", "--hard"), "Switch the machine off and boot its system", 30, 10),
    "migrate": Verb(("migrate", "web"), "Migrate the machine to another node", 60, 10, aim=to_another_node),
    "move": Verb(("deploy",), "Change the VM to match the description", 60, 10, aim=to_another_storage),
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


@pytest.fixture(autouse=True)
def back_to_its_storage(bed: "Bed") -> Iterator[None]:
    before = bed.network.read_text()
    yield
    bed.network.write_text(before)


def check(bed: "Bed", verb: Verb, words: tuple[str, ...], vmid: int) -> None:
    """One VM, the same; it does what the verb promises, and the journal says how it came to be."""
    assert [(phase, json.loads(facts)["vmid"]) for phase, facts in asked(bed, "SELECT phase, facts FROM things")] == [
        ("ready", vmid)
    ]
    ((number, vm),) = bed.vms().items()
    assert int(number) == vmid and vm["status"] == "running" and "lock" not in vm["config"]
    (image,) = (volume for volume in bed.images() if f"vm-{vmid}-disk" in volume)  # none was left behind
    assert f'storage = "{image.partition(":")[0]}"' in bed.network.read_text()
    assert "--to" not in words or vm["node"] == words[-1]
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
        words = verb.aim(bed, verb.words)
        bed.forget_calls()
        if not kill_at(bed, call, action, methods, words):
            assert call > 1, "such a verb has more calls than that"
            return
        bed.run(*words)
        check(bed, verb, words, int(vmid))
    assert call < (verb.most if methods == "*" else verb.writes), "the verb has more calls than this test expects"
