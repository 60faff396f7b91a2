"""Runs that are killed at one of their calls to the API."""

from collections.abc import Callable

from nixops_proxmox.pve.wire.calls import CallDone, Trace


class Killed(BaseException):
    """The process is gone."""


def killed_at(run: Callable[[Trace], object], number: int) -> bool:
    """A run that ends with its n-th boundary: a call that does something, whose answer it does not live to see, or the
    call after it. False: it had fewer. `run` hands the trace on."""
    count, acted = 0, False

    def count_down(done: CallDone) -> None:
        nonlocal count, acted
        acts = done.call.method != "GET"
        count, acted = count + (acts or acted), acts
        if count == number:
            raise Killed

    try:
        run(count_down)
    except Killed:
        return True
    return False
