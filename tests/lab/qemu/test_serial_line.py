"""A terminal of the lab reaches the guest, and shows what the guest says from then on."""

import asyncio
from pathlib import Path

from aiohttp import ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from nixops_proxmox.lab.serial_line import find_typed, relay
from tests.pace import patience


def test_what_is_typed_reaches_the_guest_also_after_it_was_reset(tmp_path: Path) -> None:
    path, running = tmp_path / "serial.sock", [True]

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """It echoes a line, and is then reset."""
        writer.write(b"login: ")
        writer.write(b"heard " + await reader.readuntil(b"\r"))
        await writer.drain()
        writer.close()

    async def terminal(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("binary",))
        await socket.prepare(request)
        await relay(socket, path, lambda: running[0])
        return socket

    async def until(socket: ClientWebSocketResponse[bool], end: bytes) -> bytes:
        said = b""
        while not said.endswith(end):
            said += await socket.receive_bytes(timeout=patience(10))
        return said

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", terminal)
        server = await asyncio.start_unix_server(guest, path)
        async with server, TestClient(TestServer(app)) as client:
            socket = await client.ws_connect("/", protocols=("binary",))
            for word in (b"first\r", b"second\r"):
                await until(socket, b"login: ")
                await socket.send_bytes(b"1:80:24:")
                await socket.send_bytes(b"0:%d:%s" % (len(word), word))
                assert await until(socket, b"\r") == b"heard " + word
            running[0] = False
            assert (await socket.receive(timeout=patience(10))).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            await socket.close()

    asyncio.run(scenario())


def test_only_keys_are_typed() -> None:
    messages = (b"0:3:abcd", b"0:1::", b"1:80:24:", b"2", b"", b"0:x:a", b"0:")
    assert [find_typed(message) for message in messages] == [b"abc", b":", b"", b"", b"", b"", b""]
