"""What is to become of one thing, as a value: drawn up by looking alone, shown to people, carried out by the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nixops_proxmox.core.table import Lifecycle, Move, label
from nixops_proxmox.core.thing import AnyFacts, AnyThing

P = TypeVar("P")
W = TypeVar("W")
T = TypeVar("T", bound=AnyThing)
F = TypeVar("F", bound=AnyFacts)


@dataclass(frozen=True)
class Leg(Generic[W, T, F]):
    """One goal, and the moves that lead there as far as they can be foreseen. A turn on the way changes the moves; the
    goal stays."""

    goal: Any
    moves: tuple[Move[Any, W, T, F], ...]


@dataclass(frozen=True)
class Plan(Generic[W, T, F]):
    """`seen`: the thing as the world shows it now. `way`: which of the kind's ways the moves take."""

    seen: T
    legs: tuple[Leg[W, T, F], ...]
    way: str = ""

    @property
    def moves(self) -> tuple[Move[Any, W, T, F], ...]:
        return tuple(move for leg in self.legs for move in leg.moves)

    @property
    def steps(self) -> tuple[str, ...]:
        """What people read of the moves, a line each."""
        return tuple(label(move.step) for move in self.moves)


def draw_up(lifecycle: Lifecycle[Any, W, T, F, Any], seen: T, goals: Sequence[Any], way: str = "") -> Plan[W, T, F]:
    """A plan to reach the goals one after another; raises NoPath where no move leads on. Asks nothing of the world."""
    legs = []
    standing = seen
    for goal in goals:
        legs.append(Leg(goal, tuple(lifecycle.road(standing, goal, way))))
        standing = standing.moved(goal, standing.facts)
    return Plan(seen, tuple(legs), way)
