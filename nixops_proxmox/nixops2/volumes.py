"""The volumes of a NixOps deployment in NixOps's state, as the keeper of all doors needs them, and their order."""

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Protocol

from nixops_proxmox.core.graph import Ref, waves
from nixops_proxmox.errors import SpecError, StateError
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.nixops2.book import KeptVolumeRecord, Ledger
from nixops_proxmox.spec import MachineSpec, VolumeSpec
from nixops_proxmox.spec.check import check_volumes
from nixops_proxmox.spec.tree import Mistakes
from nixops_proxmox.state import JournalEntry, Stored
from nixops_proxmox.state.lease import MACHINE

TYPE = "proxmox-volume"  # what NixOps calls them


class KeptVolume(Protocol):
    """One volume in NixOps's state: `volume.ProxmoxVolumeState`."""

    @property
    def record(self) -> KeptVolumeRecord: ...
    def write(self, record: KeptVolumeRecord) -> None: ...


class NixopsVolumes:
    """Satisfies `operations.volume_ports.VolumeRecord`. `name` stands in the notes of the VMs that keep volumes;
    `identity` is NixOps's UUID."""

    def __init__(
        self,
        name: str,
        identity: str,
        kept: Callable[[], Mapping[str, KeptVolume]],
        drop: Callable[[str], None] | None = None,
    ) -> None:
        """`drop`: makes NixOps forget a resource; None: where nothing is deleted."""
        self.name, self.identity = name, identity
        self._kept, self._drop = kept, drop
        self._books: dict[str, Ledger[KeptVolumeRecord]] = {}
        self._guard = threading.Lock()

    def stored(self, kind: str) -> Sequence[Stored]:
        records = {name: one.record for name, one in self._kept().items()} if kind == VOLUME else {}
        return [
            Stored(VOLUME, name, record.phase.value, record.facts.to_json()) for name, record in sorted(records.items())
        ]

    def specs(self) -> list[VolumeSpec]:
        """As they were last deployed."""
        return [one.record.spec for one in self._kept().values() if one.record.spec is not None]

    def entries(self, name: str | None = None) -> Sequence[JournalEntry]:
        """What happened to one volume, or to all."""
        return [entry for key, one in self._kept().items() if name in (None, key) for entry in one.record.entries]

    def forget(self, name: str, lease: Any = None, *, kind: str = VOLUME) -> None:
        del lease, kind
        if self._drop is None:
            raise StateError(f"volume {name}: nothing deletes it here", hint="`nixops proxmox volume delete` does")
        self._books.pop(name, None)
        self._drop(name)

    def journal(self, lease: Any = None) -> "Pages":
        del lease
        return Pages(lambda thing: self.book(thing.name))

    def has(self, name: str) -> bool:
        return name in self._kept()

    def book(self, name: str) -> Ledger[KeptVolumeRecord]:
        with self._guard:
            if name not in self._books:
                kept = self._kept().get(name)
                if kept is None:
                    raise StateError(f"NixOps does not know the volume {name} yet", hint="`nixops deploy` records it")
                self._books[name] = Ledger(kept.record, kept.write)
            return self._books[name]


class Pages:
    """All books as one journal. Satisfies `core.ports.Journal`."""

    def __init__(self, book_of: Callable[[Any], Any]) -> None:
        """`book_of` a thing."""
        self._book_of = book_of
        self._attempts: dict[int, tuple[Any, int]] = {}
        self._numbers = count(1)

    def begin(self, thing: Any, label: str, to: str) -> int:
        book, number = self._book_of(thing), next(self._numbers)
        self._attempts[number] = (book, book.begin(thing, label, to))
        return number

    def note(self, attempt: int, thing: Any) -> None:
        book, number = self._attempts[attempt]
        book.note(number, thing)

    def commit(self, attempt: int, thing: Any) -> None:
        book, number = self._attempts.pop(attempt)
        book.commit(number, thing)

    def fail(self, attempt: int, error: Exception) -> None:
        book, number = self._attempts.pop(attempt)
        book.fail(number, error)

    def record(self, thing: Any, label: str) -> None:
        self._book_of(thing).record(thing, label)


def kept_volumes(depl: Any) -> dict[str, KeptVolume]:
    """The volumes among a deployment's resources."""
    return {name: one for name, one in depl.resources.items() if one.get_type() == TYPE}


def machines_before(depl: Any, name: str) -> set[Any]:
    """The machines, as NixOps has them, that have to let go of a volume before this one gets it, or that lead to it."""
    holders = {volume: one.record.facts.machine for volume, one in kept_volumes(depl).items()}
    before = holders_before(depl.definitions, {key: one for key, one in holders.items() if one}, name)
    spec = described_machines(depl.definitions).get(name)
    gate = spec.endpoint.through if spec is not None else None
    return {one for one in depl.active_resources.values() if one.name in before or one.name == gate}


# What NixOps evaluated.


def described_machines(definitions: Mapping[str, Any] | None) -> dict[str, MachineSpec]:
    found = {name: getattr(one, "spec", None) for name, one in (definitions or {}).items()}
    return {name: spec for name, spec in found.items() if isinstance(spec, MachineSpec)}


def described_volumes(definitions: Mapping[str, Any] | None) -> dict[str, VolumeSpec]:
    found = {name: getattr(one, "spec", None) for name, one in (definitions or {}).items()}
    return {name: spec for name, spec in found.items() if isinstance(spec, VolumeSpec)}


def refuse_wrong_volumes(definitions: Mapping[str, Any] | None) -> None:
    """SpecError for a volume that is not described, or that two machines describe."""
    mistakes = Mistakes()
    machines = described_machines(definitions).values()
    check_volumes(
        described_volumes(definitions).values(), machines, lambda name: f"{name}.deployment.proxmox", mistakes
    )
    if mistakes.found:
        raise mistakes.error()


def holders_before(definitions: Mapping[str, Any] | None, holders: Mapping[str, str], name: str) -> set[str]:
    """The machines that have to let go of a volume before this one gets it. `holders`: by volume, the machine that has
    it. SpecError where machines exchange volumes: each would wait for the other."""
    machines = described_machines(definitions)
    wants = {
        Ref(MACHINE, one): {
            Ref(MACHINE, holders[volume])
            for volume in spec.volumes
            if holders.get(volume, one) != one and holders[volume] in machines
        }
        for one, spec in machines.items()
    }
    try:
        waves(wants)
    except SpecError as error:
        raise SpecError(error.message, hint="park one of the volumes first (`nixops proxmox volume detach`)") from error
    return {ref.name for ref in wants.get(Ref(MACHINE, name), ())}
