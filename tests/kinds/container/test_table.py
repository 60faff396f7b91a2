"""Properties of the table of containers, and the sweeps that are its own: the identity that it keeps."""

import contextlib
from collections.abc import Callable

import pytest

from nixops_proxmox.core.table import label
from nixops_proxmox.errors import NoPath, PveOutcomeUnknown
from nixops_proxmox.kinds.container.table import LIFECYCLE, MADE, PHASES, SETTLED
from nixops_proxmox.model import Machine, Phase
from tests.kinds.machine.cluster import CONTAINER, Bench, Crash, Fuse

BANGS: list[Callable[[], BaseException]] = [Crash, lambda: PveOutcomeUnknown("the answer was lost")]


def at(phase: Phase) -> Machine:
    return Machine("demo", "web", phase)


def test_its_phases_are_some_of_those_of_machines() -> None:
    standing = {m.standing for m in LIFECYCLE.moves} | {m.to for m in LIFECYCLE.moves}
    assert standing | {s.phase for s in LIFECYCLE.sightings} == set(PHASES) < set(Phase)


def test_it_is_ready_after_four_steps_and_never_sees_an_installer() -> None:
    road = [move.to for move in LIFECYCLE.road(at(Phase.ABSENT), Phase.READY)]
    assert road == [Phase.RESERVED, Phase.DEFINED, Phase.RUNNING, Phase.READY]


def test_there_is_one_move_for_a_goal_and_a_phase() -> None:
    pairs = [(m.goal, m.standing) for m in LIFECYCLE.moves]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("phase", [p for p in PHASES if p is not Phase.ABSENT])
def test_destroy_is_one_move_from_anywhere(phase: Phase) -> None:
    assert len(LIFECYCLE.road(at(phase), Phase.ABSENT)) == 1


def test_every_phase_with_a_container_can_be_seen_to_be_lost() -> None:
    assert {s.standing for s in LIFECYCLE.sightings if s.phase is Phase.LOST} == set(MADE)


@pytest.mark.parametrize("phase", SETTLED)
def test_there_is_no_rescue_and_the_hint_says_what_to_do_instead(phase: Phase) -> None:
    with pytest.raises(NoPath) as refused:
        LIFECYCLE.road(at(phase), Phase.RESCUE)
    assert "reinstall web" in refused.value.hint


def test_its_steps_speak_of_containers() -> None:
    labels = {label(move.step) for move in LIFECYCLE.moves}
    assert not [one for one in labels if "VM" in one.replace("VMID", "") or "disk" in one]


@pytest.mark.parametrize("bang", BANGS, ids=["crash", "unknown-outcome"])
def test_one_that_is_made_again_keeps_its_identity_wherever_it_broke(bang: Callable[[], BaseException]) -> None:
    at = 0
    while True:
        bench = Bench()
        bench.run(spec=CONTAINER)
        before, fuse = bench.record.machine.facts, Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            bench.run(Phase.RESERVED, fuse, spec=CONTAINER)
        if fuse.count <= at:
            assert at >= 3, "the sweep must have walked a whole run"
            return
        if bench.record.machine.phase is not Phase.RESERVED:
            bench.run(Phase.RESERVED, spec=CONTAINER)
        after = bench.run(spec=CONTAINER).facts
        assert (after.vmid, after.uuid, after.macs, after.host_key) == (
            before.vmid, before.uuid, before.macs, before.host_key,
        ), at  # fmt: skip
        assert after.container and after.round == 1 and bench.cluster.calls.count("create_vm") == 2, at
        at += 1


@pytest.mark.parametrize("goal", [Phase.STOPPED, Phase.ABSENT])
@pytest.mark.parametrize("bang", BANGS, ids=["crash", "unknown-outcome"])
def test_every_other_goal_survives_a_break_anywhere(bang: Callable[[], BaseException], goal: Phase) -> None:
    at = 0
    while True:
        bench = Bench()
        bench.run(spec=CONTAINER)
        fuse = Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            bench.run(goal, fuse, spec=CONTAINER)
        if fuse.count <= at:
            assert at >= 3
            return
        assert bench.run(goal, spec=CONTAINER).phase is goal, at
        assert bool(bench.cluster.vms) is (goal is Phase.STOPPED), at
        at += 1
