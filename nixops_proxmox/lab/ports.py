"""The ports of the loopback that the lab serves on.

A number that is told to others or kept over a restart lies below those that the kernel gives to outgoing connections:
any program's connection may get one of these in the moment in which the lab has let go of it.
"""

import asyncio
import errno
import secrets
import socket
import time
from pathlib import Path

FIRST = 20000
END = 65536
TRIES = 200
POLL = 0.1
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortTakenError(OSError):
    """Another program listens where the lab should."""


def listen(host: str, port: int) -> socket.socket:
    """A listener on this port, 0 for any that is free; raises PortTakenError."""
    return listen_in_a_row(host, port, 1)[0] if port else listen_anywhere(host, 1)[0]


def listen_in_a_row(host: str, first: int, count: int) -> list[socket.socket]:
    """Listeners on `count` ports from `first`; raises PortTakenError, and then keeps none."""
    listeners: list[socket.socket] = []
    try:
        for port in range(first, first + count):
            listeners.append(_bind(host, port))
    except OSError:
        close(listeners)
        raise
    return listeners


def listen_anywhere(host: str, count: int, *, ephemeral: Path = EPHEMERAL) -> list[socket.socket]:
    """Listeners on ports in a row that the kernel gives to no connection, or where it leaves none, on any ports."""
    last = _ephemeral_start(ephemeral) - count
    for _ in range(TRIES if last >= FIRST else 0):
        try:
            return listen_in_a_row(host, FIRST + secrets.randbelow(last - FIRST + 1), count)
        except PortTakenError:
            continue
    return [_bind(host, 0) for _ in range(count)]


async def listen_once_free(host: str, first: int, count: int, seconds: float) -> list[socket.socket]:
    """`listen_in_a_row`, for ports that may soon be let go of; raises PortTakenError after this many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return listen_in_a_row(host, first, count)
        except PortTakenError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL)


def close(listeners: list[socket.socket]) -> None:
    for one in listeners:
        one.close()


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port < END:
        raise PortTakenError(f"there is no port {port}")
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        one.bind((host, port))
        one.listen(128)
    except OSError as error:
        one.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTakenError(f"another program uses port {port} of {host}: end it, or choose another port") from None
    return one


def _ephemeral_start(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0
