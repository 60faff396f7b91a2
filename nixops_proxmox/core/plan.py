"""What will become of one thing, as a value. People read it, and the engine carries it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nixops_proxmox.core.table import Lifecycle, Move
from nixops_proxmox.core.thing import AnyFacts, AnyThing
from nixops_proxmox.errors import NoPath

P = TypeVar("P")
W = TypeVar("W")
T = TypeVar("T", bound=AnyThing)
F = TypeVar("F", bound=AnyFacts)
S = TypeVar("S")  # what one look at the world shows


@dataclass(frozen=True)
class Leg(Generic[W, T, F]):
    """One goal, and the moves that lead there as far as they can be foreseen. A turn on the way changes the moves. The
    goal stays."""

    goal: Any
    moves: tuple[Move[Any, W, T, F], ...]


@dataclass(frozen=True)
class Plan(Generic[W, T, F, S]):
    """`seen`: the thing as the world shows it now. `shown`: what the look showed, None where it was not needed.
    `way`: which of the kind's ways the moves take. `blocked`: why no move leads on. Then there are no legs."""

    seen: T
    legs: tuple[Leg[W, T, F], ...]
    shown: S | None = None
    way: str = ""
    blocked: NoPath | None = None

    @property
    def moves(self) -> tuple[Move[Any, W, T, F], ...]:
        return tuple(move for leg in self.legs for move in leg.moves)


def draw_up(
    lifecycle: Lifecycle[Any, W, T, F, S], seen: T, goals: Sequence[Any], *, shown: S | None = None, way: str = ""
) -> Plan[W, T, F, S]:
    """A plan to reach the goals one after another. Raises NoPath where no move leads on. Asks nothing of the world."""
    legs = []
    standing = seen
    for goal in goals:
        legs.append(Leg(goal, tuple(lifecycle.road(standing, goal, way))))
        standing = standing.moved(goal, standing.facts)
    return Plan(seen, tuple(legs), shown, way)
