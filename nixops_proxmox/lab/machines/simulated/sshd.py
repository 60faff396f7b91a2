"""A guest's SSH server: public keys only, host key and authorized keys as the guest has them, commands by its body."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncssh
from typing_extensions import override

from nixops_proxmox.lab.machines.simulated.body import GuestBody, Output, Pipes, Terminal

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
CHUNK = 1 << 16
STDERR = 1  # RFC 4254, SSH_EXTENDED_DATA_STDERR
KEX = ["curve25519-sha256", "curve25519-sha256@libssh.org"]  # one method; paramiko offers only its old name
SFTP = (
    "for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server; do"
    ' [ -x "$server" ] && exec "$server"; done; exit 127'
)
Connect = Callable[[str, int], Awaitable[socket.socket]]


@dataclass(frozen=True)
class HostKey:
    """An ed25519 host key in OpenSSH's formats."""

    private: str
    public: str


def make_host_key(comment: str) -> HostKey:
    key = asyncssh.generate_private_key("ssh-ed25519", comment)
    return HostKey(key.export_private_key().decode(), key.export_public_key().decode())


def find_authorized(text: str, key: asyncssh.SSHKey) -> bool:
    """Is `key` in the text of an authorized_keys file? Lines that cannot be read count for nothing."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            if asyncssh.import_authorized_keys(line).validate(key, "", "") is not None:
                return True
    return False


def find_home(passwd: str, user: str) -> str:
    """The user's home; empty if there is no such user. Root is always there."""
    entries = (line.split(":") for line in passwd.splitlines())
    found = next((entry[5] for entry in entries if len(entry) > 5 and entry[0] == user), "")
    return found or ("/root" if user == "root" else "")


class GuestSession(asyncssh.SSHServerProcess[bytes]):
    """A session whose `sftp` is the guest's own program too: asyncssh's would show the files of the lab's host."""

    def __init__(self, body: GuestBody) -> None:
        super().__init__(lambda process: run_process(body, process), None, 0, False)

    @override
    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    @override
    def session_started(self) -> None:
        channel = self._chan
        if channel.get_subsystem() != "sftp":
            super().session_started()
            return
        streams = (
            asyncssh.SSHReader(self, channel),
            asyncssh.SSHWriter(self, channel),
            asyncssh.SSHWriter(self, channel, STDERR),
        )
        handler = self._start_process(*streams)
        if handler is not None and self._conn is not None:
            self._conn.create_task(handler, channel.logger)


class Login(asyncssh.SSHServer):
    """Who may come in: a user of the guest's, with a key that the guest's files name at that moment."""

    def __init__(
        self, body: GuestBody, connect: Connect | None, opened: Callable[[asyncssh.SSHServerConnection], None]
    ):
        self._body = body
        self._connect = connect
        self._opened = opened

    @override
    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._opened(conn)

    @override
    def begin_auth(self, username: str) -> bool:
        del username
        return True

    @override
    def public_key_auth_supported(self) -> bool:
        return True

    @override
    def password_auth_supported(self) -> bool:
        return False

    @override
    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        home = find_home(await self._body.read_text("/etc/passwd") or "", username)
        places = ([f"{home}/.ssh/authorized_keys"] if home else []) + [f"/etc/ssh/authorized_keys.d/{username}"]
        texts = [await self._body.read_text(path) for path in places] if home else []
        return any(text is not None and find_authorized(text, key) for text in texts)

    @override
    def session_requested(self) -> GuestSession:
        return GuestSession(self._body)

    @override
    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int):  # type: ignore[no-untyped-def]
        """`ssh -J`: the way on starts in the guest's network."""
        del orig_host, orig_port
        if self._connect is None:
            return False
        return lambda reader, writer: self._forward(dest_host, dest_port, reader, writer)

    async def _forward(
        self, host: str, port: int, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]
    ) -> None:
        assert self._connect is not None
        try:
            made = await self._connect(host, port)
        except OSError:
            writer.channel.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(sock=made)
        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        finally:
            far_writer.close()


async def copy(reader, writer) -> None:  # type: ignore[no-untyped-def]
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def run_process(body: GuestBody, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """One session. As with OpenSSH, a client that goes away does not end the command."""

    async def read() -> bytes:
        while True:
            try:
                return await process.stdin.read(CHUNK)
            except (asyncssh.TerminalSizeChanged, asyncssh.SignalReceived, asyncssh.BreakReceived):
                continue  # a terminal keeps the size that it began with
            except (OSError, asyncssh.Error):
                return b""

    async def write(data: bytes) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            process.stdout.write(data)
            await process.stdout.drain()

    async def write_err(data: bytes) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            process.stderr.write(data)
            await process.stderr.drain()

    command = SFTP if process.subsystem == "sftp" else process.command or "exec /bin/sh -l"
    user = str(process.get_extra_info("username"))
    output = await body.run_session(command, Pipes(read, write, write_err, find_terminal(process)), user)
    finish(process, output)


def find_terminal(process: asyncssh.SSHServerProcess[bytes]) -> Terminal | None:
    kind = process.get_terminal_type()
    columns, rows, _, _ = process.get_terminal_size()
    return Terminal(kind, columns or 80, rows or 24) if kind else None


def finish(process: asyncssh.SSHServerProcess[bytes], output: Output) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        if output.signal:
            process.exit_with_signal(signal_name(output.signal))
        else:
            process.exit(output.status)


def signal_name(number: int) -> str:
    return {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 13: "PIPE", 15: "TERM"}.get(number, "TERM")


class SshServer:
    """Listens until closed; closing cuts every connection at once, as a power-off does."""

    def __init__(self, body: GuestBody, connect: Connect | None = None) -> None:
        self._body = body
        self._connect = connect
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptors: list[asyncssh.SSHAcceptor] = []
        self._options: asyncssh.SSHServerConnectionOptions | None = None

    async def prepare(self, private_key: str) -> None:
        self._options = asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: Login(self._body, self._connect, self._opened),
            server_host_keys=[asyncssh.import_private_key(private_key)],
            encoding=None,
            server_version="OpenSSH_9.9",
            allow_scp=False,
            sftp_factory=False,
            x11_forwarding=False,
            agent_forwarding=False,
            keepalive_interval=0,
            login_timeout=30,
            allow_pty=True,
            line_editor=False,
            kex_algs=["curve25519-sha256", "curve25519-sha256@libssh.org"],
            signature_algs=SIGNATURES,
            compression_algs=["none"],
            gss_host=None,
        )

    def take_host_key(self, private_key: str) -> None:
        """As a restart of sshd does: connections that are open live on."""
        keys = [asyncssh.import_private_key(private_key)]
        for acceptor in self._acceptors:
            acceptor.update(server_host_keys=keys)
        if self._options is not None:
            self._options = asyncssh.SSHServerConnectionOptions(self._options, server_host_keys=keys)

    async def listen(self, listener: socket.socket) -> None:
        self._acceptors.append(await asyncssh.listen(sock=listener, options=self._options))

    async def serve(self, connection: socket.socket) -> None:
        """A connection that somebody else accepted."""
        await asyncssh.run_server(connection, options=self._options)

    def _opened(self, connection: asyncssh.SSHServerConnection) -> None:
        self._connections = {known for known in self._connections if not known.is_closed()} | {connection}

    async def close(self) -> None:
        """At once: from Python 3.12 on, waiting for an acceptor's end waits for all its connections to end first."""
        for acceptor in self._acceptors:
            acceptor.close()
        for connection in self._connections:
            connection.abort()


SIGNATURES = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
]
