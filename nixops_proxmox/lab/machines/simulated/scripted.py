"""A guest of which only a model exists: no process, no namespace; for fleets of a thousand.

It knows the scripts that the tool sends by the words in them (`RULES`), keeps files in memory and, of the installed
system, in the disk's tree; what it does not know ends with status 127. Nix is not modelled.
"""

import asyncio
import base64
import binascii
import io
import itertools
import json
import os
import re
import shlex
import tarfile
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.machines.simulated import sight
from nixops_proxmox.lab.machines.simulated.body import About, GuestDisk, NoSuchProgram, OpenFile, Output, Pipes
from nixops_proxmox.lab.machines.simulated.options import Modelled, Options
from nixops_proxmox.lab.machines.simulated.sandbox import Boot
from nixops_proxmox.lab.machines.simulated.sshd import HOST_KEY

AUTHORIZED_KEYS = "/root/.ssh/authorized_keys"
SHELLS = ("/bin/sh", "sh", "/bin/bash", "bash", "/run/current-system/sw/bin/sh")
Sleep = Callable[[float], Awaitable[None]]


@dataclass
class DetachedJob:
    """A detached job: `status` is None while it runs."""

    task: asyncio.Task[None] | None = None
    status: int | None = None
    log: str = ""


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
        self.system = "/nix/store/00000000000000000000000000000000-scripted"

    @property
    def about(self) -> About:
        return self._boot.about

    @property
    def disks(self) -> tuple[GuestDisk, ...]:
        return self._boot.disks

    async def plug(self, disks: tuple[GuestDisk, ...]) -> None:
        self._boot = replace(self._boot, disks=disks)

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
            return next(self._pids), self._keep(self.run(argv[2], given, argv[3:]))
        if argv[0].rpartition("/")[2] in ("nonexistent", ""):
            raise NoSuchProgram(argv[0])
        return next(self._pids), self._keep(self.run(shlex.join(argv), given))

    async def run_session(self, command: str, pipes: Pipes, user: str = "root") -> Output:
        del user  # its scripts do what they say, whoever runs them
        words = shlex.split(command) if command.startswith("exec /bin/sh -c ") else []
        script, given = words[-1] if len(words) in (4, 6) else command, bytearray()
        while takes_input(script) and (data := await pipes.read()):
            given += data
        output = await self.run(script, bytes(given))
        await pipes.write(output.out)
        await pipes.write_err(output.err)
        return output

    async def run(self, script: str, given: bytes, arguments: Sequence[str] = ()) -> Output:
        """The first rule whose pattern is found in the script."""
        for rule in self._options.modelled:
            if re.search(rule.pattern, script):
                return await self.do(rule)
        for pattern, handler in RULES:
            if found := re.search(pattern, script, re.MULTILINE):
                return await handler(self, script, given, found, arguments)
        return Output(127, b"", b"a scripted guest does not know this command\n")

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
        disk = self._first_disk()
        content = json.loads((disk.path / "disk.json").read_text(encoding="utf-8"))
        content |= {"table": "gpt", "ptuuid": str(uuid.uuid4()), "boot": None}
        content["parts"] = {
            "1": {"start": 2048, "end": disk.size // 512 - 34, "type": "8300", "name": "root", "uuid": "1"}
        }
        content["fs"] = {"1": {"type": "ext4", "uuid": f"{self.about.uuid}", "label": "nixos"}}
        self._target().mkdir(exist_ok=True)
        (disk.path / "disk.json").write_text(json.dumps(content), encoding="utf-8")
        self.partitioned = True

    def install(self) -> None:
        path = self._first_disk().path / "disk.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["boot"] = {"root": "1", "mounts": {}}
        path.write_text(json.dumps(content), encoding="utf-8")

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

    def _first_disk(self) -> GuestDisk:
        return next(disk for disk in self.disks if not disk.rom)

    def _target(self) -> Path:
        return self._first_disk().path / "parts" / "1"

    def start_job(self, name: str, script: str) -> None:
        """Unless there is one of that name."""
        if name not in self.jobs:
            self.jobs[name] = DetachedJob()
            self.jobs[name].task = self._keep(self._work(self.jobs[name], script))

    async def _work(self, job: DetachedJob, script: str) -> None:
        installs = "nixos-install" in script
        plain = Modelled(
            "",
            seconds=self._options.install if installs else self._options.partition,
            effect="install" if installs else "partition",
        )
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


# What it knows of the tool's scripts

ScriptHandler = Callable[[ScriptedGuest, str, bytes, re.Match[str], Sequence[str]], Awaitable[Output]]


def said(text: str, status: int = 0) -> Output:
    return Output(status, text.encode())


async def run_once(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    """A script in base64 on stdin, once per folder (the second argument)."""
    del script, found
    token = arguments[1] if len(arguments) > 1 else ""
    if token not in guest.once:
        try:
            inner = base64.b64decode(given, validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            return Output(1, b"", b"base64: invalid input\n")
        guest.once[token] = await guest.run(inner, b"")
    return guest.once[token]


async def enter(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del given, arguments
    about = guest.about
    if about.installer and (keys := re.search(r"^ *for key in (.*); do$", script, re.MULTILINE)):
        known = guest.files.get(AUTHORIZED_KEYS, b"").decode().splitlines()
        wanted = [key for key in shlex.split(keys[1]) if key not in known]
        guest.files[AUTHORIZED_KEYS] = "".join(f"{key}\n" for key in [*known, *wanted]).encode()
    public = (guest.find_file(f"{HOST_KEY}.pub") or b"").decode().split()
    kind = "installer" if about.installer else "other"
    system = f"system {about.os_release.get('PRETTY_NAME', 'unknown')}\n"
    key = f"host-key {public[0]} {public[1]}\n" if len(public) > 1 else ""
    return said(f"{found[0]}\nkind {kind}\nboot-id {about.boot_id}\n{system}uuid {about.uuid.lower()}\n{key}end\n")


async def introduce(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    """A copied system gets files (in base64) and keys; sshd takes its host key from among them."""
    del given, arguments
    for path, text in re.findall(r"^put (\S+) \d+ (\S+)$", script, re.MULTILINE):
        guest.keep(path, base64.b64decode(text))
    for words in re.findall(r"^authorize (.*)$", script, re.MULTILINE):
        user, *keys = shlex.split(words)
        if user == "root":
            guest.keep(AUTHORIZED_KEYS, "".join(f"{key}\n" for key in keys).encode())
    guest.tell("sshd")
    return said(f"{found[1]}\n")


async def job_start(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del found, arguments
    guest.start_job(job_name(script), given.decode())
    return said("")


async def job_find(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del given, arguments
    name = job_name(script)
    patience = re.search(r"-lt (\d+) \]; do n=\$\(\(n\+1\)\); sleep 0\.2; look", script)
    await guest.wait_for_job(name, int(patience[1]) / 5 if patience else 0.0)
    job = guest.jobs.get(name)
    phase = "absent" if job is None else "running" if job.status is None else "done"
    return said(f"{found[1]} {phase} {job.status or 0 if job else 0}\n{job.log if job else ''}")


async def job_discard(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del given, found, arguments
    job = guest.jobs.get(job_name(script))
    if job is not None and job.status is None:
        return Output(1, b"", b"it runs\n")
    guest.jobs.pop(job_name(script), None)
    return said("")


def job_name(script: str) -> str:
    found = re.search(r"^job=(.+)$", script, re.MULTILINE)
    return shlex.split(found[1])[0].rpartition("/")[2] if found else ""


async def list_disks(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del script, given, arguments
    header = found[1]
    rows, signatures = [], []
    for disk in guest.disks:
        content = {"table": None} if disk.rom else json.loads((disk.path / "disk.json").read_text(encoding="utf-8"))
        kind = "rom" if disk.rom else "disk"
        rows.append(
            {
                "name": disk.name,
                "type": kind,
                "size": disk.size,
                "serial": disk.serial or None,
                "wwn": None,
                "fstype": None,
                "pttype": content["table"],
                "ptuuid": content.get("ptuuid") or None,
            }
        )
        signatures += [f"{disk.name} {content['table']}"] if content["table"] else []
    links = [f"/dev/{disk.name} /dev/disk/by-id/{disk.by_id}" for disk in guest.disks]
    parts = [
        f"{header} lsblk",
        json.dumps({"blockdevices": rows}),
        f"{header} signatures",
        *signatures,
        f"{header} links",
        *links,
        f"{header} end",
    ]
    return said("\n".join(parts) + "\n")


async def deliver(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del script, found, arguments
    if not guest.partitioned:
        return Output(1, b"", b"nothing is mounted on /mnt\n")
    guest.deliver(given)
    return said("")


async def is_mounted(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del script, given, found, arguments
    return said("", 0 if guest.partitioned else 1)


async def join_file(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del script, given, arguments
    parts, target = shlex.split(found[1])[0], shlex.split(found[2])[0]
    pieces = sorted(path for path in guest.files if path.startswith(f"{parts}/"))
    if pieces:
        guest.files[target] = b"".join(guest.files.pop(path) for path in pieces)
    return said("", 0 if target in guest.files else 1)


async def active_system(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del script, given, found, arguments
    return said("" if guest.about.installer else f"{guest.system}\n")


async def activate(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del given, found, arguments
    chosen = re.search(r"--set (\S+)", script)
    guest.system = shlex.split(chosen[1])[0] if chosen else guest.system
    return said("nixops-proxmox: generation system-1-link\n")


async def show(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del script, given, arguments
    known = {"boot_id": guest.about.boot_id, "product_uuid": guest.about.uuid.lower(), "hostname": guest.about.hostname}
    return said(known[found[1]] + "\n")


async def nothing(
    guest: ScriptedGuest, script: str, given: bytes, found: re.Match[str], arguments: Sequence[str]
) -> Output:
    del guest, script, given, found, arguments
    return said("")


def takes_input(script: str) -> bool:
    """A command that does not read its input ends without waiting for the end of it."""
    handler = next((handler for pattern, handler in RULES if re.search(pattern, script, re.MULTILINE)), None)
    return handler in (run_once, job_start, deliver)


RULES: tuple[tuple[str, ScriptHandler], ...] = (
    (r"^ *base64 -d > \"\$d/script\"", run_once),
    (r"nixops-proxmox-installer \d+", enter),
    (r"^echo '(nixops-proxmox-introduced \d+)'$", introduce),
    (r"^new=\"\$job\.new\.\$\$\"", job_start),
    (r"^echo \"(nixops-proxmox-job) \$phase \$status(?:\$cut)?\"", job_find),
    (r"^mv \"\$job\" \"\$job\.old", job_discard),
    (r"^echo (nixops-proxmox-disks) lsblk", list_disks),
    (r"^tar -xpf -", deliver),
    (r"^grep -qs ' /mnt ' /proc/self/mounts$", is_mounted),
    (r"parts=(\S+); target=(.+?); new=", join_file),
    (r"bin/switch-to-configuration\" switch", activate),
    (r"readlink -f /run/current-system", active_system),
    (r"^cat /(?:proc/sys/kernel/random|sys/class/dmi/id)/(boot_id|product_uuid)$", show),
    (r"^(hostname)$", show),
    (r"^(?:true|sync|:)$|umask 077; mkdir -p|^blockdev --setr[ow]|udevadm settle", nothing),
)
