"""Making calls that change something: locks waited for, lost answers looked up, tasks followed to their end."""

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from nixops_proxmox.errors import PveBusy, PveOutcomeUnknown, TaskFailed, VmidTaken
from nixops_proxmox.pve.client import PveClient
from nixops_proxmox.pve.gate import Gate
from nixops_proxmox.pve.refusals import LockTimeout, StorageBusy, VmLocked, VmRunning, translate_task_text
from nixops_proxmox.pve.tasks import Failed, TaskWaiter

T = TypeVar("T")

BUSY_TIME = 180.0  # seconds to put up with locks
BUSY_PAUSE = (1.0, 3.0)  # seconds, drawn at random
LOOKS = (0.5, 2.0, 5.0)  # seconds between looks for a task whose answer was lost


class Work:
    """For one cluster, for all threads. `touched` is told of each VM that may have changed."""

    def __init__(
        self,
        client: PveClient,
        touched: Callable[[int], None],
        *,
        parallel: int,
        busy: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        sleep: Callable[[float], None],
        rng: random.Random,
        warn: Callable[[str], None],
    ) -> None:
        self._client, self._touched, self._parallel, self._busy = client, touched, parallel, busy
        self._clock, self._wall, self._sleep, self._rng, self._warn = clock, wall, sleep, rng, warn
        self._tasks = TaskWaiter(client, clock=clock, sleep=sleep)
        self._lock = threading.Lock()  # guards what follows
        self._gates: dict[tuple[str, str], Gate] = {}
        self._upids: set[str] = set()
        self._guessed: set[str] = set()

    def is_guessed(self, upid: str) -> bool:
        """Was it found where an answer was lost? Then it is perhaps somebody else's."""
        with self._lock:
            return upid in self._guessed

    def submit(self, kind: str, node: str, vmid: int, post: Callable[[], str]) -> str:
        """The UPID. Waits for locks; when the answer was lost, looks for the task instead of asking again."""
        since = self._wall()
        try:
            upid = self.while_locked(node, vmid, post)
        except PveOutcomeUnknown:
            found = self._find_task(node, vmid, kind, since)
            if found is None:
                raise
            with self._lock:
                self._guessed.add(found)
            upid = found
        finally:
            self._touched(vmid)
        with self._lock:
            self._upids.add(upid)
        return upid

    def _find_task(self, node: str, vmid: int, kind: str, since: float) -> str | None:
        for pause in LOOKS:
            with self._lock:
                seen = set(self._upids)
            upid = self._tasks.find(node, vmid, kind, since, not_these=seen)
            if upid is not None:
                return upid
            self._sleep(pause)
        return None

    def while_locked(self, node: str, vmid: int, call: Callable[[], T]) -> T:
        """Again and again while a lock is in the way; PVE has done nothing then."""
        deadline = self._clock() + self._busy
        while True:
            try:
                return call()
            except LockTimeout:
                if self._clock() > deadline:
                    raise
            except VmLocked as error:
                if self._clock() > deadline:
                    raise self._locked_for_good(node, vmid, error) from error
            self.pause()

    def _locked_for_good(self, node: str, vmid: int, error: VmLocked) -> PveBusy:
        running = [task for task in self._client.list_tasks(node, vmid=vmid) if task.running]
        who = ", ".join(f"{task.type} by {task.user}" for task in running)
        return PveBusy(
            f"{error.message}, and stayed so for {self._busy:.0f} s"
            + (f"; running: {who}" if who else "; no task runs"),
            hint="wait for that task" if who else f"the lock is stale (a node crashed?): `qm unlock {vmid}` on {node}",
        )

    def finish(self, upid: str, doing: str) -> None:
        try:
            done = self._tasks.require(upid, doing)
        except TaskFailed as error:
            known = translate_task_text(error.exit_status_text)
            if isinstance(known, VmidTaken | VmRunning):
                raise known from error
            raise
        for warning in done.warnings:
            self._warn(f"{doing}: {warning}")

    def failure(self, upid: str) -> Failed | None:
        """How a task failed; None if it did not. Other ends are errors."""
        try:
            self.finish(upid, f"task {upid}")
        except TaskFailed as error:
            return Failed(error.exit_status_text, error.log)
        return None

    def task_failed(self, upid: str, failure: Failed, doing: str) -> TaskFailed:
        shown = "".join(f"\n  {line}" for line in failure.log)
        return TaskFailed(f"{doing}: {failure.text}{shown}", upid=upid, exit_status_text=failure.text, log=failure.log)

    def while_busy(self, act: Callable[[], None]) -> None:
        """Again and again while others keep a storage or the VM busy; `act` must look first what is done already."""
        deadline = self._clock() + self._busy
        while True:
            try:
                return act()
            except (TaskFailed, PveBusy) as error:
                if not is_busy(error) or self._clock() > deadline:
                    raise
            self.pause()

    def pause(self) -> None:
        self._sleep(self._rng.uniform(*BUSY_PAUSE))

    @contextmanager
    def gate(self, node: str, storages: Iterable[str]) -> Iterator[None]:
        """A few at once: PVE gives up on a storage's lock after 10 s. In one order, so nobody waits in a ring."""
        with ExitStack() as stack:
            for storage in sorted(storages):
                with self._lock:
                    gate = self._gates.setdefault((node, storage), Gate(self._parallel))
                stack.enter_context(gate.passing(is_busy))
            yield


def is_busy(error: BaseException) -> bool:
    """A lock was not had in time, told at once or by the task: it may be tried again, after a look at what is done."""
    if isinstance(error, TaskFailed):
        return isinstance(translate_task_text(error.exit_status_text), LockTimeout | StorageBusy)
    return isinstance(error, LockTimeout | StorageBusy)
