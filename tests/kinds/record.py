"""The journal of one thing, which survives the process."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from nixops_proxmox.core.thing import AnyThing
from tests.kinds.machine.cluster import Fuse

T = TypeVar("T", bound=AnyThing)


class Record(Generic[T]):
    """The journal of one thing, which survives the process. `read`: its facts out of JSON."""

    def __init__(self, thing: T, read: Callable[[Mapping[str, Any]], Any]) -> None:
        self.thing, self._read, self.fuse = thing, read, Fuse()
        self.entries: list[str] = []

    def begin(self, thing: T, label: str, to: str, /) -> int:
        self.fuse.boundary()
        self.entries.append("running")
        return len(self.entries) - 1

    def note(self, attempt: int, thing: T, /) -> None:
        self.thing = thing.moved(thing.phase, self._read(thing.facts.to_json()))
        self.fuse.boundary()

    def commit(self, attempt: int, thing: T, /) -> None:
        self.fuse.boundary()
        self.note(attempt, thing)
        self.entries[attempt] = "done"

    def fail(self, attempt: int, error: Exception, /) -> None:
        self.entries[attempt] = "failed"

    def record(self, thing: T, label: str, /) -> None:
        self.fuse.boundary()
        self.note(0, thing)
        self.entries.append("seen")
