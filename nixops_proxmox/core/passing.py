"""A journal in front of another one."""

from typing import Generic, TypeVar

from nixops_proxmox.core.ports import Journal
from nixops_proxmox.core.thing import AnyThing

T = TypeVar("T", bound=AnyThing)


class PassingJournal(Generic[T]):
    """Satisfies `core.ports.Journal`: passes everything on. What else happens is for a subclass to say."""

    def __init__(self, journal: Journal[T]) -> None:
        self._journal = journal

    def begin(self, thing: T, label: str, to: str, /) -> int:
        return self._journal.begin(thing, label, to)

    def note(self, attempt: int, thing: T, /) -> None:
        self._journal.note(attempt, thing)

    def commit(self, attempt: int, thing: T, /) -> None:
        self._journal.commit(attempt, thing)

    def fail(self, attempt: int, error: Exception, /) -> None:
        self._journal.fail(attempt, error)

    def record(self, thing: T, label: str, /) -> None:
        self._journal.record(thing, label)
