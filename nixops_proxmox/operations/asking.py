"""Asks before something is done to a thing, and not if nothing is."""

from collections.abc import Callable
from typing import Any

from nixops_proxmox.core.ports import Journal

Refuse = Callable[[str, str], None]  # what is changed, and on which hypervisor: raises NeedsPermission


def refuse_nothing(what: str, profile: str) -> None:
    del what, profile


class AskingJournal:
    """Satisfies `core.ports.Journal`: passes everything on. `ask` is called before each attempt, and may refuse."""

    def __init__(self, journal: Journal[Any], ask: Callable[[], None]) -> None:
        self._journal, self._ask = journal, ask

    def begin(self, thing: Any, label: str, to: str) -> int:
        self._ask()
        return self._journal.begin(thing, label, to)

    def note(self, attempt: int, thing: Any) -> None:
        self._journal.note(attempt, thing)

    def commit(self, attempt: int, thing: Any) -> None:
        self._journal.commit(attempt, thing)

    def fail(self, attempt: int, error: Exception) -> None:
        self._journal.fail(attempt, error)

    def record(self, thing: Any, label: str) -> None:
        self._journal.record(thing, label)
