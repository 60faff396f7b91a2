"""QEMU's monitor: commands over QMP, the events that say why it ended, and a second line for who cannot await."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError

from nixops_proxmox.lab.machines.base import StartFailed
from nixops_proxmox.lab.machines.qemu.agent import directory_of

CONNECT_SECONDS = 15.0
COMMAND_SECONDS = 30.0


class Monitor:
    """The connection to one QEMU process."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client
        self._reason = ""
        self._news = asyncio.Condition()
        self._deleted: set[str] = set()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: Path, process: asyncio.subprocess.Process) -> "Monitor":
        """Waits until QEMU listens; raises StartFailed if it ends instead."""
        deadline = asyncio.get_running_loop().time() + CONNECT_SECONDS
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            if not path.exists():
                await asyncio.sleep(0.02)
                continue
            client = QMPClient(path.parent.name)
            try:
                with directory_of(path) as folder:
                    await client.connect(f"{folder}/{path.name}")
            except ConnectError:
                await asyncio.sleep(0.02)
                continue
            return cls(client)
        if process.returncode is None:
            raise StartFailed(f"QEMU's monitor did not answer within {CONNECT_SECONDS:.0f} s")
        raise StartFailed(f"start failed: QEMU exited with code {process.returncode}")

    async def _read(self) -> None:
        async for event in self._client.events:
            await self._note(event)

    async def _note(self, event: Mapping[str, Any]) -> None:
        data = event.get("data", {})
        if event["event"] == "SHUTDOWN":
            self._reason = data.get("reason", "")
        elif event["event"] == "DEVICE_DELETED" and "device" in data:
            self._deleted.add(data["device"])
        async with self._news:
            self._news.notify_all()

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, timeout: float = COMMAND_SECONDS
    ) -> Any:
        """One command; raises StartFailed with QEMU's words, or if it is gone."""
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise StartFailed(str(error)) from error
        except QMPError as error:
            raise StartFailed(f"{command}: QEMU is gone") from error
        except TimeoutError as error:
            raise StartFailed(f"{command}: QEMU did not answer within {timeout:.0f} s") from error

    async def type(self, line: str) -> None:
        """What QMP does not have (drive_add, …), on the human monitor: it says OK, nothing, or what is wrong."""
        said = str(await self.execute("human-monitor-command", {"command-line": line})).strip()
        if said not in ("", "OK"):
            raise StartFailed(said)

    async def wait_until_deleted(self, device: str, timeout: float) -> None:
        """The guest has let go of an unplugged device. Raises StartFailed."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: device in self._deleted)
        except TimeoutError as error:
            raise StartFailed(f"hotplug problem - error unplugging {device}: the guest did not let go of it") from error
        self._deleted.discard(device)

    async def close(self) -> str:
        """After QEMU ended: the reason it gave, "" for none."""
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._client.disconnect()
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        for event in self._client.events.clear():
            await self._note(event)
        return self._reason


def ask_at_once(path: Path, command: str, arguments: Mapping[str, Any], timeout: float = 5.0) -> Any:
    """One command on the second monitor, without an event loop; raises OSError, or ValueError with QEMU's words."""
    with socket.socket(socket.AF_UNIX) as line, directory_of(path) as folder:
        line.settimeout(timeout)
        line.connect(f"{folder}/{path.name}")
        with line.makefile("rwb") as stream:
            stream.readline()  # the greeting
            reply: dict[str, Any] = {}
            for name, given in (("qmp_capabilities", {}), (command, arguments)):
                stream.write(json.dumps({"execute": name, "arguments": given}).encode() + b"\n")
                stream.flush()
                reply = read_reply(stream.readline)
    if "error" in reply:
        raise ValueError(reply["error"].get("desc", command))
    return reply["return"]


def read_reply(read_line: Any) -> dict[str, Any]:
    """The next answer; events come in between."""
    while line := read_line():
        message: dict[str, Any] = json.loads(line)
        if "return" in message or "error" in message:
            return message
    raise OSError("QEMU closed its monitor")
