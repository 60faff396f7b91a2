"""What PVE calls the tasks of its two kinds of guests: an errand that was cut off looks for its own."""

import pytest

from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.errands.migrating import Migrate
from nixops_proxmox.kinds.machine.errands.power import HardReboot
from nixops_proxmox.kinds.machine.errands.saves import DeleteSnapshot, ReturnToSnapshot, TakeSnapshot
from nixops_proxmox.pve.cluster.guest_kinds import CONTAINERS, VMS

OF_CONTAINERS: dict[type[Errand], str] = {
    Migrate: "vzmigrate",
    HardReboot: "vzstop",
    TakeSnapshot: "vzsnapshot",
    DeleteSnapshot: "vzdelsnapshot",
    ReturnToSnapshot: "vzrollback",
}


@pytest.mark.parametrize("errand", OF_CONTAINERS)
def test_a_containers_task_is_looked_for_by_its_own_name(errand: type[Errand]) -> None:
    task = errand.task
    assert (VMS.task(task), CONTAINERS.task(task)) == (task, OF_CONTAINERS[errand])


def test_a_backup_has_one_name_for_both() -> None:
    assert {kind.task("vzdump") for kind in (VMS, CONTAINERS)} == {"vzdump"}
