"""How long a restart took comes from the machine's own history, and is unknown where there was none."""

from nixops_proxmox.core.table import label
from nixops_proxmox.kinds.machine.steps.hardware import ShutDown
from nixops_proxmox.kinds.machine.steps.installer import Install
from nixops_proxmox.kinds.machine.steps.system import Activate, BootSystem
from nixops_proxmox.operations.downtime import find_downtime
from nixops_proxmox.state.journal import AttemptOutcome, JournalEntry

START = "UPID:pve1:00000001:00000002:00000003:qmstart:101:root@pam:"
STOP = "UPID:pve1:00000001:00000002:00000003:qmstop:101:root@pam:"
SHUTDOWN = "UPID:pve1:00000001:00000002:00000003:qmshutdown:101:root@pam:"


def entry(
    step: type, began: float, ended: float, *tasks: str, outcome: AttemptOutcome = AttemptOutcome.DONE
) -> JournalEntry:
    return JournalEntry(1, "web", label(step), "installed", "running", began, ended, outcome, "", tasks)


def test_it_is_from_the_beginning_of_the_restart_until_the_system_was_reached() -> None:
    history = [
        entry(Install, 50, 100),
        entry(BootSystem, 100, 110, STOP, START),
        entry(Activate, 110, 150),
        entry(BootSystem, 200, 220, SHUTDOWN, START),
        entry(Activate, 220, 237),
    ]
    assert find_downtime(history) == 37
    assert find_downtime(history[:3]) is None, "a first boot ends the installer, and interrupts nothing"
    assert find_downtime([]) is None


def test_a_reboot_is_a_stop_and_a_start_and_a_stop_is_none() -> None:
    boot = entry(BootSystem, 130, 150, START), entry(Activate, 150, 160)
    assert find_downtime([entry(ShutDown, 100, 128, SHUTDOWN), *boot]) == 60
    assert find_downtime([entry(ShutDown, 10, 28, SHUTDOWN), *boot]) is None


def test_a_restart_that_failed_tells_nothing() -> None:
    history = [entry(BootSystem, 200, 220, SHUTDOWN, outcome=AttemptOutcome.FAILED), entry(Activate, 220, 237)]
    assert find_downtime(history) is None
