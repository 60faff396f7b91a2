"""Records what the terminal shows while the tool works on a lab: a cast in asciinema's format, and an SVG of it.

Everything happens in a scratch folder with a HOME of its own. With --check nothing is written: what is shown now is
compared with what is recorded, without times and other things that differ from run to run.
"""

import argparse
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

from demo import clean_up
from stage import Demo

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "demo"
FOLDER = ROOT / "docs" / "recordings"
COLUMNS, LINES = 100, 22
KEY, THINK, READ = 0.04, 0.6, 1.6  # seconds: between two keys, before Enter, and after a command
LONGEST = 180.0  # seconds for a command
SCENES: Mapping[str, Sequence[str]] = {  # by name: what is typed
    "first-deploy": (
        "nixops-proxmox lab up --simulated",
        "nixops-proxmox deploy --profile lab",
        "nixops-proxmox status",
        "nixops-proxmox history web",
    ),
    "day-two": (
        "DEMO_VERSION=2 nixops-proxmox plan --profile lab",
        "DEMO_VERSION=2 nixops-proxmox deploy --profile lab",
        "nixops-proxmox destroy --yes --profile lab",
    ),
}
CHANGING = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]"), ""),
    (re.compile(r"/nix/store/[0-9a-z]{32}-"), "/nix/store/…-"),
    (re.compile(r"\b(?:\d+ h \d+ min|\d+ min \d+ s|\d+(?:\.\d+)? s)(?!\w)"), "T"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "MOMENT"),
    (re.compile(r"(?<![\w.])\d{5,6}\b|(?<=127\.0\.0\.1:)\d+"), "N"),  # VMIDs and ports
    (re.compile(r"\bpve\d\b"), "NODE"),
    (re.compile(r" {2,}|\t"), " "),
)

PASSING = re.compile(r"[⠀-⣿·✓●] ?|\d+ of \d+ \w+|nix: |the garbage collector")  # what is shown for a moment, if at all


@dataclass
class Cast:
    """What a terminal got, and when: seconds since the beginning."""

    events: list[tuple[float, str]] = field(default_factory=list)
    now: float = 0.0

    def show(self, text: str, after: float) -> None:
        self.now += after
        self.events.append((round(self.now, 3), text))

    def type_in(self, command: str) -> None:
        self.show("\x1b[32m$\x1b[0m ", 0.2)
        for key in command:
            self.show(key, KEY)
        self.show("\r\n", THINK)

    def as_text(self) -> str:
        head = {"version": 2, "width": COLUMNS, "height": LINES, "env": {"TERM": "xterm-256color"}}
        rows: list[object] = [head, *([moment, "o", text] for moment, text in self.events)]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def record(commands: Sequence[str], environment: Mapping[str, str], folder: Path) -> Cast:
    cast = Cast()
    for command in commands:
        cast.type_in(command)
        for seconds, text in run(command, environment, folder):
            cast.show(text, seconds)
        cast.show("", READ)
    return cast


def run(command: str, environment: Mapping[str, str], folder: Path) -> Iterator[tuple[float, str]]:
    """What the command prints on a terminal, and how long after what came before. Raises RuntimeError if it fails."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        cwd=folder,
        close_fds=True,
    )
    os.close(theirs)
    last = began = time.monotonic()
    rest, seen = b"", ""
    while True:
        if time.monotonic() - began > LONGEST:
            process.kill()
            raise RuntimeError(f"{command}: it did not end within {LONGEST:.0f} seconds")
        data = read(ours) if select.select([ours], [], [], 0.2)[0] else None
        if data == b"":
            break
        if data:
            text, rest = decoded(rest + data)
            now = time.monotonic()
            seen += text
            yield now - last, text
            last = now
    os.close(ours)
    if process.wait() != 0:
        raise RuntimeError(f"{command}: it ended with status {process.returncode}\n{seen}")


def read(ours: int) -> bytes:
    try:
        return os.read(ours, 65536)
    except OSError:  # Linux says so when nobody has the other end any more
        return b""


def decoded(data: bytes) -> tuple[str, bytes]:
    """(text, the bytes of a character that is not whole yet)"""
    for cut in range(4):
        whole = data[: len(data) - cut]
        try:
            return whole.decode(), data[len(whole) :]
        except UnicodeDecodeError:
            continue
    return data.decode(errors="replace"), b""


def told(text: str) -> list[str]:
    """The lines of a cast that do not differ from run to run: each once, and sorted, for machines are worked on side by
    side."""
    events = [json.loads(line) for line in text.splitlines()[1:]]
    words = "".join(event[2] for event in events)
    for pattern, instead in CHANGING:
        words = pattern.sub(instead, words)
    lines = (line.strip() for line in re.split(r"[\r\n]+", words))
    return sorted({line for line in lines if line and not PASSING.match(line)})


def draw(cast: Path, picture: Path) -> None:
    argv = [
        "termtosvg",
        "render",
        str(cast),
        str(picture),
        "-t",
        "window_frame",
        "-m",
        "60",
        "-M",
        "1800",
        "-D",
        "4000",
    ]
    subprocess.run(argv, check=True, capture_output=True)


def surroundings(scratch: Path) -> tuple[dict[str, str], Path]:
    """The environment, and a folder with the network of the demo."""
    demo = Demo(scratch, "simulated", EXAMPLE / "network.nix")
    folder = scratch / "examples" / "shop"
    shutil.copytree(EXAMPLE, folder)
    (scratch / "nix").symlink_to(ROOT / "nix")  # the example imports from there
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **demo.environment,
        "PATH": path,
        "TERM": "xterm-256color",
        "COLUMNS": str(COLUMNS),
        "LINES": str(LINES),
    }, folder


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/record", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something else is shown now")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="write into this folder")
    given = parser.parse_args(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="nixops-proxmox-record."))
    demo = Demo(scratch, "simulated", EXAMPLE / "network.nix")
    stale = []
    try:
        environment, folder = surroundings(scratch)
        for name, commands in SCENES.items():
            text = record(commands, environment, folder).as_text()
            cast = given.out / f"{name}.cast"
            if given.check:
                stale += [name] if not cast.exists() or told(cast.read_text("utf-8")) != told(text) else []
                continue
            given.out.mkdir(parents=True, exist_ok=True)
            cast.write_text(text, encoding="utf-8")
            draw(cast, cast.with_suffix(".svg"))
            sys.stderr.write(f"wrote {cast} and its picture\n")
    finally:
        clean_up(demo)
    for name in stale:
        sys.stderr.write(f"docs/recordings/{name}.cast shows what is not so any more: run scripts/record\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
