"""What is happening to which machine: a live table on a terminal, a line for each move otherwise."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from rich.console import Console as Rich
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from nixops_proxmox.display.signals import status_of
from nixops_proxmox.errors import DeployError, Retry
from nixops_proxmox.messages.amounts import duration, find_fraction, one_line
from nixops_proxmox.model import Machine
from nixops_proxmox.texts import shown, shown_line

STILL_AFTER = 30.0  # seconds after which a step that goes on is mentioned again, where nothing moves on its own
FRAMES = 8  # per second


class Progress(Protocol):
    """Satisfies `kinds.machine.ports.Reporter`. `ended`: nothing more comes for this machine. `note`: something that
    runs for all machines, such as a build."""

    def step(self, machine: Machine, label: str, to: str) -> None: ...
    def detail(self, machine: Machine, text: str) -> None: ...
    def done(self, machine: Machine, label: str, seconds: float) -> None: ...
    def warn(self, machine: Machine, text: str) -> None: ...
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
        self._current = progress
        try:
            yield
        finally:
            self._current = None

    def step(self, machine: Machine, label: str, to: str) -> None:
        if self.stopping:
            raise Interrupted(f"{machine.name}: stopped before the step: {label}", self._signal)
        self.now.step(machine, label, to)

    def detail(self, machine: Machine, text: str) -> None:
        self.now.detail(machine, self._spell(text))

    def done(self, machine: Machine, label: str, seconds: float) -> None:
        self.now.done(machine, label, seconds)

    def warn(self, machine: Machine, text: str) -> None:
        self.now.warn(machine, self._spell(text))

    def ended(self, name: str, error: Exception | None) -> None:
        self.now.ended(name, None if error is None else DeployError(self._spell(str(error))))

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
    end: str = ""  # "", "done" or "failed"


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

    def step(self, machine: Machine, label: str, to: str) -> None:
        now = self._now()
        self._put(Row(machine.name, machine.phase.value, str(to), shown_line(label), began=now, told=now))

    def detail(self, machine: Machine, text: str) -> None:
        with self._lock:
            row = self._rows.get(machine.name, Row(machine.name, machine.phase.value))
            self._rows[machine.name] = replace(row, detail=one_line(text))

    def done(self, machine: Machine) -> None:
        self._put(Row(machine.name, machine.phase.value, told=self._now()))

    def ended(self, name: str, error: Exception | None) -> str:
        """Returns the phase it stands in, as far as was told."""
        text = "" if error is None else one_line(str(error))
        with self._lock:
            phase = self._rows[name].phase if name in self._rows else ""
            self._rows[name] = Row(name, phase, detail=text, end="done" if error is None else "failed")
        return phase

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

    def step(self, machine: Machine, label: str, to: str) -> None:
        self._steps[machine.name] = (machine.phase.value, str(to))
        self._board.step(machine, label, to)
        if self._verbosity:
            self._say(f"{machine.name}  {machine.phase} → {to}  {label} …")

    def detail(self, machine: Machine, text: str) -> None:
        self._board.detail(machine, text)
        if self._verbosity and (line := one_line(text)):
            self._say(f"{machine.name}    {line}")

    def done(self, machine: Machine, label: str, seconds: float) -> None:
        before, _ = self._steps.pop(machine.name, (machine.phase.value, ""))
        self._board.done(machine)
        self._say(f"{machine.name}  {before} → {machine.phase}  {label}  {duration(seconds)}")

    def warn(self, machine: Machine, text: str) -> None:
        self._say(f"{machine.name}  warning: {text}")

    def ended(self, name: str, error: Exception | None) -> None:
        phase = self._board.ended(name, error)
        if error is not None:
            self._say(f"{name}  failed{' in ' * bool(phase)}{phase}: {one_line(str(error).partition(chr(10))[0])}")

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


# --- live -----------------------------------------------------------------------------------------------------------


class LiveBoard:
    """The same events on a board that is drawn again and again."""

    def __init__(self, rich: Rich, goal: str, names: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        self._rich = rich
        self._goal = goal
        self._total = len(names)
        self._now = now
        self._board = Board(names, now)
        self._note = ""
        self._spinner = Spinner("dots")

    def step(self, machine: Machine, label: str, to: str) -> None:
        self._note = ""
        self._board.step(machine, label, to)

    def detail(self, machine: Machine, text: str) -> None:
        self._board.detail(machine, text)

    def done(self, machine: Machine, label: str, seconds: float) -> None:
        del label, seconds  # the board shows what is going on; what was done is in the history
        self._board.done(machine)

    def warn(self, machine: Machine, text: str) -> None:
        self._rich.print(
            Text.assemble((f"{shown_line(machine.name)}: ", "bold"), ("warning: ", "yellow"), shown(text)),
            soft_wrap=True,
        )

    def ended(self, name: str, error: Exception | None) -> None:
        self._board.ended(name, error)

    def note(self, text: str) -> None:
        if not any(row.began is not None for row in self._board.rows()):
            self._note = one_line(text)

    def __rich__(self) -> RenderableType:
        rows = self._board.rows()
        shown, hidden = choose_rows(rows, max(self._rich.size.height - 3, 3))
        table = Table.grid(padding=(0, 2))
        for row in shown:
            table.add_row(*self._cells(row))
        parts: list[RenderableType] = [table]
        if hidden or (self._total > 1 and not all(row.end for row in rows)):
            parts.append(Text(summary(rows, self._goal, self._total, self._now() - self._board.started), "dim"))
        if self._note:
            parts.append(Text(self._note, "dim", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _cells(self, row: Row) -> tuple[RenderableType, ...]:
        name = Text(shown_line(row.name), "bold", no_wrap=True)
        match row.end:
            case "failed":
                return Text("✗", "red"), name, Text(row.phase, "red"), Text(row.detail, "red", overflow="ellipsis"), ""
            case "done":
                return Text("✓", "green"), name, Text(row.phase, "green"), "", ""
        if row.began is None:
            return Text("·", "dim"), name, Text(row.phase), "", ""
        way = Text(f"{row.phase} → {row.to}", no_wrap=True)
        return self._spinner, name, way, self._work(row), Text(duration(self._now() - row.began), "cyan", no_wrap=True)

    def _work(self, row: Row) -> RenderableType:
        fraction = find_fraction(row.detail)
        if fraction is None:
            more = f": {row.detail}" if row.detail else ""
            return Text(f"{row.label}{more}", no_wrap=True, overflow="ellipsis")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text(row.label, no_wrap=True), ProgressBar(total=1.0, completed=fraction, width=20))
        return grid


def choose_rows(rows: Sequence[Row], room: int) -> tuple[list[Row], int]:
    """What fits on the screen, and how many do not: failures first, then those at work, each in the order of the
    network."""
    if len(rows) <= room:
        return list(rows), 0
    weight = {"failed": 0, "": 1, "done": 3}
    by_need = sorted(rows, key=lambda row: weight[row.end] + (1 if row.began is None and not row.end else 0))
    chosen = {row.name for row in by_need[:room]}
    return [row for row in rows if row.name in chosen], len(rows) - room


def summary(rows: Sequence[Row], goal: str, total: int, seconds: float) -> str:
    """`3 of 12 ready, 4 at work, 1 failed · 42 s`."""
    count = {kind: sum(row.end == kind for row in rows) for kind in ("done", "failed")}
    at_work = sum(row.began is not None for row in rows)
    parts = [f"{count['done']} of {total} {goal}"]
    parts += [f"{at_work} at work"] if at_work else []
    parts += [f"{count['failed']} failed"] if count["failed"] else []
    return f"{', '.join(parts)} · {duration(seconds)}"


@contextmanager
def start_live(rich: Rich, goal: str, names: Sequence[str]) -> Iterator[LiveBoard]:
    board = LiveBoard(rich, goal, names)
    with Live(board, console=rich, refresh_per_second=FRAMES, redirect_stdout=False, redirect_stderr=False):
        yield board


# --- one file -------------------------------------------------------------------------------------------------------


@contextmanager
def start_transfer(rich: Rich, text: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function that is told bytes done and bytes in all. A bar where there is a terminal, else nothing."""
    if not rich.is_terminal or rich.is_dumb_terminal:
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=rich, transient=True) as bars:
        task = bars.add_task(text, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
