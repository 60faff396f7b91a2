"""What the table of a kind is made of: steps, moves, sightings, and how they are looked up."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from nixops_proxmox.core.thing import AnyFacts, AnyThing
from nixops_proxmox.errors import DeployError, NoPath

P = TypeVar("P", bound=StrEnum)  # the phases of the kind
W = TypeVar("W")  # its world: everything outside, for one thing
T = TypeVar("T", bound=AnyThing)
F = TypeVar("F", bound=AnyFacts)
S = TypeVar("S")  # what one look at the world shows
W_contra = TypeVar("W_contra", contravariant=True)
T_contra = TypeVar("T_contra", bound=AnyThing, contravariant=True)
T_co = TypeVar("T_co", bound=AnyThing, covariant=True)


class Attempt(Protocol[T_co, F]):
    """The current try of a step: what must survive a crash in the middle of it is noted here."""

    @property
    def thing(self) -> T_co: ...

    @property
    def facts(self) -> F: ...

    def note(self, facts: F) -> None: ...

    def doubt(self, phase: Any, facts: F) -> None:
        """Note, before an effect that makes the record untrue, a phase and facts that hold whatever comes of it."""
        ...

    def note_task(self, upid: str) -> None: ...


class Step(Protocol[W_contra, T_contra, F]):
    """One effect. Its docstring's first line is what users see. Safe to repeat by construction."""

    def already(self, world: W_contra, thing: T_contra, /) -> F | None:
        """Only looks: the facts if the step's effect is there, else None."""
        ...

    def do(self, world: W_contra, thing: T_contra, attempt: Attempt[T_contra, F], /) -> F: ...


class Repeatable:
    """A step that looks while it acts. It can be done again without harm, so it needs no look beforehand."""

    def already(self, world: object, thing: object, /) -> None:
        del world, thing


def label(step: object) -> str:
    """The sentence that users and the diagram show for a step."""
    return (step.__doc__ or type(step).__name__).strip().splitlines()[0].rstrip(".")


@dataclass(frozen=True)
class Move(Generic[P, W, T, F]):
    """If `goal` is asked for and the thing stands in `standing`, take `step`, which leads to `to`. `turns` are expected
    refusals. `ways`: the kind's ways to the goal that take this move. Empty: all of them."""

    goal: P
    standing: P
    step: Step[W, T, F]
    to: P
    turns: tuple[tuple[type[DeployError], P], ...] = ()
    ways: tuple[str, ...] = ()

    def turn(self, error: DeployError) -> P | None:
        return next((phase for kind, phase in self.turns if isinstance(error, kind)), None)


@dataclass(frozen=True)
class Sighting(Generic[P, S]):
    """Our record says `standing`, but `sees` is true of the world, so the thing is in `phase`."""

    standing: P
    sees: Callable[[S], bool]
    phase: P

    @property
    def seen(self) -> str:
        """In words, for people."""
        return self.sees.__name__.replace("_", " ")


@dataclass(frozen=True)
class Lifecycle(Generic[P, W, T, F, S]):
    """The life of every thing of a kind. `see`: one look at the world. `way`: the usual one. `hint`: what to do where
    no move leads on."""

    moves: tuple[Move[P, W, T, F], ...]
    sightings: tuple[Sighting[P, S], ...]
    see: Callable[[W, T], S]
    way: str = ""
    hint: Callable[[T], str] = lambda _: ""

    def look(self, world: W, thing: T) -> T:
        """The thing as the world shows it. Asks nothing of the world where no sighting is possible."""
        return self.look_closely(world, thing)[0]

    def look_closely(self, world: W, thing: T) -> tuple[T, S | None]:
        """The same, and what the look showed. None where the world was not asked."""
        possible = [s for s in self.sightings if s.standing is thing.phase]
        if not possible:
            return thing, None
        seen = self.see(world, thing)
        phase = next((s.phase for s in possible if s.sees(seen)), thing.phase)
        return thing.moved(phase, thing.facts), seen

    def find_move(self, standing: str, goal: P, way: str = "") -> Move[P, W, T, F] | None:
        way = way or self.way
        return next(
            (m for m in self.moves if m.goal is goal and m.standing is standing and (not m.ways or way in m.ways)), None
        )

    def next_move(self, thing: T, goal: P, way: str = "") -> Move[P, W, T, F]:
        move = self.find_move(thing.phase, goal, way)
        if move is None:
            raise NoPath(
                f"{thing.name}: it is {thing.phase}, and no move leads from there to {goal}", hint=self.hint(thing)
            )
        return move

    def road(self, thing: T, goal: P, way: str = "") -> list[Move[P, W, T, F]]:
        """The moves from where the thing stands to `goal`, as far as no turn is taken. Raises NoPath."""
        moves: list[Move[P, W, T, F]] = []
        standing = thing
        while standing.phase is not goal:
            move = self.next_move(standing, goal, way)
            if move in moves:
                raise NoPath(f"the table has a circle at {standing.phase} on the way to {goal}")
            moves.append(move)
            standing = standing.moved(move.to, standing.facts)
        return moves

    def goals(self) -> tuple[P, ...]:
        """The phases that can be asked for."""
        return tuple(dict.fromkeys(m.goal for m in self.moves))


AnyLifecycle: TypeAlias = Lifecycle[Any, Any, Any, Any, Any]
