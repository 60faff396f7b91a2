"""NixOps's state and its lock in the database that the command line uses, so that a team shares one.

`network.storage.proxmox-sql` and `network.lock.proxmox-sql`, each with `url` (default: NIXOPS_PROXMOX_STATE, else the
user's own file) and `name` (of several states in one database).
"""

import hashlib
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nixops.locks
import nixops.statefile
import nixops.storage
import nixops.util

from nixops_proxmox import paths
from nixops_proxmox.errors import ConfigError, Locked, StateError
from nixops_proxmox.nixops2.errors import translated
from nixops_proxmox.nixops2.holding import Holding, holding_of
from nixops_proxmox.nixops2.session import session_of
from nixops_proxmox.ssh.files import ensure_private_directory
from nixops_proxmox.state import ENVIRONMENT, State, has_password, open_state
from nixops_proxmox.state.blobs import BlobStore, Overtaken
from nixops_proxmox.state.locks import LockStore

NAME = "nixops"
BREAK = "wait for it to end; if you are certain that it has ended, run `nixops unlock`"


class SqlOptions(nixops.util.ImmutableValidatedObject):
    url: str = ""
    name: str = NAME


def checked_options(what: str, given: dict[str, Any]) -> SqlOptions:
    with translated():
        unknown = set(given) - {"url", "name"}
        if unknown:
            raise ConfigError(f"network.{what}.proxmox-sql: there is no option {', '.join(sorted(unknown))}")
        if has_password(given.get("url") or ""):
            raise ConfigError(
                f"network.{what}.proxmox-sql.url has a password in it, and what is in Nix can be read by everybody",
                hint=f"put it into ~/.pgpass or PGPASSWORD, or the whole URL into {ENVIRONMENT}",
            )
    return SqlOptions(**{key: value for key, value in given.items() if value is not None})


def open_shared(options: SqlOptions) -> State:
    return open_state(options.url or os.environ.get(ENVIRONMENT, ""))


class SqlStorage(nixops.storage.StorageBackend[SqlOptions]):
    """The state file as a whole, fetched at the start. It is written back at the end, and whenever a machine's record
    changes, so that a crash loses nothing. It never overwrites changes of another run."""

    @staticmethod
    def options(**kwargs: Any) -> SqlOptions:
        return checked_options("storage", kwargs)

    def __init__(self, args: SqlOptions) -> None:
        self._options = args
        self._version, self._digest = 0, ""
        self._file: Any = None
        self._asked = self._done = 0
        self._guard, self._turn = threading.Lock(), threading.Lock()

    def fetchToFile(self, path: str, **kwargs: Any) -> None:
        with translated(), open_shared(self._options) as state:
            blob = BlobStore(state).read(self._options.name)
        self._version = blob.version
        if blob.version:
            self._digest = hashlib.sha256(blob.content).hexdigest()
            Path(path).touch(0o600)
            Path(path).write_bytes(blob.content)

    def onOpen(self, sf: nixops.statefile.StateFile, **kwargs: Any) -> None:
        self._file = sf
        session_of(sf).storage = self

    def uploadFromFile(self, path: str, **kwargs: Any) -> None:
        if self._file is not None:
            session_of(self._file).storage = None
        with translated(), self._turn:  # after a signal a checkpoint may still be on its way
            self._upload(Path(path).read_bytes())

    def checkpoint(self) -> None:
        """Write back what is recorded so far. Threads that come together share one writing."""
        with self._guard:
            self._asked += 1
            mine = self._asked
        with self._turn:
            if self._done >= mine:
                return
            covered = self._asked
            with self._file._db, session_of(self._file).gate.passed():  # for as long as it takes to copy it in memory
                content = self._file._db.serialize()
            self._upload(content)
            self._done = covered

    def _upload(self, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        if digest == self._digest:
            return
        with open_shared(self._options) as state:
            try:
                holding_of(self._file).prove()
                self._version = BlobStore(state).write(self._options.name, content, after=self._version)
            except Overtaken as error:
                raise StateError(
                    error.message,
                    hint=f"what this run recorded is in {self._save(content)}; network.lock.proxmox-sql avoids this",
                ) from error
            except Locked as error:
                raise Locked(error.message, hint=f"what this run recorded is in {self._save(content)}") from error
        self._digest = digest

    def _save(self, content: bytes) -> Path:
        folder = paths.state_dir() / "overtaken"
        ensure_private_directory(folder)
        path = folder / f"{self._options.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.nixops"
        path.touch(0o600)
        path.write_bytes(content)
        return path


class SqlLock(nixops.locks.LockDriver[SqlOptions]):
    """Commands that write exclude each other. Those that read get a consistent state without a lock."""

    @staticmethod
    def options(**kwargs: Any) -> SqlOptions:
        return checked_options("lock", kwargs)

    def __init__(self, args: SqlOptions) -> None:
        self._options = args
        self.holding = Holding()
        self._stack: ExitStack | None = None  # what is to be done to release it; None: it was never locked

    def lock(self, description: str, exclusive: bool, **kwargs: Any) -> None:
        self._stack = ExitStack()
        if exclusive:
            with translated():
                self._take(self._stack, description)

    def _take(self, stack: ExitStack, description: str) -> None:
        """Take the lock. The state stays open, because each effect checks the lock first."""
        state, name = stack.enter_context(open_shared(self._options)), self._options.name
        store = LockStore(state, hint=BREAK)
        token = store.take(name, description)
        stack.callback(store.release, name, token)
        self.holding.began(lambda: store.prove(name, token))
        stack.callback(self.holding.ended)

    def unlock(self, **kwargs: Any) -> None:
        """May be called twice. `nixops unlock` calls it without having locked, to break a lock."""
        with translated():
            if self._stack is not None:
                self._stack.close()
                return
            with open_shared(self._options) as state:
                LockStore(state).break_lock(self._options.name)
        self._stack = ExitStack()
