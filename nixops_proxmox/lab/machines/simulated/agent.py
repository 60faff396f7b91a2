"""The QEMU guest agent's protocol over a guest's body: names, shapes and error texts as in qemu-ga 8.2."""

import asyncio
import base64
import binascii
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.lab.machines.base import AgentError
from nixops_proxmox.lab.machines.simulated.addresses import qga_interfaces
from nixops_proxmox.lab.machines.simulated.body import GuestBody, NoSuchProgram, OpenFile, Output

VERSION = "8.2.7"
READ_MAX = 48 << 20  # bytes of one guest-file-read
CAPTURE_MAX = 16 << 20  # bytes of a captured stream
ALLOWED_WHEN_FROZEN = (
    "guest-fsfreeze-status", "guest-fsfreeze-thaw", "guest-info", "guest-ping", "guest-sync", "guest-sync-delimited",
)  # fmt: skip


def refuse(desc: str) -> AgentError:
    return AgentError("GenericError", desc)


@dataclass
class Program:
    ending: asyncio.Future[Output]
    capture: str


class GuestAgent:
    """One boot's agent: it forgets handles and processes when the guest goes down."""

    def __init__(self, body: GuestBody, power: Callable[[str], None]) -> None:
        """`power` is told "powerdown", "halt" or "reboot"."""
        self._body = body
        self._power = power
        self._files: dict[int, OpenFile] = {}
        self._handles = itertools.count(1000)
        self._programs: dict[int, Program] = {}
        self._frozen = 0
        self._commands: dict[str, Callable[[Mapping[str, Any]], Awaitable[Any]]] = {
            name.replace("_", "-"): getattr(self, name) for name in dir(self) if name.startswith("guest_")
        }

    async def call(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Raises AgentError."""
        handler = self._commands.get(command)
        if handler is None:
            raise AgentError("CommandNotFound", f"The command {command} has not been found")
        if self._frozen and command not in ALLOWED_WHEN_FROZEN:
            raise AgentError("CommandNotFound", f"Command {command} has been disabled: the agent is in frozen state")
        try:
            return await handler(arguments)
        except KeyError as error:
            raise refuse(f"Parameter '{error.args[0]}' is missing") from error
        except binascii.Error as error:
            raise refuse("failed to decode base64 data") from error

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        for program in self._programs.values():
            program.ending.cancel()

    async def guest_ping(self, _: Mapping[str, Any]) -> Any:
        return {}

    async def guest_sync(self, arguments: Mapping[str, Any]) -> Any:
        return arguments["id"]

    guest_sync_delimited = guest_sync

    async def guest_info(self, _: Mapping[str, Any]) -> Any:
        names = sorted(self._commands)
        return {
            "version": VERSION,
            "supported_commands": [
                {"name": name, "enabled": True, "success-response": name != "guest-shutdown"} for name in names
            ],
        }

    async def guest_exec(self, arguments: Mapping[str, Any]) -> Any:
        given = base64.b64decode(arguments.get("input-data") or "", validate=True)
        environment = dict(entry.split("=", 1) for entry in arguments.get("env") or () if "=" in entry)
        capture = arguments.get("capture-output") or "none"
        try:
            pid, ending = await self._body.start_program(
                [arguments["path"], *(arguments.get("arg") or ())], environment, given
            )
        except NoSuchProgram as error:
            raise refuse(f"Guest agent command failed, error was '{error}'") from error
        self._programs[pid] = Program(asyncio.ensure_future(ending), "separated" if capture is True else capture)
        return {"pid": pid}

    async def guest_exec_status(self, arguments: Mapping[str, Any]) -> Any:
        """One-shot: the answer that says `exited` is given once."""
        pid = arguments["pid"]
        program = self._programs.get(pid)
        if program is None:
            raise refuse(f"PID {pid} does not exist")
        if not program.ending.done():
            return {"exited": False}
        del self._programs[pid]
        return exec_status(program.ending.result(), program.capture)

    async def guest_file_open(self, arguments: Mapping[str, Any]) -> Any:
        path, mode = arguments["path"], arguments.get("mode") or "r"
        try:
            file = await self._body.open_file(path, mode)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise refuse(f"failed to open file '{path}' (mode: '{mode}'): {reason}") from error
        except ValueError as error:
            raise refuse(str(error)) from error
        handle = next(self._handles)
        self._files[handle] = file
        return handle

    def _file(self, arguments: Mapping[str, Any]) -> OpenFile:
        handle = arguments["handle"]
        if handle not in self._files:
            raise refuse(f"handle '{handle}' has not been found")
        return self._files[handle]

    async def guest_file_read(self, arguments: Mapping[str, Any]) -> Any:
        file, count = self._file(arguments), arguments.get("count", 4096)
        if not 0 <= count <= READ_MAX:
            raise refuse(f"value '{count}' is invalid for argument count")
        try:
            data = file.read(count)
        except OSError as error:
            raise refuse(f"failed to read file: {error.strerror}") from error
        return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": file.at_end()}

    async def guest_file_write(self, arguments: Mapping[str, Any]) -> Any:
        file, data = self._file(arguments), base64.b64decode(arguments["buf-b64"], validate=True)
        count = arguments.get("count", len(data))
        if not 0 <= count <= len(data):
            raise refuse(f"value '{count}' is invalid for argument count")
        try:
            written = file.write(data[:count])
        except OSError as error:
            raise refuse(f"failed to write to file: {error.strerror}") from error
        return {"count": written, "eof": False}

    async def guest_file_seek(self, arguments: Mapping[str, Any]) -> Any:
        whence = {"set": 0, "cur": 1, "end": 2}.get(arguments["whence"], arguments["whence"])
        position = self._file(arguments).seek(arguments["offset"], whence)
        return {"position": position, "eof": False}

    async def guest_file_flush(self, arguments: Mapping[str, Any]) -> Any:
        self._file(arguments).flush()
        return {}

    async def guest_file_close(self, arguments: Mapping[str, Any]) -> Any:
        self._file(arguments).close()
        del self._files[arguments["handle"]]
        return {}

    async def guest_network_get_interfaces(self, _: Mapping[str, Any]) -> Any:
        return qga_interfaces(self._body.about.nics)

    async def guest_get_osinfo(self, _: Mapping[str, Any]) -> Any:
        release = self._body.about.os_release
        told = {
            "id": release.get("ID"), "name": release.get("NAME"), "pretty-name": release.get("PRETTY_NAME"),
            "version": release.get("VERSION"), "version-id": release.get("VERSION_ID"),
            "variant": release.get("VARIANT"), "variant-id": release.get("VARIANT_ID"),
            "kernel-release": "6.6.60-lab", "kernel-version": "#1-NixOS SMP", "machine": "x86_64",
        }  # fmt: skip
        return {key: value for key, value in told.items() if value is not None}

    async def guest_get_host_name(self, _: Mapping[str, Any]) -> Any:
        name = await self._body.read_text("/proc/sys/kernel/hostname")
        return {"host-name": name.strip() if name else self._body.about.hostname}

    async def guest_get_fsinfo(self, _: Mapping[str, Any]) -> Any:
        mounts = [] if self._body.about.installer else [("sda1", "/", "ext4")]
        return [{"name": name, "mountpoint": where, "type": kind, "disk": []} for name, where, kind in mounts]

    async def guest_get_time(self, _: Mapping[str, Any]) -> Any:
        return time.time_ns()

    async def guest_get_timezone(self, _: Mapping[str, Any]) -> Any:
        return {"zone": "UTC", "offset": 0}

    async def guest_get_users(self, _: Mapping[str, Any]) -> Any:
        return []

    async def guest_get_vcpus(self, _: Mapping[str, Any]) -> Any:
        return [{"logical-id": 0, "online": True, "can-offline": False}]

    async def guest_fstrim(self, _: Mapping[str, Any]) -> Any:
        return {"paths": []}

    async def guest_fsfreeze_status(self, _: Mapping[str, Any]) -> Any:
        return "frozen" if self._frozen else "thawed"

    async def guest_fsfreeze_freeze(self, _: Mapping[str, Any]) -> Any:
        self._frozen = 1
        return 1

    guest_fsfreeze_freeze_list = guest_fsfreeze_freeze

    async def guest_fsfreeze_thaw(self, _: Mapping[str, Any]) -> Any:
        thawed, self._frozen = self._frozen, 0
        return thawed

    async def guest_set_user_password(self, arguments: Mapping[str, Any]) -> Any:
        """Checked and taken; there is nowhere to log in by password."""
        base64.b64decode(arguments["password"], validate=True)
        if arguments["username"] != "root":
            raise refuse(f"child process has failed to set user password: no user {arguments['username']!r}")
        return {}

    async def guest_shutdown(self, arguments: Mapping[str, Any]) -> Any:
        mode = arguments.get("mode") or "powerdown"
        if mode not in ("powerdown", "halt", "reboot"):
            raise refuse(f"Invalid parameter value '{mode}' for mode")
        self._power(mode)
        return {}


def exec_status(output: Output, capture: str) -> dict[str, Any]:
    """`out-data` and `err-data` are there only when captured and not empty."""
    told: dict[str, Any] = {"exited": True}
    told["signal" if output.signal else "exitcode"] = output.signal or output.status
    out, err = output.out, output.err
    if capture == "merged":
        out, err = out + err, b""
    if capture in ("separated", "stdout", "merged") and out:
        told |= {"out-data": base64.b64encode(out[:CAPTURE_MAX]).decode()}
        told |= {"out-truncated": True} if len(out) > CAPTURE_MAX else {}
    if capture in ("separated", "stderr") and err:
        told |= {"err-data": base64.b64encode(err[:CAPTURE_MAX]).decode()}
        told |= {"err-truncated": True} if len(err) > CAPTURE_MAX else {}
    return told
