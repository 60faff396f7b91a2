"""The order in which the machines of a group are changed, and when the rest is left alone."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nixops_proxmox.core.graph import Errors, Ref, Wants, walk
from nixops_proxmox.errors import DeployError, NotBegun, PveBusy, SpecError
from nixops_proxmox.messages.plans import describe_order
from nixops_proxmox.operations.rolling import Rollout, draw_up, find_held, size_of, with_batches
from nixops_proxmox.spec import Strategy


def machine(name: str) -> Ref:
    return Ref("machine", name)


def wants_of(names: Sequence[str], wanted: Mapping[str, Sequence[str]] | None = None) -> Wants:
    return {machine(name): [machine(one) for one in (wanted or {}).get(name, ())] for name in names}


def order_of(strategies: Mapping[str, Strategy], wanted: Mapping[str, Sequence[str]] | None = None) -> list[Rollout]:
    return draw_up(strategies, wants_of(list(strategies), wanted))


@pytest.mark.parametrize(
    ("batch", "count", "size"),
    [(None, 7, 7), ("2", 7, 2), ("9", 7, 9), ("25%", 8, 2), ("25%", 9, 3), ("1%", 9, 1), ("100%", 9, 9), (None, 0, 1)],
)
def test_a_batch_is_a_number_of_machines_or_a_part_of_them(batch: str | None, count: int, size: int) -> None:
    assert size_of(batch, count) == size


def test_without_a_strategy_all_are_changed_at_once() -> None:
    assert order_of({name: Strategy() for name in "abc"}) == []


def test_canaries_come_first_and_each_group_has_an_order_of_its_own() -> None:
    web = Strategy(group="web", batch="2", max_failures=1)
    described = {name: web for name in "abcd"} | {"e": web.model_copy(update={"canary": True})}
    described |= {"x": Strategy(batch="1"), "y": Strategy(batch="1")}
    assert order_of(described) == [
        Rollout("web", (("e",), ("a", "b"), ("c", "d")), 1, canaries=True),
        Rollout("", (("x",), ("y",))),
    ]


def test_a_canary_alone_goes_before_all_others() -> None:
    described = {name: Strategy(canary=name == "c") for name in "abc"}
    (found,) = order_of(described)
    assert found.batches == (("c",), ("a", "b"))
    assert describe_order(found) == "order of the machines without a group: c, then a, b; no more begin after 1 failure"


def test_what_leads_to_a_canary_comes_with_it() -> None:
    described = {name: Strategy(batch="1", canary=name == "c") for name in "abcg"}
    (found,) = order_of(described, {"c": ["g"]})
    assert found.batches == (("g", "c"), ("a",), ("b",))


def test_canaries_of_two_groups_that_wait_for_each_others_machines_are_refused() -> None:
    one, other = Strategy(group="one"), Strategy(group="other")
    first = {"a": one.model_copy(update={"canary": True}), "b": one}
    second = {"x": other.model_copy(update={"canary": True}), "y": other}
    with pytest.raises(SpecError, match="in a circle"):
        order_of(first | second, {"a": ["y"], "x": ["b"]})


@some.composite
def fleets(draw: some.DrawFn) -> tuple[dict[str, Strategy], dict[str, list[str]]]:
    """Machines of two groups, of which each wants some of those before it."""
    names = [f"m{number}" for number in range(draw(some.integers(1, 9)))]
    groups = {
        group: Strategy(
            group=group,
            batch=draw(some.sampled_from([None, "1", "2", "50%"])),
            max_failures=draw(some.integers(0, 2)),
        )
        for group in ("one", "two")
    }
    described = {name: groups[draw(some.sampled_from(["one", "two"]))] for name in names}
    wanted = {
        name: sorted(draw(some.sets(some.sampled_from(names[:place])))) if place else []
        for place, name in enumerate(names)
    }
    return described, wanted


@given(fleets(), some.data())
def test_no_machine_is_begun_before_the_batch_before_it_or_after_too_many_failures(
    fleet: tuple[dict[str, Strategy], dict[str, list[str]]], data: some.DataObject
) -> None:
    described, wanted = fleet
    wants = wants_of(list(described), wanted)
    rollouts = draw_up(described, wants)
    failing = data.draw(some.sets(some.sampled_from(sorted(described))))
    ended: dict[Ref, DeployError | None] = {}
    begun: list[list[str]] = []

    def work(wave: Sequence[Ref]) -> Errors:
        names = [ref.name for ref in wave]
        held = find_held(names, rollouts, ended)
        begun.append([name for name in names if name not in held])
        found: dict[Ref, DeployError | None] = {machine(name): error for name, error in held.items()}
        found |= {machine(name): PveBusy("locked") if name in failing else None for name in begun[-1]}
        ended.update(found)
        return found

    result = walk(wants, work, with_batches({}, rollouts, wants))
    assert set(result) == set(wants)
    when = {name: number for number, wave in enumerate(begun) for name in wave}
    for rollout in rollouts:
        assert sorted(rollout.names) == sorted(name for name in described if described[name].group == rollout.group)
        for earlier, later in zip(rollout.batches, rollout.batches[1:], strict=False):
            assert all(when[one] < when[two] for one in earlier for two in later if one in when and two in when)
        for batch in rollout.batches:
            before = [
                name for name in rollout.names if name in when and batch[0] in when and when[name] < when[batch[0]]
            ]
            assert len(failing & set(before)) <= rollout.max_failures
    assert {ref.name for ref, error in result.items() if error is None} == set(when) - failing
    assert all(isinstance(result[machine(name)], NotBegun) for name in described if name not in when)
