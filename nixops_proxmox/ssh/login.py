"""What a connection needs. Apart from the connection itself, because paramiko takes a while to import, and a run that
connects to nothing does without."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nixops_proxmox.model import Endpoint
from nixops_proxmox.ssh.argv import ANSWER_TIME, Hop
from nixops_proxmox.ssh.identity import LoginKeys
from nixops_proxmox.ssh.known_hosts import USER_FILES


class Stop(Protocol):
    """Somebody may call the attempt off."""

    def is_set(self) -> bool: ...
    def when_set(self, callback: Callable[[], None]) -> None: ...


@dataclass(frozen=True)
class SshLogin:
    """Everything that a connection needs: where, which host keys are the machine's, and who we are there.

    `jump_identity` is who we are on jump hosts (default: the user's own agent and keys). Their host keys come from
    `jump_known_hosts`, and one that is not in there is never accepted.
    """

    endpoint: Endpoint
    host_keys: tuple[str, ...]
    identity: LoginKeys = field(default_factory=LoginKeys)
    # Seconds for TCP, and for each jump host: a black hole answers nothing, however long one waits.
    timeout: float = 15.0
    # Seconds for the key exchange, and again for the login, of a guest that took the connection.
    answer: float = ANSWER_TIME
    jump_identity: LoginKeys | None = None
    jump_known_hosts: tuple[Path, ...] = USER_FILES
    hops: Callable[[str], tuple[Hop, ...]] | None = None  # knows the jump hosts, instead of the configuration
    jump_config: Path | None = None  # instead of the user's and the system's SSH configuration
