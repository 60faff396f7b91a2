"""A table as a picture: a Mermaid state diagram, and the same as text."""

from typing import Any

from nixops_proxmox.core.table import AnyLifecycle, Move, label

ABSENT, LOST = "absent", "lost"  # what they are called in every kind that has them
ANYWHERE = "anywhere"  # one arrow instead of one from each phase


def mermaid(lifecycle: AnyLifecycle) -> str:
    """A `stateDiagram-v2`: moves as solid arrows with the step's label, sightings labelled "seen"."""
    lines = ["stateDiagram-v2", f"    [*] --> {ABSENT}"]
    for goal in lifecycle.goals():
        if goal == ABSENT:
            continue
        moves = [m for m in lifecycle.moves if m.goal is goal]
        lines += [f"    {m.standing} --> {m.to}: {label(m.step)}{limits(m)}" for m in moves]
        lines += [f"    {m.standing} --> {phase}: {kind.__name__}" for m in moves for kind, phase in m.turns]
    destroy = next(m for m in lifecycle.moves if m.goal == ABSENT)
    lines.append(f"    {ANYWHERE} --> {ABSENT}: {label(destroy.step)}")
    gone = [s for s in lifecycle.sightings if s.phase == LOST]
    if gone:
        lines.append(f"    {ANYWHERE} --> {LOST}: seen: {gone[0].seen}")
    for sighting in lifecycle.sightings:
        if sighting.phase != LOST:
            lines.append(f"    {sighting.standing} --> {sighting.phase}: seen: {sighting.seen}")
    return "\n".join(lines) + "\n"


def table(lifecycle: AnyLifecycle) -> str:
    """The moves as lines of text: asked for, standing in, step, leads to."""
    rows = [(m.goal.value, m.standing.value, label(m.step) + limits(m), m.to.value) for m in lifecycle.moves]
    heads = ("asked for", "standing in", "step", "leads to")
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]
    return "\n".join(lines) + "\n"


def limits(move: Move[Any, Any, Any, Any]) -> str:
    """Which ways take a move, if not all of them do."""
    return "" if not move.ways else f" (from {' or '.join(move.ways)})"
