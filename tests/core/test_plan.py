"""A plan is drawn up without asking the world, and ends where its goals say."""

import pytest

from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.core.plan import draw_up
from nixops_proxmox.errors import NoPath
from nixops_proxmox.kinds.machine.table import LIFECYCLE
from nixops_proxmox.kinds.medium import LIFECYCLE as MEDIUM
from nixops_proxmox.model import Machine, Phase


def test_the_moves_of_each_goal_begin_where_the_one_before_ends() -> None:
    plan = draw_up(LIFECYCLE, Machine("d", "web", Phase.READY), [Phase.DEFINED, Phase.READY])
    assert [leg.goal for leg in plan.legs] == [Phase.DEFINED, Phase.READY]
    assert plan.moves[0].standing is Phase.READY
    assert all(move.to is after.standing for move, after in zip(plan.moves, plan.moves[1:], strict=False))
    assert plan.moves[-1].to is Phase.READY


def test_what_is_at_its_goal_has_an_empty_plan() -> None:
    assert draw_up(LIFECYCLE, Machine("d", "web", Phase.READY), [Phase.READY]).moves == ()


def test_where_no_move_leads_on_there_is_no_plan() -> None:
    with pytest.raises(NoPath, match="web"):
        draw_up(LIFECYCLE, Machine("d", "web", Phase.LOST), [Phase.READY])


def test_things_of_other_kinds_have_plans_too() -> None:
    plan = draw_up(MEDIUM, Thing("medium", "d", "nixos.iso", Presence.ABSENT, Known()), [Presence.PRESENT])
    assert len(plan.moves) == 1
