"""Properties of the table: everything else is derived from it."""

from typing import Any

import pytest

from nixops_proxmox.core.diagram import limits, mermaid, table
from nixops_proxmox.core.table import Move, label
from nixops_proxmox.errors import NoPath
from nixops_proxmox.kinds.machine.table import INSTALLING, LIFECYCLE, SETTLED, WITH_VM
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.spec import InstallSource


def at(phase: Phase) -> Machine:
    return Machine("demo", "web", phase)


def test_every_phase_is_on_the_map() -> None:
    standing = {m.standing for m in LIFECYCLE.moves} | {m.to for m in LIFECYCLE.moves}
    seen = {s.phase for s in LIFECYCLE.sightings}
    assert standing | seen == set(Phase)


@pytest.mark.parametrize("way", InstallSource)
def test_there_is_one_move_for_a_goal_and_a_phase(way: InstallSource) -> None:
    pairs = [(m.goal, m.standing) for m in LIFECYCLE.moves if way in (m.ways or InstallSource)]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize(
    ("move", "way"),
    [(move, way) for move in LIFECYCLE.moves for way in move.ways or InstallSource],
    ids=lambda value: f"{value.goal}-from-{value.standing}" if isinstance(value, Move) else value,
)
def test_every_road_ends(move: Move[Any, Any, Any, Any], way: InstallSource) -> None:
    assert LIFECYCLE.road(at(move.standing), move.goal, way)[-1].to is move.goal


def test_a_machine_from_an_image_or_a_template_is_never_installed() -> None:
    for way in (InstallSource.IMAGE, InstallSource.TEMPLATE):
        road = [move.to for move in LIFECYCLE.road(at(Phase.ABSENT), Phase.READY, way)]
        assert road == [Phase.RESERVED, Phase.DEFINED, Phase.RUNNING, Phase.READY]


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.ABSENT])
def test_destroy_is_one_move_from_anywhere(phase: Phase) -> None:
    assert len(LIFECYCLE.road(at(phase), Phase.ABSENT)) == 1


def test_nothing_leads_from_lost_to_ready() -> None:
    with pytest.raises(NoPath, match="lost") as refused:
        LIFECYCLE.road(at(Phase.LOST), Phase.READY)
    assert "--allow-recreate" in refused.value.hint


def test_a_machine_that_is_not_installed_cannot_be_stopped_or_rescued_or_reinstalled() -> None:
    for phase in (Phase.ABSENT, Phase.RESERVED, Phase.DEFINED, *INSTALLING):
        for goal in (Phase.STOPPED, Phase.RESCUE):
            with pytest.raises(NoPath):
                LIFECYCLE.road(at(phase), goal)


def test_every_phase_with_a_vm_can_be_seen_to_be_lost() -> None:
    lost = {s.standing for s in LIFECYCLE.sightings if s.phase is Phase.LOST}
    assert lost == set(WITH_VM)
    assert set(SETTLED) < set(WITH_VM)


def test_every_step_says_what_it_does() -> None:
    for move in LIFECYCLE.moves:
        assert move.step.__doc__ and len(label(move.step)) < 60


def test_the_diagram_shows_every_move_and_every_sighting() -> None:
    picture = mermaid(LIFECYCLE)
    assert picture.startswith("stateDiagram-v2\n")
    for move in LIFECYCLE.moves:
        if move.goal is not Phase.ABSENT:
            assert f"{move.standing} --> {move.to}: {label(move.step)}{limits(move)}\n" in picture
    for sighting in LIFECYCLE.sightings:
        assert f"--> {sighting.phase}: seen: {sighting.sees.__name__.replace('_', ' ')}" in picture


def test_the_table_as_text_has_a_line_for_each_move() -> None:
    assert len(table(LIFECYCLE).splitlines()) == len(LIFECYCLE.moves) + 1
