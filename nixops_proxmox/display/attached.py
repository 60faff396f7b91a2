"""This terminal, attached to a machine's serial console."""

import os
import shutil
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from select import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nixops_proxmox.pve.api.terminal import Terminal

LEAVE = b"\x1d"  # Ctrl-], as with telnet and virsh
ALIVE = 20.0  # seconds between signs of life


def attach(terminal: "Terminal", seconds: float | None) -> None:
    """What the machine says goes to stdout, what is typed to the machine, until somebody leaves."""
    left = threading.Event()
    typist = None
    with raw_terminal() as interactive:
        if interactive:
            typist = threading.Thread(target=type_along, args=(terminal, left), name="typist", daemon=True)
            typist.start()
        deadline = None if seconds is None else time.monotonic() + seconds
        while not left.is_set() and (deadline is None or time.monotonic() < deadline):
            said = terminal.receive(0.2)
            if said is None:
                break
            sys.stdout.buffer.write(said)
            sys.stdout.buffer.flush()
        left.set()
        if typist is not None:
            typist.join(1)


def type_along(terminal: "Terminal", left: threading.Event) -> None:
    told, size = time.monotonic(), (0, 0)
    while not left.is_set():
        now = shutil.get_terminal_size()
        if now != size:
            size = now
            terminal.resize(size[0], size[1])
        if time.monotonic() - told > ALIVE:
            told = time.monotonic()
            terminal.keep_alive()
        if not select([sys.stdin], [], [], 0.2)[0]:
            continue
        typed = os.read(sys.stdin.fileno(), 4096)
        before, leaves, _ = typed.partition(LEAVE)
        if before:
            terminal.send(before)
        if leaves or not typed:
            left.set()


@contextmanager
def raw_terminal() -> Iterator[bool]:
    """Send every key to the machine, Ctrl-C too. False where there is no terminal: then nothing is typed."""
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
