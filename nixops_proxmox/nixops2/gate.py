"""The end of NixOps by a signal: no thread is inside of NixOps's database when the main thread closes it.

NixOps's workers are threads, and its main thread closes the database as soon as Ctrl-C ends it. SQLite does not survive
a statement in another thread at that moment: the interpreter crashes. So every access of a machine of ours takes the
gate, and a signal shuts the gate first.
"""

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

# These end us in the same way as Ctrl-C: we release the lock and write a shared state back.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
USUAL = (signal.SIG_DFL, signal.default_int_handler)  # not one that is ignored (nohup), nor another program's


class ShutdownGate:
    """Open until a signal shuts it; from then on only the main thread may pass, which closes the database."""

    def __init__(self) -> None:
        # Reentrant, because a signal handler runs in the main thread, which may be inside.
        self._lock = threading.RLock()
        self._shut = False

    @contextmanager
    def passed(self) -> Iterator[None]:
        with self._lock:
            self._turn_away()
            yield

    @contextmanager
    def into(self, database: sqlite3.Connection) -> Iterator[None]:
        """Inside of the database, which the main thread may have closed by now."""
        with ExitStack() as stack:
            try:
                stack.enter_context(database)
            except sqlite3.ProgrammingError:
                self._turn_away()
                raise
            stack.enter_context(self.passed())
            yield

    def _turn_away(self) -> None:
        if self._shut and threading.current_thread() is not threading.main_thread():
            # Ends a thread silently, as if the process had ended already; of subclasses there is a traceback.
            raise SystemExit

    @property
    def is_shut(self) -> bool:
        return self._shut

    def shut(self) -> None:
        """Waits for the thread that is inside; the flag comes first, so that it does not enter again."""
        self._shut = True
        with self._lock:
            pass


gate = ShutdownGate()


def end_on_signals() -> None:
    """From the main thread, before any worker begins."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        if signal.getsignal(number) in USUAL:
            signal.signal(number, _end)


def name_state() -> None:
    """NixOps opens its state before any machine of ours is asked, and ends with a traceback where it may not write."""
    usual = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, sqlite3.OperationalError):
            file = os.environ.get("NIXOPS_STATE") or str(Path.home() / ".nixops/deployments.nixops")
            sys.stderr.write(unwritable(file, error))
        else:
            usual(kind, error, trace)

    sys.excepthook = tell


def unwritable(file: str, error: Exception) -> str:
    return (
        f"error: NixOps's state {file} cannot be written: {error}\n"
        "hint: may you write to it and to its folder, and has the disk room? (NIXOPS_STATE names another)\n"
    )


def _end(_number: int, _frame: FrameType | None) -> None:
    gate.shut()
    raise KeyboardInterrupt  # NixOps says "interrupted", and ends with status 1


class Gated:
    """Beside NixOps's `ResourceState`: each of its statements takes the gate. The database's own lock comes first, for
    the main thread may hold it when the signal comes. So a thread that is inside of the gate never waits."""

    depl: Any

    def _set_attrs(self, attrs: dict[str, Any]) -> None:
        try:
            with gate.into(self.depl._db):
                super()._set_attrs(attrs)  # type: ignore[misc]
        except sqlite3.OperationalError as error:
            self._refuse(error)

    def _refuse(self, error: sqlite3.OperationalError) -> NoReturn:
        from nixops_proxmox.nixops2.errors import ProxmoxError  # NixOps's; the gate itself is tried without it

        file = self.depl._db.execute("pragma database_list").fetchone()[2]
        raise ProxmoxError(unwritable(file, error)) from error

    def _del_attr(self, name: str) -> None:
        with gate.into(self.depl._db):
            super()._del_attr(name)  # type: ignore[misc]

    def _get_attr(self, *what: Any) -> Any:
        with gate.into(self.depl._db):
            return super()._get_attr(*what)  # type: ignore[misc]

    def export(self) -> dict[str, Any]:
        with gate.into(self.depl._db):
            exported: dict[str, Any] = super().export()  # type: ignore[misc]
            return exported

    def _title(self) -> str:
        """What the deployment is called."""
        with gate.into(self.depl._db):
            return str(self.depl.name or self.depl.uuid)
