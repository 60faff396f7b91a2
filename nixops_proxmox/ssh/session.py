"""One SSH connection to a proven machine, and scripts run over it."""

import re
import select
import shlex
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

import paramiko

from nixops_proxmox.errors import ConnectionLost, SshRefused, SshUnreachable
from nixops_proxmox.model import Completed, Endpoint
from nixops_proxmox.ssh.connect import Link, authenticate, describe, open_link
from nixops_proxmox.ssh.login import SshLogin

KEEPALIVE = 15.0  # seconds; a firewall in between forgets silent connections
LONG_SCRIPT = 60_000  # bytes; Linux takes at most 128 KiB in one argument
CHUNK = 32_768
LINGER = 0.5  # seconds
MOST_OUTPUT = 64 * 1024 * 1024
_AS_ROOT = 'PATH=$PATH:/run/wrappers/bin; exec sudo -n -- /bin/sh -c "$1"'  # NixOS has sudo in a place of its own
_SUDO_SAID = re.compile(
    r"^sudo(?:-rs)?: .*(?:password is required|not in the sudoers|not allowed|Authentication|I'm sorry|must be).*"
    r"|^Sorry, user \S+ (?:is not allowed|may not run).*"
    r"|^.* is not in the sudoers file.*|^.*sudo: (?:command )?not found.*",
    re.MULTILINE,
)


USED_TIME = 15.0  # seconds for a connection that has worked to do so again; longer, and it only looks alive


class Session:
    """Use it from one thread at a time. Many sessions may be used by as many threads."""

    def __init__(self, link: Link, endpoint: Endpoint, patience: float = 15.0) -> None:
        self._link = link
        self._patience = patience  # seconds for the other side to answer at all
        self.endpoint = endpoint

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        return self._link.transport.is_active()

    def close(self) -> None:
        self._link.close()

    def run(
        self, script: str, *, stdin: bytes = b"", timeout: float = 60, may_act: Callable[[], None] = lambda: None
    ) -> Completed:
        """Run a `/bin/sh` script as root, by sudo for any other user. It gets `stdin`, and its end. `may_act` is asked
        right before the script leaves.

        Raises SshRefused if sudo wants a password, SshUnreachable if it could not be started, and ConnectionLost if the
        connection broke on the way or it did not end in `timeout` seconds: it may still run.
        """
        deadline = monotonic() + timeout
        user = self.endpoint.user
        command, prefix = script_command(script, sudo=user != "root")
        try:
            channel = self._link.transport.open_session(timeout=min(timeout, self._patience))
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.close()  # it looked alive, and is not: a firewall forgot it, or the machine was cut off
            raise SshUnreachable(
                f"{describe(self.endpoint)}: the connection broke before a command was sent"
            ) from error
        self._patience = min(self._patience, USED_TIME)
        try:
            may_act()
            channel.exec_command(command)
            done = self._converse(channel, prefix + stdin, deadline, timeout)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._lost("while a command ran") from error
        finally:
            channel.close()
        if user != "root":
            refuse_sudo(done, user, describe(self.endpoint))
        return done

    def _converse(self, channel: paramiko.Channel, stdin: bytes, deadline: float, timeout: float) -> Completed:
        """Feed and drain until the command ends and its outputs do."""
        channel.setblocking(0)
        unsent, out, err = stdin, bytearray(), bytearray()
        if not unsent:
            channel.shutdown_write()
        linger = 0.0  # what the command left in the background may hold its outputs open: no longer than until here
        while True:
            sent = self._feed(channel, unsent)
            unsent = unsent[sent:]
            got = self._drain(channel, out, err)
            if channel.exit_status_ready():
                linger = linger or monotonic() + LINGER
                if not got and (channel.eof_received or channel.closed or monotonic() > linger):
                    return self._completed(channel.recv_exit_status(), out, err)
            elif channel.closed or not self.is_alive:
                raise self._lost("while a command ran")
            if monotonic() > deadline:
                raise ConnectionLost(
                    f"{describe(self.endpoint)}: a command did not end within {timeout:g} s; it may still run"
                )
            if not sent and not got:
                _wait(channel, 0.02 if unsent or linger else 0.25)

    @staticmethod
    def _feed(channel: paramiko.Channel, unsent: bytes) -> int:
        """Send what the window takes. The end of stdin follows its last byte."""
        if not unsent or not channel.send_ready():
            return 0
        sent = channel.send(unsent[:CHUNK])
        if sent == len(unsent):
            channel.shutdown_write()
        return sent

    @staticmethod
    def _drain(channel: paramiko.Channel, out: bytearray, err: bytearray) -> bool:
        """Take what is there. True if there was something."""
        before = len(out) + len(err)
        while channel.recv_ready():
            out += channel.recv(CHUNK)
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(CHUNK)
        if len(out) + len(err) > MOST_OUTPUT:
            raise OSError("the command printed more than 64 MiB")
        return len(out) + len(err) > before

    def _completed(self, status: int, out: bytearray, err: bytearray) -> Completed:
        if status < 0:  # sshd tells a signal in a message that paramiko does not keep; a reboot looks the same
            raise ConnectionLost(f"{describe(self.endpoint)}: a command was killed, or the machine goes down")
        return Completed(status, out.decode(errors="replace"), err.decode(errors="replace"))

    def _lost(self, when: str) -> ConnectionLost:
        return ConnectionLost(f"{describe(self.endpoint)}: the connection broke {when}")


def _wait(channel: paramiko.Channel, seconds: float) -> None:
    """Until there is output, or the exit status once the outputs are closed. At most so long."""
    if channel.eof_received:  # the descriptor stays readable from now on
        channel.status_event.wait(seconds)
    else:
        poller = select.poll()
        poller.register(channel.fileno(), select.POLLIN)
        poller.poll(seconds * 1000)


def open_session(login: SshLogin) -> Session:
    """Connect, prove the host key, log in. Raises SshUnreachable, HostKeyChanged, SshRefused."""
    link = open_link(login)
    try:
        authenticate(
            link.transport, login.endpoint.user, login.identity, describe(login.endpoint), timeout=login.answer
        )
    except BaseException:
        link.close()
        raise
    link.transport.set_keepalive(int(KEEPALIVE))
    return Session(link, login.endpoint, login.answer)


def script_command(script: str, *, sudo: bool = False) -> tuple[str, bytes]:
    """(the command line for sshd, what must be sent before the script's own stdin), whatever the login shell is.

    A long script goes through stdin: `dd bs=1` takes exactly its bytes and leaves the rest.
    """
    data = script.encode()
    if len(data) <= LONG_SCRIPT:
        words, prefix = shlex.quote(script), b""
    else:
        words, prefix = f"'eval \"$(dd bs=1 count={len(data)} 2>/dev/null)\"'", data
    if not sudo:
        return f"exec /bin/sh -c {words}", prefix
    return f"exec /bin/sh -c {shlex.quote(_AS_ROOT)} sh {words}", prefix


def refuse_sudo(done: Completed, user: str, where: str) -> None:
    """Raises SshRefused if it was sudo that ended the command, or if there is none."""
    if done.status in (1, 126, 127) and (found := _SUDO_SAID.search(done.stderr)):
        raise SshRefused(
            f"{where}: {user} may not run commands as root: {found[0].strip()}",
            hint=f"let {user} use sudo without a password (deployment.proxmox.guest.sudo does it), "
            'or set deployment.proxmox.ssh.user = "root"',
        )
