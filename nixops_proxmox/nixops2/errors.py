"""Our errors as NixOps prints them: in words, with a hint, and without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from nixops.exceptions import NixError

from nixops_proxmox.errors import DeployError
from nixops_proxmox.messages.explaining import explain
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.texts import shown_lines


class ProxmoxError(NixError):
    """NixOps prints the text as it is, so it ends its line."""


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except DeployError as error:
        raise ProxmoxError(told(error)) from error


def told(error: DeployError) -> str:
    """All lines of the explanation."""
    return shown_lines(spelled(line.text) for line in explain(error)) + "\n"
