"""How long a machine was away at its last restart, from its own history."""

from collections.abc import Sequence

from nixops_proxmox.core.table import label
from nixops_proxmox.core.upid import find_upid
from nixops_proxmox.kinds.machine.steps.hardware import ShutDown
from nixops_proxmox.kinds.machine.steps.installer import Install
from nixops_proxmox.kinds.machine.steps.system import Activate, BootSystem
from nixops_proxmox.state import JournalEntry

DONE = "done"
BOOTS, REACHES, INSTALLS, STOPS = (label(step) for step in (BootSystem, Activate, Install, ShutDown))
AT_ONCE = 5.0  # seconds between a stop and the start that belongs to it
ENDS = ("qmshutdown", "qmstop", "qmreboot", "qmreset")  # PVE's types of tasks that end what runs


def find_downtime(history: Sequence[JournalEntry]) -> float | None:
    """Seconds from the beginning of the last restart until the system was reached. None where there was none.
    `history`: the oldest first. A first boot is no restart: the system was not in use before it."""
    began: float | None = None
    found: float | None = None
    before: JournalEntry | None = None  # the step that was done before
    for entry in history:
        if entry.outcome != DONE:
            continue
        if entry.label == BOOTS:
            began = _end_of_use(entry, before)
        elif entry.label == REACHES and began is not None and entry.ended is not None:
            found = entry.ended - began
            began = None
        before = entry
    return found


def _end_of_use(boot: JournalEntry, before: JournalEntry | None) -> float | None:
    """When the system went away that this boot brought back. None: it did not run."""
    if before is not None and before.label == INSTALLS:
        return None
    if any(task.type in ENDS for task in map(find_upid, boot.tasks) if task is not None):
        return boot.began
    stopped = before is not None and before.label == STOPS and before.ended is not None
    if stopped and before is not None and boot.began - (before.ended or 0.0) < AT_ONCE:
        return before.began  # `reboot` stops and starts
    return None
