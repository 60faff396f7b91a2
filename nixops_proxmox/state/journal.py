"""What was tried, when, and how it ended; and the writing of it (satisfies `lifecycle.ports.Journal` by shape)."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, insert, select, update

from nixops_proxmox.errors import StateError
from nixops_proxmox.model import Machine
from nixops_proxmox.spec.words import is_machine_name
from nixops_proxmox.state.cells import as_moment, as_number, as_text, as_texts, damaged
from nixops_proxmox.state.database import writing
from nixops_proxmox.state.lease import Lease
from nixops_proxmox.state.schema import journal, machines
from nixops_proxmox.texts import kept

ERROR_LIMIT = 8000  # characters


class Outcome(StrEnum):
    RUNNING = "running"  # begun, and not ended (yet)
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # the run was gone before it ended
    SEEN = "seen"  # not made by us: found so


@dataclass(frozen=True)
class Entry:
    """One line of history. Times in seconds since the epoch; `ended` is None while running and when interrupted."""

    id: int
    machine: str
    label: str
    phase_from: str
    phase_to: str
    began: float
    ended: float | None
    outcome: Outcome
    error: str
    tasks: tuple[str, ...]  # UPIDs

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else self.ended - self.began

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "machine": self.machine,
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
        """The inverse of `to_json`; StateError for anything else."""
        number = as_number(data.get("id"), "the number of an entry of the history")
        where = f"entry {number} of the history"
        outcome = data.get("outcome")
        if outcome not in [known.value for known in Outcome]:
            raise damaged(f"{where}: its outcome", outcome)
        ended = data.get("ended")
        return cls(
            number,
            as_text(data.get("machine"), f"{where}: its machine"),
            as_text(data.get("label"), f"{where}: its label"),
            as_text(data.get("from"), f"{where}: the phase before"),
            as_text(data.get("to"), f"{where}: the phase after"),
            as_moment(data.get("began"), f"{where}: its beginning"),
            None if ended is None else as_moment(ended, f"{where}: its end"),
            Outcome(outcome),
            as_text(data.get("error"), f"{where}: its error"),
            as_texts(data.get("tasks"), f"{where}: its tasks"),
        )


def parse_entry(row: Row[Any]) -> Entry:
    return Entry.from_json({**row._mapping, "from": row.phase_from, "to": row.phase_to})


class Journal:
    """Writes a deployment's record; from any thread. With a lease, nothing is written after it was broken."""

    def __init__(
        self, engine: Engine, deployment_id: int, lease: Lease | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._deployment_id = deployment_id
        self._lease = lease
        self._now = now

    def begin(self, machine: Machine, label: str, to: str) -> int:
        """Record that a move begins; returns the attempt's ID."""
        with writing(self._engine) as connection:
            self._check(connection)
            return self._add(connection, machine, label, came_from=machine.phase, to=to, outcome=Outcome.RUNNING)

    def note(self, attempt: int, machine: Machine) -> None:
        """Record facts in the middle of an attempt; a UPID among them is kept with the attempt for good."""
        with writing(self._engine) as connection:
            self._check(connection)
            _put(connection, self._deployment_id, machine, self._now())
            tasks = connection.execute(select(journal.c.tasks).where(journal.c.id == attempt)).scalar_one_or_none()
            if tasks is None:
                raise _no_attempt(attempt)
            tasks = as_texts(tasks, "the tasks of an attempt")
            if machine.facts.task and machine.facts.task not in tasks:
                done = [*tasks, machine.facts.task]
                connection.execute(update(journal).where(journal.c.id == attempt).values(tasks=done))

    def commit(self, attempt: int, machine: Machine) -> None:
        """Record phase, facts, and that the attempt succeeded: all of it or nothing."""
        with writing(self._engine) as connection:
            self._check(connection)
            _put(connection, self._deployment_id, machine, self._now())
            self._end(connection, attempt, Outcome.DONE, phase_to=machine.phase.value)

    def fail(self, attempt: int, error: Exception) -> None:
        """Record that the attempt failed; phase and facts stay as they were noted."""
        told = kept(str(error) or type(error).__name__, ERROR_LIMIT)
        with writing(self._engine) as connection:
            self._check(connection)
            self._end(connection, attempt, Outcome.FAILED, error=told)

    def record(self, machine: Machine, label: str) -> None:
        """Record a phase that was seen rather than made."""
        here = (machines.c.deployment_id == self._deployment_id) & (machines.c.name == machine.name)
        with writing(self._engine) as connection:
            self._check(connection)
            before = connection.execute(select(machines.c.phase).where(here)).scalar_one_or_none()
            _put(connection, self._deployment_id, machine, self._now())
            self._add(connection, machine, label, came_from=before or "absent", to=machine.phase, outcome=Outcome.SEEN)

    def _check(self, connection: Connection) -> None:
        if self._lease is not None:
            self._lease.check(connection)

    def _add(
        self, connection: Connection, machine: Machine, label: str, *, came_from: str, to: str, outcome: Outcome
    ) -> int:
        now = self._now()
        row = {
            "deployment_id": self._deployment_id,
            "machine": machine.name,
            "label": label,
            "phase_from": str(came_from),
            "phase_to": str(to),
            "began": now,
            "ended": now if outcome is Outcome.SEEN else None,
            "outcome": outcome.value,
            "error": "",
            "tasks": [],
        }
        return int(connection.execute(insert(journal).values(row).returning(journal.c.id)).scalar_one())

    def _end(self, connection: Connection, attempt: int, outcome: Outcome, **values: str) -> None:
        running = (journal.c.id == attempt) & (journal.c.outcome == Outcome.RUNNING.value)
        ended = update(journal).where(running).values(outcome=outcome.value, ended=self._now(), **values)
        if connection.execute(ended).rowcount != 1:
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


def _put(connection: Connection, deployment_id: int, machine: Machine, now: float) -> None:
    values = {"phase": machine.phase.value, "facts": machine.facts.to_json(), "changed": now}
    here = (machines.c.deployment_id == deployment_id) & (machines.c.name == machine.name)
    if connection.execute(update(machines).where(here).values(values)).rowcount == 0:
        refuse_name(machine.name)
        connection.execute(insert(machines).values(deployment_id=deployment_id, name=machine.name, **values))
