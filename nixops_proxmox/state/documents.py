"""Documents that are kept as the patches which made them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from nixops_proxmox.state.database import reading, writing
from nixops_proxmox.state.schema import events
from nixops_proxmox.state.store import State

Patch = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Event:
    number: int
    event: str
    version: str
    patch: Patch
    at: float


class Document:
    """One named document. `check` is given all patches so far and the new one, and raises if they do not fit."""

    def __init__(self, state: State, name: str) -> None:
        self._state, self.name = state, name

    def read(self) -> list[Event]:
        """Every event, oldest first."""
        with reading(self._state.engine) as connection:
            return self._events(connection)

    def append(self, event: str, version: str, patch: Patch, check: Callable[[Sequence[Patch]], object]) -> Event:
        """Add an event if `check` allows it; of two writers at the same moment one fails, and nothing is lost."""
        with writing(self._state.engine) as connection:
            before = self._events(connection)
            check([*(e.patch for e in before), patch])
            new = Event(len(before), event, version, patch, self._state.now())
            connection.execute(
                insert(events).values(
                    document=self.name,
                    number=new.number,
                    event=event,
                    version=version,
                    patch=[dict(operation) for operation in patch],
                    at=new.at,
                )
            )
        return new

    def _events(self, connection: Connection) -> list[Event]:
        query = select(events).where(events.c.document == self.name).order_by(events.c.number)
        return [Event(row.number, row.event, row.version, row.patch, row.at) for row in connection.execute(query)]
