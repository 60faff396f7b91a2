"""Every kind of ours, broken at every boundary of a run, by a crash and by a lost answer; then asked for the same
again, or for the opposite. A kind that has no bench here fails."""

from collections.abc import Callable, Collection
from contextlib import suppress

import pytest

from nixops_proxmox.errors import PveOutcomeUnknown
from nixops_proxmox.kinds.registry import Ours
from tests.kinds.benches import BENCHES
from tests.kinds.machine.cluster import Crash, Fuse

REGISTERED = [entry.name for entry in Ours().kinds()]
BANGS: dict[str, Callable[[], BaseException]] = {"crash": Crash, "unknown": lambda: PveOutcomeUnknown("lost")}


def unswept(kinds: Collection[str]) -> list[str]:
    return [name for name in kinds if name not in BENCHES]


def test_every_registered_kind_is_swept() -> None:
    assert unswept(REGISTERED) == []
    assert unswept([*REGISTERED, "lamp"]) == ["lamp"], "one without a bench would be found"


def cases() -> list[tuple[str, bool, bool]]:
    """The kind, what the run that breaks is asked for, and what the next one is."""
    asked = [(True, True), (True, False), (False, False), (False, True)]
    return [
        (kind, first, then)
        for kind in REGISTERED
        if kind in BENCHES
        for first, then in asked
        if first or not then or BENCHES[kind].made_again
    ]


@pytest.mark.parametrize("bang", BANGS)
@pytest.mark.parametrize(("kind", "first", "then"), cases())
def test_a_run_that_broke_anywhere_is_finished_or_undone_by_the_next(
    kind: str, first: bool, then: bool, bang: str
) -> None:
    at = 0
    while True:
        bench = BENCHES[kind]()
        if not first:
            bench.run(Fuse(), wanted=True)
        fuse = Fuse(at, BANGS[bang])
        with suppress(Crash, PveOutcomeUnknown):
            bench.run(fuse, wanted=first)
        if fuse.count <= at:
            assert at >= 4, "the sweep must have walked a whole run"
            return
        bench.run(Fuse(), wanted=then)
        bench.check(wanted=then)
        at += 1
