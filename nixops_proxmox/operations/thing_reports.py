"""Progress of what there is beside machines."""

from collections.abc import Callable
from typing import Any

from nixops_proxmox.core.ports import Reporter
from nixops_proxmox.core.thing import AnyThing
from nixops_proxmox.model import Machine


class ThingReports:
    """What happens to a thing, in a line of progress such as machines have."""

    def __init__(self, reporter: Reporter[Any], line: Callable[[AnyThing], tuple[Machine, str] | None]) -> None:
        """`line`: the machine in whose line a thing is told, and how the text begins. None: it is not told."""
        self._reporter, self._line = reporter, line

    def step(self, thing: AnyThing, label: str, to: str) -> None:
        del to
        self.detail(thing, label)

    def detail(self, thing: AnyThing, text: str) -> None:
        if (found := self._line(thing)) is not None:
            self._reporter.detail(found[0], found[1] + text)

    def done(self, thing: AnyThing, label: str, seconds: float) -> None: ...

    def warn(self, thing: AnyThing, text: str) -> None:
        if (found := self._line(thing)) is not None:
            self._reporter.warn(found[0], found[1] + text)
