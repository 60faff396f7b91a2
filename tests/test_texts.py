"""Hostile text through every edge: what a terminal gets has no control in it, and no secret."""

import ast
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox import secrecy, texts
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import BadParameter, CommandFailed, DeployError, NoEndpoint, TaskFailed
from nixops_proxmox.messages.amounts import one_line
from nixops_proxmox.messages.explaining import explain
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.plans import describe
from nixops_proxmox.model import Change, Facts, Machine, Phase
from nixops_proxmox.nixops2.book import Book, MachineRecord
from nixops_proxmox.nixops4 import messages
from nixops_proxmox.nixops4.reporter import StderrReporter
from nixops_proxmox.operations.read_only import Planned
from nixops_proxmox.ssh.keys import new_key_pair
from nixops_proxmox.state import open_state
from nixops_proxmox.texts import (
    Formatter,
    after_cut,
    clean,
    head,
    json_text,
    kept,
    shown,
    shown_line,
    tail,
    tail_lines,
)

SECRET = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
HOSTILE = (
    "a\x1b[2J\x1b]0;owned\x07b\rc\x08d\x9b1m\u202eevil\u2066x\u200by\ufeffz\udc80\x7f\u2028\x85\x00"
    f"\x1b[31mred\x1b[0m {SECRET}"
)
MACHINE = Machine("shop", HOSTILE, Phase.READY, Facts())


@pytest.fixture(autouse=True)
def known() -> None:
    secrecy.learn(SECRET)


def check(told: str) -> None:
    """Every line is printable, says the harmless parts, and hides the secret."""
    assert told.strip()
    told.encode("utf-8")
    assert [line for line in told.split("\n") if not line.replace("\t", "").isprintable()] == []
    assert "evil" in told and SECRET not in told


ERRORS: list[DeployError] = [
    DeployError(HOSTILE, hint=HOSTILE),
    TaskFailed(HOSTILE, upid=HOSTILE, exit_status_text=HOSTILE, log=[HOSTILE]),
    CommandFailed(HOSTILE, status=1, output=HOSTILE),
    NoEndpoint(HOSTILE, attempts=[HOSTILE]),
    BadParameter("bad", errors={HOSTILE: HOSTILE}),
]


def log_a_line(screen: Screen) -> None:
    screen.log_to_stderr()
    logging.getLogger("nixops_proxmox.compose").warning("%s", HOSTILE)


EDGES: dict[str, Callable[[Screen], object]] = {
    "result": lambda screen: screen.result(HOSTILE),
    "result_lines": lambda screen: screen.result_lines([Line(HOSTILE)]),
    "table": lambda screen: screen.table(("name",), [(HOSTILE,)]),
    "say": lambda screen: screen.say(HOSTILE),
    "warn": lambda screen: screen.warn(HOSTILE),
    "show": lambda screen: screen.show([Line(HOSTILE, "red")]),
    "ask": lambda screen: screen.ask(HOSTILE, yes=False),
    "json": lambda screen: screen.json({"name": HOSTILE, "list": [HOSTILE]}),
    "log": log_a_line,
    "step": lambda screen: screen.reporter.step(MACHINE, HOSTILE, "ready"),
    "detail": lambda screen: screen.reporter.detail(MACHINE, HOSTILE),
    "done": lambda screen: screen.reporter.done(MACHINE, HOSTILE, 1.0),
    "warning": lambda screen: screen.reporter.warn(MACHINE, HOSTILE),
    "ended": lambda screen: screen.reporter.ended(HOSTILE, DeployError(HOSTILE)),
} | {f"error {type(error).__name__}": lambda console, error=error: console.show(explain(error)) for error in ERRORS}


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_the_command_line_prints_nothing_that_steers_a_terminal(edge: Callable[[Screen], object]) -> None:
    out = io.StringIO()
    edge(Screen(out, out, verbosity=1, ask_from=lambda: "n"))
    check(out.getvalue())


def test_the_live_board_is_clean() -> None:
    """Its own drawing aside, which is what rich writes."""
    from rich.console import Console as Rich

    from nixops_proxmox.display.live import LiveBoard

    out = io.StringIO()
    rich = Rich(file=out, width=400, color_system=None)
    board = LiveBoard(rich, "ready", [])
    board.warn(MACHINE, HOSTILE)
    board.step(MACHINE, HOSTILE, "ready")
    board.detail(MACHINE, HOSTILE)
    board.ended("web", DeployError(HOSTILE))
    rich.print(board)
    check(out.getvalue())


FORGED = "it said\nerror: FORGED\r\nhint: FORGED\n\nweb: FORGED"
FORGERS: list[DeployError] = [
    DeployError(FORGED, hint=FORGED),
    TaskFailed("it failed", upid=FORGED, exit_status_text=FORGED, log=[FORGED]),
    CommandFailed(FORGED, status=1, output=FORGED),
    NoEndpoint("no way", attempts=[FORGED]),
    BadParameter("bad", errors={"name": FORGED}),
]


def begins_no_line(told: str) -> None:
    assert told.count("FORGED") >= 3
    assert [line for line in told.split("\n") if re.match(r"error: F|hint: F|web: F", line)] == []


@pytest.mark.parametrize(
    "edge",
    [
        lambda screen: screen.result(FORGED),
        lambda screen: screen.say(FORGED),
        lambda screen: screen.warn(FORGED),
        lambda screen: screen.ask(FORGED, yes=False),
        lambda screen: screen.table(("name",), [(FORGED,)]),
        lambda screen: screen.reporter.warn(MACHINE, FORGED),
        lambda screen: [screen.show(explain(error)) for error in FORGERS],
        lambda screen: screen.result_lines(
            [Line(line) for line in describe(Planned("web", Phase.READY, changes=(Change("ciuser", FORGED, "x"),)))]
        ),
    ],
)
def test_no_line_end_of_a_stranger_begins_a_line_of_ours(edge: Callable[[Screen], object]) -> None:
    out = io.StringIO()
    edge(Screen(out, out, ask_from=lambda: "n"))
    begins_no_line(out.getvalue())


def test_nixops_4_forges_no_line_either() -> None:
    begins_no_line(json.loads(messages.failed(DeployError(FORGED, hint="x")))["errorResponse"]["message"])
    log = io.StringIO()
    with redirect_stderr(log):
        StderrReporter("shop").warn(MACHINE, FORGED)
    begins_no_line(log.getvalue())


def test_nixops_2_forges_no_line_either() -> None:
    pytest.importorskip("nixops")
    from nixops_proxmox.nixops2.errors import told

    for error in FORGERS:
        begins_no_line(told(error))


def test_a_value_is_one_line_and_our_remedy_another() -> None:
    change = Change("ciuser", "a\n`rm -rf /` helps", "b", permission="no", remedy="`qm set` helps")
    (_, told) = describe(Planned("web", Phase.READY, changes=(change,)))
    assert shown(told).split("\n") == [
        r"  ~ ciuser: a\x0a`rm -rf /` helps → b  [needs your permission: no]",
        "    `qm set` helps",
    ]


def test_nixops_4_gets_clean_messages_and_logs() -> None:
    (message,) = [json.loads(messages.failed(error))["errorResponse"]["message"] for error in ERRORS[:1]]
    check(message)
    log = io.StringIO()
    with redirect_stderr(log):
        reporter = StderrReporter("shop")
        reporter.step(MACHINE, HOSTILE, "ready")
        reporter.detail(MACHINE, HOSTILE)
        reporter.done(MACHINE, HOSTILE, 1.0)
        reporter.warn(MACHINE, HOSTILE)
    check(log.getvalue())


def test_nixops_2_gets_clean_messages_and_logs() -> None:
    pytest.importorskip("nixops")
    from nixops_proxmox.nixops2.errors import told

    for error in ERRORS:
        check(told(error))


def test_libraries_warnings_and_tracebacks_are_cleaned_by_the_log(tmp_path: Path) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "%s", (HOSTILE,), sys.exc_info())
    check(Formatter("%(message)s").format(record))


def test_the_history_keeps_clean_text(tmp_path: Path) -> None:
    web = Machine("shop", "web", Phase.READY)
    with open_state(str(tmp_path / "state.sqlite")) as state:
        journal = state.deployment("shop").journal()
        journal.fail(journal.begin(web, "Stop it", "stopped"), DeployError(HOSTILE))
        check(state.deployment("shop").history()[0].error)
    book = Book(MachineRecord(), lambda _: None)
    book.fail(book.begin(web, "Stop it", "stopped"), DeployError(HOSTILE))
    check(book.record_now.entries[0].error)


def test_json_stays_exact() -> None:
    value = {"name": HOSTILE.replace(SECRET, ""), "numbers": [1, 1.5, None, True], "emoji": "🙂‍↔️ é"}
    text = json_text(value)
    assert json.loads(text) == value
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "block", "line"),
    [
        ("plain é ü 漢字 🙂", "plain é ü 漢字 🙂", "plain é ü 漢字 🙂"),
        ("a\tb\nc\r\nd", "a\tb\nc\nd", r"a\x09b\x0ac\x0d\x0ad"),
        ("\x1b[31mred\x1b[0m", "red", "red"),
        ("\x1b[2J", r"\x1b[2J", r"\x1b[2J"),
        ("\u202ea\u200bb\ufeff", r"\u202ea\u200bb\ufeff", r"\u202ea\u200bb\ufeff"),
        ("\udc80\ud800", r"\x80\ud800", r"\x80\ud800"),
        ("\U000e0041", r"\U000e0041", r"\U000e0041"),
        ("a\u00a0b", "a\u00a0b", "a\u00a0b"),
    ],
)
def test_what_is_seen_of_it(text: str, block: str, line: str) -> None:
    assert (clean(text), clean(text, block=False)) == (block, line)


@given(st.text())
def test_no_text_gets_through_with_a_control(text: str) -> None:
    for told in (shown(text).replace("\n", "").replace("\t", ""), shown_line(text), one_line(text)):
        told.encode("utf-8")
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u200b\ufeff\u2028" for c in told)


CUT: dict[str, Callable[[str], str]] = {
    "kept": lambda text: kept(text, 40),
    "head": lambda text: head(text, 40),
    "tail": lambda text: tail(text, 40),
    "after_cut": lambda text: after_cut(text[32:]),
}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_what_is_cut_is_blanked_first(cut: Callable[[str], str]) -> None:
    told = cut("x" * 30 + SECRET + "y" * 30 + "\nz")
    assert not [part for part in SECRET.split("-") if part in told]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", " "])
def test_of_what_came_cut_the_half_line_is_left_out(end: str) -> None:
    assert after_cut(f"679-7425{end}the end") == "the end"
    assert after_cut("679-7425") == ""


def test_a_key_of_which_only_the_last_lines_are_told_is_blanked() -> None:
    key = new_key_pair("me").private
    for told in ("\n".join(tail_lines(key.splitlines(), 3)), shown(key[60:]), shown("\n".join(key.splitlines()[3:]))):
        assert not [line for line in key.splitlines()[1:-1] if line in told], told


def cuts(path: Path) -> Iterator[str]:
    """Slices that leave out what is beyond a number of characters or lines, as the source has them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            for bound in (node.slice.lower, node.slice.upper):
                bare = bound.operand if isinstance(bound, ast.UnaryOp) else bound
                long = isinstance(bare, ast.Constant) and isinstance(bare.value, int) and bare.value >= 20
                named = isinstance(bare, ast.Name) and (bare.id.isupper() or bare.id in ("limit", "count"))
                if long or named:
                    yield ast.unparse(node)


# Hashes, numbers' bytes, names that are no text of anybody's, lists of something else than lines.
HARMLESS = {
    "found[:count]",  # bytes of a display's protocol
    "found[count:]",
    "password.encode()[:SIGNIFICANT]",  # for a cipher, and never shown
    "word.lower()[:80]",
    "unsent[:CHUNK]",
    "(*self.record_now.entries, entry)[-KEPT:]",
    "path.stem[:STEM]",
    "re.sub('[^A-Za-z0-9]+', '-', self.path.stem)[:SHORT]",
    "re.sub('[^A-Za-z0-9-]', '-', label).strip('-')[:63]",
    "''.join((character for character in text if character.isprintable()))[:64]",
    "names[:20]",
    "found[-limit:]",
}


def test_no_text_is_cut_elsewhere() -> None:
    """`stderr[-500:]` leaves half a secret, which nobody knows for one."""
    source = Path(texts.__file__).parent
    parts = [path for path in source.rglob("*.py") if "lab" not in path.relative_to(source).parts]
    found = {cut: path.name for path in parts if path.name != "texts.py" for cut in cuts(path) if cut not in HARMLESS}
    assert found == {}, "texts.head and texts.tail cut what may have secrets in it"
