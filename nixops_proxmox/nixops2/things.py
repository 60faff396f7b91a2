"""Things beside machines and volumes in NixOps's state: pools, networks, firewalls and the rest. Satisfies as much of
`state.record.DeploymentRecord` as they need.

All of them are in one attribute of the deployment. Some have a resource of NixOps's own, and some do not: a machine's
firewall, and what tenants and placement stand for.
"""

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.core.kind import Known, Presence
from nixops_proxmox.nixops2.book import Ledger, reading, shared_json
from nixops_proxmox.state import JournalEntry, Stored

ATTRIBUTE = "proxmox.things"  # of NixOps's deployment


@dataclass(frozen=True)
class KeptThingRecord:
    """All that is known of one thing. Its description is among the facts."""

    phase: Presence = Presence.ABSENT
    facts: Known = field(default_factory=Known)
    entries: tuple[JournalEntry, ...] = ()
    spec: None = None

    def to_json(self) -> dict[str, Any]:
        return shared_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "KeptThingRecord":
        """Raises StateTooNew for what a later version wrote, StateError for what no version wrote."""
        with reading("thing", data):
            entries = tuple(JournalEntry.from_json(entry) for entry in data["entries"])
            return cls(Presence(data["phase"]), Known.from_json(data["facts"]), entries)


class NixopsThings:
    """The things of one deployment. `identity` is NixOps's UUID: a clone of the deployment has another one, and things
    of its own."""

    def __init__(
        self,
        identity: str,
        read: Callable[[], str],
        write: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`read`, `write`: NixOps's attribute; empty: there is none."""
        self._identity, self._text, self._keep, self._now = identity, read, write, now
        self._books: dict[tuple[str, str], Ledger[KeptThingRecord]] = {}
        self._lock = threading.RLock()

    def stored(self, kind: str) -> Sequence[Stored]:
        found = {name: KeptThingRecord.from_json(one) for name, one in sorted(self._all().get(kind, {}).items())}
        return [Stored(kind, name, one.phase.value, one.facts.to_json()) for name, one in found.items()]

    def kinds(self) -> Collection[str]:
        return self._all().keys()

    def has(self, kind: str, name: str) -> bool:
        return name in self._all().get(kind, {})

    def entries(self, name: str | None = None) -> Sequence[JournalEntry]:
        """What happened to the things of one name, or to all."""
        records = [one for things in self._all().values() for key, one in things.items() if name in (None, key)]
        return [entry for one in records for entry in KeptThingRecord.from_json(one).entries]

    def book(self, kind: str, name: str) -> Ledger[KeptThingRecord]:
        with self._lock:
            if (kind, name) not in self._books:
                told = self._all().get(kind, {}).get(name)
                record = KeptThingRecord() if told is None else KeptThingRecord.from_json(told)
                self._books[kind, name] = Ledger(record, lambda now: self._write(kind, name, now.to_json()), self._now)
            return self._books[kind, name]

    def forget(self, kind: str, name: str) -> None:
        with self._lock:
            self._books.pop((kind, name), None)
            self._write(kind, name, None)

    def _all(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            text = self._text()
        told = json.loads(text) if text else {}
        things: dict[str, dict[str, Any]] = told["things"] if told.get("identity") == self._identity else {}
        return things

    def _write(self, kind: str, name: str, record: dict[str, Any] | None) -> None:
        """At once, and as a whole."""
        with self._lock:
            things = self._all()
            of_kind = {key: one for key, one in things.get(kind, {}).items() if key != name}
            things[kind] = of_kind if record is None else {**of_kind, name: record}
            kept = {key: one for key, one in things.items() if one}
            self._keep(json.dumps({"identity": self._identity, "things": kept}, sort_keys=True))


def things_of(depl: Any, session: Any) -> NixopsThings:
    """Those of a deployment. Its attribute is behind the same gate as those of its resources."""

    def read() -> str:
        with session.gate.into(depl._db):
            text = depl._get_attr(ATTRIBUTE)
        return text if isinstance(text, str) else ""

    def write(text: str) -> None:
        with session.gate.into(depl._db):
            depl._set_attr(ATTRIBUTE, text)
        session.checkpoint()

    return NixopsThings(depl.uuid, read, write)
