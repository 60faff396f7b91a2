"""Files that must be whole and private: written beside, synced, then put in place. A killed run leaves nothing.

The process that writes a temporary file locks it (flock). The system drops the lock when the process ends, however it
ends. So if we can lock such a file, its process is gone, and the next run removes the file.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from nixops_proxmox import paths
from nixops_proxmox.errors import ConfigError

RUNNING = "running"  # a folder of folders, one for each run that needs one


def ensure_private_directory(directory: Path) -> None:
    """Make it with mode 0700. One that is there must be ours, and is closed to others."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{directory} belongs to user {status.st_uid}, and keys would be kept in it")
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def replace_file(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """Write a file atomically. Readers see the old or the new one. Of `mode`, the umask may take away."""
    with _written_beside(path, content, mode) as temporary:
        temporary.replace(path)


def create_file(path: Path, text: str, *, mode: int = 0o600) -> bool:
    """The same, but only if there is none. False if there was one (perhaps since a moment ago)."""
    with _written_beside(path, text, mode) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
    return True


@contextmanager
def _written_beside(path: Path, content: str | bytes, mode: int = 0o600) -> Iterator[Path]:
    """The content in a file of our own beside `path`. What a killed writer left there goes, and so does ours unless it
    is put in place."""
    prefix = f".{path.name}."
    sweep(path.parent, prefix)
    descriptor, temporary = _locked(lambda: _make_file(path.parent, prefix, mode), os.O_WRONLY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(descriptor)
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def start_private_file(name: str, text: str) -> Iterator[Path]:
    """A 0600 file in a 0700 folder of its own, gone at the end. In memory (XDG_RUNTIME_DIR) where there is such.
    After a `kill -9` the next `sweep_runs` removes it."""
    base = running_directories()[0]
    ensure_private_directory(base)
    lock, directory = _locked(lambda: Path(mkdtemp(prefix=f"{os.getpid()}-", dir=base)), os.O_RDONLY)
    try:
        path = directory / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        yield path
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def running_directories() -> list[Path]:
    """Where runs keep such files: the one to use, and those that a run in another session may have used."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    in_memory = [Path(base) / "nixops-proxmox" / RUNNING] if base and os.access(base, os.W_OK | os.X_OK) else []
    return [*in_memory, paths.state_dir() / RUNNING]


def sweep_runs() -> None:
    """Remove what killed runs have left."""
    for directory in running_directories():
        sweep(directory)
    sweep(paths.config_dir(), ".profiles.toml.")  # credentials that were about to be put in place


def sweep(directory: Path, prefix: str = "") -> None:
    """Remove what is in the directory and so named, as far as no living process has it locked. What cannot be removed
    now is left to the next run."""
    with suppress(OSError):
        for path in list(directory.iterdir()):
            if path.name.startswith(prefix):
                with suppress(OSError):
                    _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        os.close(descriptor)


def _make_file(directory: Path, prefix: str, mode: int) -> Path:
    path = directory / f"{prefix}{secrets.token_hex(8)}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    return path


def _locked(make: Callable[[], Path], flags: int) -> tuple[int, Path]:
    """Something new and its locked descriptor. It is made again if a sweep came between making and locking.

    Safe to repeat: each try makes something with another name, and the sweep has removed the one before."""
    while True:
        path = make()
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without such locks: then no run sweeps there, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return descriptor, path
        os.close(descriptor)
