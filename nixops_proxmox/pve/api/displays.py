"""A VM's display: by VNC through PVE's websocket, and by SPICE, for which PVE tells what a viewer needs."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import websocket

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.connection import open_transport
from nixops_proxmox.pve.api.rfb import log_in
from nixops_proxmox.pve.api.terminal import greet, websocket_path
from nixops_proxmox.pve.wire.profiles import Profile
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spelling import Verb, command

WAIT = 15.0  # seconds for the handshake


class RemoteDisplay:
    """The bytes of a VM's display, whatever the websocket's messages are. `receive` from one thread, `send` from
    another."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._held = connection, b""

    def receive(self) -> bytes:
        """What came next. Empty at the end."""
        held, self._held = self._held, b""
        if held:
            return held
        try:
            data = self._connection.recv()
        except (websocket.WebSocketException, OSError):
            return b""
        return data.encode("latin-1") if isinstance(data, str) else data

    def read(self, count: int) -> bytes:
        """Exactly so many. EOFError at the end."""
        if not count:
            return b""
        found = b""
        while len(found) < count:
            more = self.receive()
            if not more:
                raise EOFError
            found += more
        self._held = found[count:]
        return found[:count]

    def send(self, data: bytes) -> None:
        """OSError when it is closed."""
        try:
            self._connection.send(data, opcode=websocket.ABNF.OPCODE_BINARY)
        except websocket.WebSocketException as error:
            raise ConnectionError(str(error)) from error

    def forget_deadline(self) -> None:
        """From here on, a display may stay as it is for hours."""
        self._connection.settimeout(None)

    def close(self) -> None:
        """At once, and a thread that waits for more bytes gets none."""
        shut(self._connection.sock)
        self._connection.shutdown()


def shut(connection: Any) -> None:
    """Wake up what blocks on it. None: it is closed already."""
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def open_display(profile: Profile, node: str, vmid: int) -> Iterator[RemoteDisplay]:
    """Log in to the display of a running VM."""
    transport = open_transport(profile)
    client = PveClient(transport)
    try:
        told = client.open_display(node, vmid)
        ticket = str(told["ticket"])
        password = str(told.get("password") or ticket)
        learn(ticket, password)
        with transport.open_stream() as (stream, server, headers):
            path = websocket_path(node, vmid, told["port"], ticket)
            shown = RemoteDisplay(greet(stream, server, path, headers, "display"))
            stream.settimeout(WAIT)
            log_in(shown, password, f"VM {vmid}")
            shown.forget_deadline()
            try:
                yield shown
            finally:
                shown.close()
    finally:
        client.close()


def ask_spice(profile: Profile, node: str, vmid: int, config: Mapping[str, str]) -> Mapping[str, str]:
    """What a viewer's file has in it. It is good for 30 seconds. `config`: of the running VM."""
    display = config.get("vga", "std").partition(",")[0].removeprefix("type=")
    if not display.startswith("qxl"):
        raise PveRefused(
            f"VM {vmid} has no SPICE: its display is {display}",
            hint=f'set `display = "qxl"`, then {command(Verb.DEPLOY)}; it is there after a restart',
        )
    transport = open_transport(profile)
    client = PveClient(transport)
    try:
        client.get_version()  # which server answers: the viewer is to go the same way
        told = client.open_spice(node, vmid, transport.server.host)
        learn(told.get("password", ""), told.get("host", ""))
        return told
    finally:
        client.close()
