"""A kind of four functions, on the real engine and the real state, broken at every boundary."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing, three_rows
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import PveOutcomeUnknown
from nixops_proxmox.state import Deployment, open_state
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Crash, Fuse, Quiet


@dataclass
class Shelf:
    """What the papers lie on; outlives every run. It minds a paper that is put where one lies."""

    wanted: str
    papers: dict[str, str]
    fuse: Fuse
    clock: SteppedClock
    reporter: Quiet

    def wait_for_task(self, upid: str) -> None:
        raise NotImplementedError(upid)

    def find_task(self, facts: object, kind: str) -> str:
        raise NotImplementedError(facts, kind)

    def effect(self, act: Callable[[], object]) -> None:
        self.fuse.boundary()
        act()
        self.fuse.boundary()

    def put(self, name: str, text: str) -> None:
        assert name not in self.papers
        self.papers[name] = text


class Paper:
    name = "paper"

    def look(self, shelf: Shelf, thing: Thing, /) -> str | None:
        return shelf.papers.get(thing.name)

    def diff(self, shelf: Shelf, found: str, /) -> Sequence[str]:
        return () if found == shelf.wanted else (f"it says {found!r}, not {shelf.wanted!r}",)

    def apply(self, shelf: Shelf, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        if self.look(shelf, thing) not in (None, shelf.wanted):
            shelf.effect(lambda: shelf.papers.pop(thing.name))
        attempt.note(replace(attempt.facts, values={"ours": "yes"}))
        if thing.name not in shelf.papers:
            shelf.effect(lambda: shelf.put(thing.name, shelf.wanted))
        return attempt.facts

    def remove(self, shelf: Shelf, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        shelf.effect(lambda: shelf.papers.pop(thing.name, None))
        return Known()


PAPERS = three_rows(Paper())


def shelf(wanted: str = "new", **papers: str) -> Shelf:
    return Shelf(wanted, papers, Fuse(), SteppedClock(), Quiet())


def run(record: Deployment, goal: Presence, place: Shelf, name: str) -> Thing:
    """As one process does it: from what is recorded."""
    stored = record.find_stored("paper", name)
    thing = Thing("paper", record.name, name)
    if stored is not None:
        thing = thing.moved(Presence(stored.phase), Known.from_json(stored.facts))
    return pursue(PAPERS, goal, thing, place, record.journal())


def test_a_thing_is_made_changed_and_removed_and_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    with open_state(str(tmp_path / "state.sqlite")) as state:
        record, place = state.deployment("demo"), shelf()
        assert run(record, Presence.PRESENT, place, "a").facts.values == {"ours": "yes"}
        run(record, Presence.PRESENT, place, "a")
        run(record, Presence.PRESENT, replace(place, wanted="other"), "a")
        assert place.papers == {"a": "other"}
        assert run(record, Presence.ABSENT, place, "a").phase is Presence.ABSENT
        assert place.papers == {}
        told = [(entry.kind, entry.name, entry.phase_to, entry.outcome.value) for entry in record.history()]
        assert told == [
            ("paper", "a", "present", "done"),
            ("paper", "a", "differs", "seen"),
            ("paper", "a", "present", "done"),
            ("paper", "a", "differs", "seen"),
            ("paper", "a", "absent", "done"),
        ]
        assert record.machines() == []


@pytest.mark.parametrize("bang", [Crash, lambda: PveOutcomeUnknown("the answer was lost")], ids=["crash", "unknown"])
@pytest.mark.parametrize("before", [{}, {"p": "old"}], ids=["nothing", "another"])
@pytest.mark.parametrize("goal", [Presence.PRESENT, Presence.ABSENT])
def test_a_run_that_broke_anywhere_is_finished_by_the_next(
    tmp_path: Path, goal: Presence, before: dict[str, str], bang: Callable[[], BaseException]
) -> None:
    with open_state(str(tmp_path / "state.sqlite")) as state:
        for at in range(100):
            record, place = state.deployment(f"broke-at-{at}"), shelf(**before)
            place.fuse = Fuse(at, bang)
            with suppress(Crash):
                run(record, goal, place, "p")
            if place.fuse.count <= at:
                assert at >= 2 or (goal, before) == (Presence.ABSENT, {}), "the sweep must have met an effect"
                return
            place.fuse = Fuse()
            assert run(record, goal, place, "p").phase is goal, at
            assert place.papers == ({"p": "new"} if goal is Presence.PRESENT else {}), at
