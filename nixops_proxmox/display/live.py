"""What is happening, on a terminal: a table of the machines, or a bar for one file."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console as Rich
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from nixops_proxmox.display.progress import DONE, ENDS, FAILED, NOT_BEGUN, Board, Row
from nixops_proxmox.messages.amounts import duration, find_fraction, one_line
from nixops_proxmox.model import Machine
from nixops_proxmox.texts import shown, shown_line

FRAMES = 8  # per second
NARROW = 80  # columns below which less is told of a machine


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
        rows, room = self._board.rows(), max(self._rich.size.height - 3, 3)
        groups = [] if len(rows) <= room else group_lines(rows, room // 3)
        shown, hidden = choose_rows(rows, room - len(groups))
        table = Table.grid(padding=(0, 2))
        for row in shown:
            table.add_row(*self._cells(row))
        parts: list[RenderableType] = [table, *(_cut(text) for text in groups)]
        if hidden or (self._total > 1 and not all(row.end for row in rows)):
            parts.append(_cut(summary(rows, self._goal, self._total, self._now() - self._board.started)))
        if self._note:
            parts.append(_cut(self._note))
        return Group(*parts)

    def _cells(self, row: Row) -> tuple[RenderableType, ...]:
        name = Text(shown_line(row.name), "bold", no_wrap=True)
        match row.end:
            case "failed":
                return Text("✗", "red"), name, Text(row.phase, "red"), _cut(row.detail, "red"), ""
            case "not begun":
                return Text("–", "yellow"), name, Text(row.phase), _cut(row.detail, "yellow"), ""
            case "done":
                return Text("✓", "green"), name, Text(row.phase, "green"), "", ""
        if row.began is None:
            return Text("·", "dim"), name, Text(row.phase), "", ""
        narrow = self._rich.size.width < NARROW
        way = Text(f"→ {row.to}" if narrow else f"{row.phase} → {row.to}", no_wrap=True)
        return self._spinner, name, way, self._work(row), Text(duration(self._now() - row.began), "cyan", no_wrap=True)

    def _work(self, row: Row) -> RenderableType:
        fraction = find_fraction(row.detail)
        if fraction is None:
            more = f": {row.detail}" if row.detail else ""
            return Text(f"{row.label}{more}", no_wrap=True, overflow="ellipsis")
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=fraction, width=20 if self._rich.size.width >= NARROW else 8)
        label = Text(row.label, no_wrap=True, overflow="ellipsis")
        grid.add_row(label, bar, Text(row.detail, "dim", no_wrap=True, overflow="ellipsis"))
        return grid


def _cut(text: str, style: str = "dim") -> Text:
    """On one line: a machine that took two would push another off the screen."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def group_lines(rows: Sequence[Row], most: int) -> list[str]:
    """`lab/pve1: 12 of 34 done, 4 at work, 1 failed`: for each hypervisor and node, or for each hypervisor where these
    are too many. What has no place yet comes last."""
    places = {row.place for row in rows}
    nearer = len(places) > most
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.place.partition("/")[0] if nearer else row.place, []).append(row)
    return [
        f"{shown_line(place) or 'waiting'}: {counts(some, len(some))}"
        for place, some in sorted(found.items(), key=_last_empty)
    ]


def _last_empty(item: tuple[str, Sequence[Row]]) -> tuple[bool, str]:
    return not item[0], item[0]


def counts(rows: Sequence[Row], total: int, goal: str = DONE) -> str:
    """`12 of 34 done, 4 at work, 1 failed, 2 not begun`."""
    number = {kind: sum(row.end == kind for row in rows) for kind in ENDS}
    at_work = sum(row.began is not None for row in rows)
    parts = [f"{number[DONE]} of {total} {goal}", *([f"{at_work} at work"] if at_work else [])]
    return ", ".join([*parts, *(f"{number[end]} {end}" for end in (FAILED, NOT_BEGUN) if number[end])])


def choose_rows(rows: Sequence[Row], room: int) -> tuple[list[Row], int]:
    """What fits on the screen, and how many do not: failures first, then those at work, each in the order of the
    network."""
    if len(rows) <= room:
        return list(rows), 0
    weight = {FAILED: 0, "": 1, DONE: 3, NOT_BEGUN: 4}
    by_need = sorted(rows, key=lambda row: weight[row.end] + (1 if row.began is None and not row.end else 0))
    chosen = {row.name for row in by_need[:room]}
    return [row for row in rows if row.name in chosen], len(rows) - room


def summary(rows: Sequence[Row], goal: str, total: int, seconds: float) -> str:
    """`3 of 12 ready, 4 at work, 1 failed, 2 not begun · 42 s`."""
    return f"{counts(rows, total, goal)} · {duration(seconds)}"


@contextmanager
def start_live(rich: Rich, goal: str, names: Sequence[str]) -> Iterator[LiveBoard]:
    board = LiveBoard(rich, goal, names)
    with Live(board, console=rich, refresh_per_second=FRAMES, redirect_stdout=False, redirect_stderr=False):
        yield board


@contextmanager
def start_transfer(rich: Rich, text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar. Gives a function that is told bytes done and bytes in all."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=rich, transient=True) as bars:
        task = bars.add_task(text, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
