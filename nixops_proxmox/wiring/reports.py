"""What verbs that look have found, a record for each machine."""

from dataclasses import dataclass

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Change, Phase


@dataclass(frozen=True)
class Planned:
    """What a deploy would do to one machine."""

    name: str
    phase: Phase  # where it stands, looked at now
    moves: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    system: str = ""  # the system it would get, empty if it has it already
    error: DeployError | None = None


@dataclass(frozen=True)
class Checked:
    """What is true of one machine right now; None: could not be told."""

    name: str
    phase: Phase
    exists: bool | None = None
    running: bool | None = None
    reachable: bool | None = None
    system_ok: bool | None = None
    changes: tuple[Change, ...] = ()
    pending: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
