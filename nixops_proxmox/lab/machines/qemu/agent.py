"""The host's end of the guest agent's channel: one owner, one command at a time, answers never mixed up.

A command that timed out may still be answered later. So the connection is dropped then, and the next one begins with
guest-sync, whose answer carries our number: whatever comes before it is old.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.machines.base import AgentError, AgentTimeout

LINE_LIMIT = 64 * 2**20  # guest-exec-status may carry 16 MiB of output, in base64, twice
FLUSH = b"\xff"  # never part of JSON in UTF-8: qemu-ga's parser starts again


class AgentChannel:
    """`socket`: the chardev's path. Connects when first used, and again after QEMU was restarted."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(random.SystemRandom().randrange(2**30))

    async def call(self, command: str, arguments: Mapping[str, Any], timeout: float) -> Any:
        """`return` of one command. Raises AgentTimeout, AgentError."""
        try:
            async with asyncio.timeout(timeout), self._turn, self._dropped_on_failure():
                reader, writer = await self._synchronous()
                await self._write(writer, command, arguments)
                reply = await self._read(reader)
        except TimeoutError as error:
            raise AgentTimeout(f"{command}: no answer within {timeout:g} s") from error
        except (OSError, EOFError) as error:
            raise AgentTimeout(f"{command}: the channel is closed") from error
        if "error" in reply:
            raise AgentError(str(reply["error"].get("class", "GenericError")), str(reply["error"].get("desc", "")))
        return reply.get("return")

    async def send(self, command: str, arguments: Mapping[str, Any], timeout: float) -> bool:
        """A command that is not answered (guest-shutdown); False: no agent listens."""
        try:
            async with asyncio.timeout(timeout), self._turn, self._dropped_on_failure():
                _, writer = await self._synchronous()
                await self._write(writer, command, arguments)
        except (OSError, EOFError):  # TimeoutError is an OSError
            return False
        return True

    @contextlib.asynccontextmanager
    async def _dropped_on_failure(self) -> AsyncIterator[None]:
        try:
            yield
        except (OSError, EOFError, asyncio.CancelledError):
            self.drop()
            raise

    async def _synchronous(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which the next answer is ours."""
        if self._streams is not None and not self._streams[0].at_eof():
            return self._streams
        self.drop()
        with directory_of(self._socket) as folder:
            reader, writer = await asyncio.open_unix_connection(f"{folder}/{self._socket.name}", limit=LINE_LIMIT)
        self._streams = reader, writer
        number = next(self._numbers)
        writer.write(FLUSH)
        await self._write(writer, "guest-sync", {"id": number})
        while (await self._read(reader)).get("return") != number:
            pass
        return self._streams

    async def _write(self, writer: asyncio.StreamWriter, command: str, arguments: Mapping[str, Any]) -> None:
        writer.write(json.dumps({"execute": command, "arguments": dict(arguments)}).encode() + b"\n")
        await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        """The next answer; what is no JSON object (half an old answer) is skipped."""
        while True:
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError("the guest agent's channel was closed")
            with contextlib.suppress(ValueError):
                reply = json.loads(line.lstrip(FLUSH))
                if isinstance(reply, dict):
                    return reply

    def drop(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextlib.contextmanager
def directory_of(path: Path) -> Iterator[str]:
    """A short name for the folder of a socket, however long its path is (sun_path has 108 bytes)."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
