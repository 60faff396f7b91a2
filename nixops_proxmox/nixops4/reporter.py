"""Progress as lines on standard error, where NixOps 4 shows a provider's logs."""

import sys

from nixops_proxmox.model import Machine


class StderrReporter:
    """Satisfies `lifecycle.ports.Reporter`."""

    def step(self, machine: Machine, label: str, to: str) -> None:
        self._say(f"{machine.name}: {label} ({machine.phase} → {to})")

    def detail(self, machine: Machine, text: str) -> None:
        self._say(f"{machine.name}:   {text}")

    def done(self, machine: Machine, label: str, seconds: float) -> None:
        self._say(f"{machine.name}: {label}: done in {seconds:.1f} s")

    def warn(self, machine: Machine, text: str) -> None:
        self._say(f"{machine.name}: warning: {text}")

    def _say(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
