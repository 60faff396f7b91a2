"""Who holds a lease: a process on a host, and whether it is provably gone."""

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from nixops_proxmox.state.cells import as_number, as_object, as_text, damaged


@dataclass(frozen=True)
class Holder:
    """One process. Empty: not known there (no /proc, no machine ID)."""

    user: str
    host: str
    machine_id: str
    boot_id: str
    pid_namespace: str
    pid: int
    pid_started: str  # in clock ticks since boot, as /proc/PID/stat has it: a reused PID has another

    @property
    def title(self) -> str:
        return f"{self.user}@{self.host} (process {self.pid})"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, what: str) -> Self:
        """The inverse. Raises StateError for anything else. `what`: what it holds, for the error."""
        found = as_object(data, what)
        if found.keys() != {field.name for field in fields(cls)}:
            raise damaged(what, data)
        words = {name: as_text(value, f"{what}: {name}") for name, value in found.items() if name != "pid"}
        return cls(**words, pid=as_number(found["pid"], f"{what}: pid"))


def this_process() -> Holder:
    return Holder(
        user=_user(),
        host=socket.gethostname(),
        machine_id=_read("/etc/machine-id"),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        pid=os.getpid(),
        pid_started=find_start(os.getpid()),
    )


def find_start(pid: int) -> str:
    """When the process started. Empty: there is no such process (or no /proc to tell), or it has ended and its parent
    has not looked yet."""
    stat = _read(f"/proc/{pid}/stat")
    # The second field is the command's name in parentheses, which may contain spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""


def is_provably_gone(held_by: Holder, we: Holder, start_of: Callable[[int], str] = find_start) -> bool:
    """True only if the process can no longer act: its PID is free or reused, or its host was booted since.

    What we cannot see (another host, another container's PIDs) is never provable.
    """
    if held_by.host != we.host or held_by.machine_id != we.machine_id:
        return False
    if held_by.boot_id != we.boot_id:
        return bool(held_by.machine_id and held_by.boot_id and we.boot_id)
    if held_by.pid_namespace != we.pid_namespace:
        return False
    if not held_by.pid_started:
        return not _exists(held_by.pid)
    return start_of(held_by.pid) != held_by.pid_started


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a UID without a name, as in containers; KeyError until Python 3.12
        return f"uid {os.getuid()}"


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
