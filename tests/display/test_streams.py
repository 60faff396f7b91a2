"""The two streams of a program: whose reader has gone, and how wide a terminal is."""

import os
import pty
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from typing import TextIO

import pytest

from nixops_proxmox.display.program import DEFECT_STATUS, told_in_words
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError


@contextmanager
def nobody_reads() -> Iterator[TextIO]:
    """A pipe whose reader has ended."""
    reads, writes = os.pipe()
    os.close(reads)
    stream = os.fdopen(writes, "w")
    yield stream
    with suppress(BrokenPipeError):
        stream.close()


def test_results_come_although_nobody_reads_what_is_said_beside_them() -> None:
    with nobody_reads() as err, redirect_stdout(StringIO()) as out:
        screen = Screen(out, err)

        def work() -> int:
            screen.warn("the lock is old")
            screen.json({"machines": []})
            return 10

        assert told_in_words(work, screen, "status") == 10
    assert '"machines": []' in out.getvalue()


def test_an_error_that_nobody_reads_has_its_exit_status() -> None:
    def fail() -> int:
        raise ConfigError("there is no machine")

    with nobody_reads() as err:
        assert told_in_words(fail, Screen(StringIO(), err), "status") == ConfigError.exit_status


def test_results_that_nobody_reads_end_it_as_they_end_other_programs() -> None:
    """Not with 0: `plan --check` means something by it. And not with an error: there is none."""
    with nobody_reads() as out, redirect_stdout(out):
        err = StringIO()
        screen = Screen(out, err)

        def work() -> int:
            screen.result("web")
            return 0

        assert (told_in_words(work, screen, "plan"), err.getvalue()) == (128 + signal.SIGPIPE, "")


def test_a_pipe_of_another_program_is_no_reader_of_results() -> None:
    def fail() -> int:
        raise BrokenPipeError(32, "Broken pipe")

    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as out, redirect_stdout(out):
        assert told_in_words(fail, Screen(out, StringIO()), "deploy") == DEFECT_STATUS
    os.close(reads)


PATH = "/nix/store/2b3c4d5e6f7g8h9i0jkqlmnrpvwxyzab-nixos-system-web-25.05.20250901.abcdef/bin/switch"
TOLD = f"we cannot tell what has become of {PATH} on the machine web; `nixops-proxmox deploy --allow-reboot web` tries"
SAYS: list[Callable[[Screen], None]] = [lambda screen: screen.say(TOLD), lambda screen: screen.warn(TOLD)]


def shown_at(columns: int, monkeypatch: pytest.MonkeyPatch, say: Callable[[Screen], None], *, plain: bool) -> list[str]:
    """Its lines, as a program writes them onto a terminal of so many columns."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as err:
        say(Screen(StringIO(), err, plain=plain))
    text = b""
    with suppress(OSError):  # the other end is closed, and all was read
        while True:
            text += os.read(ours, 65536)
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("say", SAYS)
def test_a_terminal_gets_whole_words_paths_and_commands(
    monkeypatch: pytest.MonkeyPatch, columns: int, say: Callable[[Screen], None]
) -> None:
    lines = shown_at(columns, monkeypatch, say, plain=False)
    assert any(line.strip().startswith(PATH) for line in lines)
    assert any("`nixops-proxmox deploy --allow-reboot web`" in line for line in lines)
    for line in lines:
        assert len(line) <= columns or len(line.strip().split(" ")) == 1 or "`" in line
    assert " ".join(line.strip() for line in lines).removeprefix("warning: ") == TOLD
    assert len(shown_at(columns, monkeypatch, say, plain=True)) == 1
