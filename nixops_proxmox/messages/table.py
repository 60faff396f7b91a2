"""The table of a machine's life, for programs."""

from typing import Any

from nixops_proxmox.lifecycle.shape import Lifecycle, label


def lifecycle_json(lifecycle: Lifecycle) -> dict[str, Any]:
    moves = [
        {"goal": m.goal.value, "standing": m.standing.value, "step": label(m.step), "to": m.to.value}
        for m in lifecycle.moves
    ]
    seen = [
        {"standing": s.standing.value, "seen": s.sees.__name__.replace("_", " "), "phase": s.phase.value}
        for s in lifecycle.sightings
    ]
    return {"moves": moves, "sightings": seen}
