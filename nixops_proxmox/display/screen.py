"""Where words go: results to stdout, and progress, warnings, questions and errors to stderr. Colours only on a
terminal."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from typing_extensions import override

from nixops_proxmox.display.progress import Busy, Plain, Progress, Relay, start_plain
from nixops_proxmox.errors import ConfigError, NeedsPermission
from nixops_proxmox.messages.lines import Line, fitted
from nixops_proxmox.texts import json_text, shown, shown_line

if TYPE_CHECKING:  # it takes a while, and a completion shows nothing by it
    from rich.console import Console as Rich
    from rich.text import Text

PHASE_STYLES = {"ready": "green", "lost": "bold red", "stopped": "yellow", "rescue": "yellow", "absent": "dim"}


# Whose log tells what is being done for all machines at once: it is shown while no machine's own step is.
NOTEWORTHY = frozenset({"nixops_proxmox.compose"})


class Screen:
    """The two streams, how much is told (0, 1: -v, 2: -vv), and whether anybody can be asked. `spell`: puts the
    commands that a text recommends into the words of the door that shows it."""

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        verbosity: int = 0,
        ask_from: Callable[[], str] | None = None,
        spell: Callable[[str], str] = str,
        plain: bool = False,
    ) -> None:
        """`plain`: nothing is drawn again, and nothing turns: a line for each thing that happened."""
        self.spell = spell
        self._plain = plain
        self.verbosity = verbosity
        self._streams = (out or sys.stdout, _Lasting(err or sys.stderr))
        self.reporter = Relay(Plain(self.say, verbosity), spell)
        self._ask_from = ask_from or (sys.stdin.readline if sys.stdin is not None and sys.stdin.isatty() else None)

    @cached_property
    def out(self) -> "Rich":
        return _open_rich(self._streams[0])

    @cached_property
    def err(self) -> "Rich":
        return _open_rich(self._streams[1])

    def result(self, text: str) -> None:
        """One line of result. What else is in it is indented."""
        self.out.print(_text(shown(self.spell(text))), soft_wrap=True)

    def result_lines(self, lines: Iterable[Line], *, fit: bool = False) -> None:
        """`fit`: they are read and not copied, so a terminal shows each in as many lines as it needs."""
        for line in lines:
            text = shown(self.spell(line.text))
            for part in _parts(self.out, text) if fit else [text]:
                self.out.print(_text(part, line.style), soft_wrap=True)

    def sentences(self, lines: Iterable[str]) -> None:
        """Results that are read and not copied."""
        self.result_lines(map(Line, lines), fit=True)

    def json(self, value: Mapping[str, object]) -> None:
        self.out.print(_text(self.spell(json_text(value))), soft_wrap=True)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, phases: int = -1) -> None:
        """Aligned columns, never wrapped. `phases`: the column that holds phases, which are coloured."""
        rows = [[shown_line(self.spell(cell)) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
        for number, row in enumerate([[head.upper() for head in heads], *rows]):
            line = _text("")
            for column, cell in enumerate(row):
                style = "bold" if number == 0 else PHASE_STYLES.get(cell, "") if column == phases else ""
                line.append(cell, style)
                line.append(" " * (widths[column] - len(cell) + 2))
            line.rstrip()
            self.out.print(line, soft_wrap=True)

    def say(self, text: str) -> None:
        """Something that is good to know."""
        self._tell(text)

    def warn(self, text: str) -> None:
        self._tell(text, begin=("warning: ", "yellow"))

    def show(self, lines: Sequence[Line]) -> None:
        """A report, as `messages` makes them, on stderr."""
        for line in lines:
            self._tell(line.text, line.style)

    def _tell(self, text: str, style: str = "", *, begin: tuple[str, str] = ("", ""), end: str = "\n") -> None:
        """On stderr. A terminal shows it in as many lines as it needs, unless it is to be a line for each message."""
        head, head_style = begin
        whole = head + shown(self.spell(text))
        *before, last = [whole] if self._plain else _parts(self.err, whole)
        for part, tail in [*((one, "\n") for one in before), (last, end)]:
            line = _text(part, style)
            line.stylize(head_style, 0, len(head))
            head = ""
            self.err.print(line, end=tail, soft_wrap=True)

    def ask(self, question: str, *, yes: bool) -> bool:
        """Ask the user to agree. `yes`: they did already. NeedsPermission if we cannot ask."""
        if yes:
            return True
        if self._ask_from is None:
            raise NeedsPermission(f"{question} (cannot ask, because this is not a terminal)", hint="add --yes to agree")
        self._question(f"{question} [y/N]")
        return self._ask_from().strip().lower() in ("y", "yes")

    @property
    def can_ask(self) -> bool:
        """Is there somebody at a terminal?"""
        return self._ask_from is not None

    def answer(self, question: str, default: str = "", *, flag: str = "") -> str:
        """What the user types; `default` for an empty line. ConfigError if we cannot ask, and there is none: `flag`
        gives it then."""
        if self._ask_from is None and default:
            return default
        if self._ask_from is None:
            raise ConfigError(f"we need {question} (cannot ask, because this is not a terminal)", hint=f"add {flag}")
        offered = f" [{default}]" if default else ""
        self._question(f"{question}{offered}:")
        return self._ask_from().strip() or default

    def ask_for(self, word: str, told: str, *, given: str, otherwise: str) -> bool:
        """Tell what will happen, and let the user type a word to agree. `given`: typed already; `otherwise`: the
        command that needs no question. NeedsPermission if we cannot ask."""
        if given:
            return given == word
        if self._ask_from is None:
            raise NeedsPermission(f"{told} (cannot ask, because this is not a terminal)", hint=f"{otherwise} agrees")
        self._question(f"{told}; type {word} to agree:")
        return self._ask_from().strip() == word

    def _question(self, text: str) -> None:
        """The answer is typed behind it."""
        self._tell(shown_line(self.spell(text)), "bold", end="")
        self.err.print(" ", end="", soft_wrap=True)

    @property
    def _is_lively(self) -> bool:
        return self.err.is_terminal and not self.err.is_dumb_terminal and self.verbosity == 0 and not self._plain

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show what goes on, where it can be taken away again, with what is noted of it: what Nix builds, for example.
        Nothing may be printed on stdout meanwhile."""
        if not self._is_lively:
            yield
            return
        with self.err.status(_text(shown_line(text))) as status:
            status.update(spinner="dots")  # draws it now; otherwise rich's thread does, when imports let it

            def show(now: str) -> None:
                status.update(_text(shown_line(now), no_wrap=True, overflow="ellipsis"))

            with self.reporter.to(Busy(text, show, self.reporter.now)):
                yield

    @contextmanager
    def progress(self, goal: str, names: Sequence[str]) -> Iterator[Progress]:
        """Show what happens to the machines on their way to `goal`: live on a terminal, else line by line."""
        if self._is_lively:
            from nixops_proxmox.display.live import start_live

            shown: AbstractContextManager[Progress] = start_live(self.err, goal, names)
        else:
            shown = start_plain(self.say, self.verbosity)
        with shown as progress, self.reporter.to(progress):
            yield progress

    @contextmanager
    def transfer(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """Gives a function that is told bytes done and bytes in all: a bar on a terminal, else at most a line."""
        if not self._is_lively:
            if self._plain:
                self.say(text)
            yield lambda _done, _total: None
            return
        from nixops_proxmox.display.live import start_transfer

        with start_transfer(self.err, text) as progress:
            yield progress

    def log_to_stderr(self) -> None:
        """Show the package's log: warnings always, from INFO on at -v, all of it at -vv."""
        logger = logging.getLogger("nixops_proxmox")
        logger.setLevel(logging.DEBUG if self.verbosity > 1 else logging.INFO)
        logger.handlers = [_LogHandler(self)]
        logger.propagate = False


class _LogHandler(logging.Handler):
    """Through the screen, so that a live display and the log do not write into each other."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    @override
    def emit(self, record: Any) -> None:
        if self._screen.verbosity == 0 and record.levelno < logging.WARNING:
            if record.name in NOTEWORTHY:
                self._screen.reporter.note(self.format(record))
            return
        style = "dim" if record.levelno < logging.WARNING else "yellow"
        self._screen.show([Line(self.format(record), style)])


GONE = (errno.EIO, errno.EPIPE)  # of a terminal that was closed, and of a pipe without a reader


class _Lasting:
    """Standard error of a program that outlives who reads it: what cannot be shown any more stops nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        written = len(text)
        with _unless_closed():
            written = self._stream.write(text)
        return written  # noqa: RET504 -- it may not have been assigned again

    def flush(self) -> None:
        with _unless_closed():
            self._stream.flush()


@contextmanager
def _unless_closed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in GONE:
            raise


def _text(content: str, style: str = "", **more: Any) -> "Text":
    from rich.text import Text

    return Text(content, style, **more)


def _parts(console: "Rich", text: str) -> Iterable[str]:
    """The lines that a terminal shows of it. What is no terminal gets it as it is."""
    return list(fitted(text, console.width)) if console.is_terminal else [text]


def _open_rich(stream: Any) -> "Rich":
    from rich.console import Console

    class Rich(Console):
        @override
        def on_broken_pipe(self) -> None:
            """Rich would put /dev/null in place of standard output and end the program, whichever stream it is."""
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    # NO_COLOR is honoured by rich. Empty means unset (no-color.org).
    return Rich(
        file=stream,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=True if os.environ.get("NO_COLOR") else None,
        force_terminal=None if stream.isatty() else False,
    )
