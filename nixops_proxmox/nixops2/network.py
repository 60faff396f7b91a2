"""NixOps's state as a deployment's record, for the verbs of all doors. Satisfies `state.record.DeploymentRecord`."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.model import Endpoint, Machine, SystemContents
from nixops_proxmox.nixops2.book import Book, KeptVolumeRecord, Ledger, MachineRecord
from nixops_proxmox.nixops2.things import KeptThingRecord, NixopsThings
from nixops_proxmox.nixops2.volumes import NixopsVolumes, Pages
from nixops_proxmox.state import JournalEntry, Stored
from nixops_proxmox.state.lease import MACHINE


class Kept(Protocol):
    """One machine in NixOps's state: `backend.ProxmoxState`."""

    @property
    def record(self) -> MachineRecord: ...
    def write(self, record: MachineRecord) -> None: ...


class NixopsRecord:
    """All machines of ours in one NixOps deployment. `name` stands in the VMs' notes."""

    def __init__(
        self,
        name: str,
        kept: Mapping[str, Kept],
        lock: Any,
        prove: Callable[[], None] = lambda: None,
        volumes: NixopsVolumes | None = None,
        things: NixopsThings | None = None,
    ) -> None:
        """`lock`: makes NixOps's own lock of the deployment, a context manager. `prove` raises Locked if a lock that it
        holds beside it was broken."""
        self._prove = prove
        self.volumes = volumes or NixopsVolumes(name, name, dict)
        self.things = things or NixopsThings(name, lambda: "", lambda _text: None)
        self.name = name
        self._kept, self._lock = kept, lock
        self._books: dict[str, Book] = {}
        self._guard = threading.Lock()

    @property
    def identity(self) -> str:
        """NixOps's UUID: its names may change."""
        return self.volumes.identity

    def machines(self) -> list[Machine]:
        return [self.machine(name) for name in sorted(self._kept)]

    def machine(self, name: str) -> Machine:
        kept = self._kept.get(name)
        return Machine(self.name, name) if kept is None else kept.record.machine(self.name, name)

    def stored(self, kind: str) -> Sequence[Stored]:
        return self.volumes.stored(kind) if kind == VOLUME else self.things.stored(kind)

    def recorded_kinds(self) -> Collection[str]:
        return {VOLUME, *self.things.kinds()}

    def forget(self, name: str, lease: Any = None, *, kind: str = MACHINE) -> None:
        """NixOps itself forgets machines: `nixops destroy` and `nixops delete-resources` do."""
        if kind == VOLUME:
            return self.volumes.forget(name, lease)
        if kind != MACHINE:
            return self.things.forget(kind, name)
        raise StateError(f"{name}: NixOps keeps this record", hint=f"`nixops destroy --include {name}` forgets it")

    def history(self, name: str | None = None, limit: int | None = None) -> Sequence[JournalEntry]:
        records = [one.record for key, one in self._kept.items() if name in (None, key)]
        entries = [entry for record in records for entry in record.entries]
        others = [*self.volumes.entries(name), *self.things.entries(name)]
        found = sorted([*entries, *others], key=lambda entry: entry.began)
        return found[-limit:] if limit else found

    @contextmanager
    def lease(self, *, break_lock: bool = False, machines: Sequence[str] = ()) -> Iterator[None]:
        del break_lock, machines  # NixOps's lock is of the whole deployment, and ends with its process
        with self._lock():
            yield

    def holding(self, kind: str, name: str, lease: Any) -> AbstractContextManager[Any]:
        """NixOps's lock is of the whole deployment."""
        del kind, name
        return nullcontext(lease)

    def prove(self, lease: Any) -> None:
        """Raises Locked if somebody else has broken NixOps's lock. The lock of a state file belongs to its process, and
        cannot be broken."""
        del lease
        self._prove()

    def journal(self, lease: Any = None) -> "Pages":
        del lease
        return Pages(self._book_of)

    # NixOps plans and activates by itself.

    def find_contents(self, system: str) -> SystemContents | None:
        del system
        return None

    def keep_contents(self, system: str, contents: SystemContents) -> None: ...

    # What the parts remember.

    def find_winner(self, machine: str, site: str) -> Endpoint | None:
        kept = self._kept.get(machine)
        return None if kept is None else kept.record.winners.get(site)

    def remember_winner(self, machine: str, site: str, endpoint: Endpoint) -> None:
        if machine in self._kept:
            self._book(machine).remember_winner(site, endpoint)

    def _book_of(self, thing: Any) -> Book | Ledger[KeptVolumeRecord] | Ledger[KeptThingRecord]:
        if thing.kind == VOLUME:
            return self.volumes.book(thing.name)
        return self._book(thing.name) if thing.kind == MACHINE else self.things.book(thing.kind, thing.name)

    def _book(self, name: str) -> Book:
        if name not in self._kept:
            raise StateError(f"NixOps does not know {name} yet", hint="`nixops deploy` records it")
        with self._guard:
            return self._books.setdefault(name, Book(self._kept[name].record, self._kept[name].write))


class WithKeysOf:
    """The record for `compose`, which keeps keys by its name: NixOps's names may change, its UUIDs do not."""

    def __init__(self, name: str, record: NixopsRecord) -> None:
        self.name = name
        self.find_winner, self.remember_winner = record.find_winner, record.remember_winner
        self.machines = record.machines
