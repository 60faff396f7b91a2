"""Writers of SQLite that share a commit: each comes back with what it wrote on the disk, or with its own error."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from nixops_proxmox.errors import StateError
from nixops_proxmox.state.database import OneWriterPool, open_engine, parse_location, writing
from tests.pace import patience

MANY = 40


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(parse_location(str(tmp_path / "state.db")))
    with writing(engine) as connection:
        connection.execute(text("create table words (word text primary key)"))
    yield engine
    engine.dispose()


def _words(engine: Engine) -> set[str]:
    """As another process sees it now."""
    with sqlite3.connect(str(engine.url.database)) as connection:
        return {row[0] for row in connection.execute("select word from words")}


def _write(engine: Engine, word: str) -> None:
    with writing(engine) as connection:
        connection.execute(text("insert into words values (:word)"), {"word": word})


def _commits(engine: Engine) -> list[None]:
    seen: list[None] = []
    event.listen(engine, "commit", lambda _: seen.append(None))
    return seen


def _all_at_once(engine: Engine, work: Callable[[int], None]) -> None:
    """All of them stand in line while the first one still writes."""
    assert isinstance(engine.pool, OneWriterPool)
    with ThreadPoolExecutor(MANY) as pool, writing(engine) as connection:
        connection.execute(text("insert into words values ('the first')"))
        found = [pool.submit(work, number) for number in range(MANY)]
        _wait_for_line(engine)
    for one in found:
        one.result(patience(60))


def _wait_for_line(engine: Engine) -> None:
    waited = threading.Event()
    deadline = patience(60)
    while engine.pool.line._waiting < MANY and deadline > 0:  # type: ignore[attr-defined]
        waited.wait(0.01)
        deadline -= 0.01


def test_those_that_stand_in_line_share_a_commit_and_each_finds_its_own_on_the_disk(engine: Engine) -> None:
    commits = _commits(engine)

    def work(number: int) -> None:
        _write(engine, str(number))
        assert str(number) in _words(engine)

    _all_at_once(engine, work)
    assert _words(engine) == {"the first", *map(str, range(MANY))}
    assert len(commits) <= 3, "the first one's, and one for all that waited, or two"


def test_what_fails_is_taken_back_alone(engine: Engine) -> None:
    def work(number: int) -> None:
        word = str(number - number % 2)
        if number % 4 == 1:
            with pytest.raises(ZeroDivisionError), writing(engine) as connection:
                connection.execute(text("insert into words values (:word)"), {"word": f"half of {number}"})
                raise ZeroDivisionError
        elif number % 4 == 3:
            with pytest.raises(StateError, match="UNIQUE"):  # the first of the two that write it
                for _ in range(2):
                    _write(engine, f"twice {word}")
            assert f"twice {word}" in _words(engine)
        else:
            _write(engine, word)

    _all_at_once(engine, work)
    evens = {str(number) for number in range(0, MANY, 2)}
    assert _words(engine) == {"the first", *evens, *(f"twice {n - 1}" for n in range(3, MANY, 4))}


def test_one_that_fails_for_what_another_wrote_comes_back_when_that_is_on_the_disk(engine: Engine) -> None:
    def work(_: int) -> None:
        try:
            _write(engine, "the same")
        except StateError:
            assert "the same" in _words(engine)

    _all_at_once(engine, work)


def test_all_that_share_a_commit_that_fails_are_told(engine: Engine) -> None:
    failing = threading.Event()

    @event.listens_for(engine, "commit")
    def refuse(_: object) -> None:
        if failing.is_set():
            raise sqlite3.OperationalError("disk I/O error")

    failing.set()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(_write, engine, str(number)) for number in range(4)]
        for one in found:
            with pytest.raises((StateError, sqlite3.OperationalError), match="disk I/O error"):
                one.result(patience(60))
    assert _words(engine) == set()
    failing.clear()
    _write(engine, "afterwards")
    assert _words(engine) == {"afterwards"}


def test_a_transaction_that_sqlite_has_taken_back_is_believed_by_nobody(engine: Engine) -> None:
    """As it does when the disk is full."""
    told: list[BaseException] = []

    def full() -> None:
        try:
            with writing(engine) as connection:
                connection.exec_driver_sql("ROLLBACK")
        except StateError as error:
            told.append(error)

    def write() -> None:
        try:
            _write(engine, "lost")
        except StateError as error:
            told.append(error)

    line = engine.pool.line  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as pool:
        with line._turn:
            found = [pool.submit(write)]
            while line._waiting < 1:
                threading.Event().wait(0.01)
            found.append(pool.submit(full))
            while line._waiting < 2:
                threading.Event().wait(0.01)
        for one in found:
            one.result(patience(60))
    assert len(told) == 2 or (len(told) == 1 and _words(engine) == {"lost"}), "each was told, or had its commit before"
    _write(engine, "afterwards")
    assert "afterwards" in _words(engine)


def test_a_writer_that_leaves_the_line_holds_up_none_of_the_others(engine: Engine) -> None:
    """It was interrupted, after another one left the commit to it."""
    line = engine.pool.line  # type: ignore[attr-defined]
    line._waiting += 1
    _write(engine, "left open")
    line._waiting -= 1
    assert _words(engine) == {"left open"}


KILLED = """
import os, sys, threading
from sqlalchemy import text
from nixops_proxmox.state.database import open_engine, parse_location, writing

engine = open_engine(parse_location(sys.argv[1]))

def write(number):
    for count in range(100_000):
        word = f"{number}-{count}"
        with writing(engine) as connection:
            connection.execute(text("insert into words values (:word)"), {"word": word})
        os.write(1, f"{word}\\n".encode())

for number in range(16):
    threading.Thread(target=write, args=(number,)).start()
"""


def test_what_a_writer_came_back_from_outlives_a_kill(engine: Engine) -> None:
    argv = [sys.executable, "-c", KILLED, str(engine.url.database)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(200)]
        process.kill()
        told += process.stdout.readlines()
    came_back = {line.strip() for line in told if line.endswith("\n")}
    assert len(came_back) >= 200 and came_back <= _words(engine)
