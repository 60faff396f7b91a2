"""The state: deployments, the things that they have, history, endpoint winners, and who may change them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from sqlalchemy import ColumnElement, Engine, Row, Text, bindparam, cast, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from nixops_proxmox.errors import StateError, StateTooNew
from nixops_proxmox.model import Endpoint, Facts, Machine, Phase, SystemContents
from nixops_proxmox.state import systems
from nixops_proxmox.state.blobs import BlobStore
from nixops_proxmox.state.cells import as_object, as_text, damaged
from nixops_proxmox.state.database import (
    Location,
    open_engine,
    parse_location,
    reading,
    transaction,
    translated,
    writing,
)
from nixops_proxmox.state.holder import Holder, this_process
from nixops_proxmox.state.journal import Journal, JournalEntry, parse_entry, row_of
from nixops_proxmox.state.lease import ALL, MACHINE, Held, Lease, Scope, find_held, hold, list_held
from nixops_proxmox.state.migrations import is_current, migrate
from nixops_proxmox.state.schema import deployments, journal, leases, things, winners


def open_state(url: str = "", *, now: Callable[[], float] = time.time) -> "State":
    """Open (and make or upgrade) the state: a file, a `sqlite:///` or `postgresql://` URL. Empty: the user's own file.

    Close it, or use it in a `with`.
    """
    engine = open_engine(parse_location(url))
    try:
        with reading(engine) as connection:
            current = is_current(connection)
        if not current:
            with writing(engine) as connection:
                migrate(connection)
    except BaseException:
        engine.dispose()
        raise
    return State(engine, now)


@dataclass(frozen=True)
class Stored:
    """What is recorded of one thing. Its kind reads the rest."""

    kind: str
    name: str
    phase: str
    facts: Mapping[str, Any]


def _parse_stored(row: Row[Any]) -> Stored:
    name = as_text(row.name, "a thing's name")
    return Stored(
        as_text(row.kind, f"the kind of {name}"),
        name,
        as_text(row.phase, f"the phase of {name}"),
        as_object(row.facts, f"the facts of {name}"),
    )


class State:
    """An open state database."""

    def __init__(self, engine: Engine, now: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self.now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.engine.dispose()

    @property
    def title(self) -> str:
        """Where it is, for people: without a password."""
        return Location(self.engine.url).title

    def deployments(self) -> list[str]:
        with reading(self.engine) as connection:
            names = connection.execute(select(deployments.c.name).order_by(deployments.c.name)).scalars()
            return [as_text(name, "a deployment's name") for name in names]

    def has_deployment(self, name: str) -> bool:
        return name in self.deployments()

    def find_machine(self, uuid: str) -> Machine | None:
        """The machine of that UUID, in whichever deployment."""
        place = self.find_name(uuid)
        return None if place is None else self.deployment(place[0]).machine(place[1])

    def find_name(self, uuid: str) -> tuple[str, str] | None:
        """The deployment and the name of the machine of that UUID. Records that cannot be read are passed over."""
        text = cast(things.c.facts, Text)
        query = (
            select(deployments.c.name, things.c.name.label("machine"), text.label("facts"))
            .join(things, things.c.deployment_id == deployments.c.id)
            .where(things.c.kind == MACHINE)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(deployments.c.name, things.c.name)).all()
        found = next((row for row in rows if _uuid_in(row.facts) == uuid.lower()), None)
        if found is None:
            return None
        return as_text(found.name, "a deployment's name"), as_text(found.machine, "a machine's name")

    def deployment(self, name: str) -> "Deployment":
        """The deployment of that name. An empty one is made if there is none."""
        by_name = select(deployments.c.id).where(deployments.c.name == name)
        with reading(self.engine) as connection:
            found = connection.execute(by_name).scalar_one_or_none()
        if found is None:
            with translated(self.engine):
                try:
                    with transaction(self.engine) as connection:
                        connection.execute(insert(deployments).values(name=name, created=self.now()))
                except IntegrityError:
                    pass  # another run made it a moment ago
            with reading(self.engine) as connection:
                found = connection.execute(by_name).scalar_one()
        return Deployment(self, int(found), name)


def _uuid_in(facts: str) -> str:
    """Lower case. Empty if they cannot be read."""
    try:
        found = json.loads(facts)
    except (ValueError, RecursionError):
        return ""
    return str(found.get("uuid", "")).lower() if isinstance(found, dict) else ""


# Built once: a fleet asks for each machine many times.
_THING = select(things).where(
    things.c.deployment_id == bindparam("deployment"),
    things.c.kind == bindparam("kind_of"),
    things.c.name == bindparam("name_of"),
)


class Deployment:
    """A network's record."""

    def __init__(self, state: State, identity: int, name: str, *, only: Scope = ALL) -> None:
        self.name = name
        self._only = only
        self._state = state
        self._engine = state.engine
        self._id = identity

    @property
    def identity(self) -> str:
        """What stays as long as the deployment does."""
        return self.name

    def machines(self) -> list[Machine]:
        """All machines that are recorded, by name."""
        return [self._parse(stored) for stored in self.stored(MACHINE)]

    def names(self) -> list[str]:
        """The names of all recorded machines, also of those that this version cannot read."""
        return self._names(things.c.kind == MACHINE)

    def stored(self, kind: str) -> list[Stored]:
        """Everything of that kind that is recorded, by name."""
        query = select(things).where(things.c.deployment_id == self._id, things.c.kind == kind).order_by(things.c.name)
        with reading(self._engine) as connection:
            return [_parse_stored(row) for row in connection.execute(query)]

    def recorded_kinds(self) -> set[str]:
        """The kinds of which anything is recorded."""
        query = select(things.c.kind).where(things.c.deployment_id == self._id).distinct()
        with reading(self._engine) as connection:
            return {as_text(row.kind, "a kind in the record") for row in connection.execute(query)}

    def find_stored(self, kind: str, name: str) -> Stored | None:
        with reading(self._engine) as connection:
            row = connection.execute(_THING, {"deployment": self._id, "kind_of": kind, "name_of": name}).one_or_none()
        return None if row is None else _parse_stored(row)

    def machine(self, name: str) -> Machine:
        """The machine's record, absent if there is none."""
        stored = self.find_stored(MACHINE, name)
        return Machine(self.name, name) if stored is None else self._parse(stored)

    def only(self, name: str, kind: str = MACHINE) -> "Deployment":
        """The same record for a run that works on only one thing, beside runs that work on others. An empty name: on
        all of it."""
        return Deployment(self._state, self._id, self.name, only=Scope(kind, name) if name else ALL)

    def forget(self, name: str, lease: Lease | None = None, *, kind: str = MACHINE) -> None:
        """Drop the thing's record, and a machine's endpoint winners. Its history stays."""
        with writing(self._engine) as connection:
            if lease is not None:
                lease.check(connection)
            connection.execute(delete(things).where(row_of(self._id, kind, name)))
            if kind == MACHINE:
                ours = (winners.c.deployment_id == self._id) & (winners.c.machine == name)
                connection.execute(delete(winners).where(ours))

    def forget_all(self) -> None:
        """Drop the deployment with all of its history. Raises StateError while anything is recorded."""
        if left := self._names():
            raise StateError(f"deployment {self.name!r} still has {', '.join(left)}", hint="destroy them first")
        with writing(self._engine) as connection:
            for table in (winners, leases, journal, things):
                connection.execute(delete(table).where(table.c.deployment_id == self._id))
            connection.execute(delete(deployments).where(deployments.c.id == self._id))

    def history(self, name: str | None = None, limit: int | None = None) -> list[JournalEntry]:
        """What happened to the things of one name, or to all, oldest first. `limit`: only the latest so many."""
        query = select(journal).where(journal.c.deployment_id == self._id).order_by(journal.c.id.desc())
        if name is not None:
            query = query.where(journal.c.name == name)
        if limit is not None:
            query = query.limit(limit)
        with reading(self._engine) as connection:
            return [parse_entry(row) for row in reversed(connection.execute(query).all())]

    def find_contents(self, system: str) -> SystemContents | None:
        """What a system that was deployed consisted of. None: it is not recorded."""
        return systems.find_contents(BlobStore(self._state), system)

    def keep_contents(self, system: str, contents: SystemContents) -> None:
        systems.keep_contents(BlobStore(self._state), system, contents)

    def lease(
        self, *, break_lock: bool = False, machines: Sequence[str] = (), who: Callable[[], Holder] = this_process
    ) -> AbstractContextManager[Lease]:
        """Hold the deployment, or only these machines. Raises Locked, unless told to break another's hold."""
        scopes = tuple(Scope(MACHINE, name) for name in machines) or (self._only,)
        return hold(
            self._engine,
            self._id,
            self.name,
            scopes=scopes,
            break_lock=break_lock,
            now=self._state.now,
            who=who,
        )

    def holding(self, kind: str, name: str, lease: Lease) -> AbstractContextManager[Lease]:
        """The right to change this thing for a run that has `lease`: the same, if it is of this thing or of all."""
        scope = Scope(kind, name)
        if lease.covers(scope):
            return nullcontext(lease)
        return hold(self._engine, self._id, self.name, scopes=(scope,), now=self._state.now)

    def prove(self, lease: Lease) -> None:
        """Raises Locked if the lease was broken. For effects that no transaction can guard."""
        lease.look(self._engine)

    def held(self) -> Held | None:
        """Who holds the lease now, dead or alive."""
        return find_held(self._engine, self._id)

    def holders(self) -> list[Held]:
        """Everybody who holds it or a machine of it, dead or alive."""
        return list_held(self._engine, self._id)

    def journal(self, lease: Lease | None = None) -> Journal:
        """What the engine writes to. With a lease, a broken lease stops the writing."""
        return Journal(self._engine, self._id, lease, self._state.now)

    def find_winner(self, machine: str, site: str) -> Endpoint | None:
        """The endpoint that last won for this machine, seen from this operator's site."""
        query = select(winners.c.endpoint).where(
            winners.c.deployment_id == self._id, winners.c.machine == machine, winners.c.site == site
        )
        with reading(self._engine) as connection:
            found = connection.execute(query).scalar_one_or_none()
        where = f"the endpoint of {machine}"
        try:
            return None if found is None else Endpoint.from_json(as_object(found, where))
        except (TypeError, ValueError) as error:
            raise damaged(where, found) from error

    def remember_winner(self, machine: str, site: str, endpoint: Endpoint) -> None:
        key = {"deployment_id": self._id, "machine": machine, "site": site}
        values = {"endpoint": asdict(endpoint), "won": self._state.now()}
        here = [winners.c[column] == value for column, value in key.items()]
        with writing(self._engine) as connection:
            if connection.execute(update(winners).where(*here).values(values)).rowcount == 0:
                connection.execute(insert(winners).values(**key, **values))

    def _names(self, *where: ColumnElement[bool]) -> list[str]:
        query = select(things.c.name).where(things.c.deployment_id == self._id, *where).order_by(things.c.name)
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def _parse(self, row: Stored) -> Machine:
        try:
            phase = Phase(row.phase)
        except ValueError as error:
            raise StateTooNew(
                f"the state has {row.name} in a phase that this version does not know: {row.phase}",
                hint="upgrade nixops-proxmox to at least the version that wrote the state",
            ) from error
        try:
            facts = Facts.from_json(row.facts)
            return Machine(self.name, row.name, phase, facts)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"the record of {row.name} is damaged: {error}", hint="restore the state from a backup"
            ) from error
