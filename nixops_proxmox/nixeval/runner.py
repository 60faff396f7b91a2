"""Runs a program: its lines as they come, a deadline, an end on request, and a command line that can be pasted."""

import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

from nixops_proxmox.model import Completed
from nixops_proxmox.secrecy import redact

log = logging.getLogger(__name__)

Tell = Callable[[str], None]  # called with each line that a program writes to its standard error

TICK = 0.1  # seconds between two looks at deadline and cancellation
GRACE = 5.0  # seconds a program has between SIGTERM and SIGKILL


class Cancelled(KeyboardInterrupt):
    """The run was called off. What Nix had begun is as safe as Nix makes it."""


class OutOfTime(Exception):
    """The program did not end before its deadline and was ended. `stderr` is what it had said."""

    def __init__(self, argv: Sequence[str], timeout: float, stderr: str) -> None:
        super().__init__(f"{argv[0]} did not end within {timeout:g} s")
        self.stderr = stderr


class Runner(Protocol):
    """Runs `argv` with `env` added to the environment. `timeout` in seconds, None: as long as it takes.

    The exit status is in what comes back. Raises FileNotFoundError when there is no such program, OutOfTime,
    Cancelled. What `tell` raises ends the program, and is raised here.
    """

    def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        tell: Tell | None = None,
        timeout: float | None = None,
    ) -> Completed: ...


def pasteable(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """A shell command line that does the same, secrets removed."""
    words = [f"{name}={shlex.quote(redact(value))}" for name, value in (env or {}).items()]
    return " ".join([*words, *(shlex.quote(redact(word)) for word in argv)])


@dataclass
class ProcessRunner:
    """Runs real programs, each in a session of its own, so that ending one ends its children too.

    `environment` is added to this process's own for every program. `cancelled`, once set, ends what runs.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        tell: Tell | None = None,
        timeout: float | None = None,
    ) -> Completed:
        log.info("run: %s", pasteable(argv, env))
        began = time.monotonic()
        process = subprocess.Popen(
            list(argv),
            env={**os.environ, **self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        out, err = _Reader(process.stdout), _Reader(process.stderr, tell)
        try:
            self._follow(process, argv, timeout, err)
        finally:
            _end(process)
            out.finish()
            err.finish()
        err.check()
        log.debug("%s ended with status %d after %.2f s", argv[0], process.returncode, time.monotonic() - began)
        return Completed(process.returncode, out.text, err.text)

    def _follow(
        self, process: subprocess.Popen[bytes], argv: Sequence[str], timeout: float | None, err: "_Reader"
    ) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:  # safe to repeat: it only waits
            try:
                process.wait(TICK)
            except subprocess.TimeoutExpired:
                err.check()
                if self.cancelled.is_set():
                    raise Cancelled from None
                if deadline is not None and time.monotonic() >= deadline:
                    raise OutOfTime(argv, timeout or 0, err.text) from None
            else:
                return


class _Reader:
    """Reads one pipe on a thread. Undecodable bytes are replaced."""

    def __init__(self, pipe: IO[bytes] | None, tell: Tell | None = None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._tell = tell
        self._lines: list[str] = []
        self._refusal: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def finish(self) -> None:
        # A child left behind (an SSH master, say) may hold the pipe open for ever: what it says is not waited for.
        self._thread.join(2)

    def check(self) -> None:
        """Raises what the listener raised."""
        if self._refusal is not None:
            raise self._refusal

    def _read(self) -> None:
        with self._pipe:
            for raw in self._pipe:  # to its end, whatever the listener does: nothing may come to a halt on a full pipe
                line = raw.decode("utf-8", "replace")
                self._lines.append(line)
                if self._tell is not None and self._refusal is None:
                    self._listen(self._tell, line.rstrip("\r\n"))

    def _listen(self, tell: Tell, line: str) -> None:
        try:
            tell(line)
        except Exception as error:  # noqa: BLE001 -- raised again where the program is waited for
            self._refusal = error


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
