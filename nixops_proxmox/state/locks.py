"""Locks by name, for programs whose state we keep: known by holder and purpose, and never taken by silence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, delete, insert, select

from nixops_proxmox.errors import Locked, StateError
from nixops_proxmox.state.cells import as_moment, as_text
from nixops_proxmox.state.database import reading, writing
from nixops_proxmox.state.holder import Holder, is_provably_gone, this_process
from nixops_proxmox.state.schema import locks
from nixops_proxmox.state.store import State
from nixops_proxmox.texts import moment_text


@dataclass(frozen=True)
class LockHeld:
    token: str
    holder: Holder
    purpose: str
    since: float  # seconds since the epoch


class LockStore:
    """`hint`: how a lock is broken, in the words of the program whose lock it is."""

    def __init__(self, state: State, *, hint: str = "", who: Callable[[], Holder] = this_process) -> None:
        self._state, self._hint, self._who = state, hint, who

    def take(self, name: str, purpose: str) -> str:
        """Returns the token that releases it. Raises Locked if another run holds it and may still live."""
        we, token = self._who(), uuid4().hex
        with writing(self._state.engine) as connection:
            held = self._find(connection, name)
            if held is not None and not is_provably_gone(held.holder, we):
                since = moment_text(held.since)
                raise Locked(
                    f"{name!r} is locked by {held.holder.title} for {held.purpose!r} since {since}", hint=self._hint
                )
            connection.execute(delete(locks).where(locks.c.name == name))
            row = {"name": name, "token": token, "holder": we.to_json(), "purpose": purpose}
            connection.execute(insert(locks).values(**row, since=self._state.now()))
        return token

    def prove(self, name: str, token: str) -> None:
        """Raises Locked if the lock was broken since it was taken. For effects that no transaction can guard."""
        with reading(self._state.engine) as connection:
            held = _read(connection, select(locks).where(locks.c.name == name))
        if held is not None and held.token == token:
            return
        raise Locked(
            f"somebody else has taken the lock of {name!r} from this run; it stops, and does and records nothing more",
            hint="check what the other run did before you run it again"
            if held is None
            else f"{held.holder.title} has it for {held.purpose!r} since {moment_text(held.since)}; wait for it to end",
        )

    def release(self, name: str, token: str) -> None:
        """Fine if it is somebody else's by now."""
        with writing(self._state.engine) as connection:
            connection.execute(delete(locks).where(locks.c.name == name, locks.c.token == token))

    def break_lock(self, name: str) -> LockHeld | None:
        """Break the lock, whatever run holds it. Returns the holder, if that can be read."""
        with writing(self._state.engine) as connection:
            try:
                held = self._find(connection, name)
            except StateError:
                held = None
            connection.execute(delete(locks).where(locks.c.name == name))
        return held

    def _find(self, connection: Connection, name: str) -> LockHeld | None:
        return _read(connection, select(locks).where(locks.c.name == name).with_for_update())


def _read(connection: Connection, statement: Select[Any]) -> LockHeld | None:
    row = connection.execute(statement).one_or_none()
    return None if row is None else _parse(row)


def _parse(row: Row[Any]) -> LockHeld:
    return LockHeld(
        as_text(row.token, "a lock's token"),
        Holder.from_json(row.holder, "a lock's holder"),
        as_text(row.purpose, "a lock's purpose"),
        as_moment(row.since, "a lock's time"),
    )
