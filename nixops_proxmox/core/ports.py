"""What the engine needs from outside, for things of any kind."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from nixops_proxmox.core.thing import AnyThing

T_contra = TypeVar("T_contra", bound=AnyThing, contravariant=True)

NoteTask = Callable[[str], None]  # called with the UPID of a task as soon as PVE has told it
OnBytes = Callable[[int, int], None]  # called with the bytes that are done, and the bytes in all


class Clock(Protocol):
    def now(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class Reporter(Protocol[T_contra]):
    """Who watches."""

    def step(self, thing: T_contra, label: str, to: str, /) -> None: ...
    def detail(self, thing: T_contra, text: str, /) -> None:
        """What the current step is doing or waiting for, one line."""
        ...

    def done(self, thing: T_contra, label: str, seconds: float, /) -> None: ...
    def warn(self, thing: T_contra, text: str, /) -> None: ...


class Journal(Protocol[T_contra]):
    """The durable record. `commit` writes phase, facts and the end of the attempt in one transaction."""

    def begin(self, thing: T_contra, label: str, to: str, /) -> int: ...
    def note(self, attempt: int, thing: T_contra, /) -> None:
        """Keep what must survive a crash in the middle of the attempt: a UPID, a claim, or a doubt about the phase."""
        ...

    def commit(self, attempt: int, thing: T_contra, /) -> None: ...
    def fail(self, attempt: int, error: Exception, /) -> None: ...
    def record(self, thing: T_contra, label: str, /) -> None:
        """A phase that was seen rather than made (a sighting)."""
        ...


class AnyWorld(Protocol):
    """Everything outside of the core, for one thing. Its kind adds what its steps need."""

    @property
    def clock(self) -> Clock: ...

    @property
    def reporter(self) -> Reporter[Any]: ...

    def wait_for_task(self, upid: str) -> None:
        """Wait for a task of an earlier run. Raises TaskFailed, or NotFound if PVE has forgotten it."""
        ...

    def find_task(self, facts: Any, kind: str) -> str:
        """The UPID of a PVE task of that type that runs now for the thing. Empty: none does."""
        ...
