"""Works on many names in batches, by several workers, within a bound of memory.

The names of a batch that dies of memory are tried one by one, and at last each alone with all the memory there is.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from nixops_proxmox.errors import EvaluationFailed

T = TypeVar("T")
GOAL = 2.0  # seconds that a batch should take: long against the start of a Nix, short against the whole
BatchWork = Callable[[Sequence[str], int], Mapping[str, T]]  # names, and the bytes that this worker may use


class StarvedNix(Exception):
    """Nix needed more memory than it was given."""


@dataclass(frozen=True)
class Bounds:
    """How many workers there are, and the bytes that all of them may use together."""

    workers: int
    memory: int

    @property
    def each(self) -> int:
        return self.memory // self.workers


def work_in_batches(
    names: Sequence[str],
    work: BatchWork[T],
    bounds: Bounds,
    *,
    tell: Callable[[int], None] = lambda _count: None,
    cancel: Callable[[], None] = lambda: None,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, T | EvaluationFailed]:
    """What `work` found for each name, or why it found nothing. It raises EvaluationFailed or StarvedNix, and then its
    names are tried one by one. `tell` hears how many are done. `cancel` ends what is at work.

    Safe to repeat: an evaluation changes nothing."""
    queue = _Queue[T](names, bounds.workers, tell)

    def take_turns(_worker: int) -> None:
        # Safe to repeat: an evaluation changes nothing.
        while batch := queue.take():  # it ends: each name is given out at most twice
            began = now()
            try:
                queue.done(work(batch, bounds.each), seconds=now() - began)
            except (EvaluationFailed, StarvedNix) as error:
                queue.failed(batch, error)

    with ThreadPoolExecutor(min(bounds.workers, max(1, len(names))), thread_name_prefix="evaluation") as pool:
        try:
            list(pool.map(take_turns, range(bounds.workers)))
        except BaseException:  # a signal's, or a defect
            queue.stop()
            cancel()
            raise
    for name in queue.starved:  # now that no other one needs memory
        try:
            queue.done(work([name], bounds.memory), seconds=0.0)
        except EvaluationFailed as error:
            queue.found[name] = error
        except StarvedNix as error:
            queue.found[name] = _starved(name, bounds.memory, error)
    return queue.found


class _Queue(Generic[T]):
    """What is left to do. Batches grow while they are quick: many machines are cheap, and a NixOS is not."""

    def __init__(self, names: Sequence[str], workers: int, tell: Callable[[int], None]) -> None:
        self._left, self._single, self._workers, self._tell = list(names), list[str](), workers, tell
        self._size = 1
        self._lock = threading.Lock()
        self.found: dict[str, T | EvaluationFailed] = {}
        self.starved: list[str] = []

    def take(self) -> list[str]:
        with self._lock:
            if self._single:
                return [self._single.pop()]
            share = -(-len(self._left) // self._workers)
            batch, self._left = self._left[: min(self._size, share)], self._left[min(self._size, share) :]
            return batch

    def stop(self) -> None:
        with self._lock:
            self._left, self._single = [], []

    def done(self, found: Mapping[str, T], *, seconds: float) -> None:
        with self._lock:
            self.found.update(found)
            if seconds < GOAL / 2:
                self._size *= 2
            elif seconds > GOAL * 2:
                self._size = max(1, self._size // 2)
            self._tell(len(self.found))

    def failed(self, batch: Sequence[str], error: EvaluationFailed | StarvedNix) -> None:
        with self._lock:
            if len(batch) > 1:
                self._single += batch
                self._size = 1
            elif isinstance(error, EvaluationFailed):
                self.found[batch[0]] = error
            else:
                self.starved += batch


def _starved(name: str, memory: int, error: StarvedNix) -> EvaluationFailed:
    return EvaluationFailed(
        f"{name}: Nix ran out of memory while it evaluated this machine's system, alone and with {memory >> 20} MiB\n"
        f"{error}".rstrip(),
        hint="free some memory, or let Nix have more: NIXOPS_PROXMOX_EVAL_MEMORY=8192 (MiB)",
    )
