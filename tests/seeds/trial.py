"""One bug in a copy of the code, and what its tests say."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from typing_extensions import override

from tests.pace import patience
from tests.seeds.catalogue import Bug, find_objection

TIME_LIMIT = 900.0  # seconds for the tests of one bug
TEST_LIMIT = 120.0  # seconds for one test: a bug may make it wait for ever
FAILED = 1  # pytest's exit status when tests ran and some failed


class Verdict(StrEnum):
    CAUGHT = "caught"
    NOT_CAUGHT = "NOT CAUGHT"
    STALE = "STALE"  # the code has changed: the bug cannot be seeded any more
    BROKEN = "BROKEN"  # its tests do not run, or fail without it
    EQUIVALENT = "equivalent"


@dataclass(frozen=True)
class Tried:
    bug: Bug
    verdict: Verdict
    by: str = ""  # the test that noticed, or why there is no answer
    seconds: float = 0.0

    @override
    def __str__(self) -> str:
        took = f" ({self.seconds:.0f} s)" if self.seconds else ""
        return f"{self.verdict:<11} {self.bug.name}{took}{f': {self.by}' if self.by else ''}"


@dataclass(frozen=True)
class Ran:
    status: int
    output: str

    @property
    def first_failure(self) -> str:
        found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", self.output, re.MULTILINE)
        return found[1] if found else "the time limit" if self.status else ""


def copy_code(root: Path, target: Path) -> None:
    """What git knows of the working tree, and what it does not ignore."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def run_tests(root: Path, words: Sequence[str], limit: float = TIME_LIMIT) -> Ran:
    """Until the first failure. A run that is over its time is ended with all that it started, and counts as failed."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment["PYTEST_TIMEOUT"] = str(patience(TEST_LIMIT))
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", *words]
    process = subprocess.Popen(
        argv, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=patience(limit))
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return Ran(FAILED, process.communicate()[0] or "")
    return Ran(process.returncode, output)


def try_bug(bug: Bug, root: Path) -> Tried:
    """Seed it in the copy at `root`, run its tests, take it out again."""
    if bug.equivalent:
        return Tried(bug, Verdict.EQUIVALENT, bug.equivalent)
    objection = find_objection(bug, root)
    if objection:
        return Tried(bug, Verdict.STALE, objection)
    path, began = root / bug.file, time.monotonic()
    sound = path.read_text()
    path.write_text(sound.replace(bug.old, bug.new))
    try:
        ran = run_tests(root, bug.words)
    finally:
        path.write_text(sound)
    return Tried(bug, *_judge(ran), time.monotonic() - began)


def _judge(ran: Ran) -> tuple[Verdict, str]:
    if ran.status == 0:
        return Verdict.NOT_CAUGHT, ""
    if ran.status == FAILED:
        return Verdict.CAUGHT, ran.first_failure
    return Verdict.BROKEN, f"pytest ended with status {ran.status}: {' '.join(ran.output.split())[-300:]}"
