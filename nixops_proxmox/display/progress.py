"""What is happening to which machine: a line for each move. (`live` has the table of a terminal.)"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from nixops_proxmox.display.signals import status_of
from nixops_proxmox.errors import DeployError, NotBegun, Retry
from nixops_proxmox.messages.amounts import duration, one_line
from nixops_proxmox.messages.closing import place_of
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:  # it takes a while, and a help text shows no machines
    from nixops_proxmox.model import Machine

STILL_AFTER = 30.0  # seconds after which a step that goes on is mentioned again, where nothing moves on its own


class Progress(Protocol):
    """Satisfies `kinds.machine.ports.Reporter`. `ended`: nothing more comes for this machine. `note`: something that
    runs for all machines, such as a build."""

    def step(self, machine: "Machine", label: str, to: str) -> None: ...
    def detail(self, machine: "Machine", text: str) -> None: ...
    def done(self, machine: "Machine", label: str, seconds: float) -> None: ...
    def warn(self, machine: "Machine", text: str) -> None: ...
    def ended(self, name: str, error: Exception | None) -> None: ...
    def note(self, text: str) -> None: ...


class Interrupted(DeployError):
    """The user wants it to stop, and the machine was between two steps."""

    retry = Retry.SAFE

    def __init__(self, message: str, number: int) -> None:
        """`number`: the signal by which they said so."""
        super().__init__(message)
        self.exit_status = status_of(number)


class Relay:
    """A reporter that lasts as long as the program, and hands on to whatever shows progress at the moment. When told
    to stop, it ends each machine's road where the next step would begin."""

    def __init__(self, otherwise: Progress, spell: Callable[[str], str] = str) -> None:
        self._otherwise, self._spell = otherwise, spell
        self._current: Progress | None = None
        self._signal = 0
        self.worked: set[str] = set()  # the machines that something was done to

    def stop(self, number: int = signal.SIGINT) -> None:
        self._signal = number

    @property
    def stopping(self) -> bool:
        return self._signal != 0

    @property
    def now(self) -> Progress:
        return self._current or self._otherwise

    @contextmanager
    def to(self, progress: Progress) -> Iterator[None]:
        before, self._current = self._current, progress
        try:
            yield
        finally:
            self._current = before

    def step(self, machine: "Machine", label: str, to: str) -> None:
        if self.stopping:
            raise Interrupted(f"{machine.name}: stopped before the step: {label}", self._signal)
        self.worked.add(machine.name)
        self.now.step(machine, label, to)

    def detail(self, machine: "Machine", text: str) -> None:
        self.now.detail(machine, self._spell(text))

    def done(self, machine: "Machine", label: str, seconds: float) -> None:
        self.now.done(machine, label, seconds)

    def warn(self, machine: "Machine", text: str) -> None:
        self.now.warn(machine, self._spell(text))

    def ended(self, name: str, error: Exception | None) -> None:
        kind = NotBegun if isinstance(error, NotBegun) else DeployError
        self.now.ended(name, None if error is None else kind(self._spell(str(error))))

    def note(self, text: str) -> None:
        self.now.note(self._spell(text))


@dataclass(frozen=True)
class Row:
    """One machine on the board. `began`: when its current step began. None: it is between steps, or at its end."""

    name: str
    phase: str
    to: str = ""
    label: str = ""
    detail: str = ""
    began: float | None = None
    told: float = 0.0  # when something was last said about it
    place: str = ""  # the hypervisor and node that it is on
    end: str = ""  # "", or one of ENDS


DONE, FAILED, NOT_BEGUN = ENDS = ("done", "failed", "not begun")


def end_of(error: Exception | None) -> str:
    """What became of a machine. Where others failed first, nothing was done to it."""
    return DONE if error is None else NOT_BEGUN if isinstance(error, NotBegun) else FAILED


class Board:
    """The rows, from any thread."""

    def __init__(self, names: Sequence[str] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._rows = {name: Row(name, "") for name in names}
        self.started = now()

    def rows(self) -> list[Row]:
        with self._lock:
            return list(self._rows.values())

    def step(self, machine: "Machine", label: str, to: str) -> None:
        now = self._now()
        row = Row(machine.name, machine.phase.value, str(to), shown_line(label), began=now, told=now)
        self._put(replace(row, place=place_of(machine)))

    def detail(self, machine: "Machine", text: str) -> None:
        with self._lock:
            row = self._rows.get(machine.name, Row(machine.name, machine.phase.value))
            self._rows[machine.name] = replace(row, detail=one_line(text))

    def done(self, machine: "Machine") -> None:
        self._put(Row(machine.name, machine.phase.value, told=self._now(), place=place_of(machine)))

    def ended(self, name: str, error: Exception | None) -> str:
        """Returns the phase it stands in, as far as was told."""
        text = "" if error is None else one_line(str(error))
        with self._lock:
            before = self._rows.get(name, Row(name, ""))
            self._rows[name] = Row(name, before.phase, detail=text, end=end_of(error), place=before.place)
        return before.phase

    def take_overdue(self, after: float) -> list[Row]:
        """The rows whose step goes on and of which nothing was said for so long. Each is returned once per time."""
        now = self._now()
        with self._lock:
            overdue = [row for row in self._rows.values() if row.began is not None and now - row.told >= after]
            self._rows.update({row.name: replace(row, told=now) for row in overdue})
        return overdue

    def _put(self, row: Row) -> None:
        with self._lock:
            self._rows[row.name] = row


def _why(error: Exception) -> str:
    """The first line of it, without what the line that it goes into says already."""
    line = str(error).partition("\n")[0]
    return line.partition(f"{NOT_BEGUN}, because ")[2] or line


class Busy:
    """What goes on while nothing is done to any machine: `text`, and what was last noted of it, in one line."""

    def __init__(self, text: str, show: Callable[[str], object], otherwise: Progress) -> None:
        self._text, self._show, self._otherwise = text, show, otherwise

    def note(self, text: str) -> None:
        self._show(f"{self._text}: {one_line(text)}")

    def detail(self, machine: "Machine", text: str) -> None:
        self._show(f"{self._text}: {machine.name}: {one_line(text)}")

    def warn(self, machine: "Machine", text: str) -> None:
        self._otherwise.warn(machine, text)

    def step(self, machine: "Machine", label: str, to: str) -> None:
        self._otherwise.step(machine, label, to)

    def done(self, machine: "Machine", label: str, seconds: float) -> None:
        self._otherwise.done(machine, label, seconds)

    def ended(self, name: str, error: Exception | None) -> None:
        self._otherwise.ended(name, error)


# --- line by line ---------------------------------------------------------------------------------------------------


class Plain:
    """Prints a line for each move when it is done, details at -v, and a sign of life for a step that takes long."""

    def __init__(self, say: Callable[[str], None], verbosity: int, now: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._verbosity = verbosity
        self._now = now
        self._steps: dict[str, tuple[str, str]] = {}  # machine -> (phase it stood in, phase aimed at)
        self._board = Board(now=now)
        self._noted = now()

    def step(self, machine: "Machine", label: str, to: str) -> None:
        self._steps[machine.name] = (machine.phase.value, str(to))
        self._board.step(machine, label, to)
        if self._verbosity:
            self._say(f"{machine.name}  {machine.phase} → {to}  {label} …")

    def detail(self, machine: "Machine", text: str) -> None:
        self._board.detail(machine, text)
        if self._verbosity and (line := one_line(text)):
            self._say(f"{machine.name}    {line}")

    def done(self, machine: "Machine", label: str, seconds: float) -> None:
        before, _ = self._steps.pop(machine.name, (machine.phase.value, ""))
        self._board.done(machine)
        self._say(f"{machine.name}  {before} → {machine.phase}  {label}  {duration(seconds)}")

    def warn(self, machine: "Machine", text: str) -> None:
        self._say(f"{machine.name}  warning: {text}")

    def ended(self, name: str, error: Exception | None) -> None:
        phase = self._board.ended(name, error)
        if error is not None:
            self._say(f"{name}  {end_of(error)}{' in ' * bool(phase)}{phase}: {one_line(_why(error))}")

    def note(self, text: str) -> None:
        if self._now() - self._noted >= STILL_AFTER:
            self._noted = self._now()
            self._say(one_line(text))

    def say_still(self, after: float = STILL_AFTER) -> None:
        for row in self._board.take_overdue(after):
            more = f": {row.detail}" if row.detail else ""
            took = duration(self._now() - (row.began or 0.0))
            self._say(f"{row.name}  {row.phase} → {row.to}  {row.label}, {took}{more}")


@contextmanager
def start_plain(say: Callable[[str], None], verbosity: int) -> Iterator[Plain]:
    plain = Plain(say, verbosity)
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(5):
            plain.say_still()

    ticker = threading.Thread(target=tick, name="signs of life", daemon=True)
    ticker.start()
    try:
        yield plain
    finally:
        stop.set()
        ticker.join()
