"""Documents that are kept as the patches which made them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import IntegrityError

from nixops_proxmox.errors import StateError
from nixops_proxmox.state.cells import as_moment, as_number, as_objects, as_text
from nixops_proxmox.state.database import reading, writing
from nixops_proxmox.state.schema import events
from nixops_proxmox.state.store import State

Patch = Sequence[Mapping[str, Any]]

TRIES = 100  # every one that fails lets another writer through


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
        """Add an event if `check` allows it. Of two writers at once one comes after the other, and is checked against
        what the other has made of it."""
        for _ in range(TRIES):  # safe to repeat: where another writer was faster, nothing was written
            with writing(self._state.engine) as connection:
                new = self._append(connection, event, version, patch, check)
            if new is not None:
                return new
        raise StateError(f"the document {self.name!r} is being changed by too many runs at once", hint="try again")

    def _append(
        self,
        connection: Connection,
        event: str,
        version: str,
        patch: Patch,
        check: Callable[[Sequence[Patch]], object],
    ) -> Event | None:
        """None: another writer was faster (in PostgreSQL, where writers do not wait for each other)."""
        before = self._events(connection)
        check([*(e.patch for e in before), patch])
        new = Event(len(before), event, version, patch, self._state.now())
        values = {
            "document": self.name,
            "number": new.number,
            "event": event,
            "version": version,
            "patch": [dict(operation) for operation in patch],
            "at": new.at,
        }
        try:
            with connection.begin_nested():
                connection.execute(insert(events).values(values))
        except IntegrityError:
            return None
        return new

    def _events(self, connection: Connection) -> list[Event]:
        query = select(events).where(events.c.document == self.name).order_by(events.c.number)
        return [self._parse(row) for row in connection.execute(query)]

    def _parse(self, row: Row[Any]) -> Event:
        where = f"an event of the document {self.name!r}"
        return Event(
            as_number(row.number, f"{where}: its number"),
            as_text(row.event, f"{where}: its text"),
            as_text(row.version, f"{where}: its version"),
            as_objects(row.patch, f"{where}: its patch"),
            as_moment(row.at, f"{where}: its time"),
        )
