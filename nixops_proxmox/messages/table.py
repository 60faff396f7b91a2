"""The table of a kind, for programs."""

from nixops_proxmox.core.table import AnyLifecycle, label
from nixops_proxmox.messages.shapes.setup import LifecycleJson, MoveJson, SightingJson


def lifecycle_json(lifecycle: AnyLifecycle) -> LifecycleJson:
    moves: list[MoveJson] = [
        {"goal": m.goal.value, "standing": m.standing.value, "step": label(m.step), "to": m.to.value}
        for m in lifecycle.moves
    ]
    seen: list[SightingJson] = [
        {"standing": s.standing.value, "seen": s.seen, "phase": s.phase.value} for s in lifecycle.sightings
    ]
    return {"moves": moves, "sightings": seen}
