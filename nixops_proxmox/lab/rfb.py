"""A VM's screen as QEMU's VNC server shows it: version, VNC authentication, and a picture of one pixel."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

VERSION = b"RFB 003.008\n"
VNC_AUTH = 2
WIDTH, HEIGHT = 640, 480
PIXEL = bytes([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
FIXED = {0: 20, 3: 10, 4: 8, 5: 6}  # bytes of a client's message by its type


class Gone(Exception):
    """The viewer has left."""


class Viewer:
    """The bytes of a websocket, whatever its frames are."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket, self._held = socket, b""

    async def read(self, count: int) -> bytes:
        while len(self._held) < count:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                raise Gone
            self._held += message.data if isinstance(message.data, bytes) else message.data.encode()
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    async def send(self, data: bytes) -> None:
        await self._socket.send_bytes(data)


async def show(socket: web.WebSocketResponse, name: str, password: str, valid: Callable[[], bool]) -> None:
    """`valid`: the password has not expired."""
    viewer = Viewer(socket)
    try:
        if await _authenticate(viewer, password, valid):
            await _show_screen(viewer, name)
    except (Gone, ConnectionError, asyncio.CancelledError):
        return


async def _authenticate(viewer: Viewer, password: str, valid: Callable[[], bool]) -> bool:
    await viewer.send(VERSION)
    await viewer.read(len(VERSION))
    await viewer.send(bytes([1, VNC_AUTH]))
    if (await viewer.read(1))[0] != VNC_AUTH:
        return False
    challenge = secrets.token_bytes(16)
    await viewer.send(challenge)
    if await viewer.read(16) == encrypt(password, challenge) and valid():
        await viewer.send(bytes(4))
        return True
    reason = b"Authentication failed"
    await viewer.send((1).to_bytes(4, "big") + len(reason).to_bytes(4, "big") + reason)
    return False


async def _show_screen(viewer: Viewer, name: str) -> None:
    await viewer.read(1)  # shared or not
    title = f"QEMU ({name})".encode()
    size = WIDTH.to_bytes(2, "big") + HEIGHT.to_bytes(2, "big")
    await viewer.send(size + PIXEL + len(title).to_bytes(4, "big") + title)
    while True:
        kind = (await viewer.read(1))[0]
        if kind == 2:  # SetEncodings
            await viewer.read(4 * int.from_bytes((await viewer.read(3))[1:], "big"))
        elif kind == 6:  # ClientCutText
            await viewer.read(int.from_bytes((await viewer.read(7))[3:], "big"))
        elif kind in FIXED:
            await viewer.read(FIXED[kind] - 1)
            if kind == 3:
                await viewer.send(_one_pixel())
        else:
            return


def _one_pixel() -> bytes:
    rectangle = b"".join(number.to_bytes(2, "big") for number in (0, 0, 1, 1))
    return bytes([0, 0, 0, 1]) + rectangle + bytes(4) + bytes([0, 0, 255, 0])


def encrypt(password: str, challenge: bytes) -> bytes:
    """DES with the first 8 bytes of the password, each with its bits the other way round."""
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    algorithm: Any
    try:
        from cryptography.hazmat.decrepit.ciphers import algorithms as algorithm
    except ImportError:  # before version 43
        from cryptography.hazmat.primitives.ciphers import algorithms as algorithm
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    encryptor = Cipher(algorithm.TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305 -- VNC has nothing else
    return bytes(encryptor.update(challenge))
