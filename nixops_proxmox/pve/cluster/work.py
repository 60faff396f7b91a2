"""Making calls that change something: locks waited for, lost answers looked up, tasks followed to their end."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import TypeVar

from nixops_proxmox.core.upid import find_upid
from nixops_proxmox.errors import DeployError, NotFound, PveBusy, PveOutcomeUnknown, TaskFailed, VmidTaken
from nixops_proxmox.pve.api.answers import TaskListed
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.tasks import Failed, TaskWaiter
from nixops_proxmox.pve.cluster.throttle import Throttle
from nixops_proxmox.pve.wire.refusals import (
    LockTimeout,
    NoQuorum,
    Overloaded,
    StorageBusy,
    VmLocked,
    VmRunning,
    translate_task_text,
    unlock_hint,
)
from nixops_proxmox.texts import head

T = TypeVar("T")

# What passes by itself. Told at once, all but the storage's mean that PVE has done nothing; see `refusals`.
NOTHING_DONE = (LockTimeout, VmLocked, NoQuorum, Overloaded)
PASSING = (*NOTHING_DONE, StorageBusy)
LOOKED_AT_FIRST = (
    "qmcreate",
    "vzcreate",
    "qmclone",
    "qmconfig",
    "resize",
    "qmdestroy",
    "vzdestroy",
)  # repeated by `while_busy`, after a look

LOCKS = {  # what PVE calls them, in words
    "backup": "a backup",
    "clone": "a clone",
    "create": "its creation or a restore",
    "disk": "a disk that is moved or resized",
    "migrate": "a migration",
    "rollback": "a rollback to a snapshot",
    "snapshot": "a snapshot",
    "snapshot-delete": "a snapshot's removal",
    "suspended": "its hibernation",
    "suspending": "its hibernation",
}
BUSY_TIME = 180.0  # seconds to put up with locks
BUSY_PAUSE = (1.0, 3.0)  # seconds, drawn at random
LOOKS = (0.5, 2.0, 5.0)  # seconds between looks for a task whose answer was lost


class Work:
    """The work on one cluster, for all threads. `touched` is called for each VM that may have changed."""

    def __init__(  # noqa: PLR0913 -- its parts, each by name
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
        tell: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """`busy`: seconds to put up with what passes by itself. `tell` hears what is waited for."""
        self._tell = tell
        self._client, self._touched, self._parallel, self._busy = client, touched, parallel, busy
        self._clock, self._wall, self._sleep, self._rng, self._warn = clock, wall, sleep, rng, warn
        self._tasks = TaskWaiter(client, clock=clock, sleep=sleep)
        self._lock = threading.Lock()  # guards what follows
        self._gates: dict[tuple[str, str], Throttle] = {}
        self._upids: set[str] = set()
        self._guessed: set[str] = set()

    def of(self, client: PveClient, touched: Callable[[int], None]) -> "Work":
        """The same, for guests that another client talks to: what waits its turn, waits with the others."""
        other = copy(self)
        other._client, other._touched = client, touched  # noqa: SLF001 -- our own class
        return other

    def is_guessed(self, upid: str) -> bool:
        """Was it found where an answer was lost? Then it is perhaps somebody else's."""
        with self._lock:
            return upid in self._guessed

    def submit(self, kind: str, node: str, vmid: int, post: Callable[[], str]) -> str:
        """Begin a task, and return its UPID. Wait for locks. If the answer was lost, look for the task, and do not ask
        again."""
        since = self._wall()
        kinds = NOTHING_DONE if kind in LOOKED_AT_FIRST else PASSING
        try:
            upid = self._repeat(node, vmid, post, kinds)
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

    def run(
        self, kind: str, node: str, vmid: int, post: Callable[[], str], note: Callable[[str], None], doing: str
    ) -> None:
        """Submit and wait for the end. A lock that only the task met is waited for like one that is told at once.

        `post` may answer "" where nothing was to do, or was done at once.
        Safe to repeat: a task that did not get the VM's lock has changed nothing.
        """
        deadline = self._clock() + self._busy
        while True:
            upid = self.submit(kind, node, vmid, post)
            if not upid:
                break
            note(upid)
            try:
                self.finish(upid, doing)
                break
            except TaskFailed as error:
                if not isinstance(known_of(error), LockTimeout | VmLocked):
                    raise
                self.wait_out(error, node, vmid, deadline)

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
        """Call again and again while something that passes is in the way. `call` may be made twice with the same
        effect."""
        return self._repeat(node, vmid, call, PASSING)

    def _repeat(self, node: str, vmid: int, call: Callable[[], T], kinds: tuple[type[PveBusy], ...]) -> T:
        """Safe to repeat: after errors of these `kinds` PVE has done nothing, or `call` has the same effect twice."""
        deadline = self._clock() + self._busy
        while True:
            try:
                return call()
            except kinds as error:
                self.wait_out(error, node, vmid, deadline)

    def wait_out(self, error: DeployError, node: str, vmid: int, deadline: float) -> None:
        """Wait until another try is worth it. Raises what does not pass by itself, and everything after the
        deadline."""
        known = known_of(error)
        if not isinstance(known, PASSING):
            raise error
        if isinstance(known, VmLocked):
            self._wait_for_unlock(known, node, vmid, deadline)
        else:
            self.wait_or_raise(error, deadline)

    def wait_or_raise(self, error: DeployError, deadline: float) -> None:
        """Pause, and say why. Raises the error when the time is up."""
        if self._clock() > deadline:
            raise error
        self._tell(f"waiting: {_first_line(error)}")
        self.pause()

    def _wait_for_unlock(self, error: VmLocked, node: str, vmid: int, deadline: float) -> None:
        """Wait by reading. To ask for the change over and over would keep the node busy, and tell nothing new."""
        told = False
        while True:
            if self._clock() > deadline:
                raise self._locked_for_good(node, vmid, error) from error
            if not told:
                self._tell(f"waiting: {self.lock_told(node, vmid, error.lock)}")
                told = True
            self.pause()
            if not self._is_locked(node, vmid):
                return

    def _is_locked(self, node: str, vmid: int) -> bool:
        try:
            return bool(self._client.get_config(node, vmid).values.get("lock"))
        except NotFound:  # moved, or gone: the call itself will tell
            return False

    def lock_told(self, node: str, vmid: int, lock: str) -> str:
        """`VM 100 is locked by a backup since 14:02 (vzdump of root@pam)`."""
        locked = f"VM {vmid} is locked by {LOCKS.get(lock, 'a task')}"
        running = self._holders(node, vmid, lock)
        if not running:
            return f"{locked} ({lock or 'no name'}), and no task works on it"
        task = min(running, key=lambda one: one.started)
        began = time.localtime(task.started)
        today = time.strftime("%F", began) == time.strftime("%F", time.localtime(self._wall()))
        since = time.strftime("%H:%M" if today else "%F %H:%M", began)
        return f"{locked} since {since} ({task.type} of {task.user})"

    def _holders(self, node: str, vmid: int, lock: str) -> list[TaskListed]:
        """The running tasks that may hold the VM's lock. A backup of several VMs is one task, without any VMID."""
        running = [task for task in self._client.list_tasks(node, vmid=vmid) if task.running]
        if lock == "backup" and not running:
            jobs = self._client.list_tasks(node, kind="vzdump")
            running = [task for task in jobs if task.running and task.id in ("", str(vmid))]
        return running

    def _locked_for_good(self, node: str, vmid: int, error: VmLocked) -> PveBusy:
        running = self._holders(node, vmid, error.lock)
        who = ", ".join(f"{task.type} by {task.user}" for task in running)
        return PveBusy(
            f"{error.message}, and stayed so for {self._busy:.0f} s"
            + (f"; running: {who}" if who else "; no task runs"),
            hint="wait for that task"
            if who
            else f"the lock is stale (a node crashed?): {unlock_hint(error.lock).replace('VMID', str(vmid))}",
        )

    def finish(self, upid: str, doing: str) -> None:
        """Wait for the task's end. TaskFailed has its log, and the hint of what its text means."""
        try:
            done = self._tasks.require(upid, doing)
        except TaskFailed as error:
            known = known_of(error)
            if isinstance(known, VmidTaken | VmRunning):
                raise type(known)(error.message, hint=known.hint) from error
            if known is not None and known.hint:
                error.hint = known.hint
            raise
        for warning in done.warnings:
            self._warn(f"{doing}: {warning}")

    def failure(self, upid: str) -> Failed | None:
        """How a task failed. None if it did not. Other ends are errors."""
        try:
            self.finish(upid, f"task {upid}")
        except TaskFailed as error:
            return Failed(error.exit_status_text, error.log)
        return None

    def task_failed(self, upid: str, failure: Failed, doing: str) -> TaskFailed:
        shown = "".join(f"\n  {line}" for line in failure.log)
        failed = TaskFailed(
            f"{doing}: {failure.text}{shown}", upid=upid, exit_status_text=failure.text, log=failure.log
        )
        known = known_of(failed)
        failed.hint = known.hint if known is not None else ""
        return failed

    def while_busy(self, node: str, vmid: int, act: Callable[[], None]) -> None:
        """Act again and again while others keep a storage or the VM busy.

        Safe to repeat: each `act` looks first at what is done already, and does only what is left."""
        deadline = self._clock() + self._busy
        while True:
            try:
                return act()
            except (TaskFailed, PveBusy) as error:
                self.wait_out(error, node, vmid, deadline)

    def pause(self) -> None:
        self._sleep(self._rng.uniform(*BUSY_PAUSE))

    @contextmanager
    def gate(self, node: str, storages: Iterable[str]) -> Iterator[None]:
        """Let a few in at once, because PVE gives up on a storage's lock after 10 s. Takes the storages always in the
        same order, so that threads never wait in a ring."""
        with ExitStack() as stack:
            for storage in sorted(storages):
                with self._lock:
                    gate = self._gates.setdefault((node, storage), Throttle(self._parallel))
                stack.enter_context(gate.passing(is_busy))
            yield


def known_of(error: DeployError) -> DeployError | None:
    """What an error means: itself, or what the text means with which a task failed. None: nothing that we know."""
    if not isinstance(error, TaskFailed):
        return error
    upid = find_upid(error.upid)
    return translate_task_text(error.exit_status_text, upid.type if upid is not None else "")


def is_busy(error: BaseException) -> bool:
    """True if a lock timed out, whether PVE reported it at once or in the task."""
    return isinstance(error, DeployError) and isinstance(known_of(error), LockTimeout | StorageBusy)


def _first_line(error: DeployError) -> str:
    return head(next(iter(error.message.splitlines()), ""), 160)
