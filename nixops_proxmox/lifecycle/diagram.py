"""The table as a picture: a Mermaid state diagram, and the same as text."""

from nixops_proxmox.lifecycle.shape import Lifecycle, Move, label
from nixops_proxmox.model import Phase
from nixops_proxmox.spec import Source

ANYWHERE = "anywhere"  # one arrow instead of one from each phase


def mermaid(lifecycle: Lifecycle) -> str:
    """A `stateDiagram-v2`: moves as solid arrows with the step's label, sightings labelled "seen"."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.ABSENT}"]
    for goal in lifecycle.goals():
        if goal is Phase.ABSENT:
            continue
        moves = [m for m in lifecycle.moves if m.goal is goal]
        lines += [f"    {m.standing} --> {m.to}: {label(m.step)}{limits(m)}" for m in moves]
        lines += [f"    {m.standing} --> {phase}: {kind.__name__}" for m in moves for kind, phase in m.turns]
    destroy = next(m for m in lifecycle.moves if m.goal is Phase.ABSENT)
    lines.append(f"    {ANYWHERE} --> {Phase.ABSENT}: {label(destroy.step)}")
    gone = [s for s in lifecycle.sightings if s.phase is Phase.LOST]
    if gone:
        lines.append(f"    {ANYWHERE} --> {Phase.LOST}: seen: {gone[0].sees.__name__.replace('_', ' ')}")
    for sighting in lifecycle.sightings:
        if sighting.phase is not Phase.LOST:
            seen = sighting.sees.__name__.replace("_", " ")
            lines.append(f"    {sighting.standing} --> {sighting.phase}: seen: {seen}")
    return "\n".join(lines) + "\n"


def table(lifecycle: Lifecycle) -> str:
    """The moves as lines of text: asked for, standing in, step, leads to."""
    rows = [(m.goal.value, m.standing.value, label(m.step) + limits(m), m.to.value) for m in lifecycle.moves]
    heads = ("asked for", "standing in", "step", "leads to")
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]
    return "\n".join(lines) + "\n"


def limits(move: Move) -> str:
    """Which ways to the first boot take a move, if not all of them do."""
    return "" if set(move.ways) == set(Source) else f" (from {' or '.join(move.ways)})"
