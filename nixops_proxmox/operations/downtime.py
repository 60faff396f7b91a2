"""How long a machine was away at its last restart, from its own history."""

from collections.abc import Sequence

from nixops_proxmox.core.table import label
from nixops_proxmox.kinds.machine.promises import task_type
from nixops_proxmox.kinds.machine.steps.system import Activate, BootSystem
from nixops_proxmox.state import JournalEntry

DONE = "done"
ENDS = ("qmshutdown", "qmstop", "qmreboot", "qmreset")  # PVE's types of tasks that end what runs


def find_downtime(history: Sequence[JournalEntry]) -> float | None:
    """Seconds from the beginning of the last restart until the system was reached; None where there was none.
    `history`: the oldest first. A first boot is no restart: the system was not in use before it."""
    boots, reaches = label(BootSystem), label(Activate)
    began: float | None = None
    found: float | None = None
    for entry in history:
        if entry.outcome != DONE:
            continue
        if entry.label == boots:
            began = entry.began if any(task_type(upid) in ENDS for upid in entry.tasks) else None
        elif entry.label == reaches and began is not None and entry.ended is not None:
            found = entry.ended - began
            began = None
    return found
