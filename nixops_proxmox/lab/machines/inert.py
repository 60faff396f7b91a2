"""Machines that are nothing but their power switch and a scriptable agent: for tests of the API itself."""

import asyncio
import base64
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.machines.base import AgentError, AgentTimeout, Ended, Hardware, Running, StartFailed, Volume

STATISTICS = {f"{way}-{what}": 0 for way in ("rx", "tx") for what in ("bytes", "packets", "errs", "dropped")}
INTERFACES = [
    {
        "name": "lo",
        "hardware-address": "00:00:00:00:00:00",
        "ip-addresses": [
            {"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8},
            {"ip-address": "::1", "ip-address-type": "ipv6", "prefix": 128},
        ],
        "statistics": STATISTICS,
    }
]
OS = {
    "id": "lab",
    "name": "Lab guest",
    "pretty-name": "Lab guest 1",
    "version-id": "1",
    "machine": "x86_64",
    "kernel-release": "6.1.0",
    "kernel-version": "#1 SMP",
}


@dataclass
class Guest:
    """What the agent of one VM says; a test changes it. `answers` wins over what is built in."""

    answers: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    folders: tuple[str, ...] = ("/tmp", "/etc", "/root")  # noqa: S108  # of a guest that does not exist
    alive: bool = True  # does the agent answer?
    obeys: bool = True  # does the guest shut down when asked?
    silence: float = 0.05  # how long an agent that does not answer lets one wait
    patience: float = 0.1  # how long a guest that does not obey lets one wait
    plugs: str = ""  # why devices cannot come or go while it runs; "": they can
    run: Callable[[list[str], bytes], Mapping[str, Any]] = lambda _argv, _stdin: {"exitcode": 0}


class InertMachine:
    """A `Running` without anything inside."""

    _pids = itertools.count(4000)

    def __init__(self, hardware: Hardware, guest: Guest, ended: Callable[[Ended], None], now: float) -> None:
        self.hardware = hardware
        self.guest = guest
        self.pid = next(self._pids)
        self.started = now
        self._ended = ended
        self._off = False
        self._handles: dict[int, tuple[str, int]] = {}
        self._processes: dict[int, Mapping[str, Any]] = {}
        self._numbers = itertools.count(100)

    # Power.

    def end(self, why: Ended) -> None:
        if not self._off:
            self._off = True
            self._ended(why)

    async def shut_down(self, timeout: float) -> bool:
        if not self.guest.obeys:
            await asyncio.sleep(min(timeout, self.guest.patience))
            return False
        self.end(Ended.HOST)
        return True

    async def power_off(self) -> None:
        self.end(Ended.HOST)

    async def reset(self) -> None: ...
    async def pause(self) -> None: ...
    async def resume(self) -> None: ...

    async def change(self, old: Hardware, new: Hardware) -> None:
        if self.guest.plugs and _devices(old) != _devices(new):
            raise StartFailed(self.guest.plugs)
        self.hardware = new

    async def status(self) -> Mapping[str, Any]:
        return {"qmpstatus": "running", "mem": self.hardware.memory * 1024**2 // 4, "cpu": 0.01}

    async def interfaces(self) -> Sequence[Mapping[str, Any]]:
        answer = self.guest.answers.get("interfaces")
        listed: Sequence[Mapping[str, Any]] = answer or self._guest_network_get_interfaces({})
        return listed

    async def save_state(self, path: Path) -> None:
        path.write_bytes(b"ram")

    # Agent.

    async def agent(self, command: str, arguments: Mapping[str, Any], timeout: float) -> Any:
        if not self.guest.alive or self._off:
            await asyncio.sleep(min(timeout, self.guest.silence))
            raise AgentTimeout(command)
        if command in self.guest.answers:
            answer = self.guest.answers[command]
            if isinstance(answer, Exception):
                raise answer
            return answer(arguments) if callable(answer) else answer
        built_in = getattr(self, "_" + command.replace("-", "_"), None)
        if built_in is None:
            raise AgentError("CommandNotFound", f"The command {command} has not been found")
        return built_in(arguments)

    def _guest_ping(self, _: Mapping[str, Any]) -> Any:
        return {}

    def _guest_network_get_interfaces(self, _: Mapping[str, Any]) -> Any:
        nics = [
            {"name": f"eth{index}", "hardware-address": nic.mac.lower(), "statistics": STATISTICS}
            for index, nic in enumerate(self.hardware.nics)
        ]
        return [*INTERFACES, *nics]

    def _guest_get_osinfo(self, _: Mapping[str, Any]) -> Any:
        return OS

    def _guest_get_host_name(self, _: Mapping[str, Any]) -> Any:
        return {"host-name": self.hardware.name}

    def _guest_info(self, _: Mapping[str, Any]) -> Any:
        names = [name[1:].replace("_", "-") for name in dir(self) if name.startswith("_guest_")]
        return {
            "version": "7.2.22",
            "supported_commands": [{"name": name, "enabled": True, "success-response": True} for name in names],
        }

    def _guest_get_time(self, _: Mapping[str, Any]) -> Any:
        return int(self.started * 1e9)

    def _guest_get_timezone(self, _: Mapping[str, Any]) -> Any:
        return {"offset": 0, "zone": "UTC"}

    def _guest_get_users(self, _: Mapping[str, Any]) -> Any:
        return []

    def _guest_get_fsinfo(self, _: Mapping[str, Any]) -> Any:
        return []

    def _guest_get_vcpus(self, _: Mapping[str, Any]) -> Any:
        return [{"online": True, "logical-id": 0, "can-offline": False}]

    def _guest_fsfreeze_status(self, _: Mapping[str, Any]) -> Any:
        return "thawed"

    def _guest_exec(self, arguments: Mapping[str, Any]) -> Any:
        pid = next(self._numbers)
        argv = [arguments["path"], *arguments.get("arg", [])]
        result = self.guest.run(argv, base64.b64decode(arguments.get("input-data", "")))
        if "missing" in result:
            raise AgentError("GenericError", f"Failed to execute child process “{argv[0]}” (No such file or directory)")
        self._processes[pid] = result
        return {"pid": pid}

    def _guest_exec_status(self, arguments: Mapping[str, Any]) -> Any:
        if arguments["pid"] not in self._processes:
            raise AgentError("GenericError", "Invalid parameter 'pid'")
        result = dict(self._processes[arguments["pid"]])
        if result.get("polls", 0) > 0:  # still running, for that many questions
            result["polls"] -= 1
            self._processes[arguments["pid"]] = result
            return {"exited": False}
        del self._processes[arguments["pid"]]
        answer: dict[str, Any] = {"exited": True}
        answer |= {"signal": result["signal"]} if "signal" in result else {"exitcode": result.get("exitcode", 0)}
        for key, name in (("out", "out-data"), ("err", "err-data")):
            if result.get(key):
                answer[name] = base64.b64encode(result[key]).decode()
        return answer

    def _guest_file_open(self, arguments: Mapping[str, Any]) -> Any:
        path, mode = arguments["path"], arguments.get("mode", "r")
        folder = path.rpartition("/")[0]
        missing = path not in self.guest.files if mode.startswith("r") else folder not in ("", *self.guest.folders)
        if missing:
            raise AgentError(
                "GenericError", f"failed to open file '{path}' (mode: '{mode}'): No such file or directory"
            )
        if mode.startswith("w"):
            self.guest.files[path] = b""
        handle = next(self._numbers)
        self._handles[handle] = (path, 0)
        return handle

    def _guest_file_write(self, arguments: Mapping[str, Any]) -> Any:
        path, _ = self._handles[arguments["handle"]]
        data = base64.b64decode(arguments["buf-b64"])
        self.guest.files[path] += data
        return {"count": len(data), "eof": False}

    def _guest_file_read(self, arguments: Mapping[str, Any]) -> Any:
        path, offset = self._handles[arguments["handle"]]
        data = self.guest.files[path][offset : offset + int(arguments.get("count", 4096))]
        self._handles[arguments["handle"]] = (path, offset + len(data))
        eof = offset + len(data) >= len(self.guest.files[path])
        return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": eof}

    def _guest_file_seek(self, arguments: Mapping[str, Any]) -> Any:
        path, _ = self._handles[arguments["handle"]]
        self._handles[arguments["handle"]] = (path, int(arguments["offset"]))
        return {"position": int(arguments["offset"]), "eof": False}

    def _guest_file_close(self, arguments: Mapping[str, Any]) -> Any:
        self._handles.pop(arguments["handle"], None)
        return {}


def _devices(hardware: Hardware) -> set[tuple[str, str]]:
    disks = {(disk.key, disk.volume.volid if disk.volume else "") for disk in hardware.disks if not disk.cdrom}
    return disks | {(nic.key, nic.mac) for nic in hardware.nics}


def copy_sparse(source: Path, target: Path) -> None:
    """What has been written, and the length: holes stay holes."""
    with source.open("rb") as old, target.open("wb") as new:
        size, position = os.fstat(old.fileno()).st_size, 0
        new.truncate(size)
        while position < size:
            try:
                start = os.lseek(old.fileno(), position, os.SEEK_DATA)
            except OSError:  # nothing but a hole from here on
                return
            position = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            while start < position:
                copied = os.copy_file_range(old.fileno(), new.fileno(), min(position - start, 2**24), start, start)
                if copied == 0:
                    return
                start += copied


class InertDriver:
    """Volumes are sparse files; machines are on or off."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self.guests: dict[int, Guest] = {}
        self.machines: dict[int, InertMachine] = {}
        self.burnt: dict[str, Mapping[str, str]] = {}  # by volid: what a CD has by now
        self.fails: dict[int, StartFailed] = {}  # what the next start of a VM ends in

    def guest(self, vmid: int) -> Guest:
        return self.guests.setdefault(vmid, Guest())

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def power_on(
        self, hardware: Hardware, ended: Callable[[Ended], None], *, state: Path | None = None
    ) -> Running:
        del state
        if hardware.vmid in self.fails:
            raise self.fails.pop(hardware.vmid)
        machine = InertMachine(hardware, self.guest(hardware.vmid), ended, self._now())
        self.machines[hardware.vmid] = machine
        return machine

    async def allocate(self, volume: Volume) -> None:
        volume.path.parent.mkdir(parents=True, exist_ok=True)
        with volume.path.open("wb") as file:
            file.truncate(volume.size)

    async def free(self, volume: Volume) -> None:
        volume.path.unlink(missing_ok=True)
        for snapshot in volume.path.parent.glob(f"{volume.path.name}@*"):
            snapshot.unlink()

    async def resize(self, volume: Volume, size: int) -> None:
        with volume.path.open("r+b") as file:
            file.truncate(size)

    async def copy(self, source: Volume, target: Volume) -> None:
        await asyncio.to_thread(copy_sparse, source.path, target.path)
        await self.resize(target, target.size)

    async def mirror(self, source: Volume, target: Volume) -> None:
        await self.copy(source, target)

    async def unpack(self, archive: Path, volume: Volume, files: Mapping[str, tuple[str, int]]) -> None:
        """There is nothing inside."""

    async def burn(self, volume: Volume, label: str, files: Mapping[str, str]) -> None:
        self.burnt[volume.volid] = {"label": label, **files}

    async def link(self, base: Volume, target: Volume) -> None:
        await self.allocate(target)
        await self.copy(base, target)

    def _snapshot(self, volume: Volume, name: str) -> Path:
        return volume.path.with_name(f"{volume.path.name}@{name}")

    async def snapshot(self, volume: Volume, name: str) -> None:
        copy_sparse(volume.path, self._snapshot(volume, name))

    async def rollback(self, volume: Volume, name: str) -> None:
        with suppress(FileNotFoundError):
            copy_sparse(self._snapshot(volume, name), volume.path)

    async def drop_snapshot(self, volume: Volume, name: str) -> None:
        self._snapshot(volume, name).unlink(missing_ok=True)

    def screenshot(self, vmid: int) -> Path | None:
        del vmid
        return None
