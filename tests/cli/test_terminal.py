"""On a terminal: the live board, colours, questions, Ctrl-C."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pace import patience

ROOT = Path(__file__).parents[2]


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, fd: int, process: "subprocess.Popen[bytes]") -> None:
        self.fd, self.process, self.seen, self.closed = fd, process, "", False

    def read_until(self, text: str, timeout: float = 20) -> None:
        deadline = time.monotonic() + patience(timeout)
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not come; seen: {self.seen!r}"
            if not self._read(0.2) and self.process.poll() is not None:
                assert text in self.seen, self.seen
                return

    def end(self, timeout: float = 30) -> int:
        deadline = time.monotonic() + patience(timeout)
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; seen: {self.seen!r}"
            self._read(0.1)
        while not self.closed:  # the kernel may hand over a busy machine's last words long after their program
            assert time.monotonic() < deadline, f"somebody keeps the terminal open; seen: {self.seen!r}"
            self._read(0.1)
        return self.process.returncode

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def hang_up(self) -> None:
        """Close the window; the kernel tells only those whose controlling terminal it is, so we tell it."""
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, self.fd)
        os.close(nothing)
        self.process.send_signal(signal.SIGHUP)

    def _read(self, timeout: float) -> bool:
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        except OSError:  # the other end is closed, and all was read
            self.closed = True
            return False
        return True

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)


FAKE = ("-m", "tests.cli.fake")


@contextmanager
def start_terminal(
    tmp_path: Path, *words: str, plan: object = None, program: Sequence[str] = FAKE, **environment: str
) -> Iterator[Terminal]:
    folder = tmp_path / "shop"
    folder.mkdir(exist_ok=True)
    (folder / "network.nix").write_text("{ }")
    (tmp_path / "fake.json").write_text(json.dumps(plan or {"described": ["web", "db"], "seconds": 0.2}))
    ours, theirs = pty.openpty()
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "FAKE": str(tmp_path / "fake.json"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "LINES": "30",
        **environment,
    }
    # A program that runs these tests may ignore signals (nohup), and whoever it starts would, too.
    argv = [sys.executable, *program, *words]
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=variables)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def test_the_board_lives_on_a_terminal_in_colours(tmp_path: Path) -> None:
    with start_terminal(tmp_path, "deploy") as terminal:
        assert terminal.end() == 0
        assert "installer → installed" in terminal.text
        assert "✓" in terminal.text
        assert "2 at work" in terminal.text
        assert "2 machines ready in" in terminal.text
        assert re.search(r"\x1b\[[0-9;]*32m", terminal.seen), "green"
        assert terminal.seen.rstrip().endswith("\x1b[0m") or "\x1b[?25h" in terminal.seen, "the cursor is shown again"


@pytest.mark.parametrize(
    ("words", "hangs", "told"),
    [
        ("deploy", "open", "evaluating the network"),
        ("deploy", "changing", "evaluating the systems"),
        ("plan", "plan", "asking the cluster"),
        ("plan --why web", "plan_in_full", "looking at web"),
        ("check", "check", "asking the cluster and the machines"),
        ("destroy --yes", "open", "reading the record"),
        ("destroy --yes", "removal", "asking the cluster what goes"),
        ("ssh web --print", "ssh_argv", "looking for the way to web"),
        ("volume list", "list_volumes", "asking the cluster"),
    ],
)
def test_what_takes_long_is_named_while_it_does(tmp_path: Path, words: str, hangs: str, told: str) -> None:
    os.mkfifo(tmp_path / "fake.json.go")
    plan = {"described": ["web"], "recorded": {"web": "ready"}, "hangs": hangs}
    with start_terminal(tmp_path, *words.split(), plan=plan) as terminal:
        terminal.read_until(told)
        (tmp_path / "fake.json.go").write_text("go on")
        assert terminal.end() == 0, terminal.text


def test_the_first_word_comes_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    """So it comes within a moment of Enter, whatever the verb then needs."""
    program = ("-X", "importtime", "-m", "nixops_proxmox")
    with start_terminal(tmp_path, "plan", program=program) as terminal:
        terminal.end()
        before = terminal.text.partition("evaluating the network")[0]
    assert before != terminal.text, terminal.text[-2000:]
    assert not re.search(r"\| *(sqlalchemy|pydantic|requests|nixops_proxmox\.operations)\b", before)
    assert before.count("import time:") <= 300


def test_no_color_is_honoured(tmp_path: Path) -> None:
    with start_terminal(tmp_path, "deploy", NO_COLOR="1") as terminal:
        assert terminal.end() == 0
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.seen)


@pytest.mark.parametrize("words", ["deploy --progress plain", "--progress plain deploy"])
def test_plain_progress_draws_nothing_again(tmp_path: Path, words: str) -> None:
    with start_terminal(tmp_path, *words.split()) as terminal:
        assert terminal.end() == 0
        assert not re.search(r"\x1b\[\??[0-9;]*[A-HJKhl]|\r[^\r\n]", terminal.seen), "the cursor stays where it is"
        assert re.search(r"(?m)^web +installer → installed", terminal.text) and "2 machines ready in" in terminal.text


def test_a_plan_breaks_between_words(tmp_path: Path) -> None:
    seen = {}
    for columns in ("40", "4000"):
        with start_terminal(tmp_path, "plan", plan={"described": ["web"]}, COLUMNS=columns) as terminal:
            assert terminal.end() == 0
            seen[columns] = terminal.seen.rpartition("\x1b[2K")[2].splitlines()
    narrow, wide = seen["40"], seen["4000"]
    assert max(map(len, wide)) > 40 >= max(map(len, narrow))
    assert " ".join(narrow).split() == " ".join(wide).split()


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("\n", 2), ("no\n", 2)])
def test_destroy_takes_yes_for_an_answer(tmp_path: Path, answer: str, left: int) -> None:
    plan = {"described": ["web", "db"], "recorded": {"web": "ready", "db": "ready"}}
    with start_terminal(tmp_path, "destroy", plan=plan) as terminal:
        terminal.read_until("[y/N]")
        terminal.write(answer)
        assert terminal.end() == 0
    with start_terminal(tmp_path, "status", "--json", plan=plan) as terminal:
        assert terminal.end() == 0
        assert terminal.seen.count('"machine":') == left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_interrupt_lets_the_steps_under_way_finish_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    plan = {"described": ["web", "db"], "seconds": 1.0}
    with start_terminal(tmp_path, "deploy", plan=plan) as terminal:
        terminal.read_until("reserved → defined")
        terminal.process.send_signal(number)
        assert terminal.end() == 128 + number
        assert "stopping after the current steps" in terminal.text
        assert "run the same command to continue" in terminal.text
    with start_terminal(tmp_path, "history", "--json", plan=plan) as terminal:
        assert terminal.end() == 0
        assert '"outcome": "running"' not in terminal.text
        assert '"outcome": "done"' in terminal.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_asks_ends_it_with_the_same_words(tmp_path: Path, number: signal.Signals) -> None:
    plan = {"described": ["web"], "recorded": {"web": "ready"}}
    with start_terminal(tmp_path, "destroy", plan=plan) as terminal:
        terminal.read_until("[y/N]")
        terminal.process.send_signal(number)
        assert terminal.end() == 128 + number
        assert "interrupted; run the same command to continue: nixops-proxmox destroy" in terminal.text


def test_a_terminal_that_is_closed_stops_nothing_in_the_middle(tmp_path: Path) -> None:
    plan = {"described": ["web", "db"], "seconds": 1.0}
    with start_terminal(tmp_path, "deploy", plan=plan) as terminal:
        terminal.read_until("reserved → defined")
        terminal.hang_up()
        assert terminal.process.wait(patience(30)) == 128 + signal.SIGHUP
    with start_terminal(tmp_path, "history", "--json", plan=plan) as terminal:
        assert terminal.end() == 0
        assert '"outcome": "running"' not in terminal.text and '"outcome": "failed"' not in terminal.text


def test_the_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    plan = {"described": ["web", "db"], "seconds": 60.0}
    with start_terminal(tmp_path, "deploy", plan=plan) as terminal:
        terminal.read_until("absent → reserved")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("stopping after")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end(timeout=patience(5)) == 130
        assert terminal.seen.rstrip().endswith("\x1b[?25h"), "the cursor is shown again"
