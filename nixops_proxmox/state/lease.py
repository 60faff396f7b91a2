"""The run lock of a deployment, or of one thing in it: one run at a time, known by name, with a heartbeat."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Table,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)

from nixops_proxmox.errors import Locked, StateError
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state.cells import as_moment, as_text
from nixops_proxmox.state.database import reading, translated, writing
from nixops_proxmox.state.holder import Holder, is_provably_gone, this_process
from nixops_proxmox.state.often import often
from nixops_proxmox.state.schema import deployments, journal, leases
from nixops_proxmox.texts import moment_text

HEARTBEAT = 20.0  # seconds
MACHINE = "machine"  # the kind whose things need no kind before their names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scope:
    """What a lease is of: one thing, or the whole deployment if both are empty."""

    kind: str = ""
    name: str = ""

    @property
    def is_all(self) -> bool:
        return not self.name

    def title(self, deployment: str) -> str:
        """Name it for people: `'web' of deployment 'shop'`."""
        whole = f"deployment {deployment!r}"
        if self.is_all:
            return whole
        return f"{'' if self.kind == MACHINE else f'the {self.kind} '}{self.name!r} of {whole}"


ALL = Scope()


@dataclass(frozen=True)
class Held:
    """A lease as it is recorded. Times in seconds since the epoch."""

    token: str
    holder: Holder
    since: float
    heartbeat: float
    scope: Scope = ALL

    def is_gone(self, we: Holder) -> bool:
        """Can its process provably not act any more?"""
        return is_provably_gone(self.holder, we)


# Built once: a fleet asks before each effect.
_QUERY = select(leases.c.name).where(
    leases.c.deployment_id == bindparam("deployment"), leases.c.token == bindparam("token_of")
)
_TOKEN, _TOKEN_TO_KEEP = often(_QUERY), often(_QUERY.with_for_update(read=True))


@dataclass(frozen=True)
class Lease:
    """The right to change a deployment, or some things in it, until it is broken. `took_over`: the dead holder's, if
    any."""

    deployment_id: int
    token: str
    took_over: Held | None = None
    scopes: tuple[Scope, ...] = (ALL,)

    def covers(self, scope: Scope) -> bool:
        return ALL in self.scopes or scope in self.scopes

    def check(self, connection: Connection) -> None:
        """Raises Locked if the lease was broken. Call it in the transaction of the write that it guards."""
        self._compare(_TOKEN_TO_KEEP.rows(connection, self._which))

    def look(self, engine: Engine) -> None:
        """The same without holding anybody up: it is true at this moment only."""
        self._compare(_TOKEN.look(engine, self._which))

    @property
    def _which(self) -> dict[str, Any]:
        return {"deployment": self.deployment_id, "token_of": self.token}

    def _compare(self, rows: Sequence[Any]) -> None:
        if len(rows) != len(self.scopes):
            raise Locked(
                "somebody else has taken over this deployment; this run stops, and does and records nothing more",
                hint="wait for the other run to end, then run the same command to continue",
            )


def list_held(engine: Engine, deployment_id: int) -> list[Held]:
    """All leases of the deployment and of things in it, dead or alive, the oldest first."""
    with reading(engine) as connection:
        return _list(connection, deployment_id, (ALL,))


def find_held(engine: Engine, deployment_id: int) -> Held | None:
    """The lease of the deployment or of a thing in it, the oldest first."""
    return next(iter(list_held(engine, deployment_id)), None)


def _is_of(scopes: Sequence[Scope], table: Table = leases) -> ColumnElement[bool]:
    """Said by kind: a shard may have hundreds of machines."""
    kinds = dict.fromkeys(scope.kind for scope in scopes)
    names = {kind: [scope.name for scope in scopes if scope.kind == kind] for kind in kinds}
    return or_(*((table.c.kind == kind) & table.c.name.in_(those) for kind, those in names.items()))


def _excluding(deployment_id: int, scopes: Sequence[Scope]) -> list[ColumnElement[bool]]:
    ours = [leases.c.deployment_id == deployment_id]
    return ours if ALL in scopes else [*ours, _is_of((ALL, *scopes))]


def _list_readable(connection: Connection, deployment_id: int, scopes: Sequence[Scope]) -> list[Held]:
    """List the leases that can be read, to break them. A damaged lease must not stay for ever."""
    try:
        with translated(connection.engine):
            return _list(connection, deployment_id, scopes)
    except StateError:
        return []


def _list(connection: Connection, deployment_id: int, scopes: Sequence[Scope]) -> list[Held]:
    """The leases that exclude one of these scopes, because they have a thing in common."""
    query = select(leases).where(*_excluding(deployment_id, scopes)).order_by(leases.c.since)
    return [_parse(row) for row in connection.execute(query)]


def _parse(row: Row[Any]) -> Held:
    return Held(
        as_text(row.token, "a lease's token"),
        Holder.from_json(row.holder, "a lease's holder"),
        as_moment(row.since, "a lease's time"),
        as_moment(row.heartbeat, "a lease's heartbeat"),
        Scope(as_text(row.kind, "a lease's kind"), as_text(row.name, "a lease's name")),
    )


@contextmanager
def hold(
    engine: Engine,
    deployment_id: int,
    name: str,
    *,
    scopes: Sequence[Scope] = (ALL,),
    break_lock: bool = False,
    now: Callable[[], float] = time.time,
    who: Callable[[], Holder] = this_process,
    heartbeat: float = HEARTBEAT,
) -> Iterator[Lease]:
    """Hold the lease of the deployment, or of some things in it: of all or of none. Locked if another run holds one of
    them and may still live, unless told to break it."""
    lease = _acquire(engine, deployment_id, name, tuple(scopes), break_lock=break_lock, now=now(), we=who())
    stop = threading.Event()
    beating = threading.Thread(
        target=_beat, args=(engine, lease, stop, heartbeat, now), name=f"lease of {name}", daemon=True
    )
    beating.start()
    try:
        yield lease
    finally:
        stop.set()
        beating.join()
        _release(engine, lease)


def _acquire(
    engine: Engine,
    deployment_id: int,
    name: str,
    scopes: tuple[Scope, ...],
    *,
    break_lock: bool,
    now: float,
    we: Holder,
) -> Lease:
    with writing(engine) as connection:
        # The row lock makes two takers of PostgreSQL one after the other. In SQLite the transaction has done so.
        connection.execute(select(deployments.c.id).where(deployments.c.id == deployment_id).with_for_update())
        held = (
            _list_readable(connection, deployment_id, scopes)
            if break_lock
            else _list(connection, deployment_id, scopes)
        )
        for other in held:
            if not break_lock and not other.is_gone(we):
                raise locked(name, other, now)
        connection.execute(delete(leases).where(*_excluding(deployment_id, scopes)))
        lease = Lease(deployment_id, uuid4().hex, held[0] if held else None, scopes)
        rows = [
            {
                "deployment_id": deployment_id,
                "kind": scope.kind,
                "name": scope.name,
                "token": lease.token,
                "holder": we.to_json(),
                "since": now,
                "heartbeat": now,
            }
            for scope in scopes
        ]
        connection.execute(insert(leases), rows)
        # No other run works on these now, so what never ended was cut off.
        cut_off = (journal.c.deployment_id == deployment_id) & (journal.c.outcome == "running")
        if ALL not in scopes:
            cut_off &= _is_of(scopes, journal)
        connection.execute(update(journal).where(cut_off).values(outcome="interrupted"))
    return lease


def locked(name: str, held: Held, now: float) -> Locked:
    since = moment_text(held.since)
    silent = max(0, round(now - held.heartbeat))
    return Locked(
        f"{held.scope.title(name)} is being changed by {held.holder.title} since {since};"
        f" its last sign of life was {silent} seconds ago",
        hint=f"wait for it to end; if you are certain that it has ended, {command(Verb.BREAK_LOCK)}",
    )


def _beat(engine: Engine, lease: Lease, stop: threading.Event, every: float, now: Callable[[], float]) -> None:
    ours = (leases.c.deployment_id == lease.deployment_id) & (leases.c.token == lease.token)
    while not stop.wait(every):  # safe to repeat: it only says that we live
        try:
            with writing(engine) as connection:
                if connection.execute(update(leases).where(ours).values(heartbeat=now())).rowcount == 0:
                    return  # broken: the next write of the journal says so
        except StateError as error:
            log.info("no heartbeat this time: %s", error)  # it only informs; a lease does not expire by silence


def _release(engine: Engine, lease: Lease) -> None:
    with writing(engine) as connection:
        connection.execute(
            delete(leases).where(leases.c.deployment_id == lease.deployment_id, leases.c.token == lease.token)
        )
