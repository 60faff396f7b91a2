"""Ports that are kept lie where no connection gets them; those that are taken are waited for or named."""

import asyncio
import socket
import threading
import time
from pathlib import Path

import pytest

from nixops_proxmox.lab.ports import (
    EPHEMERAL,
    FIRST,
    PortTakenError,
    close,
    listen,
    listen_anywhere,
    listen_in_a_row,
    listen_once_free,
)
from tests.pace import patience

HERE = "127.0.0.1"


def numbers(listeners: list[socket.socket]) -> list[int]:
    found = [one.getsockname()[1] for one in listeners]
    close(listeners)
    return found


def ephemeral(folder: Path, text: str) -> Path:
    (folder / "range").write_text(text)
    return folder / "range"


def test_they_are_in_a_row_and_below_those_of_connections(tmp_path: Path) -> None:
    file = ephemeral(tmp_path, "32768\t60999\n")
    for _ in range(50):
        first, *others = numbers(listen_anywhere(HERE, 3, ephemeral=file))
        assert others == [first + 1, first + 2]
        assert first >= FIRST and others[-1] < 32768


def test_this_machine_s_range_is_looked_at() -> None:
    low = int(EPHEMERAL.read_text().split()[0])
    assert (numbers([listen(HERE, 0)])[0] < low) is (low > FIRST)


@pytest.mark.parametrize("text", ["1024 65535", f"{FIRST} 60999", "", "odd"])
def test_where_connections_get_all_of_them_any_will_do(tmp_path: Path, text: str) -> None:
    assert len(set(numbers(listen_anywhere(HERE, 3, ephemeral=ephemeral(tmp_path, text))))) == 3


def test_those_that_are_taken_are_passed_over_and_where_all_are_any_will_do(tmp_path: Path) -> None:
    file = ephemeral(tmp_path, f"{FIRST + 4} 60999")
    kept: list[socket.socket] = []
    for _ in range(6):  # more than the four that there are
        kept += listen_anywhere(HERE, 1, ephemeral=file)
    assert len(set(numbers(kept))) == 6


def test_one_that_is_taken_is_named_and_none_is_kept() -> None:
    first, second = numbers(listen_anywhere(HERE, 2))
    with socket.create_server((HERE, second)):
        with pytest.raises(PortTakenError, match=f"^another program uses port {second} of {HERE}: end it, or choose"):
            listen_in_a_row(HERE, first, 2)
        with listen(HERE, first) as one:
            assert one.getsockname()[1] == first


@pytest.mark.parametrize(("first", "missing"), [(65535, 65536), (99999, 99999), (-1, -1)])
def test_a_number_that_no_port_has_is_named(first: int, missing: int) -> None:
    with pytest.raises(PortTakenError, match=f"^there is no port {missing}$"):
        listen_in_a_row(HERE, first, 2)


def test_one_that_is_let_go_of_in_time_is_taken_then() -> None:
    with listen(HERE, 0) as taken:
        port = taken.getsockname()[1]
        timer = threading.Timer(0.3, taken.close)
        timer.start()
        found = asyncio.run(listen_once_free(HERE, port, 1, patience(30)))
        timer.join()
    assert numbers(found) == [port]


def test_one_that_is_not_let_go_of_is_named_after_a_while() -> None:
    with listen(HERE, 0) as taken:
        began = time.monotonic()
        with pytest.raises(PortTakenError, match=str(taken.getsockname()[1])):
            asyncio.run(listen_once_free(HERE, taken.getsockname()[1], 1, 0.5))
    assert 0.5 <= time.monotonic() - began < patience(30)
