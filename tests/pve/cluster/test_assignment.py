"""Places for all of them together."""

from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox.pve.cluster.assignment import assign

Wishes = Mapping[str, list[str]]


def apart(wishes: Wishes) -> Mapping[str, str] | None:
    """Each on a node of its own."""

    def options(item: str, chosen: Mapping[str, str]) -> Iterable[str]:
        return [node for node in wishes[item] if node not in chosen.values()]

    return assign(sorted(wishes), options)


def test_a_choice_that_leaves_another_none_is_taken_back() -> None:
    assert apart({"a": ["x", "y", "z"], "b": ["x"], "c": ["x", "y"]}) == {"a": "z", "b": "x", "c": "y"}


def test_what_has_no_solution_is_told() -> None:
    assert apart({"a": ["x"], "b": ["x"]}) is None
    assert apart({"a": []}) is None
    assert apart({}) == {}


def test_a_search_ends() -> None:
    asked = 0

    def options(item: str, chosen: Mapping[str, str]) -> Iterable[str]:
        nonlocal asked
        asked += 1
        return [] if item == "m29" else ["x", "y"]

    assert assign([f"m{number:02}" for number in range(30)], options, patience=100) is None
    assert asked < 210


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("wxyz"), unique=True)))
def test_it_finds_a_solution_if_there_is_one(wishes: dict[str, list[str]]) -> None:
    found = apart(wishes)
    possible: list[list[str]] = [[]]
    for item in sorted(wishes):
        possible = [[*row, node] for row in possible for node in wishes[item] if node not in row]
    assert (list(found.values()) if found is not None else None) == (possible[0] if possible else None)
