"""A terminal on a guest's serial port: bytes both ways until ^] is pressed or QEMU hangs up."""

import contextlib
import os
import select
import socket
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from nixops_proxmox.lab.machines.qemu.agent import directory_of

LEAVE = b"\x1d"  # ^], as telnet and virsh have it


@contextlib.contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Keys go to the guest as they are pressed; the terminal is itself again afterwards. A pipe is left alone."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def attach(path: Path, keys: int = 0, screen: int = 1) -> None:
    """Connect the descriptors with the serial port's socket; raises OSError if nothing listens there.

    QEMU serves one client at a time: a second one sees nothing until the first has left.
    """
    with socket.socket(socket.AF_UNIX) as line, directory_of(path) as folder:
        line.connect(f"{folder}/{path.name}")
        with raw_terminal(keys):
            relay(line, keys, screen)


def relay(line: socket.socket, keys: int, screen: int) -> None:
    sources: list[socket.socket | int] = [line, keys]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if line in ready:
            said = line.recv(4096)
            if not said:
                return
            os.write(screen, said)
        if keys in ready:
            typed = os.read(keys, 4096)
            before, left, _ = typed.partition(LEAVE)
            if before:
                line.sendall(before)
            if left:
                return
            if not typed:
                sources.remove(keys)  # end of a pipe: the guest's last words may still come
