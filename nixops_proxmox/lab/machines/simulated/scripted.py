"""A guest of which only a model exists: no process, no namespace; for fleets of a thousand.

It knows the scripts that the tool sends by their markers (see replies.py), keeps files in memory and, of the installed
system, in the disk's tree; what it does not know ends with status 127. Nix is not modelled.
"""

import asyncio
import io
import itertools
import json
import os
import re
import shlex
import tarfile
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.machines.simulated import luks, sight
from nixops_proxmox.lab.machines.simulated.body import (
    About,
    GuestDisk,
    NoSuchProgram,
    OpenFile,
    Output,
    Pipes,
    with_paths,
    with_sizes,
)
from nixops_proxmox.lab.machines.simulated.options import Modelled, Options
from nixops_proxmox.lab.machines.simulated.replies import JOBS, ScriptCall, find_marker, find_reply, takes_input
from nixops_proxmox.lab.machines.simulated.sandbox import Boot

SHELLS = ("/bin/sh", "sh", "/bin/bash", "bash", "/run/current-system/sw/bin/sh")
Sleep = Callable[[float], Awaitable[None]]


@dataclass
class DetachedJob:
    """A detached job: `status` is None while it runs."""

    task: asyncio.Task[None] | None = None
    status: int | None = None
    log: str = ""


@dataclass
class ProbationRun:
    """A system on probation. `generation`: the one that it is already; 0: it becomes a new one. `became`: what it
    is."""

    number: str
    system: str
    previous: str
    generation: int = 0
    state: str = "waiting"
    why: str = ""
    refused: bool = False
    until: float = 0.0
    became: int = 0
    timer: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return self.state != "waiting"


class ScriptedGuest:
    """Satisfies `GuestBody`."""

    def __init__(self, boot: Boot, options: Options, sleep: Sleep, event: Callable[[str], None]) -> None:
        self._boot = boot
        self._options = options
        self._sleep = sleep
        self._event = event
        self._pids = itertools.count(300)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.jobs: dict[str, DetachedJob] = {}
        self.once: dict[str, Output] = {}
        self.files: dict[str, bytes] = {path: text.encode() for path, text in dict(boot.files).items()}
        self.partitioned = False
        self.keys: dict[str, bytes] = {}  # of an encrypted disk, by VOLUME.SLOT
        self.systems = ["/nix/store/00000000000000000000000000000000-scripted"]  # by generation, from 1 on
        self.generation = 1
        self.probation: ProbationRun | None = None

    @property
    def about(self) -> About:
        return self._boot.about

    @property
    def system(self) -> str:
        return self.systems[self.generation - 1]

    @property
    def disks(self) -> tuple[GuestDisk, ...]:
        return self._boot.disks

    def follow(self, paths: Mapping[str, Path]) -> None:
        self._boot = replace(self._boot, disks=with_paths(self.disks, paths))

    async def plug(self, disks: tuple[GuestDisk, ...]) -> None:
        self._boot = replace(self._boot, disks=disks)

    async def see_sizes(self, sizes: Mapping[str, int]) -> None:
        await self.plug(with_sizes(self.disks, sizes))

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def start_program(
        self, argv: Sequence[str], environment: Mapping[str, str], given: bytes
    ) -> tuple[int, Awaitable[Output]]:
        del environment
        if argv[0] in SHELLS and len(argv) > 2 and argv[1] == "-c":
            return next(self._pids), self._keep(self.run(argv[2], given))
        if argv[0].rpartition("/")[2] in ("nonexistent", ""):
            raise NoSuchProgram(argv[0])
        return next(self._pids), self._keep(self.run(shlex.join(argv), given))

    async def run_session(self, command: str, pipes: Pipes, user: str = "root") -> Output:
        del user  # its scripts do what they say, for any user
        words = shlex.split(command) if command.startswith("exec /bin/sh -c ") else []
        script, given = words[-1] if len(words) in (4, 6) else command, bytearray()
        while takes_input(script) and (data := await pipes.read()):
            given += data
        output = await self.run(script, bytes(given))
        await pipes.write(output.out)
        await pipes.write_err(output.err)
        return output

    async def run(self, script: str, given: bytes) -> Output:
        """What the first rule of the lab's owner says whose pattern is found in it; else the reply to its marker."""
        for rule in self._options.modelled:
            if re.search(rule.pattern, script):
                return await self.do(rule)
        found = find_reply(script)
        if found is None:
            return Output(127, b"", b"a scripted guest does not know this command\n")
        handler, words = found
        return await handler(self, ScriptCall(words, given))

    async def do(self, rule: Modelled) -> Output:
        await self._sleep(rule.seconds)
        if rule.effect == "partition":
            self.partition()
        elif rule.effect == "install":
            self.install()
        elif rule.effect:
            self._event(rule.effect)
        return Output(rule.status, rule.out.encode(), rule.err.encode())

    # Effects

    def partition(self) -> None:
        """The first disk gets one root file system, which is mounted."""
        disk = self.first_disk()
        content = json.loads((disk.path / "disk.json").read_text(encoding="utf-8"))
        content |= {"table": "gpt", "ptuuid": str(uuid.uuid4()), "boot": None}
        content["parts"] = {
            "1": {"start": 2048, "end": disk.size // 512 - 34, "type": "8300", "name": "root", "uuid": "1"}
        }
        size = disk.size - (2048 + 33) * 512
        content.pop("luks", None)
        content = dict(luks.made(self.keys, luks.ROOT, content) or content)
        content["fs"] = {"1": {"type": "ext4", "uuid": f"{self.about.uuid}", "label": "nixos", "size": size}}
        self._target().mkdir(exist_ok=True)
        (disk.path / "disk.json").write_text(json.dumps(content), encoding="utf-8")
        self._encrypt_data_disks()
        self.partitioned = True

    def _encrypt_data_disks(self) -> None:
        """Each that there are keys for. What the system opens it with is put on the root."""
        for volume, folder in self.volumes.items():
            path = folder / "disk.json"
            content = json.loads(path.read_text(encoding="utf-8"))
            changed = None if volume == luks.ROOT else luks.made(self.keys, volume, content)
            if changed is not None:
                path.write_text(json.dumps(changed), encoding="utf-8")
                file = self._target() / luks.KEY_FILE.format(volume).lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.keys[f"{volume}.{luks.SEALED}"])
        self.keys = {}

    @property
    def volumes(self) -> Mapping[str, Path]:
        """The disks that may be encrypted, by the name of their volume."""
        first, *others = [disk for disk in self.disks if not disk.rom]
        return {luks.ROOT: first.path} | {disk.key: disk.path for disk in others}

    def install(self) -> None:
        path = self.first_disk().path / "disk.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["boot"] = {"root": "1", "mounts": {}}
        path.write_text(json.dumps(content), encoding="utf-8")

    async def begin_probation(self, number: str, system: str, seconds: int, generation: int) -> None:
        """Without a confirmation it goes back by itself."""
        until = time.monotonic() + seconds
        probation = self.probation = ProbationRun(number, system, self.system, generation, until=until)
        probation.timer = self._keep(self._expire(probation, seconds))

    async def _expire(self, probation: ProbationRun, seconds: int) -> None:
        await self._sleep(seconds)
        if not probation.is_over:
            probation.state, probation.why = "reverted", f"no confirmation came within {seconds} s"

    def end_probation(self, number: str, state: str, why: str = "", *, refused: bool = False) -> None:
        """The first one decides."""
        probation = self.probation
        if probation is None or probation.number != number or probation.is_over:
            return
        probation.state, probation.why, probation.refused = state, why, refused
        if probation.timer is not None:
            probation.timer.cancel()
        if state == "confirmed":
            if not probation.generation and probation.system != self.system:
                self.systems.append(probation.system)
                self.generation = len(self.systems)
            self.generation = probation.generation or self.generation
            probation.became = self.generation

    def tell_probation(self) -> str:
        lines = ["nixops-proxmox-probation 1"]
        if self.probation is not None:
            probation = self.probation
            lines += [f"id {probation.number}", f"state {probation.state}", f"system {probation.system}"]
            lines += [f"previous {probation.previous}", "status 0"]
            lines += [f"became system-{probation.became}-link"] if probation.became else []
            lines += [f"why {probation.why}"] if probation.why else []
            lines += ["refused yes"] if probation.refused else []
            lines += ["alive yes", f"left {int(probation.until - time.monotonic())}"] if not probation.is_over else []
        return "\n".join([*lines, f"boot {self.about.boot_id}", "log", ""])

    def deliver(self, archive: bytes) -> None:
        """A tar archive onto the target."""
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar.getmembers():
                packed = tar.extractfile(member) if member.isfile() else None
                path = Path(os.path.normpath(f"/{member.name}"))
                if packed is not None:
                    target = self._target() / path.relative_to("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(packed.read())

    def keep(self, path: str, data: bytes) -> None:
        """In memory, and on the disk that was booted."""
        self.files[path] = data
        if self._boot.root is not None:
            target = self._boot.root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def tell(self, event: str) -> None:
        self._event(event)

    def first_disk(self) -> GuestDisk:
        return next(disk for disk in self.disks if not disk.rom)

    def _target(self) -> Path:
        return self.first_disk().path / "parts" / "1"

    def start_job(self, name: str, script: str) -> None:
        """Unless there is one of that name."""
        if name not in self.jobs:
            self.jobs[name] = DetachedJob()
            self.jobs[name].task = self._keep(self._work(self.jobs[name], script))

    async def _work(self, job: DetachedJob, script: str) -> None:
        kind = next(iter(find_marker(script)), "")
        seconds = {"partition": self._options.partition, "install": self._options.install}
        plain = Modelled("", err="a scripted guest does not know this job\n", status=127)
        if kind in JOBS:
            plain = Modelled("", seconds=seconds[kind], effect=kind)
        rule = next((rule for rule in self._options.modelled if re.search(rule.pattern, script)), plain)
        output = await self.do(rule)
        job.log = (output.out + output.err).decode()
        job.status = output.status

    async def wait_for_job(self, name: str, patience: float) -> None:
        job = self.jobs.get(name)
        if job is None or job.task is None or patience <= 0:
            return
        timer = self._keep(_sleep_through(self._sleep, patience))
        await asyncio.wait({job.task, timer}, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()

    # Files

    def find_file(self, path: str) -> bytes | None:
        if path in self.files:
            return self.files[path]
        found = sight.resolve_in(self._boot.root, path) if self._boot.root is not None else None
        return found.read_bytes() if found is not None and found.is_file() else None

    async def read_text(self, path: str) -> str | None:
        if path == "/proc/sys/kernel/hostname":
            return self.about.hostname
        data = self.find_file(path)
        return None if data is None else data.decode("utf-8", "replace")

    async def open_file(self, path: str, mode: str) -> OpenFile:
        plain = mode.replace("b", "")
        data = self.find_file(path)
        if plain.startswith("r") and data is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        return MemoryFile(
            self.files,
            path,
            b"" if plain.startswith("w") else data or b"",
            append=plain.startswith("a"),
            writes=plain != "r",
        )

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)


async def _sleep_through(sleep: Sleep, seconds: float) -> None:
    await sleep(seconds)


class MemoryFile:
    """A file in a scripted guest's memory, held open by the agent; kept when flushed or closed."""

    def __init__(self, files: dict[str, bytes], path: str, data: bytes, *, append: bool, writes: bool) -> None:
        self._files, self._path, self._writes = files, path, writes
        self._buffer = io.BytesIO(data)
        self._at_end = False
        if append:
            self._buffer.seek(0, io.SEEK_END)

    def read(self, count: int) -> bytes:
        data = self._buffer.read(count)
        self._at_end = len(data) < count
        return data

    def write(self, data: bytes) -> int:
        return self._buffer.write(data)

    def seek(self, offset: int, whence: int) -> int:
        self._at_end = False
        return self._buffer.seek(offset, whence)

    def flush(self) -> None:
        if self._writes:
            self._files[self._path] = self._buffer.getvalue()

    def close(self) -> None:
        self.flush()

    def at_end(self) -> bool:
        return self._at_end
