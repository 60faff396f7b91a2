"""Opens SQLite or PostgreSQL by URL. The one place where database errors become ours."""

import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from sqlite3 import Cursor as SqliteCursor
from sqlite3 import Error as SqliteError
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from nixops_proxmox import paths
from nixops_proxmox.errors import ConfigError, StateError
from nixops_proxmox.paths import expanded
from nixops_proxmox.secrecy import learn
from nixops_proxmox.state.cells import load_json
from nixops_proxmox.state.together import WRITES, Writers, say
from nixops_proxmox.texts import shown_line

ENVIRONMENT = "NIXOPS_PROXMOX_STATE"
BUSY_TIMEOUT = 30  # seconds to wait for another process's write
CONNECT_TIMEOUT = 10  # seconds to wait for a PostgreSQL server
POSTGRES = "postgresql+psycopg"
# SQLAlchemy logs there, in the pool's name, each time that a connection is taken and given back.
logging.getLogger(f"{__name__}.OneWriterPool").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Location:
    """Where a state is kept."""

    url: URL

    @property
    def file(self) -> Path | None:
        """SQLite's file. None: it is on a server."""
        return Path(str(self.url.database)) if self.url.get_backend_name() == "sqlite" else None

    @property
    def title(self) -> str:
        """The URL without its password, for people."""
        return str(self.file or self.url.render_as_string(hide_password=True))


def parse_location(location: str) -> Location:
    """A file's path, `sqlite:///path`, `postgresql://…`, or empty: the default file in the user's state directory."""
    if not location:
        return _at_file(paths.state_dir() / "state.sqlite")
    if "://" not in location:
        return _at_file(expanded(location).absolute())
    try:
        url = make_url(location)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(
            "the state's URL cannot be read", hint=_FORMS
        ) from error  # not quoted: it may hold a password
    learn(str(url.password or ""))
    match url.drivername:
        case "sqlite" if url.database and url.database != ":memory:":
            return Location(url)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return Location(url.set(drivername=POSTGRES))
    raise ConfigError(f"the state cannot be kept in {url.render_as_string(hide_password=True)}", hint=_FORMS)


def _at_file(file: Path) -> Location:
    return Location(URL.create("sqlite", database=str(file)))


_FORMS = "give a file's path, sqlite:////path/to/file, or postgresql://user@host/database"


def has_password(location: str) -> bool:
    """Does the location spell out a password (which then must not come from a command line)?"""
    return "://" in location and parse_location(location).url.password is not None


def open_engine(location: Location) -> Engine:
    """An engine for the location. Of SQLite, the file is made first (0600, in a directory of 0700)."""
    if location.file is not None:
        ensure_private_file(location.file)
        return _open_sqlite(location)
    try:
        return create_engine(
            location.url,
            hide_parameters=True,
            json_deserializer=load_json,
            pool_pre_ping=True,  # a server that restarted costs one round trip, not a failed deploy
            pool_size=8,
            max_overflow=8,
            pool_timeout=60,
            connect_args={"connect_timeout": CONNECT_TIMEOUT, "application_name": "nixops-proxmox"},
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a state in PostgreSQL needs the Python package {error.name}",
            hint="pip install '.[postgres]' in a checkout of nixops-proxmox, or psycopg alone",
        ) from error


def ensure_private_file(file: Path) -> None:
    """Make the file, empty and only for its owner, unless it is there. SQLite gives its side files the same mode."""
    try:
        if not file.parent.is_dir():
            file.parent.parent.mkdir(parents=True, exist_ok=True)
            file.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            mode = file.stat().st_mode
            if not stat.S_ISREG(mode):
                raise StateError(f"the state {file} is not a file") from None
            if mode & stat.S_IWOTH:
                raise StateError(
                    f"the state {file} can be written by everybody", hint=f"chmod 600 {file}, if its content is trusted"
                ) from None
    except OSError as error:
        raise StateError(
            f"cannot open the state {file}: {error.strerror}",
            hint=f"set {ENVIRONMENT} to a place you may write to",
        ) from error


class OneWriterPool(QueuePool):
    """SQLite has one writer at a time, and a thread that finds it busy sleeps and tries again, in no order. Of a
    hundred threads, some would starve. So the threads of one process stand in line here, and only processes meet in
    SQLite."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.line = Writers()


def _open_sqlite(location: Location) -> Engine:
    engine = create_engine(
        location.url,
        hide_parameters=True,
        json_deserializer=load_json,
        poolclass=OneWriterPool,
        pool_size=4,
        max_overflow=12,
        pool_timeout=60,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: SqliteConnection, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = connection.cursor()
        try:
            _use_wal(cursor)
            # FULL: a record of identity must survive a power cut, too, or a VM would be left that no record knows.
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
        finally:
            cursor.close()

    # In place of an event "begin": with that, SQLAlchemy would look for listeners in each statement.
    engine.dialect.do_begin = _begin  # type: ignore[method-assign]
    return engine


def _begin(dbapi_connection: PoolProxiedConnection) -> None:
    """A deferred transaction that turns into a writer fails at once when another wrote meanwhile: no timeout helps."""
    say(dbapi_connection, "BEGIN IMMEDIATE" if dbapi_connection.info.pop(WRITES, False) else "BEGIN")


def _use_wal(cursor: SqliteCursor) -> None:
    """Switch to WAL. If several processes open a new file at the same moment, SQLite tells all except one that it is
    locked. It does not wait here, whatever its timeout says.

    Safe to repeat: the pragma sets a mode, and setting it twice is setting it."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except SqliteError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A consistent look."""
    with translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: everything in it is recorded, or nothing."""
    with translated(engine), transaction(engine) as connection:
        yield connection


def transaction(engine: Engine) -> AbstractContextManager[Connection]:
    """`writing`, with the errors of the database as they are."""
    return engine.pool.line.writing(engine) if isinstance(engine.pool, OneWriterPool) else engine.begin()


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Database errors as StateError, without the URL's password."""
    try:
        yield
    except (SQLAlchemyError, SqliteError, UnicodeEncodeError, JSONDecodeError) as error:
        raise _translated(error, Location(engine.url).title) from error


def _translated(error: Exception, where: str) -> StateError:
    match error:
        case PoolTimeout():
            return StateError(f"the state {where} is too busy: no connection was free for a minute")
        case DBAPIError() | SqliteError():
            said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
            return StateError(f"the state {where} cannot be used: {said}", hint=_hint(said, where))
        case UnicodeEncodeError():
            return StateError(f"the state {where} keeps text only, and {shown_line(error.object)} is none")
        case JSONDecodeError():
            return StateError(f"the state {where} is damaged: {error}", hint="restore it from a backup")
        case _:
            return StateError(f"the state {where} cannot be used: {type(error).__name__}")


def _hint(said: str, where: str) -> str:
    if "locked" in said:
        return f"another program has held it for {BUSY_TIMEOUT} seconds; is one stopped in the middle of a write?"
    if "not a database" in said or "malformed" in said:
        return "it is damaged or something else: move it away, and restore it from a backup"
    if "readonly" in said or "read-only" in said or "unable to open" in said:
        return (
            f"make {where} and its folder writable for you (its owner, its mode, how the disk is mounted),"
            f" or set {ENVIRONMENT} to another place"
        )
    if "is full" in said or "disk I/O error" in said:
        return f"is the disk full, or broken? Make room where {where} is, and run the same command again"
    if "password" in said:
        return "give the password in ~/.pgpass or PGPASSWORD"
    return ""
