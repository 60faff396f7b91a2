"""A machine's or a volume's record as one JSON value, for a door whose state is somebody else's. It holds no secret."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from nixops_proxmox.errors import StateError, StateTooNew
from nixops_proxmox.kinds.volume.facts import VolumeFacts, VolumePhase
from nixops_proxmox.model import Endpoint, Facts, Machine, Phase
from nixops_proxmox.spec import MachineSpec, VolumeSpec
from nixops_proxmox.state import AttemptOutcome, JournalEntry
from nixops_proxmox.texts import kept

VERSION = 1
KEPT = 40  # entries of history
ERROR_LIMIT = 2000  # characters of an entry's error


@dataclass(frozen=True)
class MachineRecord:
    """All that is known of one machine. `hardware`: what the installed system said of itself, and in which round of
    installation. `backups`: by NixOps's backup ID."""

    phase: Phase = Phase.ABSENT
    facts: Facts = field(default_factory=Facts)
    spec: MachineSpec | None = None
    entries: tuple[JournalEntry, ...] = ()
    winners: Mapping[str, Endpoint] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    backups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            **shared_json(self),
            "winners": {site: asdict(endpoint) for site, endpoint in self.winners.items()},
            "hardware": dict(self.hardware),
            "backups": {name: dict(backup) for name, backup in self.backups.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises StateTooNew for what a later version wrote, StateError for what no version wrote."""
        with reading("machine", data):
            spec = data.get("spec")
            return cls(
                Phase(data["phase"]),
                Facts.from_json(data["facts"]),
                None if spec is None else MachineSpec.model_validate(spec),
                tuple(JournalEntry.from_json(entry) for entry in data["entries"]),
                {site: Endpoint.from_json(endpoint) for site, endpoint in data["winners"].items()},
                data["hardware"],
                data["backups"],
            )

    def machine(self, deployment: str, name: str) -> Machine:
        return Machine(deployment, name, self.phase, self.facts)


@dataclass(frozen=True)
class KeptVolumeRecord:
    """All that is known of one volume."""

    phase: VolumePhase = VolumePhase.ABSENT
    facts: VolumeFacts = field(default_factory=VolumeFacts)
    spec: VolumeSpec | None = None
    entries: tuple[JournalEntry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return shared_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises StateTooNew for what a later version wrote, StateError for what no version wrote."""
        with reading("volume", data):
            spec = data.get("spec")
            return cls(
                VolumePhase(data["phase"]),
                VolumeFacts.from_json(data["facts"]),
                None if spec is None else VolumeSpec.model_validate(spec),
                tuple(JournalEntry.from_json(entry) for entry in data["entries"]),
            )


def shared_json(record: "_Kept") -> dict[str, Any]:
    """What every record has."""
    return {
        "version": VERSION,
        "phase": record.phase.value,
        "facts": record.facts.to_json(),
        "spec": None if record.spec is None else record.spec.model_dump(mode="json", by_alias=True),
        "entries": [entry.to_json() for entry in record.entries],
    }


@contextmanager
def reading(what: str, data: Mapping[str, Any]) -> Iterator[None]:
    if data.get("version") != VERSION:
        raise StateTooNew(
            f"the {what}'s record is of version {data.get('version')}, and this program knows {VERSION}",
            hint="upgrade nixops-proxmox to at least the version that wrote it",
        )
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StateTooNew(
            f"the recorded description cannot be read: {where}: {first['msg']}",
            hint="was it written by a newer version of nixops-proxmox?",
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"the {what}'s record is damaged: {error!r}", hint="restore NixOps's state") from error


class _Kept(Protocol):
    """What every record has, whatever it is of."""

    @property
    def phase(self) -> Any: ...
    @property
    def facts(self) -> Any: ...
    @property
    def spec(self) -> Any: ...
    @property
    def entries(self) -> tuple[JournalEntry, ...]: ...
    def to_json(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=_Kept)


class Ledger(Generic[R]):
    """The record of one thing in the hands of one thread. Satisfies `core.ports.Journal`.

    Every change is written at once, as a whole, by `write`.
    """

    def __init__(self, record: R, write: Callable[[R], None], now: Callable[[], float] = time.time) -> None:
        self._write: Callable[[R], None] = write
        self._now = now
        cut = tuple(
            replace(entry, outcome=AttemptOutcome.INTERRUPTED) if entry.outcome is AttemptOutcome.RUNNING else entry
            for entry in record.entries
        )
        self.record_now: R = replace(record, entries=cut)  # type: ignore[type-var]

    def keep(self, **changes: Any) -> None:
        """Change the record and write it."""
        self.record_now = replace(self.record_now, **changes)  # type: ignore[type-var]
        self._write(self.record_now)

    def begin(self, thing: Any, label: str, to: str) -> int:
        number = max((entry.id for entry in self.record_now.entries), default=0) + 1
        self._add(
            JournalEntry(
                number,
                thing.name,
                label,
                thing.phase,
                str(to),
                self._now(),
                None,
                AttemptOutcome.RUNNING,
                "",
                (),
                thing.kind,
            )
        )
        return number

    def note(self, attempt: int, thing: Any) -> None:
        entry: JournalEntry = self._get(attempt)
        task = thing.facts.task
        tasks = (*entry.tasks, task) if task and task not in entry.tasks else entry.tasks
        self.keep(phase=thing.phase, facts=thing.facts, entries=self._with(replace(entry, tasks=tasks)))

    def commit(self, attempt: int, thing: Any) -> None:
        ended = replace(self._get(attempt), phase_to=thing.phase.value, ended=self._now(), outcome=AttemptOutcome.DONE)
        self.keep(phase=thing.phase, facts=thing.facts, entries=self._with(ended))

    def fail(self, attempt: int, error: Exception) -> None:
        told = kept(str(error) or type(error).__name__, ERROR_LIMIT)
        ended = replace(self._get(attempt), ended=self._now(), outcome=AttemptOutcome.FAILED, error=told)
        self.keep(entries=self._with(ended))

    def record(self, thing: Any, label: str) -> None:
        now, before = self._now(), self.record_now.phase.value
        number = max((entry.id for entry in self.record_now.entries), default=0) + 1
        seen = JournalEntry(
            number,
            thing.name,
            label,
            before,
            thing.phase.value,
            now,
            now,
            AttemptOutcome.SEEN,
            "",
            (),
            thing.kind,
        )
        self.record_now = replace(self.record_now, phase=thing.phase, facts=thing.facts)  # type: ignore[type-var]
        self._add(seen)

    def _add(self, entry: JournalEntry) -> None:
        self.keep(entries=(*self.record_now.entries, entry)[-KEPT:])

    def _get(self, attempt: int) -> JournalEntry:
        for entry in self.record_now.entries:
            if entry.id == attempt and entry.outcome is AttemptOutcome.RUNNING:
                return entry
        raise StateError(f"attempt {attempt} is not running: it has ended already, or never began")

    def _with(self, changed: JournalEntry) -> tuple[JournalEntry, ...]:
        return tuple(changed if entry.id == changed.id else entry for entry in self.record_now.entries)


class Book(Ledger[MachineRecord]):
    """The record of one machine."""

    def remember_winner(self, site: str, endpoint: Endpoint) -> None:
        if self.record_now.winners.get(site) != endpoint:
            self.keep(winners={**self.record_now.winners, site: endpoint})
