"""What scripts of ours answer in a guest, or the error that says what they did not do."""

from collections.abc import Callable
from typing import TypeVar

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.model import Completed

T = TypeVar("T")


def deliver(shell: Shell, script: str, archive: bytes, failed: str, hint: str) -> None:
    """Give the archive to the script on its standard input. Raises CommandFailed, which begins with `failed`."""
    done = shell.run(script, stdin=archive)
    if done.status != 0:
        raise CommandFailed(f"{failed}: {done.stderr.strip()}", status=done.status, output=done.stderr, hint=hint)


def read_answer(done: Completed, parse: Callable[[str], T], failed: str, hint: str) -> T:
    """What a script printed, as `parse` reads it, which raises ValueError. Raises CommandFailed, which begins with
    `failed`."""
    try:
        return parse(done.stdout)
    except ValueError as error:
        raise CommandFailed(f"{failed}: {error}", status=done.status, output=done.stderr, hint=hint) from error
