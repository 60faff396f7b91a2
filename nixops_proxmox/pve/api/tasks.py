"""PVE's tasks: how they end as a type, waiting for them, finding one whose answer was lost."""

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nixops_proxmox.core.upid import Upid, parse_upid
from nixops_proxmox.errors import (
    PveBusy,
    PveOutcomeUnknown,
    PveUnreachable,
    TaskFailed,
    TaskStillRunning,
)
from nixops_proxmox.texts import tail_lines

if TYPE_CHECKING:
    from nixops_proxmox.pve.api.client import PveClient

FIRST_PAUSE, LAST_PAUSE, GROWTH = 0.2, 3.0, 1.5  # seconds, seconds, factor
LOG_EVERY = 10.0  # seconds between looks at a running task's log
STALL = 1800.0  # seconds without a new log line
DEADLINE = 4 * 3600.0  # seconds; copies of large disks are slow, a stalled one is noticed long before
PATIENCE = 90.0  # seconds of errors in a row that a wait puts up with: a node's API restarting, a lost route
TAIL = 12  # log lines kept with an outcome


@dataclass(frozen=True)
class Succeeded:
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """`text` is the exit status. `log` has its last lines."""

    text: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class StillRunning:
    """We stopped waiting."""

    why: str
    last_line: str = ""


TaskOutcome = Succeeded | Failed | StillRunning


def outcome_of(exit_status: str, log: Sequence[str]) -> Succeeded | Failed:
    """PVE's three forms: OK, "WARNINGS: n", and everything else."""
    if exit_status == "OK":
        return Succeeded()
    if re.fullmatch(r"WARNINGS: \d+", exit_status):
        warnings = tuple(line for line in log if re.match(r"(?i)warn(ing)?\b", line))
        return Succeeded(warnings or (exit_status,))
    return Failed(exit_status or "no exit status", tuple(log))


class TaskWaiter:
    """Waits for tasks. One for all threads. Polls fast at first: most tasks take well under a second."""

    def __init__(
        self,
        client: "PveClient",
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._clock, self._sleep = client, clock, sleep

    def wait(
        self, upid: str, *, deadline: float = DEADLINE, stall: float = STALL, tell: Callable[[str], None] | None = None
    ) -> TaskOutcome:
        """Until it ends, or `deadline` seconds have passed, or its log has not grown for `stall` seconds.

        Raises NotFound if PVE has forgotten it; transient errors are put up with for a while.
        Safe to repeat: it only asks what the task does.
        """
        task = parse_upid(upid)
        watch = _Watch(self._clock())
        pause = FIRST_PAUSE
        while True:
            try:
                seen = self._client.get_task(task.node, upid)
                watch.trouble_since = None
                if not seen.running:
                    log = () if seen.exit_status == "OK" else self._tail(task)
                    return outcome_of(seen.exit_status, log)
                self._look_at_log(task, watch, tell)
            except (PveUnreachable, PveBusy, PveOutcomeUnknown):
                watch.trouble_since = watch.trouble_since or self._clock()
                if self._clock() - watch.trouble_since > PATIENCE:
                    raise
            now = self._clock()
            if now - watch.started > deadline:
                return StillRunning(f"still running after {deadline:.0f} s", watch.last_line)
            if now - watch.grown > stall:
                return StillRunning(f"no progress for {stall:.0f} s", watch.last_line)
            self._sleep(min(pause, max(0.01, deadline - (now - watch.started))))
            pause = min(LAST_PAUSE, pause * GROWTH)

    def require(self, upid: str, doing: str, *, deadline: float = DEADLINE) -> Succeeded:
        """Like `wait`, with an error for any other end: TaskFailed or TaskStillRunning."""
        match self.wait(upid, deadline=deadline):
            case Succeeded() as done:
                return done
            case Failed(text, log):
                shown = "".join(f"\n  {line}" for line in log)
                raise TaskFailed(
                    f"{doing}: {text}{shown}",
                    upid=upid,
                    exit_status_text=text,
                    log=log,
                    hint="the task's log is in PVE's interface, and above",
                )
            case StillRunning(why, line):
                raise TaskStillRunning(
                    f"{doing}: {why}" + (f"; it last said: {line}" if line else ""),
                    upid=upid,
                    hint="it continues in PVE; run the same command again to wait for it",
                )

    def find(
        self, node: str, vmid: int, kind: str, since: float, *, not_these: Collection[str] = (), user: str = ""
    ) -> str | None:
        """The UPID of a task of ours that began after `since` (epoch seconds, some skew allowed): for lost answers."""
        listed = self._client.list_tasks(node, vmid=vmid, kind=kind, since=int(since) - 60)
        for task in sorted(listed, key=lambda item: item.started, reverse=True):
            ours = not user or task.user == user
            if ours and task.type == kind and task.id == str(vmid) and task.upid not in not_these:
                return task.upid
        return None

    def _tail(self, task: Upid) -> tuple[str, ...]:
        lines = self._client.task_log(task.node, task.text, start=0, limit=0)
        said = [line for line in lines if line.strip() and not line.startswith(("TASK ERROR", "TASK WARNINGS"))]
        return tuple(tail_lines(said, TAIL))

    def _look_at_log(self, task: Upid, watch: "_Watch", tell: Callable[[str], None] | None) -> None:
        now = self._clock()
        if now - watch.looked < LOG_EVERY:
            return
        watch.looked = now
        fresh = self._client.task_log(task.node, task.text, start=watch.lines, limit=500)
        if fresh:
            watch.lines += len(fresh)
            watch.grown, watch.last_line = now, fresh[-1]
            if tell is not None:
                tell(fresh[-1])


class _Watch:
    """What one wait has seen so far."""

    def __init__(self, now: float) -> None:
        self.started = self.grown = self.looked = now
        self.lines = 0
        self.last_line = ""
        self.trouble_since: float | None = None
