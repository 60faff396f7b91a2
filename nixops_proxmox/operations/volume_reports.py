"""Progress of volumes."""

from typing import Any

from nixops_proxmox.core.ports import Reporter
from nixops_proxmox.kinds.volume.facts import Volume
from nixops_proxmox.model import Machine


class VolumeReports:
    """What happens to a volume, in the progress line of the machine that it is for."""

    def __init__(self, reporter: Reporter[Any], machine: Machine | None) -> None:
        self._reporter, self._machine = reporter, machine

    def step(self, volume: Volume, label: str, to: str) -> None:
        del to
        self.detail(volume, label)

    def detail(self, volume: Volume, text: str) -> None:
        if self._machine is not None:
            self._reporter.detail(self._machine, f"volume {volume.name}: {text}")

    def done(self, volume: Volume, label: str, seconds: float) -> None: ...

    def warn(self, volume: Volume, text: str) -> None:
        if self._machine is not None:
            self._reporter.warn(self._machine, f"volume {volume.name}: {text}")
