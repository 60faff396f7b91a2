"""A guest's serial port behind a websocket, in the protocol of xterm.js, as PVE's termproxy has it: nothing that was
said before is shown again."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import WSMsgType, web

from nixops_proxmox.lab.machines.qemu.agent import directory_of

AGAIN = 0.1  # seconds between two looks for the port of a guest that was reset: it has a new QEMU


def find_typed(message: bytes) -> bytes:
    """What the user typed: `0:LENGTH:BYTES`. A new size (`1:…`) and a sign of life (`2`) type nothing."""
    kind, _, rest = message.partition(b":")
    length, _, data = rest.partition(b":")
    return data[: int(length)] if kind == b"0" and length.isdigit() else b""


class SerialLine:
    """QEMU's end of the port, opened again whenever QEMU was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> asyncio.StreamReader:
        """Raises OSError while nothing listens there."""
        with directory_of(self._path) as folder:
            reader, self._writer = await asyncio.open_unix_connection(f"{folder}/{self._path.name}")
        return reader

    async def send(self, data: bytes) -> None:
        """Where no QEMU listens, it is lost, as on a line."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.write(data)
                await self._writer.drain()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def relay(socket: web.WebSocketResponse, path: Path, is_running: Callable[[], bool]) -> None:
    """Both ways, until the client goes away or the guest is switched off."""
    line = SerialLine(path)
    hearing = asyncio.create_task(_hear(socket, line, is_running))
    try:
        async for message in socket:
            if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                data = message.data if isinstance(message.data, bytes) else message.data.encode()
                await line.send(find_typed(data))
    finally:
        hearing.cancel()
        line.close()


async def _hear(socket: web.WebSocketResponse, line: SerialLine, is_running: Callable[[], bool]) -> None:
    while is_running():
        try:
            reader = await line.open()
            while data := await reader.read(4096):
                await socket.send_bytes(data)
        except OSError:
            pass
        line.close()
        await asyncio.sleep(AGAIN)
    await socket.close()
