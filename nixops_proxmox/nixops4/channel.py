"""The pipes to NixOps: request lines in, response lines out. Also how both are handed on to a process that follows."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from nixops_proxmox.nixops4.messages import LONGEST, BadMessage

READ_VARIABLE = "NIXOPS4_PROXMOX_READ"  # a descriptor with what an earlier self had read and not answered
CHUNK = 1 << 16


class Lines:
    """The lines of a descriptor. We read ahead, so that what is not answered yet can be handed on."""

    def __init__(self, descriptor: int, read: bytes = b"") -> None:
        self._descriptor, self._ahead, self._current = descriptor, bytearray(read), b""
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        """Lines without their end, longer than `LONGEST` only by their start. Empty ones are left out."""
        while (line := self._next()) is not None:
            self._current = line
            if line.strip():
                yield line

    @property
    def unanswered(self) -> bytes:
        """The current line, and all that was read after it."""
        return self._current + b"\n" + self._ahead

    def _next(self) -> bytes | None:
        searched, dropped = 0, b""
        while (end := self._ahead.find(b"\n", searched)) < 0:
            if len(self._ahead) > LONGEST:
                dropped = dropped or bytes(self._ahead[: LONGEST + 1])
                self._ahead.clear()
            searched = len(self._ahead)
            if not self._fill():
                end = len(self._ahead)
                break
        line = bytes(self._ahead[:end])
        del self._ahead[: end + 1]
        return dropped or line if dropped or line or not self._ended else None

    def _fill(self) -> bool:
        chunk = b"" if self._ended else os.read(self._descriptor, CHUNK)
        self._ended = not chunk
        self._ahead += chunk
        return bool(chunk)


def decode(line: bytes) -> str:
    """Raises BadMessage for what is not text, or too much of it."""
    if len(line) > LONGEST:
        raise BadMessage(f"the request is longer than {LONGEST >> 20} MiB")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage(f"the request is not UTF-8: {error.reason} at byte {error.start}") from error


class Channel:
    """What NixOps talks to, on descriptors of their own. `lines` to read, `responses` to write."""

    def __init__(self, read: bytes = b"") -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 -- a device, not a path of anybody's
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)  # whatever libraries and programs print is a log, and never a response
        self.lines = Lines(self._in, read)
        self.responses: IO[str] = os.fdopen(self._out, "w", encoding="utf-8")

    def hand_on(self) -> Mapping[str, str]:
        """For an `exec`: standard input and output as they were. The environment that `start_channel` looks into."""
        self.responses.flush()
        os.dup2(self._in, 0)
        os.dup2(self._out, 1)
        read = os.memfd_create("requests", 0)  # without CLOEXEC
        with os.fdopen(os.dup(read), "wb") as file:
            file.write(self.lines.unanswered)
        return {READ_VARIABLE: str(read)}

    def close(self) -> None:
        os.close(self._in)
        try:
            self.responses.close()
        except BrokenPipeError:
            sys.stderr.write("nixops4-resources-proxmox: the last answer was not read\n")


@contextmanager
def start_channel() -> Iterator[Channel]:
    channel = Channel(_take_read())
    try:
        yield channel
    finally:
        channel.close()


def _take_read() -> bytes:
    """What an earlier self has handed on."""
    descriptor = os.environ.pop(READ_VARIABLE, "")
    if not descriptor:
        return b""
    with os.fdopen(int(descriptor), "rb") as file:
        file.seek(0)
        return file.read()
