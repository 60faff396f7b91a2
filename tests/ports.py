"""Ports for servers that take a number only, and for servers that are not there."""

from nixops_proxmox.lab.ports import listen


def free_port(host: str = "127.0.0.1") -> int:
    """Nobody listens there, and no connection of anybody's gets this number meanwhile."""
    with listen(host, 0) as one:
        return int(one.getsockname()[1])
