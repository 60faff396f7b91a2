"""What was tried, when, and how it ended, and the writing of it (satisfies `kinds.machine.ports.Journal` by shape)."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Engine, Row, bindparam, insert, select, update

from nixops_proxmox.core.thing import AnyThing
from nixops_proxmox.errors import StateError
from nixops_proxmox.state.cells import as_moment, as_number, as_text, as_texts, damaged
from nixops_proxmox.state.database import writing
from nixops_proxmox.state.lease import MACHINE, Lease
from nixops_proxmox.state.often import Often, often
from nixops_proxmox.state.schema import journal, things
from nixops_proxmox.texts import is_machine_name, kept

ERROR_LIMIT = 8000  # characters

# Built once: a fleet writes fifty times for each machine.
_HERE = (
    (things.c.deployment_id == bindparam("deployment"))
    & (things.c.kind == bindparam("kind_of"))
    & (things.c.name == bindparam("name_of"))
)
_CHANGE = often(
    update(things)
    .where(_HERE)
    .values(
        phase=bindparam("to_phase"),
        facts=bindparam("to_facts", type_=things.c.facts.type),
        changed=bindparam("at"),
    )
)
_BEGUN = (
    "deployment_id", "kind", "name", "label", "phase_from", "phase_to", "began", "ended", "outcome", "error", "tasks",
)  # fmt: skip
_BEGIN = often(insert(journal).values({name: bindparam(name) for name in _BEGUN}).returning(journal.c.id))
_ATTEMPT = journal.c.id == bindparam("attempt")
_TASKS = select(journal.c.tasks).where(_ATTEMPT)
_NOTE_TASKS = often(update(journal).where(_ATTEMPT).values(tasks=bindparam("to_tasks", type_=journal.c.tasks.type)))
_END = (
    update(journal)
    .where(_ATTEMPT & (journal.c.outcome == bindparam("running")))
    .values(outcome=bindparam("to_outcome"), ended=bindparam("at"))
)
_END_WELL = often(_END.values(phase_to=bindparam("to_phase")))
_END_BADLY = often(_END.values(error=bindparam("why")))


class AttemptOutcome(StrEnum):
    RUNNING = "running"  # begun, and not ended (yet)
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # the run was gone before it ended
    SEEN = "seen"  # not made by us: found so


@dataclass(frozen=True)
class JournalEntry:
    """One line of history. Times in seconds since the epoch. `ended` is None while running and when interrupted."""

    id: int
    name: str
    label: str
    phase_from: str
    phase_to: str
    began: float
    ended: float | None
    outcome: AttemptOutcome
    error: str
    tasks: tuple[str, ...]  # UPIDs
    kind: str = MACHINE

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else self.ended - self.began

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "machine": self.name,  # of whatever kind: programs have read it by this key before there was another
            "kind": self.kind,
            "label": self.label,
            "from": self.phase_from,
            "to": self.phase_to,
            "began": self.began,
            "ended": self.ended,
            "outcome": self.outcome.value,
            "error": self.error,
            "tasks": list(self.tasks),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises StateError for anything else."""
        number = as_number(data.get("id"), "the number of an entry of the history")
        where = f"entry {number} of the history"
        outcome = data.get("outcome")
        if outcome not in [known.value for known in AttemptOutcome]:
            raise damaged(f"{where}: its outcome", outcome)
        ended = data.get("ended")
        return cls(
            number,
            as_text(data.get("machine"), f"{where}: its name"),
            as_text(data.get("label"), f"{where}: its label"),
            as_text(data.get("from"), f"{where}: the phase before"),
            as_text(data.get("to"), f"{where}: the phase after"),
            as_moment(data.get("began"), f"{where}: its beginning"),
            None if ended is None else as_moment(ended, f"{where}: its end"),
            AttemptOutcome(outcome),
            as_text(data.get("error"), f"{where}: its error"),
            as_texts(data.get("tasks"), f"{where}: its tasks"),
            as_text(data.get("kind", MACHINE), f"{where}: its kind"),
        )


def parse_entry(row: Row[Any]) -> JournalEntry:
    return JournalEntry.from_json({**row._mapping, "machine": row.name, "from": row.phase_from, "to": row.phase_to})  # noqa: SLF001 -- SQLAlchemy documents it


class Journal:
    """Writes a deployment's record. From any thread. With a lease, nothing is written after it was broken."""

    def __init__(
        self, engine: Engine, deployment_id: int, lease: Lease | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._deployment_id = deployment_id
        self._lease = lease
        self._now = now

    def begin(self, thing: AnyThing, label: str, to: str) -> int:
        """Record that a move begins. Returns the attempt's ID."""
        with writing(self._engine) as connection:
            self._check(connection)
            return self._add(connection, thing, label, came_from=thing.phase, to=to, outcome=AttemptOutcome.RUNNING)

    def note(self, attempt: int, thing: AnyThing) -> None:
        """Record facts in the middle of an attempt. A UPID among them is kept with the attempt for good."""
        with writing(self._engine) as connection:
            self._check(connection)
            _put(connection, self._deployment_id, thing, self._now())
            tasks = connection.execute(_TASKS, {"attempt": attempt}).scalar_one_or_none()
            if tasks is None:
                raise _no_attempt(attempt)
            tasks = as_texts(tasks, "the tasks of an attempt")
            if thing.facts.task and thing.facts.task not in tasks:
                done = [*tasks, thing.facts.task]
                _NOTE_TASKS.count(connection, {"attempt": attempt, "to_tasks": done})

    def commit(self, attempt: int, thing: AnyThing) -> None:
        """Record phase, facts, and that the attempt succeeded: all of it or nothing."""
        with writing(self._engine) as connection:
            self._check(connection)
            _put(connection, self._deployment_id, thing, self._now())
            self._end(connection, attempt, AttemptOutcome.DONE, _END_WELL, {"to_phase": str(thing.phase)})

    def fail(self, attempt: int, error: Exception) -> None:
        """Record that the attempt failed. Phase and facts stay as they were noted."""
        told = kept(str(error) or type(error).__name__, ERROR_LIMIT)
        with writing(self._engine) as connection:
            self._check(connection)
            self._end(connection, attempt, AttemptOutcome.FAILED, _END_BADLY, {"why": told})

    def record(self, thing: AnyThing, label: str) -> None:
        """Record a phase that was seen rather than made."""
        here = row_of(self._deployment_id, thing.kind, thing.name)
        with writing(self._engine) as connection:
            self._check(connection)
            before = connection.execute(select(things.c.phase).where(here)).scalar_one_or_none()
            _put(connection, self._deployment_id, thing, self._now())
            self._add(
                connection, thing, label, came_from=before or "absent", to=thing.phase, outcome=AttemptOutcome.SEEN
            )

    def _check(self, connection: Connection) -> None:
        if self._lease is not None:
            self._lease.check(connection)

    def _add(
        self, connection: Connection, thing: AnyThing, label: str, *, came_from: str, to: str, outcome: AttemptOutcome
    ) -> int:
        now = self._now()
        row = {
            "deployment_id": self._deployment_id,
            "kind": thing.kind,
            "name": thing.name,
            "label": label,
            "phase_from": str(came_from),
            "phase_to": str(to),
            "began": now,
            "ended": now if outcome is AttemptOutcome.SEEN else None,
            "outcome": outcome.value,
            "error": "",
            "tasks": [],
        }
        return int(_BEGIN.rows(connection, row)[0][0])

    def _end(
        self, connection: Connection, attempt: int, outcome: AttemptOutcome, end: Often, more: Mapping[str, str]
    ) -> None:
        running = {"attempt": attempt, "running": AttemptOutcome.RUNNING.value}
        values = {**running, "to_outcome": outcome.value, "at": self._now(), **more}
        if end.count(connection, values) != 1:
            raise _no_attempt(attempt)


def refuse_name(name: str) -> None:
    """It becomes a file's name and an argument of programs. Raises StateError."""
    if not is_machine_name(name):
        raise StateError(
            f"{name!a} cannot be a machine's name, so it is not recorded",
            hint="letters, digits and hyphens, in parts with dots between them",
        )


def _no_attempt(attempt: int) -> StateError:
    return StateError(f"attempt {attempt} is not running: it has ended already, or never began")


def _put(connection: Connection, deployment_id: int, thing: AnyThing, now: float) -> None:
    phase, facts = str(thing.phase), dict(thing.facts.to_json())
    here = {"deployment": deployment_id, "kind_of": thing.kind, "name_of": thing.name}
    values = {"to_phase": phase, "to_facts": facts, "at": now}
    if _CHANGE.count(connection, {**here, **values}) == 0:
        refuse_name(thing.name)
        key = {"deployment_id": deployment_id, "kind": thing.kind, "name": thing.name}
        connection.execute(insert(things), {**key, "phase": phase, "facts": facts, "changed": now})


def row_of(deployment_id: int, kind: str, name: str) -> ColumnElement[bool]:
    """Where a thing's row is."""
    return (things.c.deployment_id == deployment_id) & (things.c.kind == kind) & (things.c.name == name)
