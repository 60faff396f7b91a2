"""The CD that a machine's first boot reads: recorded from before it is put anywhere until it is gone."""

from dataclasses import replace

from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.model import Facts, Machine

DISC, PROVEN = "first disc", "first boot proven"  # in `Facts.extra`: the disc's node and volume, and that it was read


def find_disc(facts: Facts) -> tuple[str, str] | None:
    """Its node and its volume ID."""
    node, _, volume = facts.extra.get(DISC, "").partition(" ")
    return (node, volume) if volume else None


def is_proven(facts: Facts) -> bool:
    """The system that read the disc has shown our host key."""
    return PROVEN in facts.extra


def with_disc(facts: Facts, node: str, volume: str) -> Facts:
    return replace(facts, extra={**without_disc(facts).extra, DISC: f"{node} {volume}"})


def with_proof(facts: Facts) -> Facts:
    return replace(facts, extra={**facts.extra, PROVEN: "1"})


def without_disc(facts: Facts) -> Facts:
    return replace(facts, extra={key: value for key, value in facts.extra.items() if key not in (DISC, PROVEN)})


def remove_disc(world: World, machine: Machine, attempt: Attempt) -> None:
    """Safe to repeat: one that is gone needs nothing. It holds the machine's private host key."""
    if disc := find_disc(attempt.facts):
        world.hypervisor.discs.remove(machine.facts, *disc, attempt.note_task)
