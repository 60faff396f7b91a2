import threading
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixeval.batches import Bounds, StarvedNix, work_in_batches

MIB = 1 << 20


class Nix:
    """Works off names: some are wrong, and some need more memory than a worker has."""

    def __init__(self, wrong: Sequence[str] = (), hungry: Mapping[str, int] | None = None) -> None:
        self.wrong, self.hungry = wrong, hungry or {}
        self.lock = threading.Lock()
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def __call__(self, names: Sequence[str], memory: int) -> Mapping[str, str]:
        with self.lock:
            self.asked.append((tuple(names), memory))
        if any(self.hungry.get(name, 0) > memory for name in names):
            raise StarvedNix("GC Warning: Out of Memory!")
        if bad := [name for name in names if name in self.wrong]:
            raise EvaluationFailed(f"{bad[0]}: wrong")
        return {name: name.upper() for name in names}


@given(count=st.integers(1, 60), workers=st.integers(1, 4), wrong=st.sets(st.integers(0, 59)))
def test_each_name_has_its_result_or_its_own_failure(count: int, workers: int, wrong: set[int]) -> None:
    names = [f"m{number}" for number in range(count)]
    bad = [f"m{number}" for number in wrong if number < count]
    found = work_in_batches(names, Nix(wrong=bad), Bounds(workers, 4096 * MIB))
    assert {name for name, one in found.items() if isinstance(one, EvaluationFailed)} == set(bad)
    assert {name: one for name, one in found.items() if name not in bad} == {
        name: name.upper() for name in names if name not in bad
    }


@pytest.mark.parametrize(("seconds", "largest"), [(0.1, 16), (2.0, 1)])
def test_only_quick_work_is_done_in_large_batches(seconds: float, largest: int) -> None:
    nix, clock = Nix(), iter(range(1000))
    work_in_batches([f"m{n}" for n in range(40)], nix, Bounds(1, MIB), now=lambda: next(clock) * seconds)
    assert max(len(names) for names, _ in nix.asked) == largest


def test_what_starves_is_tried_again_alone_with_all_the_memory() -> None:
    nix, told = Nix(hungry={"big": 1500 * MIB}), list[int]()
    found = work_in_batches(["a", "big", "c"], nix, Bounds(2, 2048 * MIB), tell=told.append)
    assert found == {"a": "A", "big": "BIG", "c": "C"}
    assert nix.asked[-1] == (("big",), 2048 * MIB) and told[-1] == 3


def test_what_starves_even_then_is_told_with_what_it_had() -> None:
    found = work_in_batches(["a", "huge"], Nix(hungry={"huge": 1 << 40}), Bounds(1, 2048 * MIB))
    error = found["huge"]
    assert isinstance(error, EvaluationFailed) and found["a"] == "A"
    assert error.message.startswith("huge: Nix ran out of memory") and "alone and with 2048 MiB" in error.message
    assert "NIXOPS_PROXMOX_EVAL_MEMORY" in error.hint


def test_a_defect_stops_the_rest() -> None:
    asked, cancelled = list[Sequence[str]](), list[str]()

    def broken(names: Sequence[str], _memory: int) -> Mapping[str, str]:
        asked.append(names)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work_in_batches(["a", "b", "c"], broken, Bounds(1, MIB), cancel=lambda: cancelled.append("cancelled"))
    assert (asked, cancelled) == ([["a"]], ["cancelled"])
