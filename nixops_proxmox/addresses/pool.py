"""A list as a file that several people and processes change: locked, read again, and replaced as a whole."""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nixops_proxmox.addresses.entry import PoolEntry
from nixops_proxmox.addresses.files import format_of, read_entries, write_entry
from nixops_proxmox.errors import ConfigError, Locked

PATIENCE = 30.0  # seconds to wait for another process, which holds the lock for milliseconds
RETRY = 0.05  # seconds


@dataclass(frozen=True)
class MacPool:
    """`name`: as the description calls it."""

    name: str
    path: Path
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False, repr=False)

    @property
    def title(self) -> str:
        return f"the pool {self.name} ({self.path})"

    def read(self) -> list[PoolEntry]:
        """All entries, in the file's order. Raises ConfigError, with the line of what is wrong."""
        return read_entries(self.path, self._text())

    @contextmanager
    def locked(self) -> Iterator["OpenPool"]:
        """No other process changes the file meanwhile, on this computer or on one that shares its file system's locks.
        Raises Locked after 30 s."""
        format_of(self.path)
        with ExitStack() as held:
            self._lock(held)
            yield OpenPool(self, self._text(), held)

    def _lock(self, held: ExitStack) -> None:
        """The lock is on the file itself. A process that replaces it leaves waiters with a lock on the old one: they
        try again."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with ExitStack() as opened:
                descriptor = self._open()
                opened.callback(os.close, descriptor)
                with suppress(BlockingIOError, FileNotFoundError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                        held.push(opened.pop_all())
                        return
            self.sleep(RETRY)
        raise Locked(
            f"{self.title} has been locked by another process for {PATIENCE:.0f} s",
            hint=f"`fuser {self.path}` shows who has it open",
        )

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{self.title} cannot be opened for writing: {error.strerror}") from error

    def _text(self) -> str:
        try:
            return self.path.read_bytes().decode("utf-8")
        except OSError as error:
            raise ConfigError(f"{self.title} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.title} is not UTF-8: {error}") from error


class OpenPool:
    """A pool while we have its lock."""

    def __init__(self, pool: MacPool, text: str, held: ExitStack) -> None:
        self.pool, self._text, self._held = pool, text, held
        self.entries = read_entries(pool.path, text)

    def take(self, mac: str, user: str, day: str) -> None:
        """Write who has the entry, and since when (YYYY-MM-DD)."""
        self._write(mac, {"user": user, "date": day})

    def give_back(self, mac: str) -> None:
        self._write(mac, {"user": "", "date": ""})

    def _write(self, mac: str, values: dict[str, str]) -> None:
        index = next(index for index, entry in enumerate(self.entries) if entry.mac == mac)
        text = write_entry(self.pool.path, self._text, index, values)
        if text != self._text:
            self._replace(text)
        self._text, self.entries = text, read_entries(self.pool.path, text)

    def _replace(self, text: str) -> None:
        """Readers see the old file or the new one, and its mode stays. The new one is locked before it is there. What
        a killed writer left beside it is written over: only who has the lock writes there."""
        path = self.pool.path.resolve()
        beside = path.with_name(f".{path.name}.new")
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
            self._held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(text.encode())
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            beside.replace(path)
        except OSError as error:
            raise ConfigError(f"{self.pool.title} cannot be written: {error.strerror}") from error
