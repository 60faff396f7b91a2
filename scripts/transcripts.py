"""Runs the commands of a page on a lab, and writes what they print below them: a page whose screens never lie.

A block of ```console that follows a line `<!-- transcript -->` is one. Its lines that begin with `$ ` are typed into a
shell on a terminal, in a home with nothing in it, and what they print is put below them. What the user types is in the
comment, with bars between: `<!-- transcript: y|root@pam|PASSWORD -->`; URL and PASSWORD are the lab's.
`<!-- before: … -->` is a command that is run and not shown.
"""

import argparse
import json
import os
import pty
import re
import select
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PART = re.compile(
    r"<!-- before: (?P<before>.*?) -->\n|<!-- transcript(?:: (?P<typed>.*?))? -->\n```console\n(?P<block>.*?)```\n",
    re.S,
)
PROMPT = re.compile(r"(?:: |\] |\$ )\Z")  # how a question ends
QUIET = 0.4  # seconds without a word after which a question waits for us
LONGEST = 120.0  # seconds for a command
HIDDEN = ((re.compile(r"/nix/store/[0-9a-z]{32}-"), "/nix/store/…-"),)
# What differs from run to run, and says nothing about the page.
CHANGING = (
    (re.compile(r"\b(?:\d+ h \d+ min|\d+ min \d+ s|\d+(?:\.\d)? s)\b"), "T"),
    (re.compile(r"\b(?:[0-9A-F]{2}:){31}[0-9A-F]{2}\b"), "FINGERPRINT"),
    (re.compile(r"(?i)\b(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4})+\b|\b10\.77\.\d+\.\d+\b"), "ADDRESS"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"SHA256:[A-Za-z0-9+/]+"), "KEY"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?\b"), "MOMENT"),
    (re.compile(r"(?<![\w.:/-])\d{3,6}(?![\w.:/%-])"), "N"),
    (re.compile(r" {2,}"), "  "),
)


class TranscriptFailed(Exception):
    """A command did not end, or asked for more than there was to type."""


class Typist:
    """A shell's user, in a scratch home."""

    def __init__(self, home: Path) -> None:
        self._home, self._folder = home, home / "machines"
        self._folder.mkdir()
        self._environment = environment(home, os.environ)

    def run(self, command: str, typed: Sequence[str] = ()) -> str:
        """What the terminal shows, what was typed included."""
        where = self._home / ".where"
        script = f"cd {str(self._folder)!r}\n{command}\nstatus=$?\npwd > {str(where)!r}\nexit $status\n"
        known = self._known() if {"URL", "PASSWORD"} & {*typed} else {}
        answers = [known.get(one, one) for one in typed]
        shown = converse(["bash", "-c", script], self._environment, answers)
        if where.exists():
            self._folder = Path(where.read_text().strip())
        return tidy(shown, self._home)

    def _known(self) -> dict[str, str]:
        """What a user would know of the lab that is up."""
        running = next((self._home / ".local/state/nixops-proxmox/labs").glob("*/running.json"))
        told = json.loads(running.read_text())
        return {"URL": str(told["url"]), "PASSWORD": str(told["root_password"])}


def environment(home: Path, around: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in around.items()
        if name.startswith(("NIX_", "DEMO_", "LANG", "NIXOPS_PROXMOX_LAB"))
    }
    path = f"{Path(sys.executable).parent}:{around['PATH']}"
    ours = {"HOME": str(home), "PATH": path, "TERM": "dumb", "COLUMNS": "200", "PYTHONPATH": str(ROOT), "USER": "you"}
    return {
        **kept,
        **ours,
        **({} if "PYTHONPYCACHEPREFIX" not in around else {"PYTHONPYCACHEPREFIX": around["PYTHONPYCACHEPREFIX"]}),
    }


def converse(argv: Sequence[str], around: Mapping[str, str], typed: Sequence[str]) -> str:
    """Run it on a terminal. An answer is typed when a question stands there, and nothing more comes."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], list(argv), dict(around))  # noqa: S606 -- we are the shell's terminal
    seen, left, deadline = b"", list(typed), time.monotonic() + LONGEST
    while True:
        if not select.select([terminal], [], [], QUIET)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, 9)
                raise TranscriptFailed(f"{argv[-1]} does not end; it said:\n{seen.decode(errors='replace')}")
            if PROMPT.search(seen.decode(errors="replace")) and left:
                os.write(terminal, f"{left.pop(0)}\n".encode())
            continue
        try:
            more = os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        if not more:
            break
        seen += more
    os.waitpid(pid, 0)
    os.close(terminal)
    return seen.decode(errors="replace").replace("\r\n", "\n")


def tidy(shown: str, home: Path) -> str:
    """Without what is only of this run, and as a reader's computer would show it."""
    for pattern, instead in HIDDEN:
        shown = pattern.sub(instead, shown)
    shown = shown.replace(str(home), "/home/you").replace(str(ROOT), "/home/you/nixops-proxmox")
    shown = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8006", shown)
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines())


def replay(text: str, typist: Typist) -> str:
    """The page with what its commands print now."""

    def again(part: re.Match[str]) -> str:
        if part["before"]:
            typist.run(part["before"])
            return part[0]
        typed = part["typed"].split("|") if part["typed"] else []
        commands = re.findall(r"(?m)^\$ (.*)$", part["block"])
        shown = [f"$ {command}\n{typist.run(command.partition('    #')[0], typed)}" for command in commands]
        head = part[0].partition("```console\n")[0]
        return f"{head}```console\n{''.join(shown)}```\n"

    return PART.sub(again, text)


def settled(text: str) -> str:
    """The page without what differs from run to run."""
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return text


@contextmanager
def start_typist() -> Iterator[Typist]:
    """The labs that its commands start are down afterwards."""
    with tempfile.TemporaryDirectory(prefix="transcript-") as folder:
        typist = Typist(Path(folder))
        try:
            yield typist
        finally:
            typist.run("nixops-proxmox lab down")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", metavar="PAGE", nargs="+", type=Path)
    for page in parser.parse_args().pages:
        with start_typist() as typist:
            page.write_text(replay(page.read_text(), typist))
    return 0


if __name__ == "__main__":
    sys.exit(main())
