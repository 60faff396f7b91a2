"""Verbs beside the table, broken at every boundary in turn; then the same verb, a deploy or a destroy must end well."""

import contextlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import pytest

from nixops_proxmox.errors import PveOutcomeUnknown
from nixops_proxmox.lifecycle.shape import Words
from nixops_proxmox.model import Phase
from nixops_proxmox.wiring.pursuit import Pursuit
from tests.lifecycle.cluster import Bench, Crash, Fuse
from tests.lifecycle.test_crash import BANGS, IDS

Act = Callable[[Pursuit], object]
Check = Callable[[Bench], None]


@dataclass(frozen=True)
class Verb:
    """`prepared`: what was there before; `done`: what is true once the verb came to its end."""

    act: Act
    prepared: Check
    done: Check
    at_least: int  # boundaries in the whole of it


def pursuit(bench: Bench, fuse: Fuse | None = None, words: Words | None = None) -> Pursuit:
    return Pursuit(bench.record.machine, bench.world(fuse, words=words), bench.record)


def act(bench: Bench, verb: Verb, fuse: Fuse | None = None) -> None:
    verb.act(pursuit(bench, fuse, Words(adjust=False)))


def ready(bench: Bench) -> None:
    bench.run(Phase.READY)


def rescue(bench: Bench) -> None:
    bench.run(Phase.READY)
    bench.run(Phase.RESCUE)


def is_up(bench: Bench) -> None:
    assert bench.record.machine.phase is Phase.READY
    assert bench.vm.running and bench.vm.system == "installed"


def runs(bench: Bench) -> None:
    assert bench.vm.running and bench.vm.boots > 2


VERBS = {
    "reboot --hard": Verb(lambda one: one.reboot(hard=True), ready, is_up, 12),
    "reboot --hard, in rescue": Verb(lambda one: one.reboot(hard=True), rescue, is_up, 12),
    "reset": Verb(lambda one: one.reset(), ready, runs, 9),
    "reset, in rescue": Verb(lambda one: one.reset(), rescue, runs, 9),
}


def broken(bang: Callable[[], BaseException], verb: Verb) -> Iterator[tuple[int, Bench]]:
    """Benches on which the verb broke at its first boundary, at its second, … until one does not break."""
    before = Bench()
    verb.prepared(before)
    before.cluster.calls.clear()
    for at in range(1000):
        bench = deepcopy(before)
        fuse = Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            act(bench, verb, fuse)
        if fuse.count <= at:
            assert at >= verb.at_least, f"the sweep walked only {at} boundaries"
            return
        yield at, bench


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
@pytest.mark.parametrize("name", VERBS)
def test_the_same_verb_finishes_the_job(name: str, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, VERBS[name]):
        act(bench, VERBS[name])
        VERBS[name].done(bench)
        facts = bench.record.machine.facts
        assert (facts.errand, facts.task) == ({}, ""), at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
@pytest.mark.parametrize("name", VERBS)
def test_a_deploy_finds_the_truth(name: str, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, VERBS[name]):
        assert pursuit(bench, words=Words(allow_reboot=True)).deploy().phase is Phase.READY, at
        assert bench.vm.running and bench.vm.system == "installed", at
        assert bench.record.machine.facts.system == bench.vm.active, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
@pytest.mark.parametrize("name", VERBS)
def test_a_destroy_leaves_nothing(name: str, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, VERBS[name]):
        assert bench.run(Phase.ABSENT).phase is Phase.ABSENT, at
        assert not bench.cluster.vms, at


@pytest.mark.parametrize("name", ["reboot --hard", "reset"])
def test_a_machine_is_not_switched_off_twice_for_one_reboot(name: str) -> None:
    for at, bench in broken(Crash, VERBS[name]):
        ended = any(
            entry[0].startswith("Switch the machine off") and entry[1] == "done" for entry in bench.record.entries
        )
        act(bench, VERBS[name])
        assert bench.cluster.calls.count("stop_vm") == (2 if ended else 1), at
