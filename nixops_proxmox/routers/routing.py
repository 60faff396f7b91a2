"""What a router that can be configured offers: its own configuration is compared, changed on trial, and kept."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from nixops_proxmox.routers.parts import RouterParts


class TrialMode(StrEnum):
    """What becomes of a change that is not confirmed."""

    TIMER = "timer"  # the router takes it back by itself
    RESTART = "restart"  # the router has forgotten it after a restart
    LASTS = "lasts"  # it stays until somebody takes it back


@dataclass(frozen=True)
class Owner:
    """`mark`: the text that our parts of the configuration bear. `known`: what was told before, as the driver wrote it
    down, for parts that have no room for a mark."""

    mark: str
    known: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """`ours`: has it anything of ours? `lines`: how it differs from what is wanted, in plain words. `strangers`: what
    is in the way and not ours, a line each. `known`: what is to be written down before it is changed; `then`: after
    that. `remarks`: what keeps it from having an effect. `work`: what the driver does, and how it is taken back."""

    ours: bool
    lines: Sequence[str]
    strangers: Sequence[str] = ()
    known: Sequence[str] = ()
    then: Sequence[str] = ()
    remarks: Sequence[str] = ()
    work: Any = None


@dataclass(frozen=True)
class Unclaimed:
    """What stands where something is described, and has no mark. `parts`: in plain words, a line each; none: there is
    nothing. `lines`: how the router differs from what is wanted once they have our mark. `work`: what the driver
    does."""

    parts: Sequence[str] = ()
    lines: Sequence[str] = ()
    work: Any = None


class Routing(Protocol):
    """A router's configuration. All methods raise RouterError."""

    def exclusive(self) -> AbstractContextManager[object]:
        """No other thread changes the router meanwhile."""
        ...

    def outline(self, wanted: RouterParts) -> Sequence[str]:
        """What is wanted, in plain words, a line each. Nothing is asked but, once, the release."""
        ...

    def compare(self, wanted: RouterParts, owner: Owner) -> Comparison:
        """Look at what there is."""
        ...

    def find_unclaimed(self, wanted: RouterParts, mark: str) -> Unclaimed:
        """Look at what others made as it is described. A rule counts if it is the same but for its number; what has a
        name counts by that."""
        ...

    def claim(self, found: Unclaimed) -> None:
        """Write our mark into these, and nothing else. Safe to repeat."""
        ...

    def begin(self, change: Comparison, minutes: int) -> TrialMode:
        """Change it on trial, all at once. With a timer, it must be confirmed in so many minutes."""
        ...

    @property
    def restart(self) -> Callable[[], None] | None:
        """Restarts it; None: its profile does not say how."""
        ...

    def is_alive(self) -> bool:
        """Does it answer a new connection?"""
        ...

    @property
    def trial(self) -> TrialMode:
        """What a change on trial is here, as far as the release tells."""
        ...

    def confirm(self) -> bool:
        """Stop the timer. False: there was none, so that it may have run out."""
        ...

    def finish(self, sleep: Callable[[float], None]) -> None:
        """A run was killed before it confirmed or kept its change. Wait for what the router does about that, or stop
        its timer, since it can be asked."""
        ...

    def keep(self) -> None:
        """What is there lasts beyond a restart. Safe to repeat."""
        ...

    def undo(self, change: Comparison) -> None:
        """Put back what was there before the change."""
        ...

    def describe(self) -> str:
        """What it is, in a few words: its release."""
        ...
