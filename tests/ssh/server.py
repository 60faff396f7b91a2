"""A real OpenSSH server on the loopback interface, with a host key of ours and one that lets a key in."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from time import monotonic, sleep

import pytest

from nixops_proxmox.model import Endpoint
from nixops_proxmox.ssh.identity import LoginKeys
from nixops_proxmox.ssh.keys import KeyPair, new_key_pair
from nixops_proxmox.ssh.login import SshLogin
from tests.pace import patience
from tests.ports import free_port

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
# A user who is not root may have no sudo, or one that asks, and no store. What the tests run needs no rights.
SUDO = '#!/bin/sh\n[ "$1" = -n ] || exit 9\nshift\n[ "$1" != -- ] || shift\nexec "$@"\n'


@dataclass
class Sshd:
    """A running server; `client` is let in, `host` is its host key."""

    port: int
    host: KeyPair
    client: KeyPair
    directory: Path
    process: subprocess.Popen[bytes]

    def login(self, **changes: object) -> SshLogin:
        values: dict[str, object] = {
            "endpoint": Endpoint("127.0.0.1", self.port, getuser()),
            "host_keys": (self.host.public,),
            "identity": LoginKeys(keys=(self.client.private,)),
            "timeout": patience(10),
        }
        return SshLogin(**(values | changes))  # type: ignore[arg-type]

    def kill_connections(self) -> None:
        """End the processes that serve connections; the listener stays."""
        self.signal_connections(signal.SIGKILL)

    def signal_connections(self, number: signal.Signals) -> None:
        for served in _servers_below(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(served, number)


def _servers_below(listener: int) -> list[int]:
    """A connection has up to three processes: who lets in, who watches, and who serves it, in a newer OpenSSH root too.
    What they have started for the client is none of them."""
    parents = dict(_sshd_processes())
    found = {listener}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {listener})


def _sshd_processes() -> Iterator[tuple[int, int]]:
    """Each process of an sshd, and its parent."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                if name.startswith("sshd"):
                    yield int(entry.name), int(rest.split()[1])


def _without_penalties(config: Path) -> None:
    """OpenSSH 9.8 and newer turn a client away for a while after failures, which are what many tests are about."""
    plain = config.read_text()
    config.write_text(f"PerSourcePenalties no\n{plain}")
    if subprocess.run([SSHD, "-t", "-f", str(config)], capture_output=True, check=False).returncode != 0:
        config.write_text(plain)  # an older one, which does not know the word


def _programs_with_sudo(directory: Path) -> Path:
    programs = directory / "programs"
    programs.mkdir()
    (programs / "sudo").write_text(SUDO)
    (programs / "sudo").chmod(0o755)
    return programs


@contextmanager
def start_sshd(
    directory: Path, *, extra: str = "", prepare: Callable[[KeyPair], object] = lambda _: None
) -> Iterator[Sshd]:
    """`prepare` is given the host key before the server starts."""
    if not Path(SSHD).exists():
        pytest.skip("the proofs of host keys need OpenSSH's sshd: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host, client, port = new_key_pair(), new_key_pair(), free_port()
    key_file = directory / "host_key"
    key_file.write_text(host.private)
    key_file.chmod(0o600)
    prepare(host)
    (directory / "authorized").write_text(client.public + "\n")
    config = directory / "sshd_config"
    config.write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
ListenAddress [::1]
HostKey {key_file}
AuthorizedKeysFile {directory}/authorized
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
PidFile none
Subsystem sftp internal-sftp
"""
    )
    if os.geteuid() != 0:
        path = f"{_programs_with_sudo(directory)}:{os.environ['PATH']}"
        extra = f"SetEnv PATH={path} NIX_REMOTE=local?root={directory}/store\n{extra}"
    config.write_text(config.read_text() + extra + "\n")
    _without_penalties(config)
    process = subprocess.Popen([SSHD, "-D", "-E", str(directory / "log"), "-f", str(config)])
    try:
        _wait_for_banner(port)
        yield Sshd(port, host, client, directory, process)
    finally:
        process.terminate()
        process.wait(patience(5))


def _wait_for_banner(port: int) -> None:
    until = monotonic() + patience(10)
    while monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as sock:
                if sock.recv(4) == b"SSH-":
                    return
        except OSError:
            sleep(0.02)
    raise AssertionError("sshd does not answer")
