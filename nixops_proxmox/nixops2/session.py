"""What the machines of one opened NixOps state share, whatever thread they are in. It is kept on NixOps's own object
for that state, because this object reaches everything of ours: machines, verbs and the storage."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from nixops_proxmox.nixops2.gate import ShutdownGate

if TYPE_CHECKING:
    from nixops_proxmox.nixops2.run import Run

KEPT_AS = "nixops_proxmox_session"  # an attribute of NixOps's StateFile


class Checkpoints(Protocol):
    """A storage that can write the state back in the middle of a run."""

    def checkpoint(self) -> None:
        """Raises StateError, Locked."""


class StateSession:
    """One opened state: the gate before its database, its storage, and the runs of its deployments."""

    def __init__(self) -> None:
        self.gate = ShutdownGate()
        self.storage: Checkpoints | None = None  # None: NixOps's own, or a throw-away copy of the state
        self._runs: dict[str, Run] = {}
        self._turn = threading.Lock()

    def checkpoint(self) -> None:
        """Call it whenever a machine's record was written. It does nothing for NixOps's own storages."""
        storage = self.storage  # the main thread may take it away at the end
        if storage is not None:
            storage.checkpoint()

    def run(self, uuid: str, begin: "Callable[[], Run]") -> "Run":
        """The run of a deployment. It begins when it is first asked for."""
        with self._turn:
            if uuid not in self._runs:
                self._runs[uuid] = begin()
            return self._runs[uuid]


def session_of(statefile: Any) -> StateSession:
    """The session of an opened state. It begins when any thread first asks for it."""
    begun = StateSession()
    kept: StateSession = vars(statefile).setdefault(KEPT_AS, begun)  # one step, so two threads get the same one
    if kept is begun:
        kept.gate.shut_on_signals()
    return kept
