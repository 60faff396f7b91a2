"""How much CPU each layer of the client uses, by the CPU clock of each thread.

The functions by which a layer is entered are replaced, in a process that does nothing but measure. A layer that calls
another one is not charged for it. What is in no layer is the rest: the plans, the description, progress, the start of
Python and its imports.
"""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import paramiko

from nixops_proxmox.pve.wire.transport import Transport
from nixops_proxmox.ssh import connect, session
from nixops_proxmox.state.journal import Journal
from nixops_proxmox.state.store import Deployment, State

# By layer: what is called to enter it. A thread of paramiko's is SSH from its beginning to its end.
ENTRIES: dict[str, tuple[tuple[Any, tuple[str, ...]], ...]] = {
    "ssh": (
        (paramiko.Transport, ("run",)),
        (session.Session, ("run", "close")),
        (session, ("open_session",)),
        (connect, ("open_link",)),
        (connect.Link, ("close",)),
    ),
    "http": ((Transport, ("send", "close")),),
    "state": (
        (Journal, ("begin", "note", "commit", "fail", "record")),
        (State, ("__init__", "close", "deployment", "find_machine", "find_name")),
        (Deployment, ("machine", "stored", "recorded_kinds", "find_stored", "prove", "find_winner", "remember_winner")),
    ),
}


class Layers:
    """CPU seconds by layer, of all threads."""

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()  # nanoseconds
        self._lock = threading.Lock()
        self._own = threading.local()

    def measure(self) -> None:
        """From now on."""
        for layer, entries in ENTRIES.items():
            for owner, names in entries:
                for name in names:
                    setattr(owner, name, self.measured(layer, getattr(owner, name)))

    def seconds(self, whole: float) -> dict[str, float]:
        """`whole`: what the process has used. What is in no layer is `rest`."""
        with self._lock:
            found = {layer: self._spent[layer] / 1e9 for layer in ENTRIES}
        return found | {"rest": whole - sum(found.values())}

    def measured(self, layer: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, charged to this layer."""

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            outer, before = getattr(self._own, "inner", 0), time.thread_time_ns()
            self._own.inner = 0
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.thread_time_ns() - before
                with self._lock:
                    self._spent[layer] += whole - self._own.inner
                self._own.inner = outer + whole

        return measured
