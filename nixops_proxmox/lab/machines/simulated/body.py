"""What a powered-on guest is made of, as agent and SSH server see it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from nixops_proxmox.lab.machines.simulated.addresses import Nic

PATH = (
    "/run/lab/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:"
    "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh", "LANG": "C.UTF-8"}


@dataclass
class Output:
    """What a command left behind. `signal` is 0 unless one ended it."""

    status: int = 0
    out: bytes = b""
    err: bytes = b""
    signal: int = 0


@dataclass(frozen=True)
class Terminal:
    """A client's terminal: its TERM, columns and rows."""

    kind: str
    columns: int
    rows: int


@dataclass(frozen=True)
class Pipes:
    """The three streams of an SSH session. `read` gives b"" at the end; writing waits while the window is full."""

    read: Callable[[], Awaitable[bytes]]
    write: Callable[[bytes], Awaitable[None]]
    write_err: Callable[[bytes], Awaitable[None]]
    terminal: Terminal | None = None


@dataclass(frozen=True)
class GuestDisk:
    """A disk as the guest finds it."""

    key: str  # scsi0
    name: str  # sda
    size: int
    serial: str
    by_id: str
    path: Path  # with disk.json and parts/
    rom: bool = False


def with_paths(disks: Sequence[GuestDisk], paths: Mapping[str, Path]) -> tuple[GuestDisk, ...]:
    """Some disks (by key) lie elsewhere."""
    return tuple(replace(disk, path=paths.get(disk.key, disk.path)) for disk in disks)


def with_sizes(disks: Sequence[GuestDisk], sizes: Mapping[str, int]) -> tuple[GuestDisk, ...]:
    """Some disks (by key) have become larger."""
    return tuple(replace(disk, size=sizes.get(disk.key, disk.size)) for disk in disks)


class NoSuchProgram(Exception):
    """execve failed; the text is the agent's."""


class OpenFile(Protocol):
    """A file that the agent holds open."""

    def read(self, count: int) -> bytes: ...
    def write(self, data: bytes) -> int: ...
    def seek(self, offset: int, whence: int) -> int: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def at_end(self) -> bool: ...


@dataclass(frozen=True)
class About:
    """What a system says of itself."""

    installer: bool
    hostname: str
    boot_id: str
    uuid: str
    nics: tuple[Nic, ...] = ()
    os_release: Mapping[str, str] = field(default_factory=dict)


class GuestBody(Protocol):
    """One boot of one guest."""

    @property
    def about(self) -> About: ...

    async def start_program(
        self, argv: Sequence[str], environment: Mapping[str, str], given: bytes
    ) -> tuple[int, Awaitable[Output]]:
        """For the agent: (process id, what becomes of it). Raises NoSuchProgram."""
        ...

    async def run_session(self, command: str, pipes: Pipes, user: str = "root") -> Output:
        """For SSH: run a shell command as `user` until it ended and its output is closed."""
        ...

    async def open_file(self, path: str, mode: str) -> OpenFile:
        """Raises OSError."""
        ...

    async def read_text(self, path: str) -> str | None:
        """A small file, None if it is not there."""
        ...

    @property
    def disks(self) -> tuple[GuestDisk, ...]: ...

    def follow(self, paths: Mapping[str, Path]) -> None: ...

    async def plug(self, disks: tuple[GuestDisk, ...]) -> None:
        """These are there now."""
        ...

    async def see_sizes(self, sizes: Mapping[str, int]) -> None:
        """Disks, by key, have become larger while it runs."""
        ...

    async def stop(self) -> None:
        """It is gone at once, with everything that ran in it."""
        ...
