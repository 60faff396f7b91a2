"""Lines from a pipe, however they come, and what is handed on of them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox.nixops4.channel import Lines, decode
from nixops_proxmox.nixops4.messages import LONGEST, BadMessage
from tests.pace import patience


@contextmanager
def pipe(*chunks: bytes) -> Iterator[int]:
    """A pipe into which the chunks are written, and that ends then."""
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as file:
            for chunk in chunks:
                file.write(chunk)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join(patience(10))


@given(st.lists(st.binary(max_size=6)), st.binary(max_size=8))
def test_lines_are_the_same_however_they_are_cut(chunks: list[bytes], ahead: bytes) -> None:
    with pipe(*chunks) as descriptor:
        lines = list(Lines(descriptor, ahead))
    assert lines == [line for line in (ahead + b"".join(chunks)).split(b"\n") if line.strip()]


def test_a_last_line_without_its_end_is_a_line() -> None:
    with pipe(b"one\n\n  \ntwo") as descriptor:
        assert list(Lines(descriptor)) == [b"one", b"two"]


def test_what_is_not_answered_yet_can_be_handed_on() -> None:
    with pipe(b"one\ntwo\nthr") as descriptor:
        lines = Lines(descriptor)
        assert next(iter(lines)) == b"one"
        assert list(Lines(descriptor, lines.unanswered)) == [b"one", b"two", b"thr"]


def test_a_line_that_is_too_long_is_refused_and_does_not_fill_the_memory() -> None:
    mebibyte = b"x" * (1 << 20)
    with pipe(*[mebibyte] * ((LONGEST >> 20) + 8), b"\nnext\n") as descriptor:
        too_long, following = Lines(descriptor)
    assert len(too_long) == LONGEST + 1
    with pytest.raises(BadMessage, match="longer than 64 MiB"):
        decode(too_long)
    assert following == b"next"


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(BadMessage, match=r"not UTF-8: .* at byte 1"):
        decode(b"a\xff")
