"""A kind with few phases: four functions, from which the engine gets its three rows. No table of its own is needed.

This is for things that can be created again from the description. A kind whose loss loses data (a machine) has a
table with a phase for that, so that no run makes a second one without permission.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, Protocol, Self, TypeVar

from nixops_proxmox.core.table import Attempt, Lifecycle, Move, Repeatable, Sighting

W_contra = TypeVar("W_contra", contravariant=True)
W = TypeVar("W")
S = TypeVar("S")  # what a look at one thing shows


class Presence(StrEnum):
    """All the phases that such a thing has."""

    ABSENT = "absent"
    PRESENT = "present"  # as described
    DIFFERS = "differs"


@dataclass(frozen=True)
class Known:
    """What is known of such a thing: short texts by name, as its kind keeps them. Never a secret."""

    values: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    errand: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object. What is empty is left out."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises TypeError for a name that is not known."""
        return cls(**data)


@dataclass(frozen=True)
class Thing:
    """One thing of such a kind: where it stands and what is known of it."""

    kind: str
    deployment: str
    name: str
    phase: Presence = Presence.ABSENT
    facts: Known = Known()

    def moved(self, phase: Presence, facts: Known, /) -> Self:
        return replace(self, phase=phase, facts=facts)


class Kind(Protocol[W_contra, S]):
    """`world` holds what is described and the way to look at it and to change it."""

    @property
    def name(self) -> str: ...

    def look(self, world: W_contra, thing: Thing, /) -> S | None:
        """What there is of the thing, if it is ours. None only if that is certain, and never because we may not see
        it."""
        ...

    def diff(self, world: W_contra, found: S, /) -> Sequence[str]:
        """How it differs from the description, a line each. What the description leaves unset is no difference."""
        ...

    def apply(self, world: W_contra, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Make it as described, whatever there is of it. Before the effect, note what shows that it is ours."""
        ...

    def remove(self, world: W_contra, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Remove it. Do nothing if it is not there, or is not ours."""
        ...


@dataclass(frozen=True)
class Compared(Generic[S]):
    """One look: what is there, and how it differs."""

    found: S | None
    differences: Sequence[str] = ()


class Apply(Repeatable, Generic[W, S]):
    """Make it as described"""

    def __init__(self, kind: Kind[W, S]) -> None:
        self._kind = kind

    def do(self, world: W, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Safe to repeat: the kind looks at what is there and makes only what is missing."""
        return self._kind.apply(world, thing, attempt)


class Remove(Repeatable, Generic[W, S]):
    """Remove it"""

    def __init__(self, kind: Kind[W, S]) -> None:
        self._kind = kind

    def do(self, world: W, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Safe to repeat: where there is nothing to remove, it does nothing."""
        return self._kind.remove(world, thing, attempt)


def gone(seen: Compared[Any]) -> bool:
    return seen.found is None


def differs(seen: Compared[Any]) -> bool:
    return seen.found is not None and bool(seen.differences)


def as_described(seen: Compared[Any]) -> bool:
    return seen.found is not None and not seen.differences


def three_rows(kind: Kind[W, S]) -> Lifecycle[Presence, W, Thing, Known, Compared[S]]:
    """The table of a kind that has none of its own."""
    there, absent, other = Presence.PRESENT, Presence.ABSENT, Presence.DIFFERS
    apply: Apply[W, S] = Apply(kind)
    remove: Remove[W, S] = Remove(kind)

    def see(world: W, thing: Thing) -> Compared[S]:
        found = kind.look(world, thing)
        return Compared(found) if found is None else Compared(found, kind.diff(world, found))

    return Lifecycle(
        moves=(
            Move(there, absent, apply, there),
            Move(there, other, apply, there),
            Move(absent, there, remove, absent),
            Move(absent, other, remove, absent),
        ),
        sightings=(
            Sighting(there, gone, absent),
            Sighting(there, differs, other),
            Sighting(other, gone, absent),
            Sighting(other, as_described, there),
            Sighting(absent, as_described, there),  # a run was killed before it wrote down what it had made
            Sighting(absent, differs, other),
        ),
        see=see,
    )
