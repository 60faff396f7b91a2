from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nixops_proxmox.core.graph import Errors, Ref, Wants, reverse, walk, waves
from nixops_proxmox.errors import DeployError, PveBusy, SpecError

WEB, ISO, NET = Ref("machine", "web"), Ref("medium", "iso"), Ref("network", "lan")


@some.composite
def acyclic(draw: some.DrawFn) -> Wants:
    """Each thing wants some of those before it."""
    things = [Ref(draw(some.sampled_from(["machine", "medium"])), f"t{n}") for n in range(draw(some.integers(0, 8)))]
    return {
        ref: draw(some.sets(some.sampled_from(things[:place]))) if place else set() for place, ref in enumerate(things)
    }


def behind(wants: Wants, failed: set[Ref]) -> set[Ref]:
    """Everything that wants one of them, over any number of others."""
    found = set(failed)
    for _ in wants:
        found |= {ref for ref, wanted in wants.items() if found & set(wanted)}
    return found - failed


@given(acyclic())
def test_each_thing_comes_once_and_after_all_that_it_wants(wants: Wants) -> None:
    place = {ref: number for number, wave in enumerate(waves(wants)) for ref in wave}
    assert set(place) == set(wants) and sum(map(len, waves(wants))) == len(wants)
    assert all(place[other] < place[ref] for ref, wanted in wants.items() for other in wanted)


@given(acyclic())
def test_what_is_removed_goes_after_all_that_want_it(wants: Wants) -> None:
    place = {ref: number for number, wave in enumerate(waves(reverse(wants))) for ref in wave}
    assert all(place[ref] < place[other] for ref, wanted in wants.items() for other in wanted)


@given(acyclic(), some.data())
def test_a_failure_stops_what_depends_on_it_and_nothing_else(wants: Wants, data: some.DataObject) -> None:
    failing = data.draw(some.sets(some.sampled_from(sorted(wants)))) if wants else set()
    worked: list[Ref] = []

    def work(wave: Sequence[Ref]) -> Errors:
        worked.extend(wave)
        return {ref: PveBusy("locked") if ref in failing else None for ref in wave}

    ended = walk(wants, work)
    stopped = behind(wants, failing & set(worked))
    assert set(worked) == set(wants) - stopped
    assert {ref for ref, error in ended.items() if error is not None} == stopped | (failing & set(worked))


def test_a_thing_that_was_not_begun_says_which_one_failed() -> None:
    error: DeployError | None = walk({WEB: [ISO], ISO: []}, lambda refs: {ref: PveBusy("no") for ref in refs})[WEB]
    assert error is not None and error.message == "machine 'web': not begun, because medium 'iso' failed"


def test_a_circle_is_told_with_its_whole_path() -> None:
    with pytest.raises(SpecError) as refused:
        waves({WEB: [ISO], ISO: [NET], NET: [WEB]})
    steps = refused.value.message.partition(": ")[2].split(" wants ")
    asked = {str(WEB): str(ISO), str(ISO): str(NET), str(NET): str(WEB)}
    assert steps[0] == steps[-1] and len(steps) == 4
    assert all(asked[one] == other for one, other in pairwise(steps))


def test_a_thing_that_nothing_describes_is_named() -> None:
    with pytest.raises(SpecError, match="machine 'web' wants medium 'iso', which is not in the description"):
        waves({WEB: [ISO]})


@given(acyclic(), some.data())
def test_what_comes_after_another_thing_is_worked_on_even_if_that_fails(order: Wants, data: some.DataObject) -> None:
    failing = data.draw(some.sets(some.sampled_from(sorted(order)))) if order else set()
    worked: list[Ref] = []

    def work(wave: Sequence[Ref]) -> Errors:
        worked.extend(wave)
        return {ref: PveBusy("locked") if ref in failing else None for ref in wave}

    walk({ref: () for ref in order}, work, order)
    place = {ref: number for number, ref in enumerate(worked)}
    assert set(worked) == set(order)
    assert all(place[other] < place[ref] for ref, before in order.items() for other in before)
