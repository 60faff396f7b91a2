"""A VM's serial terminal: PVE's termproxy through its websocket, in the protocol of xterm.js."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import websocket

from nixops_proxmox.errors import NotAuthenticated, PveRefused, PveUnreachable
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.connection import open_transport
from nixops_proxmox.pve.api.containers import ContainerClient
from nixops_proxmox.pve.wire.profiles import Profile
from nixops_proxmox.pve.wire.servers import ApiServer
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spelling import Verb, command

LARGEST = 64 * 1024  # bytes of one message: PVE takes 128 KiB


class Terminal:
    """`receive` from one thread, `send` and `resize` from another."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def log_in(self, user: str, ticket: str, vmid: int) -> None:
        """The first message. The answer begins with OK."""
        self._put(f"{user}:{ticket}\n".encode())
        said = self.receive(10)
        if said is None or not said.startswith(b"OK"):
            raise NotAuthenticated(
                f"VM {vmid}: the terminal refused the login",
                hint="API tokens may open terminals since PVE 8.4.19 and 9.1; before, a profile with a password can",
            )

    def receive(self, timeout: float) -> bytes | None:
        """What the serial port said: b"" if it said nothing for so long, None at the end."""
        self._connection.settimeout(timeout)
        try:
            data = self._connection.recv()
        except websocket.WebSocketTimeoutException:
            return b""
        except (websocket.WebSocketException, OSError):
            return None
        data = data.encode() if isinstance(data, str) else data
        return data or None

    def send(self, data: bytes) -> None:
        """Typed by the user."""
        for start in range(0, len(data), LARGEST):
            piece = data[start : start + LARGEST]
            self._put(b"0:%d:%s" % (len(piece), piece))

    def resize(self, columns: int, rows: int) -> None:
        self._put(b"1:%d:%d:" % (columns, rows))

    def keep_alive(self) -> None:
        self._put(b"2")

    def _put(self, message: bytes) -> None:
        with self._lock:
            self._connection.send(message, opcode=websocket.ABNF.OPCODE_BINARY)


@contextmanager
def open_terminal(
    profile: Profile, node: str, vmid: int, config: Mapping[str, str], *, container: bool = False
) -> Iterator[Terminal]:
    """Log in to the serial port of a running VM, or to the console of a container. With API tokens, PVE before 8.4.19
    and 9.1 refuses the last step."""
    if not container and config.get("serial0") != "socket":
        raise PveRefused(
            f"VM {vmid} has no serial port",
            hint=f"set `serialPort = true`, then {command(Verb.DEPLOY)}; it is there after a restart",
        )
    transport = open_transport(profile)
    client = ContainerClient(transport) if container else PveClient(transport)
    try:
        ticket = client.open_terminal(node, vmid)
        learn(str(ticket["ticket"]))
        kind = "lxc" if container else "qemu"
        path = websocket_path(node, vmid, ticket["port"], str(ticket["ticket"]), kind)
        with (
            transport.open_stream() as (stream, server, headers),
            Terminal(greet(stream, server, path, headers, "terminal")) as terminal,
        ):
            terminal.log_in(str(ticket["user"]), str(ticket["ticket"]), vmid)
            yield terminal
    finally:
        client.close()


def websocket_path(node: str, vmid: int, port: object, ticket: str, kind: str = "qemu") -> str:
    query = urlencode({"port": port, "vncticket": ticket}, quote_via=quote)
    return f"/api2/json/nodes/{node}/{kind}/{vmid}/vncwebsocket?{query}"


def greet(stream: Any, server: ApiServer, path: str, headers: Mapping[str, str], what: str) -> Any:
    """The websocket on a connection that stands. `what`: a terminal, or a display."""
    url = f"wss://{server.authority}{server.prefix}{path}"
    try:
        return websocket.create_connection(
            url, socket=stream, subprotocols=["binary"], header=dict(headers), enable_multithread=True
        )
    except websocket.WebSocketBadStatusException as error:
        raise PveRefused(f"the {what}'s websocket was refused: {error}") from error
    except (websocket.WebSocketException, OSError) as error:
        raise PveUnreachable(f"the {what}'s websocket could not be opened: {error}") from error
