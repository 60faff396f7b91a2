"""The parts below report here what they wait for. It goes to the reporter of the machine that this thread works on."""

import logging
import threading

from nixops_proxmox.kinds.machine.ports import Reporter
from nixops_proxmox.model import Machine

log = logging.getLogger(__name__)


class _Current(threading.local):
    machine: Machine | None = None


class Telling:
    """A reporter in front of another one. The hypervisor serves all machines from many threads, and knows of VMs only.
    Each thread works on one machine at a time, so this remembers which."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._current = reporter, _Current()

    def tell(self, text: str) -> None:
        """What is waited for, in the progress line of this thread's machine."""
        if self._current.machine is None:
            log.info("%s", text)
        else:
            self._reporter.detail(self._current.machine, text)

    def step(self, machine: Machine, label: str, to: str) -> None:
        self._current.machine = machine
        self._reporter.step(machine, label, to)

    def detail(self, machine: Machine, text: str) -> None:
        self._reporter.detail(machine, text)

    def done(self, machine: Machine, label: str, seconds: float) -> None:
        self._current.machine = None
        self._reporter.done(machine, label, seconds)

    def warn(self, machine: Machine, text: str) -> None:
        self._reporter.warn(machine, text)
