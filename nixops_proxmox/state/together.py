"""Threads that write to SQLite stand in line, and those that stand in line at the same time share one commit.

A commit waits for the disk. A fleet writes some twenty times for each machine, and each thread would wait for all
commits before its own. Every writer still comes back only when what it wrote is on the disk.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection

MOST = 64  # writers that share a commit: the first of them waits for the last
WRITES = "writes"  # what a connection knows of the transaction that it begins next
PATIENCE = 1.0  # seconds that a writer waits before it commits what another should have committed


def say(connection: PoolProxiedConnection, statement: str) -> None:
    """To SQLite itself: SQLAlchemy would make as much of a BEGIN as of a question."""
    sqlite: Any = connection.dbapi_connection
    sqlite.execute(statement)


class _Shared:
    """One transaction, and those that wrote in it."""

    def __init__(self, connection: Connection, transaction: RootTransaction) -> None:
        self.connection, self._transaction = connection, transaction
        self.writers = 0
        self.over = threading.Event()
        self._error: BaseException | None = None

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """What fails in here is taken back, and nothing else is."""
        if self.writers:
            say(self.connection.connection, "SAVEPOINT writer")
        try:
            yield self.connection
            self._require_open()
        except BaseException:
            self._take_back()
            raise
        self.writers += 1

    def _take_back(self) -> None:
        """A disk that is full makes SQLite take back all: then no writer of this transaction is to believe in it."""
        try:
            if self.writers:
                say(self.connection.connection, "ROLLBACK TO writer")
        except BaseException as error:
            self._error = error
            raise

    def _require_open(self) -> None:
        dbapi = self.connection.connection.dbapi_connection
        if not getattr(dbapi, "in_transaction", True):
            raise SQLAlchemyError("the transaction has ended")

    @property
    def is_broken(self) -> bool:
        return self._error is not None

    def end(self) -> None:
        """Commit, if anybody wrote. Those that wait are told how it went."""
        try:
            with self.connection:
                if self.writers and self._error is None:
                    with self._transaction:  # commits, and rolls back what cannot be committed
                        pass
                else:
                    self._transaction.rollback()
        except BaseException as error:  # noqa: BLE001 -- raised again by each of the writers
            self._error = error
        finally:
            self.over.set()

    def tell(self) -> None:
        """Raise what went wrong, in each thread an error of its own."""
        if isinstance(self._error, SQLAlchemyError):
            raise self._error.with_traceback(None)
        if self._error is not None:
            raise self._error


class Writers:
    """The threads that write to one database. One at a time writes, in a transaction that it may share with those
    before it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._open: _Shared | None = None  # only for the thread whose turn it is

    @contextmanager
    def writing(self, engine: Engine) -> Iterator[Connection]:
        """What fails is told after the commit, too: it may have failed for what another has written a moment before."""
        failure: BaseException | None = None
        with self._my_turn():
            shared = self._open = self._open or _begin(engine)
            try:
                with shared.one() as connection:
                    yield connection
            except BaseException as error:  # noqa: BLE001 -- raised again below
                failure = error
            finally:
                self._settle(shared)
        self._wait(shared)
        if failure is not None:
            raise failure
        shared.tell()

    def _wait(self, shared: _Shared) -> None:
        """Safe to repeat: only the open transaction is committed, and once."""
        while not shared.over.wait(PATIENCE):
            self._see_to(shared)

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        with self._counting:
            self._waiting += 1
        try:
            self._turn.acquire()
        finally:
            with self._counting:
                self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _settle(self, shared: _Shared) -> None:
        """Commit it now, unless a thread stands in line that can join it."""
        if not self._waiting or not 0 < shared.writers < MOST or shared.is_broken:
            self._open = None
            shared.end()

    def _see_to(self, shared: _Shared) -> None:
        """A thread that stood in line was interrupted, so it does not commit what is open."""
        with self._turn:
            if self._open is shared:
                self._open = None
                shared.end()


def _begin(engine: Engine) -> _Shared:
    connection = engine.connect()
    try:
        connection.connection.info[WRITES] = True
        return _Shared(connection, connection.begin())
    except BaseException:
        connection.close()
        raise
