"""The terminal on a serial port: bytes both ways, ^] leaves, the tty is what it was."""

import contextlib
import os
import pty
import socket
import termios
import threading
from pathlib import Path

import pytest

from nixops_proxmox.lab.machines.qemu.terminal import LEAVE, attach
from tests.pace import patience


def start_guest(path: Path, heard: list[bytes]) -> threading.Thread:
    """Says hello, and echoes in upper case until it is left."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection, contextlib.suppress(ConnectionError):  # who leaves does not read the last echo
            connection.sendall(b"login: ")
            while said := connection.recv(100):
                heard.append(said)
                connection.sendall(said.upper())

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def read_until(descriptor: int, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        seen += os.read(descriptor, 100)
    return seen


def test_keys_reach_the_guest_and_its_words_the_screen_until_one_leaves(tmp_path: Path) -> None:
    heard: list[bytes] = []
    guest = start_guest(tmp_path / "serial.sock", heard)
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    terminal = threading.Thread(target=attach, args=(tmp_path / "serial.sock", theirs, theirs))
    terminal.start()
    read_until(ours, b"login: ")
    os.write(ours, b"root\x03")  # ^C goes to the guest
    read_until(ours, b"ROOT\x03")
    os.write(ours, b"x" + LEAVE + b"never")
    terminal.join(patience(5))
    guest.join(patience(5))
    assert not terminal.is_alive()
    assert b"".join(heard) == b"root\x03x"
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_a_pipe_may_end_before_the_guest_has_answered(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "serial.sock"))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            assert connection.recv(100) == b"uptime\n"
            connection.sendall(b"5 min")

    guest = threading.Thread(target=serve)
    guest.start()
    keys, typing = os.pipe()
    screen, showing = os.pipe()
    os.write(typing, b"uptime\n")
    os.close(typing)
    attach(tmp_path / "serial.sock", keys, showing)
    guest.join(patience(5))
    assert os.read(screen, 100) == b"5 min"
    for descriptor in (keys, screen, showing):
        os.close(descriptor)


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        attach(tmp_path / "serial.sock")
