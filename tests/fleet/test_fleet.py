import threading

import pytest

from nixops_proxmox.errors import PveBusy
from nixops_proxmox.fleet import Outcome, run_all
from nixops_proxmox.model import Machine
from tests.pace import patience

TIMEOUT = patience(10.0)


def _machine(name: str) -> Machine:
    return Machine("demo", name)


def test_outcomes_are_in_the_order_of_the_names() -> None:
    slow_first = threading.Event()

    def work(name: str) -> Machine:
        if name == "a":
            assert slow_first.wait(TIMEOUT)
        else:
            slow_first.set()
        return _machine(name)

    assert [outcome.name for outcome in run_all(["a", "b"], work, jobs=2)] == ["a", "b"]


def test_one_that_fails_does_not_stop_the_others() -> None:
    def work(name: str) -> Machine:
        if name == "bad":
            raise PveBusy("locked")
        return _machine(name)

    outcomes = {outcome.name: outcome for outcome in run_all(["bad", "good"], work, jobs=1)}
    assert isinstance(outcomes["bad"].error, PveBusy) and outcomes["bad"].machine is None
    assert outcomes["good"].machine == _machine("good") and outcomes["good"].error is None


def test_at_most_so_many_run_at_once() -> None:
    running, most = 0, 0
    lock, together = threading.Lock(), threading.Barrier(3, timeout=TIMEOUT)

    def work(name: str) -> Machine:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()  # three really run at once, or this breaks
        with lock:
            running -= 1
        return _machine(name)

    run_all([str(number) for number in range(9)], work, jobs=3)
    assert most == 3


def test_each_outcome_is_told_at_once() -> None:
    first_told = threading.Event()
    told: list[str] = []

    def ended(outcome: Outcome) -> None:
        told.append(outcome.name)
        first_told.set()

    def work(name: str) -> Machine:
        if name == "b":
            assert first_told.wait(TIMEOUT), "a has ended, and nobody was told while b still runs"
        return _machine(name)

    run_all(["a", "b"], work, jobs=2, ended=ended)
    assert told == ["a", "b"]


def test_a_defect_is_raised_and_not_taken_for_an_outcome() -> None:
    def work(name: str) -> Machine:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError):
        run_all(["a"], work, jobs=1)


def test_nothing_to_do_is_done() -> None:
    assert run_all([], _machine, jobs=4) == []
