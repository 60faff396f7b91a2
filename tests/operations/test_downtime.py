"""How long a restart took comes from the machine's own history, and is unknown where there was none."""

from nixops_proxmox.core.table import label
from nixops_proxmox.kinds.machine.steps.system import Activate, BootSystem
from nixops_proxmox.operations.downtime import find_downtime
from nixops_proxmox.state.journal import AttemptOutcome, JournalEntry

START = "UPID:pve1:0001:0002:0003:qmstart:101:root@pam:"
SHUTDOWN = "UPID:pve1:0001:0002:0003:qmshutdown:101:root@pam:"


def entry(
    step: type, began: float, ended: float, *tasks: str, outcome: AttemptOutcome = AttemptOutcome.DONE
) -> JournalEntry:
    return JournalEntry(1, "web", label(step), "installed", "running", began, ended, outcome, "", tasks)


def test_it_is_from_the_beginning_of_the_restart_until_the_system_was_reached() -> None:
    history = [
        entry(BootSystem, 100, 110, START),
        entry(Activate, 110, 150),
        entry(BootSystem, 200, 220, SHUTDOWN, START),
        entry(Activate, 220, 237),
    ]
    assert find_downtime(history) == 37
    assert find_downtime(history[:2]) is None, "a first boot interrupts nothing"
    assert find_downtime([]) is None


def test_a_restart_that_failed_tells_nothing() -> None:
    history = [entry(BootSystem, 200, 220, SHUTDOWN, outcome=AttemptOutcome.FAILED), entry(Activate, 220, 237)]
    assert find_downtime(history) is None
