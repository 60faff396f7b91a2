"""Files that must be whole and private: written beside, synced, then put in place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp

from nixops_proxmox.errors import ConfigError


def ensure_private_directory(directory: Path) -> None:
    """Make it with mode 0700; one that is there must be ours, and is closed to others."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{directory} belongs to user {status.st_uid}, and keys would be kept in it")
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def replace_file(path: Path, text: str) -> None:
    """Write a 0600 file atomically; whoever reads sees the old or the new one."""
    temporary = _write_beside(path, text)
    temporary.replace(path)


def create_file(path: Path, text: str) -> bool:
    """The same, but only if there is none; False if there was one (perhaps since a moment ago)."""
    temporary = _write_beside(path, text)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _write_beside(path: Path, text: str) -> Path:
    descriptor, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    return Path(name)


@contextmanager
def start_private_file(name: str, text: str) -> Iterator[Path]:
    """A 0600 file in a 0700 folder of its own, gone at the end; in memory (XDG_RUNTIME_DIR) where there is such."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    with TemporaryDirectory(prefix="nixops-proxmox-", dir=base if base and Path(base).is_dir() else None) as directory:
        path = Path(directory) / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        yield path
