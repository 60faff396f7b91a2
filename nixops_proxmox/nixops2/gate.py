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

# These end us in the same way as Ctrl-C: we release the lock and write a shared state back.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
USUAL = (signal.SIG_DFL, signal.default_int_handler)  # not one that is ignored (nohup), nor another program's


class ShutdownGate:
    """Open until a signal shuts it. From then on only the main thread may pass, which closes the database."""

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
        """Enter the database, which the main thread may have closed by now."""
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
            # Ends a thread silently, as if the process had ended already. Of subclasses there is a traceback.
            raise SystemExit

    def shut_on_signals(self) -> None:
        """Shut this gate, too, wherever `end_on_signals` has put our handler. Another program that uses NixOps keeps
        its own."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if isinstance(handler, Interruption):
                signal.signal(number, Interruption((*handler.gates, self)))

    @property
    def is_shut(self) -> bool:
        return self._shut

    def shut(self) -> None:
        """Waits for the thread that is inside. The flag comes first, so that it does not enter again."""
        self._shut = True
        with self._lock:
            pass


class Interruption:
    """Our signal handler: it shuts the gates of all opened states, and ends NixOps as Ctrl-C does."""

    def __init__(self, gates: tuple[ShutdownGate, ...] = ()) -> None:
        self.gates = gates

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        for gate in self.gates:
            gate.shut()
        raise KeyboardInterrupt  # NixOps says "interrupted", and ends with status 1


def end_on_signals() -> None:
    """Call it once, from the main thread, before any state is opened. Gates come later: see `shut_on_signals`."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        if signal.getsignal(number) in USUAL:
            signal.signal(number, Interruption())


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
