"""The table of a kind, for programs."""

from typing import Any

from nixops_proxmox.core.table import AnyLifecycle, label


def lifecycle_json(lifecycle: AnyLifecycle) -> dict[str, Any]:
    moves = [
        {"goal": m.goal.value, "standing": m.standing.value, "step": label(m.step), "to": m.to.value}
        for m in lifecycle.moves
    ]
    seen = [{"standing": s.standing.value, "seen": s.seen, "phase": s.phase.value} for s in lifecycle.sightings]
    return {"moves": moves, "sightings": seen}
