"""The staggered race (RFC 8305 §5): which candidate proves first that it is this machine. Every attempt is kept.

Threads live inside of one call only: they are daemons, told to stop as soon as there is a winner, and what they may
still say after that is not listened to.

Ours, because a library's race (asyncio's, anyio's) is won by the first TCP connection, and this one by the first proof.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic

from nixops_proxmox.errors import DeployError, HostKeyChanged, NoEndpoint
from nixops_proxmox.reach.candidates import Candidate
from nixops_proxmox.spelling import Verb, command

# RFC 8305 advises 250 ms, thinking of strangers' servers. It demands 10 ms. Ours are a handful of addresses, all of one
# machine of ours, and a person waits: the eighth is started before 0.2 s have passed (and sshd minds ten at once).
STAGGER = 0.025
HEAD_START = 0.25  # what a remembered winner gets before the others are tried


class TrialOutcome(StrEnum):
    WON = "won"
    FAILED = "failed"  # no connection, or not an SSH server
    WRONG_KEY = "wrong-key"  # somebody else lives there
    OVERTAKEN = "overtaken"  # another one was proven first
    TIMED_OUT = "timed-out"  # still trying when the race was over
    NOT_STARTED = "not-started"


@dataclass(frozen=True)
class Proof:
    """What a probe saw: the host key that the other side proved to have, and when TCP was connected (seconds)."""

    key: str  # "ssh-ed25519 AAAA…"
    connected: float | None = None


@dataclass(frozen=True)
class Trial:
    """What became of one candidate. Seconds count from the start of the race."""

    candidate: Candidate
    outcome: TrialOutcome
    reason: str = ""
    started: float | None = None
    connected: float | None = None
    ended: float | None = None

    def explain(self) -> str:
        """One line for people."""
        endpoint = self.candidate.endpoint
        host = f"[{endpoint.host}]:{endpoint.port}" if endpoint.is_ipv6 else f"{endpoint.host}:{endpoint.port}"
        via = f" through {endpoint.jump}" if endpoint.jump else ""
        took = (
            f" after {self.ended - self.started:.2f} s" if self.ended is not None and self.started is not None else ""
        )
        why = self.reason.removeprefix(f"{host}{via}: ") or self.outcome.value
        return f"{host}{via}: {why}{took}"


@dataclass(frozen=True)
class RaceResult:
    """The winner's attempt and everybody's, in the order of the candidates."""

    winner: Trial
    attempts: tuple[Trial, ...]


@dataclass
class StopSignal:
    """Tells a probe to stop: ask `is_set()`, or leave with `when_set` what ends a blocking call."""

    _event: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _callbacks: list[Callable[[], None]] = field(default_factory=list)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float) -> bool:
        return self._event.wait(timeout)

    def when_set(self, callback: Callable[[], None]) -> None:
        """Call it when the attempt is cancelled, from another thread, or at once if it already is. It must not
        raise."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def set(self) -> None:
        with self._lock:
            if self._event.is_set():
                return
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


Probe = Callable[[Candidate, StopSignal], Proof]
"""Connect, prove, close. Raises a DeployError (HostKeyChanged for a wrong key); returns early when cancelled."""


@dataclass(frozen=True)
class _Report:
    index: int
    at: float
    proof: Proof | None = None
    error: BaseException | None = None


def race(
    candidates: Sequence[Candidate],
    probe: Probe,
    *,
    keys: Collection[str],
    deadline: float = 10.0,
    stagger: float = STAGGER,
    head_start: float = HEAD_START,
) -> RaceResult:
    """The first candidate that proves one of `keys` (public host keys, comments do not matter) wins.

    The next candidate starts after `stagger` seconds, or at once when one has failed. A remembered one in front gets
    `head_start` instead. After `deadline` seconds, or when all have failed, NoEndpoint with every attempt's reason.
    """
    run = _Race(candidates, probe, frozenset(map(bare_key, keys)), deadline, stagger, head_start)
    try:
        winner = run.find_winner()
    finally:
        run.cancel()
    attempts = run.attempts(winner)
    if winner is None:
        raise NoEndpoint(
            _no_endpoint_message(attempts),
            attempts=[attempt.explain() for attempt in attempts],
            hint=f"{command(Verb.STATUS, '--endpoints')} shows every address and why it was not used",
        )
    return RaceResult(attempts[winner], attempts)


def bare_key(key: str) -> str:
    """A public key without its comment."""
    return " ".join(key.split()[:2])


def _no_endpoint_message(attempts: Sequence[Trial]) -> str:
    if not attempts:
        return "there is no address to try"
    lines = "; ".join(attempt.explain() for attempt in attempts)
    return f"no address answered as this machine: {lines}"


class _Race:
    """One race. Everything but the probes happens in the thread that called."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        probe: Probe,
        keys: frozenset[str],
        deadline: float,
        stagger: float,
        head_start: float,
    ) -> None:
        self._candidates, self._probe, self._keys = tuple(candidates), probe, keys
        self._deadline, self._stagger, self._head_start = deadline, stagger, head_start
        self._cancelled = [StopSignal() for _ in self._candidates]
        self._started: list[float] = []  # when, by index; its length is how many have been started
        self._reports: SimpleQueue[_Report] = SimpleQueue()
        self._ended: dict[int, _Report] = {}
        self._zero = monotonic()

    def find_winner(self) -> int | None:
        """Start one after the other, listen in between."""
        next_start = 0.0
        while len(self._ended) < len(self._candidates):
            now = self._now()
            if now >= self._deadline:
                return None
            if len(self._started) < len(self._candidates) and now >= next_start:
                next_start = now + self._start_next()
            report = self._listen(next_start)
            if report is None:
                continue
            self._ended[report.index] = report
            if self._has_won(report):
                return report.index
            self._raise_defect(report)
            next_start = 0.0  # one failed: nothing to wait for
        return None

    def cancel(self) -> None:
        for cancelled in self._cancelled:
            cancelled.set()

    def attempts(self, winner: int | None) -> tuple[Trial, ...]:
        return tuple(self._attempt(index, winner) for index in range(len(self._candidates)))

    def _now(self) -> float:
        return monotonic() - self._zero

    def _start_next(self) -> float:
        """Start the next candidate. Returns how long the one after it waits."""
        index = len(self._started)
        self._started.append(self._now())
        Thread(target=self._run, args=(index,), name=f"race-{index}", daemon=True).start()
        first_is_remembered = index == 0 and self._candidates[0].origin == "remembered"
        return self._head_start if first_is_remembered else self._stagger

    def _run(self, index: int) -> None:
        try:
            proof = self._probe(self._candidates[index], self._cancelled[index])
        except BaseException as error:  # noqa: BLE001  # handed to the thread that called, which raises what is a defect
            self._reports.put(_Report(index, self._now(), error=error))
        else:
            self._reports.put(_Report(index, self._now(), proof=proof))

    def _listen(self, next_start: float) -> _Report | None:
        until = self._deadline
        if len(self._started) < len(self._candidates):
            until = min(until, next_start)
        wait = until - self._now()
        try:
            return self._reports.get(timeout=wait) if wait > 0 else self._reports.get_nowait()
        except Empty:
            return None

    def _has_won(self, report: _Report) -> bool:
        return report.proof is not None and bare_key(report.proof.key) in self._keys

    @staticmethod
    def _raise_defect(report: _Report) -> None:
        if report.error is not None and not isinstance(report.error, DeployError):
            raise report.error

    def _attempt(self, index: int, winner: int | None) -> Trial:
        candidate, report = self._candidates[index], self._ended.get(index)
        started = self._started[index] if index < len(self._started) else None
        if report is not None:
            outcome, reason = self._judge(report, won=index == winner)
            connected = report.proof.connected if report.proof else None
            return Trial(candidate, outcome, reason, started, connected, report.at)
        if started is None:
            why = "another address answered first" if winner is not None else "the time ran out"
            return Trial(candidate, TrialOutcome.NOT_STARTED, f"not tried: {why}")
        if winner is None:
            return Trial(candidate, TrialOutcome.TIMED_OUT, f"no answer within {self._deadline:g} s", started)
        return Trial(candidate, TrialOutcome.OVERTAKEN, "no answer before another address was proven", started)

    @staticmethod
    def _judge(report: _Report, *, won: bool) -> tuple[TrialOutcome, str]:
        if won:
            return TrialOutcome.WON, "proven"
        if report.proof is not None:
            return TrialOutcome.WRONG_KEY, "another machine answered (it has another host key)"
        kind = TrialOutcome.WRONG_KEY if isinstance(report.error, HostKeyChanged) else TrialOutcome.FAILED
        return kind, str(report.error)
