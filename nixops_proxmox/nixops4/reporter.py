"""Progress as lines on standard error, where NixOps 4 shows a provider's logs."""

import sys
from contextlib import suppress

from nixops_proxmox.model import Machine
from nixops_proxmox.nixops4.spelling import spelled_for
from nixops_proxmox.texts import shown


def say(line: str) -> None:
    """Write the line, or drop it if the reader is gone: the work goes on."""
    with suppress(BrokenPipeError):
        sys.stderr.write(shown(line.rstrip("\n")) + "\n")
        sys.stderr.flush()


class StderrReporter:
    """Satisfies `kinds.machine.ports.Reporter`. `deployment`: which one the commands name that a text recommends."""

    def __init__(self, deployment: str) -> None:
        self._spell = spelled_for(deployment)

    def remark(self, text: str) -> None:
        say(f"warning: {self._spell(text)}")

    def step(self, machine: Machine, label: str, to: str) -> None:
        say(f"{machine.name}: {label} ({machine.phase} → {to})")

    def detail(self, machine: Machine, text: str) -> None:
        say(f"{machine.name}:   {self._spell(text)}")

    def done(self, machine: Machine, label: str, seconds: float) -> None:
        say(f"{machine.name}: {label}: done in {seconds:.1f} s")

    def warn(self, machine: Machine, text: str) -> None:
        say(f"{machine.name}: warning: {self._spell(text)}")
