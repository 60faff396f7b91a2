"""Of one machine, every node: why it is there, or goes there, and why not to the others."""

from typing import TYPE_CHECKING

from nixops_proxmox.messages.shapes.plan import NodeVerdictJson, PlacementJson
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:
    from nixops_proxmox.pve.cluster.verdicts import Explanation, Verdict, Weights

GIB = 1 << 30
HEADS = ("node", "memory free", "left with it", "why")


def place_line(found: "Explanation", *, exists: bool) -> str:
    if not found.node:
        return f"{found.name}: no node can take it"
    if exists:
        return f"{found.name}: it is on {shown_line(found.node)}; a deploy moves no machine"
    return f"{found.name}: it is created on {shown_line(found.node)}"


def place_row(verdict: "Verdict", *, exists: bool) -> tuple[str, ...]:
    return verdict.node, _memory(verdict), _left(verdict.weights) if verdict.fits else "-", _why(verdict, exists=exists)


def _memory(verdict: "Verdict") -> str:
    if verdict.memory_free is None or verdict.memory is None:
        return "-"
    return f"{verdict.memory_free / GIB:.1f} of {verdict.memory / GIB:.1f} GiB"


def _left(weights: "Weights") -> str:
    """What speaks for a node, in the order in which it counts."""
    shares = {"memory": weights.memory, "storage": weights.storage, "CPU": weights.cpu}
    return ", ".join(f"{what} {share:.0%}" for what, share in shares.items() if share is not None) or "-"


def _why(verdict: "Verdict", *, exists: bool) -> str:
    """All that speaks against it. For the one that it gets, that it does."""
    against = "; ".join(verdict.reasons)
    wishes = f", although {'; '.join(verdict.notes)}" if verdict.notes else ""
    if verdict.chosen:
        here = "it is here" if exists else "chosen: the most is left here"
        return f"{here}{wishes}{f', although a new one would not fit: {against}' if against else ''}"
    return f"no: {against}" if against else f"fits{wishes}"


def place_json(found: "Explanation") -> PlacementJson:
    return {"node": found.node, "nodes": [_verdict_json(verdict) for verdict in found.nodes]}


def _verdict_json(verdict: "Verdict") -> NodeVerdictJson:
    return {
        "node": verdict.node,
        "chosen": verdict.chosen,
        "fits": verdict.fits,
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
        "memory free": verdict.memory_free,
        "memory": verdict.memory,
    }
