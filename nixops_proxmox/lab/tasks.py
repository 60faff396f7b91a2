"""Workers: what a POST starts and a client polls, with UPIDs, logs and exit statuses."""

import asyncio
import itertools
import logging
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.clock import Clock
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.machines.base import StartFailed
from nixops_proxmox.lab.refusals import Refused

log = logging.getLogger(__name__)

UPID = re.compile(
    r"^UPID:(?P<node>[a-zA-Z0-9-]+):(?P<pid>[0-9A-Fa-f]{8}):(?P<pstart>[0-9A-Fa-f]{8,9}):(?P<start>[0-9A-Fa-f]{8}):"
    r"(?P<type>[^:\s]+):(?P<id>[^:\s]*):(?P<user>[^:\s]+):$"
)
KILLED = "unexpected status"  # what PVE makes of a log whose last line is not TASK …


@dataclass(frozen=True)
class Fate:
    """What a fault has in store for the task that a call starts."""

    what: Literal["kill", "fail", "warn"]
    text: str = ""
    after: float = 0.0  # seconds (kill)
    late: bool = False  # only after the work has been done (fail)


INTERRUPTED = "received interrupt"

# Set by the server around a call's handler; tasks started in it inherit it.
FATE: ContextVar[Fate | None] = ContextVar("fate", default=None)


class Log:
    """A task's log while it runs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings = 0
        self.interrupted = False  # TERM is on its way

    def say(self, text: str) -> None:
        self.lines.extend(text.rstrip("\n").split("\n"))

    def warn(self, text: str) -> None:
        self.warnings += 1
        self.say(f"WARN: {text}")


Worker = Callable[[Log], Awaitable[None]]


@dataclass
class Task:
    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    who: str
    log: Log = field(default_factory=Log)
    status: str | None = None  # the exit status; None while it runs
    endtime: int = 0
    job: "asyncio.Task[None] | None" = None

    @property
    def user(self) -> str:
        return self.who.partition("!")[0]

    @property
    def token(self) -> str:
        return self.who.partition("!")[2]


class TaskList:
    """All tasks of the cluster, newest last."""

    def __init__(self, clock: Clock, latency: Latency) -> None:
        self._clock = clock
        self._latency = latency
        self._pids = itertools.count(0x1000)
        self._boot = clock.time() - 1000
        self.tasks: dict[str, Task] = {}

    def start(
        self, node: str, type: str, id: str, auth: Auth, worker: Worker, undo: Callable[[], None] = lambda: None
    ) -> str:
        """Fork a worker; its UPID. Work begins when the event loop gets to it. `undo`: what the call itself has done
        already, and a worker that fails takes back."""
        task = self.record(node, type, id, auth)
        task.job = asyncio.get_running_loop().create_task(self._run(task, worker, FATE.get(), undo))
        return task.upid

    def record(self, node: str, type: str, id: str, auth: Auth) -> Task:
        pid, now = next(self._pids), self._clock.time()
        pstart = int((now - self._boot) * 100) & 0xFFFFFFFF
        upid = f"UPID:{node}:{pid:08X}:{pstart:08X}:{int(now):08X}:{type}:{id}:{auth.who}:"
        task = Task(upid, node, pid, pstart, int(now), type, id, auth.who)
        self.tasks[upid] = task
        return task

    async def _run(self, task: Task, worker: Worker, fate: Fate | None, undo: Callable[[], None]) -> None:
        FATE.set(None)  # a task that this one starts has a fate of its own
        status, died = KILLED, None
        try:
            status = await self._outcome(task, worker, fate, undo)
        except asyncio.CancelledError:
            status = INTERRUPTED if task.log.interrupted else KILLED
        except Exception as error:  # noqa: BLE001  a worker's process may die of anything
            status, died = " ".join(str(error).split()) or type(error).__name__, error
        finally:
            self._end(task, status)
        if died is not None:
            undo()
            log.error("a defect of the lab: the worker of %s died", task.upid, exc_info=died)

    def _end(self, task: Task, status: str) -> None:
        task.status = status
        task.endtime = int(self._clock.time())
        if status == "OK":
            task.log.say("TASK OK")
        elif status.startswith("WARNINGS:"):
            task.log.say(f"TASK {status}")
        elif status != KILLED:
            task.log.say(f"TASK ERROR: {status}")

    async def _outcome(self, task: Task, worker: Worker, fate: Fate | None, undo: Callable[[], None]) -> str:
        if fate and fate.what == "kill":
            asyncio.get_running_loop().create_task(self._kill_later(task, fate.after))
        try:
            await self._clock.sleep(self._latency.of_task(task.type))
            if fate and fate.what == "kill" and fate.after <= 0:
                await asyncio.sleep(3600)  # killed before it could begin
            if fate and fate.what == "fail" and not fate.late:
                undo()
                return fate.text
            await worker(task.log)
        except Refused as refusal:
            return refusal.text if refusal.status != 400 else _parameters(refusal)
        except StartFailed as error:
            for line in error.lines:
                task.log.say(line)
            return str(error)
        if fate and fate.what == "warn":
            task.log.warn(fate.text or "something is not as it should be")
        if fate and fate.what == "fail":
            return fate.text
        return f"WARNINGS: {task.log.warnings}" if task.log.warnings else "OK"

    async def _kill_later(self, task: Task, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.kill(task)

    def kill(self, task: Task, *, politely: bool = False) -> None:
        """The log ends in the middle; `politely`: TERM, which a worker has the time to write down."""
        if task.job is not None and task.status is None:
            task.log.interrupted = politely
            task.job.cancel()

    def find(self, upid: str) -> Task | None:
        return self.tasks.get(upid)

    async def settle(self) -> None:
        """Wait until no task runs (tests, and the lab's end)."""
        while jobs := [task.job for task in self.tasks.values() if task.job is not None and not task.job.done()]:
            await asyncio.wait(jobs)

    async def end(self, node: str = "") -> None:
        """Kill all that run, or those of one node."""
        tasks = [task for task in self.tasks.values() if node in ("", task.node)]
        jobs = [task.job for task in tasks if task.job is not None and not task.job.done()]
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)


def _parameters(refusal: Refused) -> str:
    details = "".join(f"{name}: {text}\n" for name, text in refusal.errors.items())
    return f"{refusal.text}\n{details}".strip().replace("\n", " ")
