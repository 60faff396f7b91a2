"""What the verbs need of a deployment's record, which is kept in our own state or in NixOps's."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from nixops_proxmox.core.ports import Journal
from nixops_proxmox.model import Endpoint, Machine, SystemContents
from nixops_proxmox.state import JournalEntry, Stored
from nixops_proxmox.state.lease import MACHINE


class Winners(Protocol):
    """The endpoints that won, by machine and by the operator's site."""

    @property
    def name(self) -> str:
        """The deployment's name, which is also the name of its folder of keys."""
        ...

    def machines(self) -> list[Machine]:
        """All that is recorded: some are jump hosts of others."""
        ...

    def find_winner(self, machine: str, site: str) -> Endpoint | None: ...
    def remember_winner(self, machine: str, site: str, endpoint: Endpoint) -> None: ...


class DeploymentRecord(Winners, Protocol):
    """All of it. A lease (whatever it is) is the right to change the deployment."""

    @property
    def identity(self) -> str:
        """What stays as long as the deployment does, whatever it is called."""
        ...

    def machine(self, name: str) -> Machine: ...
    def stored(self, kind: str) -> Sequence[Stored]:
        """Everything of that kind that is recorded, by name."""
        ...

    def recorded_kinds(self) -> Collection[str]:
        """The kinds of which anything is recorded."""
        ...

    def forget(self, name: str, lease: Any = None, *, kind: str = MACHINE) -> None: ...
    def history(self, name: str | None = None, limit: int | None = None) -> Sequence[JournalEntry]: ...
    def lease(self, *, break_lock: bool = False, machines: Sequence[str] = ()) -> AbstractContextManager[Any]:
        """The right to change the deployment, or only these machines of it."""
        ...

    def holding(self, kind: str, name: str, lease: Any) -> AbstractContextManager[Any]:
        """The right to change this thing for a run that has another right, which may be of another thing alone. Raises
        Locked."""
        ...

    def prove(self, lease: Any) -> None:
        """Raises Locked if somebody else has taken over since the lease was given."""
        ...

    def journal(self, lease: Any = None) -> Journal[Any]: ...
    def find_contents(self, system: str) -> SystemContents | None:
        """What a system that was deployed consisted of. None: it is not recorded."""
        ...

    def keep_contents(self, system: str, contents: SystemContents) -> None: ...
