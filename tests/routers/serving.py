"""A stand-in of a router, served over TLS by a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from nixops_proxmox.lab.certificate import get_certificate


@contextmanager
def serve(app: web.Application, folder: Path) -> Iterator[tuple[str, str]]:
    """Its address, and its certificate's fingerprint."""
    certificate = get_certificate(folder / "tls", ("127.0.0.1",))
    started, loop = threading.Event(), asyncio.new_event_loop()
    runner, ports = web.AppRunner(app), list[int]()

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.context())
        await site.start()
        ports.append(runner.addresses[0][1])
        started.set()

    def work() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(20)
        yield f"https://127.0.0.1:{ports[0]}", certificate.fingerprint
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
