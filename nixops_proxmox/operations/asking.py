"""Asks before something is done to a thing, and not if nothing is."""

from collections.abc import Callable
from typing import Any

from typing_extensions import override

from nixops_proxmox.core.passing import PassingJournal
from nixops_proxmox.core.ports import Journal

Refuse = Callable[[str, str], None]  # what is changed, and on which hypervisor: raises NeedsPermission


def refuse_nothing(what: str, profile: str) -> None:
    del what, profile


class AskingJournal(PassingJournal[Any]):
    """`ask` is called before each attempt, and may refuse."""

    def __init__(self, journal: Journal[Any], ask: Callable[[], None]) -> None:
        super().__init__(journal)
        self._ask = ask

    @override
    def begin(self, thing: Any, label: str, to: str, /) -> int:
        self._ask()
        return super().begin(thing, label, to)
