"""Hands a disk's key to the first stage of a machine by SSH, whose host key is pinned and its own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from nixops_proxmox.core.ports import Clock
from nixops_proxmox.errors import ConnectionLost, SshUnreachable, StateError
from nixops_proxmox.kinds.machine.answers import read_answer
from nixops_proxmox.kinds.machine.first_stage_ssh import TIME, Handed, parse_handed, unlock_script
from nixops_proxmox.model import Completed, Endpoint, Machine

PAUSE = 2.0  # seconds between two looks


class StageShell(Protocol):
    """A shell."""

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed: ...


@dataclass(frozen=True)
class SshFirstStages:
    """Satisfies `kinds.machine.ports.FirstStages`. `open_shell`: the way to a server that has this host key.
    `patience`: seconds until one must answer."""

    open_shell: Callable[[Endpoint, str], AbstractContextManager[StageShell]]
    is_up: Callable[[Machine], bool]
    clock: Clock
    patience: float

    def unlock(self, machine: Machine, port: int, host_key: str, key: str, tell: Callable[[str], None]) -> bool | None:
        """Safe to repeat: only who asks for the passphrase of a disk gets the key."""
        deadline, handed = self.clock.now() + self.patience, False
        tell(f"waiting for the SSH server of its first stage at port {port}")
        while not self.is_up(machine):
            for endpoint in endpoints(machine, port):
                try:
                    with self.open_shell(endpoint, host_key) as shell:
                        if self._hand_in(machine, shell, key, tell):
                            return True
                except SshUnreachable:
                    continue
                except ConnectionLost:
                    handed = True  # it ends with the first stage
            if self.clock.now() > deadline:
                return None
            self.clock.sleep(PAUSE)
        return handed

    def _hand_in(self, machine: Machine, shell: StageShell, key: str, tell: Callable[[str], None]) -> bool:
        tell("handing the key of its disk to its first stage")
        done = shell.run(unlock_script(), stdin=key.encode(), timeout=TIME)
        failed = f"{machine.name}: its first stage does not take the key of its disk"
        handed = read_answer(done, parse_handed, failed, "it needs systemd's systemd-reply-password")
        if handed is Handed.WRONG:
            raise StateError(
                f"{machine.name}: the key that is kept for its disk does not open it",
                hint="the recovery key does; was the disk restored from a backup of another installation?",
            )
        return handed is Handed.OPENED


def endpoints(machine: Machine, port: int) -> Iterator[Endpoint]:
    """Where its system was reached last, and its other addresses, each once; as root, who is alone in a first stage."""
    last = machine.facts.endpoint
    hosts = [last.host] if last is not None else []
    hosts += [str(one.ip) for one in machine.facts.addresses if not one.ip.is_link_local]
    for host in dict.fromkeys(hosts):
        yield Endpoint(host, port, "root", last.jump if last is not None else "")
