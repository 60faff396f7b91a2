"""Does the machine answer here? TCP and key exchange only, no login: the proof that the endpoint race wants."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from nixops_proxmox.ssh.login import SshLogin, Stop


def probe_host_key(
    login: SshLogin, stop: Stop, *, timeout: float | None = None, reached: Callable[[], None] = lambda: None
) -> tuple[str, float]:
    """(the host key that the other side proved to have, seconds until TCP was connected).

    Raises SshUnreachable, or HostKeyChanged if it is not one of `login.host_keys`. Ends soon after `stop` is set.
    `timeout`: seconds for TCP and for the proof. `reached` is called when TCP is connected.
    """
    from nixops_proxmox.ssh.connect import open_link, presented_key

    began = monotonic()
    limited = login if timeout is None else replace(login, timeout=timeout, answer=timeout)
    link = open_link(limited, stop=stop, reached=reached)
    try:
        return presented_key(link.transport), link.connected - began
    finally:
        link.close()
