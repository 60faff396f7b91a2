"""Whole files of others, kept beside our own state. They are numbered, so that no writer undoes another's."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, Engine, delete, insert, select, update

from nixops_proxmox.errors import StateError
from nixops_proxmox.state.cells import as_bytes, as_moment, as_number, damaged
from nixops_proxmox.state.database import reading, writing
from nixops_proxmox.state.schema import blobs


class Overtaken(StateError):
    """Somebody else wrote the file since it was read."""


@dataclass(frozen=True)
class Blob:
    """`version` 0: there is none yet."""

    version: int = 0
    content: bytes = b""
    written: float = 0.0


class OpenState(Protocol):
    """What is needed of `store.State`, which needs files itself."""

    @property
    def engine(self) -> Engine: ...

    @property
    def title(self) -> str: ...

    @property
    def now(self) -> Callable[[], float]: ...


class BlobStore:
    """Files by name."""

    def __init__(self, state: OpenState) -> None:
        self._state = state

    def read(self, name: str) -> Blob:
        with reading(self._state.engine) as connection:
            try:
                row = connection.execute(select(blobs).where(blobs.c.name == name)).one_or_none()
            except TypeError as error:  # of SQLAlchemy, for values that are not bytes
                raise damaged(f"the content of {name!r}", error) from error
        if row is None:
            return Blob()
        if hashlib.sha256(as_bytes(row.content, f"the content of {name!r}")).hexdigest() != row.sha256:
            raise StateError(f"{name!r} in {self._state.title} is damaged", hint="restore the database from a backup")
        return Blob(
            as_number(row.version, f"the version of {name!r}"),
            row.content,
            as_moment(row.written, f"the time of {name!r}"),
        )

    def write(self, name: str, content: bytes, *, after: int) -> int:
        """The new version. Raises Overtaken unless the file is still of the version `after`."""
        with writing(self._state.engine) as connection:
            if self._version(connection, name) != after:
                raise Overtaken(f"somebody else has changed {name!r} in {self._state.title} meanwhile")
            values = {
                "content": content,
                "sha256": hashlib.sha256(content).hexdigest(),
                "version": after + 1,
                "written": self._state.now(),
            }
            if after:
                connection.execute(update(blobs).where(blobs.c.name == name).values(values))
            else:
                connection.execute(insert(blobs).values(name=name, **values))
        return after + 1

    def forget(self, name: str) -> None:
        """Fine if there is none."""
        with writing(self._state.engine) as connection:
            connection.execute(delete(blobs).where(blobs.c.name == name))

    def _version(self, connection: Connection, name: str) -> int:
        # The row lock makes two writers in PostgreSQL one after the other. In SQLite the transaction has done so.
        query = select(blobs.c.version).where(blobs.c.name == name).with_for_update()
        return as_number(connection.execute(query).scalar_one_or_none() or 0, f"the version of {name!r}")
